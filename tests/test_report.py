"""The report: one file, everything in it, nothing outside it, and nothing in it that runs."""

import base64
import dataclasses
import html
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from types import SimpleNamespace
from xml.etree import ElementTree

import numpy as np
import pytest

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


class Page(HTMLParser):
    """What a page consists of: its elements with their attributes, and its text."""

    def __init__(self, html):
        super().__init__()
        self.elements, self.text = [], ""
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


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
    real = Page(report.render(dataclasses.replace(content, synthetic=False))).text
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


def test_the_outline_of_the_lungs_is_on_the_images(content, text):
    without = [dataclasses.replace(c, lungs=np.zeros((224, 224), bool)) for c in content.cases]
    assert report.render(dataclasses.replace(content, cases=without)) != text
