"""The report: one file, everything in it, nothing outside it, and nothing in it that runs."""

import base64
import dataclasses
import html
import json
import re
import shutil
import subprocess
from types import SimpleNamespace
from xml.etree import ElementTree

import numpy as np
import pytest
from pages import Page, areas

from covidxray import claim, metrics, report
from covidxray.dataset import load_dataset
from covidxray.images import read_image
from covidxray.manifest import Row, fill_folder
from covidxray.phantom import draw_phantom, encode_jpeg
from covidxray.where import NAMES, Where

CLASSES = ("covid", "normal")
EVIL = "<script>alert(1)</script>\" onload='x' $_{&amp;"


def fill(folder, n=8, **cells):
    """A class folder of drawings: one in three of no known age, some left out."""
    rng = np.random.default_rng(len(folder.name))
    drawn = []
    for i in range(n):
        picture = draw_phantom(rng, severity=0.7 * (folder.name == "covid"), size=64)
        name, age = f"drawn-{folder.name}-{i:02d}-with-a-rather-long-name.jpg", str(20 + 7 * i)
        patient = f"{folder.name}-{i // 2}"
        row = Row(name, "covidxray-phantom", name, patient, "PA", age=age if i % 3 else "")
        row = dataclasses.replace(row, sex="FM"[i % 2], license="MIT", synthetic="yes", **cells)
        drawn.append((row, encode_jpeg(picture.image)))
    fill_folder(folder, drawn, [("a.jpg", "damaged"), ("b.jpg", "missing"), ("c.jpg", "missing")])


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("report") / "drawings"
    for name in CLASSES:
        fill(root / name)
    return load_dataset(root, b"salt")


@pytest.fixture(scope="module")
def content(data):
    """What a training run hands over, with invented scores."""
    rng = np.random.default_rng(0)
    positive = data.labels == 0
    logits = 2 * positive - 1 + 2 * rng.normal(size=(1, 16)) + rng.normal(size=(20, 16))
    logits[:, 2] -= 4  # one that is called wrong
    scores = 1 / (1 + np.exp(-logits))
    test = np.array([0, 1, 2, 3, 8, 9, 10, 11])
    predicted = (scores[0, test] < 0.5).astype(int)
    area = metrics.auc(positive, scores, data.groups)
    cases = [
        report.Case(
            name=data.names([i])[0],
            image=read_image(data.paths[i]),
            heat=np.outer(*np.sin(np.linspace((0, 0.3), (3, 3), 224)).T) ** 4,
            truth=CLASSES[data.labels[i]],
            called=CLASSES[int(scores[0, i] < 0.5)],
            probability=float(scores[0, i]),
            lungs=np.hypot(*np.ogrid[-112:112, -112:112]) < 60,
            inside=float("nan") if i == 3 else 0.41,
        )
        for i in test
    ]
    evaluation = metrics.evaluate(data.labels[test], predicted, CLASSES, 0, data.groups[test])
    one = metrics.auc(positive, scores[0], data.groups)
    return report.Content(
        title="COVID-19 in chest X-rays: drawings",
        synthetic=True,
        positive="covid",
        classes=CLASSES,
        headline={
            "accuracy on held-out images": evaluation.accuracy,
            "sensitivity on held-out images": evaluation.sensitivity,
            "cross-validated AUC": area,
        },
        sentence=f"The model's cross-validated AUC is {area.value:.2f}; a thumbnail reaches 0.87.",
        evaluation=evaluation,
        evaluated="held-out images",
        scored=[
            report.Scored("20 x 5-fold cross-validation", positive, scores),
            report.Scored("held-out images", positive[test], scores[0, test]),
        ],
        pools=[
            report.Scored(name, positive, scores + shift)
            for name, shift in zip(NAMES.values(), rng.normal(size=(3, 16)), strict=True)
        ],
        history={
            key: list(np.geomspace(first, last, 25))
            for key, first, last in (
                *(("loss", 0.7, 0.05), ("val_loss", 0.8, 0.3)),
                *(("accuracy", 0.5, 1.0), ("val_accuracy", 0.5, 0.88)),
            )
        },
        audit=SimpleNamespace(
            baselines=[
                SimpleNamespace(name="frame", what="the outer frame", auc=one, p_value=0.0002),
                SimpleNamespace(name="size", what="width and height", auc=area, p_value=0.32),
            ],
            verdict="The classes can be told apart without a lung.",
            advice="Take controls from the same source:\n  python build.py --controls controls",
            where=Where(area, one, area, metrics.Estimate(-0.1, -0.3, 0.1), 15, 16),
            findings="2 pictures stand in both classes.\nNo source is in both classes.",
        ),
        cases=cases,
        heat_note="On average 0.41 of the heat is central; an even heat would give 0.49.",
        subgroups=[
            report.Subgroup(
                "sex", "F", 8, 4, metrics.share(positive[:5], np.arange(5)), None, area
            ),
            report.Subgroup("age", "60 to 79", 0, 0, None, None, None),
        ],
        data=data,
        exclusions=report.count_exclusions(data),
        notes={"Copies under another patient": "0"},
        model={"Base": "VGG16, ImageNet", "Head": "64 units, dropout 0.5"},
        limits=["The lungs alone score less than the frame."],
    )


@pytest.fixture(scope="module")
def text(content):
    return report.render(content)


@pytest.fixture(scope="module")
def page(text):
    return Page(text)


SECTIONS = [
    *("Main numbers", "Curves", "Right and wrong, by class"),
    *("Can the class be told without looking at a lung?", "Cases, right and wrong", "Subgroups"),
    *("Data card", "Model card", "CLAIM 2024 checklist", "What these numbers do not show"),
]


def bare(content):
    """The content of a run that has nothing but its data."""
    return dataclasses.replace(
        content,
        **{
            "headline": {},
            "evaluation": None,
            "scored": [],
            "pools": [],
            "history": None,
            "audit": None,
        },
        **{"cases": [], "subgroups": [], "exclusions": [], "notes": {}, "model": {}, "limits": []},
    )


def test_the_model_stands_beside_the_shortcut_with_both_intervals(content, page):
    best = content.audit.baselines[0].auc
    assert content.sentence in page.text
    assert "Best shortcut, frame: AUC" in page.text
    assert f"{best.value:.2f} ({best.low:.2f} to {best.high:.2f})" in page.text
    assert content.audit.verdict in page.text


def test_it_says_what_it_is_not_and_that_drawings_say_nothing(content, page):
    assert "this is not a medical device. It must never be used on patients" in page.text
    assert "These images are drawings: the numbers say nothing about COVID-19." in page.text
    assert "diagnos" not in page.text.lower()
    real = Page(report.render(dataclasses.replace(bare(content), synthetic=False))).text
    assert "the numbers say nothing" not in real


def test_a_section_without_data_is_left_out(content, text):
    titles = re.compile("<h2>(.*?)</h2>")
    assert titles.findall(text) == SECTIONS
    assert titles.findall(report.render(bare(content))) == ["Data card", *SECTIONS[-2:]]


def test_every_picture_is_inside_and_says_what_it_shows_with_numbers(content, page):
    pictures = page.all("img")
    assert len(pictures) == 5 + 2 * len(content.cases)
    for picture in pictures:
        assert picture["src"].startswith("data:image/")
        assert re.search(r"\d|no heat at all", picture["alt"])
    for tag, attributes in page.elements:
        assert tag not in ("script", "iframe", "object", "embed", "base", "form")
        for name in {"src", "href", "srcset", "action"} & set(attributes):
            assert attributes[name].startswith("data:")


def test_headings_are_in_order_and_tables_have_heads(page):
    assert page.all("html") == [{"lang": "en"}]
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch(r"h\d", tag)]
    assert levels == [1, *[2] * len(SECTIONS)]
    assert len(page.all("caption")) == len(page.all("table"))
    assert all(cell["scope"] in ("row", "col") for cell in page.all("th"))
    assert len(page.all("figcaption")) == len(page.all("figure"))


def test_whatever_files_and_tables_say_stays_text(content, page):
    rows = [
        dataclasses.replace(row, **dict.fromkeys(("source", "license", "view", "sex"), EVIL))
        for row in content.data.rows
    ]
    classes = (EVIL, "normal")
    data = dataclasses.replace(content.data, name=EVIL, classes=classes, rows=rows)
    texts = ("title", "sentence", "heat_note", "positive")
    evil = dataclasses.replace(
        content,
        **dict.fromkeys(texts, EVIL),
        **{"classes": classes, "data": data, "limits": [EVIL], "exclusions": [(EVIL, EVIL, 1)]},
        **{"notes": {EVIL: EVIL}, "model": {EVIL: EVIL}},
        cases=[dataclasses.replace(content.cases[0], name=EVIL, truth=EVIL, called=EVIL)],
        scored=[dataclasses.replace(one, name=EVIL) for one in content.scored],
    )
    plain, page = page, Page(report.render(evil))
    known = {(tag, name) for tag, attributes in plain.elements for name in attributes}
    assert {(tag, name) for tag, attributes in page.elements for name in attributes} <= known
    assert {tag for tag, _ in page.elements} <= {tag for tag, _ in plain.elements}
    assert page.text.count(EVIL) > 20
    for picture in (page.all("img")[2], page.all("img")[4]):  # ROC and calibration
        assert EVIL in picture["alt"]
        ElementTree.fromstring(base64.b64decode(picture["src"].split(",")[1]))


def test_a_file_name_that_is_no_text_does_not_stop_it(content, tmp_path):
    cases = [dataclasses.replace(content.cases[0], name="covid/\udcff.jpg")]
    report.write_report(tmp_path / "report.html", dataclasses.replace(content, cases=cases))
    assert "covid/?.jpg" in (tmp_path / "report.html").read_text(encoding="utf-8")
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


def test_the_same_content_gives_the_same_file(content, text):
    assert report.render(content) == text


def test_the_confusion_matrix_has_counts_and_shares(content):
    matrix = np.array([[3, 1], [0, 4]])
    evaluation = dataclasses.replace(content.evaluation, confusion=matrix)
    text = report.render(dataclasses.replace(content, evaluation=evaluation))
    assert "<td>3 (0.75)</td><td>1 (0.25)</td>" in text
    assert "<td>1.00</td><td>0.75</td><td>0.86</td><td>4</td>" in text  # precision, recall, F1
    assert "<td>0.80</td><td>1.00</td><td>0.89</td><td>4</td>" in text


def test_the_data_card_counts_what_is_known_and_what_was_left_out(content, text):
    assert "<td>median 48, 27 to 69; known of 5</td>" in text
    assert text.count("<td>F 4, M 4</td>") == 2
    assert '<td class="long">MIT</td><td>16</td>' in text
    assert content.exclusions[:2] == [("covid", "damaged", 1), ("covid", "missing", 2)]
    assert '<th scope="row">covid</th><td>missing</td><td>2</td>' in text


def test_an_undefined_number_is_said_to_have_no_value(text):
    assert ">nan" not in text
    assert '<td class="value">no value</td>' in text
    assert "no heat at all" in text


def test_each_item_of_the_checklist_is_answered_or_left_to_the_author(content):
    assert list(claim.TOPICS) == list(range(1, 45))
    assert 32 in claim.answers(content)
    for one in (content, bare(content)):
        text = report.render(one)
        answered = re.findall(r"<tr><td>(\d+)</td><th", text)
        open_items = re.findall(r"(\d+) [a-z]", text.split("Only the author")[1].split("</p>")[0])
        assert sorted(map(int, answered + open_items)) == list(range(1, 45))


def test_a_data_set_of_one_class_has_no_roc_curve(content):
    scored = [report.Scored("this data set", np.ones(8, bool), np.linspace(0, 1, 8))]
    text = report.render(dataclasses.replace(content, scored=scored, pools=[], history=None))
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
def witness(tmp_path):
    """A function from a page to what Chromium saw at two widths, and what it complained of."""
    names = ("chromium", "chromium-browser", "google-chrome", "chrome")
    browser = next(filter(None, map(shutil.which, names)), None)
    if browser is None:
        pytest.skip("no Chromium on this machine")

    def look(page):
        frames = [
            f'<iframe width="{width}" height="800" srcdoc="{html.escape(page)}"></iframe>'
            for width in (360, 1200)
        ]
        (tmp_path / "witness.html").write_text(WITNESS.format(frames="".join(frames)), "utf-8")
        command = [
            *(browser, "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"),
            *("--enable-logging=stderr", "--host-resolver-rules=MAP * ~NOTFOUND"),
            *(f"--user-data-dir={tmp_path / 'profile'}", (tmp_path / "witness.html").as_uri()),
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
        complaints = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
        return json.loads(html.unescape(done.stdout.split("SEEN")[1])), complaints

    return look


def test_a_browser_shows_all_of_it_at_a_phones_width_and_asks_for_nothing(witness, content, text):
    seen, complaints = witness(text)
    assert complaints == []
    assert [frame["width"] for frame in seen] == [360, 1200]
    for frame in seen:
        assert frame["pictures"] == 5 + 2 * len(content.cases)
        assert (frame["blank"], frame["requests"], frame["wide"]) == (0, [], False)


def test_the_witness_sees_what_must_not_be(witness, text):
    bad = (
        '<img src="http://192.0.2.1/x.png" alt=""><p style="width:500px">wide</p><script>1</script>'
    )
    seen, complaints = witness(text.replace("</main>", f"{bad}</main>"))
    assert seen[0]["wide"]
    assert seen[0]["blank"] == 1
    assert any("192.0.2.1" in line for line in complaints)


def test_where_the_signal_is_stands_beside_the_shortcuts(text):
    assert "A pair of lungs was found in 15 of 16 images." in text
    for name in ("the whole picture", "the lungs alone", "all but the lungs"):
        assert f'<th scope="row">{name}</th>' in text
    assert "-0.10 (-0.30 to 0.10)" in text


def test_the_outline_of_the_lungs_is_on_both_pictures_of_a_case(content):
    mask = np.zeros((224, 224), bool)
    mask[60:160, 40:180] = True
    grey = np.full((224, 224, 3), 90, np.uint8)
    case = dataclasses.replace(content.cases[0], image=grey, lungs=mask, heat=np.zeros((224, 224)))
    page = Page(report.render(dataclasses.replace(bare(content), cases=[case])))
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
        content.cases[0], image=red, heat=heat, lungs=np.zeros((224, 224), bool)
    )
    page = Page(report.render(dataclasses.replace(bare(content), cases=[case])))
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
        dataclasses.replace(content.cases[0], truth="covid", called="normal", probability=0.75),
        dataclasses.replace(content.cases[1], truth="covid", called="covid", probability=0.25),
    ]
    parts = {"headline": content.headline, "cases": cases}
    return dataclasses.replace(bare(content), data=smaller, positive="normal", **parts)


def test_the_share_of_the_positive_class_is_of_the_images_of_that_class(unequal):
    text = Page(report.render(unequal)).text
    assert "The share of normal is 0.80 in this set" in text
    assert "Positive class: normal." in text


def test_the_traits_stand_in_the_column_of_their_class(unequal):
    rows = {row[0]: row[1:] for row in Page(report.render(unequal)).table("Images by class")}
    assert rows["What is known"] == ["covid", "normal"]
    assert rows["Images"] == ["2", "8"]
    assert rows["Patients"] == ["1", "4"]
    assert rows["Sex"] == ["F 2", "M 7, F 1"]


def test_a_case_called_as_its_truth_is_right_and_the_other_is_framed_as_wrong(unequal):
    page = Page(report.render(unequal))
    frames = [figure.get("class", "") for figure in page.all("figure")]
    assert frames[-2:] == ["wrong", ""]
    captions = page.text.split("Cases, right and wrong")[1]
    assert re.findall(r"(Right|Wrong): .*?Probability of normal (0\.\d\d)", captions) == [
        ("Wrong", "0.75"),
        ("Right", "0.25"),
    ]
    alts = [alt for _, alt, _, _ in page.cases()]
    assert "truth covid, called normal, probability of normal 0.75." in alts[0]
    assert "truth covid, called covid, probability of normal 0.25." in alts[1]


def test_every_estimate_stands_in_its_own_column_with_its_own_count(content):
    low, middle, high = (
        metrics.Estimate(value, value - 0.1, value + 0.1, count, 50)
        for value, count in ((0.3, 15), (0.5, 25), (0.7, 35))
    )
    part = report.Subgroup("view", "AP", 9, 4, low, middle, high)
    headline = {"accuracy": low, "sensitivity": middle}
    page = Page(
        report.render(dataclasses.replace(bare(content), subgroups=[part], headline=headline))
    )
    ends = ["0.30 (0.20 to 0.40)", "0.50 (0.40 to 0.60)", "0.70 (0.60 to 0.80)"]
    row = [cell.strip() for cell in page.table("Value and 95 % interval")[1]]
    assert row == ["view: AP", "9", "4", *ends]
    shown = [[cell.strip() for cell in row] for row in page.table("Positive class")[1:3]]
    assert shown == [["accuracy", ends[0], "15 of 50"], ["sensitivity", ends[1], "25 of 50"]]


def test_the_bar_beside_a_number_is_its_interval(content):
    headline = {"accuracy": metrics.Estimate(0.5, 0.25, 0.875)}
    text = report.render(dataclasses.replace(bare(content), headline=headline))
    assert '<i style="left:25.0%;right:12.5%"></i><b style="left:50.0%"></b>' in text


def test_the_baselines_and_the_regions_stand_with_their_own_numbers(content, page):
    rows = page.table("What simple classifiers read")[1:]
    for row, baseline in zip(rows, content.audit.baselines, strict=True):
        assert row[0] == f"{baseline.name}: {baseline.what}"
        assert row[1].strip() == baseline.auc.short
    assert [row[2] for row in rows] == ["< 0.001", "0.320"]
    where = content.audit.where
    rows = {row[0]: row[1].strip() for row in page.table("The same head, by where")[1:]}
    assert rows == {
        "the whole picture": where.whole.short,
        "the lungs alone": where.lungs.short,
        "all but the lungs": where.outside.short,
        "lungs less all but the lungs, paired": where.difference.short,
    }


def test_the_curves_stand_in_the_order_of_their_captions(content, page):
    curves = [image["alt"] for image in page.all("img")[:5]]
    starts = ("Loss over", "Accuracy over", "ROC curves.", "ROC curves.", "Calibration, mean")
    assert all(alt.startswith(start) for alt, start in zip(curves, starts, strict=True))
    assert list(areas(curves[2])) == [one.name for one in content.scored]
    expected = {
        one.name: metrics.auc(one.y_true, one.y_score, content.data.groups).value
        for one in content.pools
    }
    assert areas(curves[3]) == pytest.approx(expected, abs=0.006)


def test_the_checklist_counts_what_is_in_and_what_was_left_out(content, unequal):
    names = ("evaluation", "exclusions", "history", "scored")
    full = dataclasses.replace(unequal, **{name: getattr(content, name) for name in names})
    rows = {row[0]: row[2] for row in Page(report.render(full)).table("Items that this run")[1:]}
    left_out = sum(n for *_, n in full.exclusions)
    assert left_out > 0
    assert rows["35"].startswith(f"10 images of 5 patients included, {left_out} images known")
    ages = sum(bool(row.age) for row in unequal.data.rows)
    assert rows["12"].startswith(f"Age is known of {ages} and sex of 10 of 10 images.")
    assert rows["21"].startswith(f"{full.evaluation.confusion.sum()} images tested")
    assert rows["32"] == "On 20 x 5-fold cross-validation and held-out images."
