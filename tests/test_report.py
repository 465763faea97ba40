"""The report: one file, everything in it, nothing outside it, and nothing in it that runs."""

import base64
import dataclasses
import html
import json
import re
import shutil
import subprocess
import sys
from types import SimpleNamespace
from xml.etree import ElementTree

import numpy as np
import pytest
from conftest import ROOT
from example_runs import (
    METADATA,
    example_data,
    example_gallery,
    external_run,
    training_run,
)
from pages import Page, areas

from covidxray.evaluation import intervals
from covidxray.evaluation.metrics import Subgroup
from covidxray.pipeline.runs import Gallery
from covidxray.report.external import report_content
from covidxray.report.html import (
    count_exclusions,
    render,
    training_content,
    write_page,
)
from covidxray.report.plots import NamedScores
from covidxray.report.sentences import BASELINES, audit_verdict

EVIL = "<script>alert(1)</script>\" onload='x' $_{&amp;"
NO_CASES = Gallery((), None, None, None)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return example_data(tmp_path_factory.mktemp("report") / "drawings")


@pytest.fixture(scope="module")
def run(data):
    return training_run(data)


@pytest.fixture(scope="module")
def external(data):
    return external_run(data)


@pytest.fixture(scope="module")
def content(run, external):
    """What the report of a training run shows, with the subgroups of an evaluation."""
    content = training_content(run, METADATA, example_gallery(run.data))
    return dataclasses.replace(content, subgroups=external.scores.subgroups)


@pytest.fixture(scope="module")
def text(content):
    return render(content)


@pytest.fixture(scope="module")
def page(text):
    return Page(text)


SECTIONS = [
    *("Do the lungs matter?", "Main numbers", "Curves", "Right and wrong, by class"),
    *("Can the class be predicted without the lungs?", "Cases, right and wrong", "Subgroups"),
    *("Data card", "Model card", "CLAIM 2024 checklist", "What these numbers do not show"),
]


def bare(content):
    """The content of a run that has nothing but its data, which were all used."""
    empty = {"headline": {}, "scored": [], "region_scores": [], "subgroups": [], "evidence": {}}
    missing = dict.fromkeys(("evaluation", "history", "audit", "regions"))
    return dataclasses.replace(content, **empty, **missing, gallery=NO_CASES, notes={})


def with_metadata(content, **changes):
    """The content with other facts about the model."""
    return dataclasses.replace(content, metadata=SimpleNamespace(**{**vars(METADATA), **changes}))


def with_cases(content, *cases):
    """The content with these cases in its gallery."""
    return dataclasses.replace(content, gallery=dataclasses.replace(NO_CASES, cases=cases))


def test_the_main_numbers_compare_the_model_with_the_best_shortcut(content, page):
    best = content.audit.baselines[0].auc
    assert content.sentence in page.text
    assert "Best shortcut, frame: AUC" in page.text
    assert f"{best.value:.2f} ({best.low:.2f} to {best.high:.2f})" in page.text
    assert content.verdict in page.text
    assert content.verdict.startswith(audit_verdict(content.audit))


def test_the_first_figure_has_every_auc_that_explains_the_score(run, content, page):
    rows = [[cell.strip() for cell in row] for row in page.table("AUC of covid against")[1:]]
    found = run.transplants.regions["lungs"]
    assert rows == [
        ["Model"],
        ["cross-validated", run.cross_validation.scores.auc.short],
        ["within strata of site and view", run.strata.areas["lungs"].short],
        ["Regions"],
        ["whole picture", run.regions.whole.short],
        ["lungs alone", run.regions.lungs.short],
        ["all but the lungs", run.regions.outside.short],
        ["Exchanged lungs"],
        *([name, estimate.short] for name, estimate in found.by_name.items()),
        ["Baselines"],
        ["best shortcut, frame", run.audit.best.auc.short],
    ]
    apart = dataclasses.replace(run, strata=dataclasses.replace(run.strata, areas={}))
    page = Page(render(training_content(apart, METADATA, NO_CASES)))
    assert page.table("AUC of covid against")[3][1].strip() == "not defined"


def test_it_says_what_it_is_not_and_that_drawings_say_nothing(content, page):
    assert "this is not a medical device. It must never be used on patients" in page.text
    assert "These images are drawings: the numbers say nothing about COVID-19." in page.text
    assert "diagnos" not in page.text.lower()
    rows = [dataclasses.replace(row, synthetic="") for row in content.data.rows]
    real = dataclasses.replace(bare(content), data=dataclasses.replace(content.data, rows=rows))
    assert "the numbers say nothing" in Page(render(real)).text  # of a model of drawings
    real = with_metadata(real, synthetic=False)
    assert "the numbers say nothing" not in Page(render(real)).text


def test_a_section_without_data_is_left_out(content, text):
    titles = re.compile("<h2>(.*?)</h2>")
    assert titles.findall(text) == SECTIONS
    assert titles.findall(render(bare(content))) == SECTIONS[-4:]


def test_every_picture_is_inside_and_says_what_it_shows_with_numbers(content, page):
    pictures = page.all("img")
    assert len(pictures) == 1 + 5 + 2 * len(content.gallery.cases)
    for picture in pictures:
        assert picture["src"].startswith("data:image/")
        assert re.search(r"\d|no heat at all|three times", picture["alt"])
    for tag, attributes in page.elements:
        assert tag not in ("script", "iframe", "object", "embed", "base", "form")
        for name in {"src", "href", "srcset", "action"} & set(attributes):
            assert attributes[name].startswith("data:")


def test_headings_are_in_order_and_tables_have_heads(page):
    assert page.all("html") == [{"lang": "en"}]
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch(r"h\d", tag)]
    assert levels == [1, *[2] * len(SECTIONS)]
    assert len(page.all("caption")) == len(page.all("table"))
    assert all(cell["scope"] in ("row", "col", "rowgroup") for cell in page.all("th"))
    assert len(page.all("figcaption")) == len(page.all("figure"))


def test_whatever_files_and_tables_say_stays_text(content, page):
    rows = [
        dataclasses.replace(row, **dict.fromkeys(("source", "license", "view", "sex"), EVIL))
        for row in content.data.rows
    ]
    data = dataclasses.replace(content.data, name=EVIL, classes=(EVIL, "normal"), rows=rows)
    case = content.gallery.cases[0]
    evil_case = dataclasses.replace(case, name=EVIL, truth=EVIL, predicted=EVIL)
    facts = {"classes": data.classes, "positive": EVIL, "card": {EVIL: EVIL}}
    evil = dataclasses.replace(
        with_cases(with_metadata(content, **facts), evil_case),
        **dict.fromkeys(("title", "sentence"), EVIL),
        data=data,
        notes={EVIL: EVIL},
        scored=[dataclasses.replace(one, name=EVIL) for one in content.scored],
    )
    plain, page = page, Page(render(evil))
    known = {(tag, name) for tag, attributes in plain.elements for name in attributes}
    assert {(tag, name) for tag, attributes in page.elements for name in attributes} <= known
    assert {tag for tag, _ in page.elements} <= {tag for tag, _ in plain.elements}
    assert page.text.count(EVIL) > 20
    for picture in (page.all("img")[3], page.all("img")[5]):  # ROC and calibration
        assert EVIL in picture["alt"]
        ElementTree.fromstring(base64.b64decode(picture["src"].split(",")[1]))


def test_a_file_name_that_is_not_valid_text_is_shown_with_question_marks(external, tmp_path):
    content = report_content(external)
    case = dataclasses.replace(content.gallery.cases[0], name="covid/\udcff.jpg")
    write_page(tmp_path / "r.html", render(with_cases(content, case)))
    assert "covid/?.jpg" in (tmp_path / "r.html").read_text(encoding="utf-8")
    assert [path.name for path in tmp_path.iterdir()] == ["r.html"]


def test_the_same_content_gives_the_same_file(content, text):
    assert render(content) == text


def test_the_confusion_matrix_has_counts_and_shares(content):
    matrix = np.array([[3, 1], [0, 4]])
    evaluation = dataclasses.replace(content.evaluation, confusion=matrix)
    text = render(dataclasses.replace(content, evaluation=evaluation))
    assert "<td>3 (0.75)</td><td>1 (0.25)</td>" in text
    assert "<td>1.00</td><td>0.75</td><td>0.86</td><td>4</td>" in text  # precision, recall, F1
    assert "<td>0.80</td><td>1.00</td><td>0.89</td><td>4</td>" in text


def test_the_data_card_counts_what_is_known_and_what_was_left_out(content, text):
    assert "<td>median 48, 27 to 69; known of 5</td>" in text
    assert text.count("<td>F 4, M 4</td>") == 2
    assert '<td class="long">MIT</td><td>16</td>' in text
    expected = [("covid", "damaged", 1), ("covid", "missing", 2)]
    assert count_exclusions(content.data)[:2] == expected
    assert '<th scope="row">covid</th><td>missing</td><td>2</td>' in text


def test_an_undefined_number_is_said_to_have_no_value(text):
    assert ">nan" not in text
    assert '<td class="value">no value</td>' in text
    assert "no heat at all" in text


def test_each_item_of_the_checklist_is_answered_or_left_to_the_author(content):
    for one in (content, bare(content)):
        text = render(one)
        answered = re.findall(r"<tr><td>(\d+)</td><th", text)
        open_items = re.findall(r"(\d+) [a-z]", text.split("Only the author")[1].split("</p>")[0])
        assert sorted(map(int, answered + open_items)) == list(range(1, 45))
        assert ("32" in answered) is bool(one.history)


def test_a_data_set_of_one_class_has_no_roc_curve(content):
    scored = [NamedScores("this data set", np.ones(8, bool), np.linspace(0, 1, 8))]
    text = render(dataclasses.replace(content, scored=scored, region_scores=[], history=None))
    assert "ROC curves" not in text
    assert "Calibration, mean probability" in text


# A page that opens the report in frames of a phone's and a desk's width and writes down what
# the browser made of it. The report's own rule against scripts and requests stays in force.
WITNESS = """<!DOCTYPE html><body><pre id="seen"></pre>{frames}<script>
addEventListener("load", () => {{
  const look = (frame) => {{
    const page = frame.contentDocument, width = frame.contentWindow.innerWidth;
    return {{
      width, wide: page.documentElement.scrollWidth > width,
      pictures: page.images.length,
      blank: [...page.images].filter((i) => !(i.complete && i.naturalWidth)).length,
      requests: frame.contentWindow.performance.getEntriesByType("resource")
        .map((entry) => entry.name).filter((name) => !name.startsWith("data:")),
    }};
  }};
  const frames = [...document.querySelectorAll("iframe")].map(look);
  document.getElementById("seen").textContent = "SEEN" + JSON.stringify(frames) + "SEEN";
}});
</script>"""


@pytest.fixture
def chromium(tmp_path):
    """The beginning of a command line that starts Chromium without a window."""
    names = ("chromium", "chromium-browser", "google-chrome", "chrome")
    browser = next(filter(None, map(shutil.which, names)), None)
    if browser is None:
        pytest.skip("no Chromium on this machine")
    profile = f"--user-data-dir={tmp_path / 'profile'}"
    return [browser, "--headless", "--no-sandbox", "--disable-gpu", profile]


@pytest.fixture
def witness(chromium, tmp_path):
    """A function from a page to what Chromium saw at two widths, and what it complained of."""

    def look(page):
        frames = [
            f'<iframe width="{width}" height="800" srcdoc="{html.escape(page)}"></iframe>'
            for width in (360, 1200)
        ]
        (tmp_path / "witness.html").write_text(WITNESS.format(frames="".join(frames)), "utf-8")
        options = ("--dump-dom", "--enable-logging=stderr", "--host-resolver-rules=MAP * ~NOTFOUND")
        command = [*chromium, *options, (tmp_path / "witness.html").as_uri()]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
        complaints = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
        return json.loads(html.unescape(done.stdout.split("SEEN")[1])), complaints

    return look


def test_a_browser_shows_all_of_it_at_a_phones_width_and_asks_for_nothing(witness, content, text):
    seen, complaints = witness(text)
    assert complaints == []
    assert [frame["width"] for frame in seen] == [360, 1200]
    for frame in seen:
        assert frame["pictures"] == 1 + 5 + 2 * len(content.gallery.cases)
        assert (frame["blank"], frame["requests"], frame["wide"]) == (0, [], False)


@pytest.mark.skipif(shutil.which("pdftotext") is None, reason="no pdftotext on this machine")
def test_no_printed_page_ends_with_a_heading_or_within_a_small_table(chromium, text, tmp_path):
    (tmp_path / "r.html").write_text(text, "utf-8")
    pdf = tmp_path / "r.pdf"
    printed = [*chromium, f"--print-to-pdf={pdf}", "--no-pdf-header-footer"]
    subprocess.run([*printed, (tmp_path / "r.html").as_uri()], check=True, capture_output=True)
    read = ["pdftotext", "-layout", pdf, "-"]
    pages = subprocess.run(read, check=True, capture_output=True, text=True).stdout.split("\f")[:-1]
    assert len(pages) > 4
    captions = re.findall("<caption>(.*?)</caption>", text)
    for page in pages:
        last = page.strip().splitlines()[-1].strip()
        assert last not in SECTIONS and last not in captions
    for first, end in (("Measured", "best shortcut, frame"), ("Measure ", "Best shortcut, frame")):
        assert any(first in page and end in page for page in pages)


def test_the_witness_sees_what_must_not_be(witness, text):
    bad = (
        '<img src="http://192.0.2.1/x.png" alt=""><p style="width:500px">wide</p><script>1</script>'
    )
    seen, complaints = witness(text.replace("</main>", f"{bad}</main>"))
    assert seen[0]["wide"]
    assert seen[0]["blank"] == 1
    assert any("192.0.2.1" in line for line in complaints)


def test_the_regions_are_compared_with_how_often_lungs_were_found(content):
    difference = intervals.Estimate(-0.1, -0.3, 0.1)
    regions = dataclasses.replace(content.regions, difference=difference)
    text = render(dataclasses.replace(bare(content), audit=content.audit, regions=regions))
    assert "A pair of lungs was found in 15 of 16 images." in text
    for name in ("the whole picture", "the lungs alone", "all but the lungs"):
        assert f'<th scope="row">{name}</th>' in text
    assert "-0.10 (-0.30 to 0.10)" in text


def test_the_outline_of_the_lungs_is_on_both_pictures_of_a_case(content):
    mask = np.zeros((224, 224), bool)
    mask[60:160, 40:180] = True
    grey = np.full((224, 224, 3), 90, np.uint8)
    case = dataclasses.replace(
        content.gallery.cases[0], image=grey, lungs=mask, heat=np.zeros((224, 224))
    )
    page = Page(render(with_cases(bare(content), case)))
    for picture in page.cases()[0][2:]:
        difference = picture.astype(int) - 90
        for border in (difference[60, 40:180], difference[60:160, 40]):
            red, green, blue = border.mean(axis=0)
            assert min(red, green) > 60 and red > blue + 15  # yellow
        assert np.abs(difference[:40]).max() < 12
        assert np.abs(difference[80:140, 64:152]).max() < 12


def test_the_pictures_of_a_case_have_the_colours_of_the_image_and_its_heat(content):
    red = np.zeros((224, 224, 3), np.uint8)
    red[..., 0], red[..., 1] = 220, 60
    heat = np.zeros((224, 224))
    heat[:, 112:] = 1
    case = dataclasses.replace(
        content.gallery.cases[0], image=red, heat=heat, lungs=np.zeros((224, 224), bool)
    )
    page = Page(render(with_cases(bare(content), case)))
    ((_, _, plain, warm),) = page.cases()
    assert plain.reshape(-1, 3).mean(axis=0) == pytest.approx([220, 60, 0], abs=4)
    assert warm[:, :100].reshape(-1, 3).mean(axis=0) == pytest.approx([220, 60, 0], abs=4)
    assert warm[:, 124:, 1].mean() > 150  # the hottest is bright yellow


@pytest.fixture(scope="module")
def unequal(content, data):
    """The content of a run on 2 covid and 8 normal images, where normal is the positive class."""
    kept = [0, 1, *range(8, 16)]
    rows = [
        dataclasses.replace(data.rows[i], sex="F" if n < 3 else "M") for n, i in enumerate(kept)
    ]
    smaller = dataclasses.replace(
        data,
        paths=[data.paths[i] for i in kept],
        rows=rows,
        labels=data.labels[kept],
        groups=data.groups[kept],
    )
    cases = [
        dataclasses.replace(
            content.gallery.cases[0], truth="covid", predicted="normal", probability=0.75
        ),
        dataclasses.replace(
            content.gallery.cases[1], truth="covid", predicted="covid", probability=0.25
        ),
    ]
    parts = {"headline": content.headline, "data": smaller}
    positive = with_metadata(bare(content), positive="normal")
    return dataclasses.replace(with_cases(positive, *cases), **parts)


def test_the_share_of_the_positive_class_is_of_the_images_of_that_class(unequal):
    text = Page(render(unequal)).text
    assert "The rarer normal is, the fewer of the images classified as it have it" in text
    assert "Positive class: normal." in text


def test_the_traits_stand_in_the_column_of_their_class(unequal):
    rows = {row[0]: row[1:] for row in Page(render(unequal)).table("Images by class")}
    assert rows["What is known"] == ["covid", "normal"]
    assert rows["Images"] == ["2", "8"]
    assert rows["Patients"] == ["1", "4"]
    assert rows["Sex"] == ["F 2", "M 7, F 1"]


def test_a_case_classified_as_its_truth_is_right_and_the_other_is_framed_as_wrong(unequal):
    page = Page(render(unequal))
    frames = [figure.get("class", "") for figure in page.all("figure")]
    assert frames[-2:] == ["wrong", ""]
    captions = page.text.split("Cases, right and wrong")[1]
    assert re.findall(r"(Right|Wrong): .*?Probability of normal (0\.\d\d)", captions) == [
        ("Wrong", "0.75"),
        ("Right", "0.25"),
    ]
    alts = [alt for _, alt, _, _ in page.cases()]
    assert "truth covid, classified as normal, probability of normal 0.75." in alts[0]
    assert "truth covid, classified as covid, probability of normal 0.25." in alts[1]


def test_every_estimate_stands_in_its_own_column_with_its_own_count(content):
    low, middle, high = (
        intervals.Estimate(value, value - 0.1, value + 0.1, count, 50)
        for value, count in ((0.3, 15), (0.5, 25), (0.7, 35))
    )
    part = Subgroup("view", "AP", 9, 4, low, middle, high)
    headline = {"accuracy": low, "sensitivity": middle}
    page = Page(render(dataclasses.replace(bare(content), subgroups=[part], headline=headline)))
    ends = ["0.30 (0.20 to 0.40)", "0.50 (0.40 to 0.60)", "0.70 (0.60 to 0.80)"]
    row = [cell.strip() for cell in page.table("Value and 95 % interval")[1]]
    assert row == ["view: AP", "9", "4", *ends]
    shown = [[cell.strip() for cell in row] for row in page.table("Positive class")[1:3]]
    assert shown == [["accuracy", ends[0], "15 of 50"], ["sensitivity", ends[1], "25 of 50"]]


def test_the_bar_beside_a_number_is_its_interval(content):
    headline = {"accuracy": intervals.Estimate(0.5, 0.25, 0.875)}
    text = render(dataclasses.replace(bare(content), headline=headline))
    assert '<i style="left:25.0%;right:12.5%"></i><b style="left:50.0%"></b>' in text


def test_the_baselines_and_the_regions_stand_with_their_own_numbers(content, page):
    rows = page.table("What simple classifiers read")[1:]
    for row, baseline in zip(rows, content.audit.baselines, strict=True):
        assert row[0] == f"{baseline.name}: {BASELINES[baseline.name]}"
        assert row[1].strip() == baseline.auc.short
    assert [row[2] for row in rows] == ["< 0.001", "0.320"]
    where = content.regions
    rows = {row[0]: row[1].strip() for row in page.table("The same head on each region")[1:]}
    assert rows == {
        "the whole picture": where.whole.short,
        "the lungs alone": where.lungs.short,
        "all but the lungs": where.outside.short,
        "the lungs alone minus all but the lungs (paired)": where.difference.short,
    }


def test_the_curves_stand_in_the_order_of_their_captions(content, page):
    curves = [image["alt"] for image in page.all("img")[1:6]]
    starts = ("Loss over", "Accuracy over", "ROC curves.", "ROC curves.", "Calibration, mean")
    assert all(alt.startswith(start) for alt, start in zip(curves, starts, strict=True))
    assert list(areas(curves[2])) == [one.name for one in content.scored]
    expected = {
        one.name: intervals.auc(one.y_true, one.y_score, content.data.groups).value
        for one in content.region_scores
    }
    assert areas(curves[3]) == pytest.approx(expected, abs=0.006)


def test_the_checklist_counts_what_is_in_and_what_was_left_out(content, unequal):
    names = ("evaluation", "history", "scored")
    full = dataclasses.replace(unequal, **{name: getattr(content, name) for name in names})
    rows = {row[0]: row[2] for row in Page(render(full)).table("Items that this run")[1:]}
    left_out = sum(n for *_, n in count_exclusions(full.data))
    assert left_out > 0
    assert rows["35"].startswith(f"10 images of 5 patients included, {left_out} images known")
    ages = sum(bool(row.age) for row in unequal.data.rows)
    assert rows["12"].startswith(f"Age is known of {ages} and sex of 10 of 10 images.")
    assert rows["21"].startswith(f"{full.evaluation.confusion.sum()} images tested")
    assert rows["32"] == "On 20 x 5-fold cross-validation by patient and held-out images."


def test_a_training_report_has_the_scores_of_both_internal_evaluations(run, content):
    names = ("accuracy", "sensitivity", "specificity")
    cross_validated = {f"cross-validated {name}": name for name in names}
    held_out = {f"held-out {name}": name for name in names}
    assert list(content.headline) == ["cross-validated AUC", *cross_validated, *held_out]
    for labels, scores in (
        (cross_validated, run.cross_validation.scores),
        (held_out, run.holdout.scores),
    ):
        for label, name in labels.items():
            assert content.headline[label] == getattr(scores, name)
    assert [one.name for one in content.scored] == [
        "20 x 5-fold cross-validation by patient",
        "held-out images",
    ]
    assert content.notes == {
        "Copies across patients": "3 images, each kept on one side of a split",
        "Lungs found, against the masks that came with the images": "Dice "
        "0.90 (quartiles 0.85 to 0.95; n = 16)",
    }


def test_without_cross_validation_the_held_out_images_stand_alone(run, data, tmp_path):
    single = dataclasses.replace(run, cross_validation=None)
    write_page(tmp_path / "r.html", render(training_content(single, METADATA, NO_CASES)))
    page = Page((tmp_path / "r.html").read_text(encoding="utf-8"))
    assert [row[0] for row in page.table("Positive class: covid.")[1:]] == [
        *("held-out accuracy", "held-out sensitivity", "held-out specificity"),
        "Best shortcut, frame: AUC",
    ]
    assert list(areas(page.described("ROC curves.")[0])) == ["held-out images"]
    assert "With few images, a curve has few steps." in page.text
    assert "Cases, right and wrong" not in page.text


def test_a_score_without_an_image_of_its_class_is_not_a_main_number(external):
    evaluation = dataclasses.replace(external.scores.evaluation, sensitivity=None)
    scores = dataclasses.replace(external.scores, evaluation=evaluation, auc=None, fixed={})
    one_class = dataclasses.replace(external, scores=scores, evidence=None)
    content = report_content(one_class)
    assert list(content.headline) == [
        *("accuracy", "specificity", "false-positive rate", "Brier score"),
    ]
    assert (content.sentence, content.region_scores) == ("", [])
    assert "Best shortcut" not in render(content)


def test_an_external_report_names_the_data_and_the_model(external, tmp_path):
    write_page(tmp_path / "r.html", render(report_content(external)))
    page = Page((tmp_path / "r.html").read_text(encoding="utf-8"))
    assert "A saved model on drawings" in page.text
    assert ["recipe", "portable, pooled over the lungs alone"] in page.table("The model and its")
    claim = {row[0]: row[2] for row in page.table("Items that this run")[1:]}
    assert claim["33"].startswith("On this data set; whether it is external")
    assert "32" not in claim


def test_the_mean_shares_of_heat_are_told_where_there_is_heat(content):
    told = (
        "On average 41 % of the heat lies in the lungs, which are 23 % of the picture, and 62 % in"
    )
    assert told in " ".join(Page(render(content)).text.split())
    cold = with_cases(bare(content), content.gallery.cases[0])
    text = " ".join(Page(render(cold)).text.split())
    assert "On average" not in text
    assert "The central part is 70 % of the width and of the height; if the heat" in text


def test_reports_are_written_without_keras():
    code = "import sys; import covidxray.report.html; assert 'keras' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
