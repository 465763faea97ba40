"""Show a class what the model makes of an X-ray, its numbers, and a shortcut at work.

`streamlit run app_covid19.py -- --model covid19.keras --dataset dataset` opens a page with three
tabs, on this machine alone. X-rays that are dropped on it stay in memory.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from html import escape
from pathlib import Path

try:
    import streamlit as st
    from starlette.formparsers import MultiPartParser
except ImportError as missing:
    sys.exit(f"error: {missing}; pip install -r requirements-app.txt")

import covidxray
from covidxray.api import display, lecture
from covidxray.api.prediction import LoadedPredictor
from covidxray.data.dataset import Dataset
from covidxray.data.image_file import ImageFile
from covidxray.errors import InputError
from covidxray.options.app import read_options
from covidxray.report.plots import data_address

STYLE = """<style>
.st-key-disclaimer {position: fixed; bottom: 0; left: 0; right: 0; z-index: 99; background: #a40000}
.st-key-disclaimer p {color: #fff; font-size: clamp(.75rem, 2.5vw, 1rem); padding: .3rem 1rem}
.stHtml p {margin: 0 0 .3rem}
.stMainBlockContainer {padding: 0 1rem 8rem; max-width: 75rem}
.stMainBlockContainer .stVerticalBlock {gap: .4rem}
.stApp h1 {font-size: 1.3rem; padding: .2rem 0 .6rem; margin: 0}
[role=tab] p, button p {font-size: 1.1rem}
section {border-top: 2px solid #1a1a1a; padding: .6rem 0; overflow-wrap: anywhere}
section h2 {font-size: 1.1rem; padding: 0; margin: 0}
.pictures {display: grid; gap: .8rem; grid-template-columns: 1fr 1fr; max-width: max(22rem, 68vh)}
.pictures figure {margin: 0; display: flex; flex-direction: column; justify-content: end}
.pictures figcaption {font-size: .9rem; line-height: 1.3}
.pictures img {width: 100%; display: block}
.stHtml .large {font-size: 1.4rem; line-height: 1.3}
.large span {white-space: nowrap; margin-right: 1rem}
.warning {border: 3px solid #a40000; padding: .3rem .8rem; overflow-wrap: anywhere}
table {border-collapse: collapse; width: 100%; max-width: 48rem}
th, td {text-align: left; padding: .2rem 1rem .2rem 0; border-bottom: 1px solid #767676}
.bar {display: block; position: relative; height: .8rem; border: 1px solid #767676}
.bar i {position: absolute; top: .15rem; bottom: .15rem; background: #0072b2}
.bar b {position: absolute; top: 0; bottom: 0; width: 4px; margin-left: -2px; background: #1a1a1a}
.bar::after {content: ""; position: absolute; left: 50%; height: 100%; border-left: 2px dotted #000}
</style>"""
SHORTCUT = """<section><p>A classifier of 8 x 8 grey pixels learned from the same images as the
model. So few pixels show how an image is framed and exposed, and hardly any anatomy. Where it is
right as often as the model, the model may not have used the lungs either.</p></section>"""


def main() -> None:
    if not st.runtime.exists():
        sys.exit("error: app_covid19.py: is a page; open it with streamlit run app_covid19.py")
    MultiPartParser.spool_max_size = 0  # otherwise an upload above 1 MB passes through a file
    st.set_page_config(page_title="A classifier of chest X-rays", layout="wide")
    st.html(STYLE)
    disclaimer = st.container(key="disclaimer")
    disclaimer.html(f"<p>{covidxray.DISCLAIMER} It must never be used on patients.</p>")
    st.title("A classifier of chest X-rays", anchor=False)
    with errors_in_place():
        options = read_options(sys.argv[1:])
        changed = options.model.stat().st_mtime if options.model.exists() else 0
        site = options.reference, options.false_positives
        predictor = open_predictor(options.model, *site, changed)
        if st.session_state.get("predictor") is not predictor:
            st.session_state.update(predictor=predictor, uploads={}, guesses=[], right=[])
        if predictor.metadata.synthetic:
            st.html(f"<p>{covidxray.DRAWINGS}</p>")
        uploads, numbers, shortcut = st.tabs(["X-rays", "Numbers", "Shortcut"])
        with uploads:
            show_uploads(predictor)
        with numbers, errors_in_place():
            show_numbers(predictor, options.metrics)
        with shortcut, errors_in_place():
            show_shortcut(predictor, options.dataset)


@contextmanager
def errors_in_place() -> Iterator[None]:
    """Show an error where the block would have shown its content."""
    try:
        yield
    except InputError as error:
        st.html(display.warning(str(error)))


@st.cache_resource(show_spinner="Loading the model and the reference ...", max_entries=1)
def open_predictor(
    model: Path, reference: Path | None, false_positives: float, changed: float
) -> LoadedPredictor:
    """The model; another time of change loads it again."""
    return covidxray.load_predictor(model, reference=reference, false_positives=false_positives)


@st.cache_resource(
    show_spinner="Reading the data set ...", max_entries=1, hash_funcs={LoadedPredictor: id}
)
def open_dataset(folder: Path, predictor: LoadedPredictor) -> Dataset:
    return lecture.unseen_images(folder, predictor.metadata)


def show_uploads(predictor: LoadedPredictor) -> None:
    uploads = st.file_uploader("X-rays (PNG, JPEG, DICOM)", accept_multiple_files=True)
    known = st.session_state.uploads  # what is shown, by the number of the upload
    with st.spinner("Looking at the X-rays ..."):
        st.session_state.uploads = {
            one.file_id: known.get(one.file_id) or describe(predictor, one.name, one.getvalue())
            for one in uploads
        }
    explanation = "".join(f"<p>{escape(line)}</p>" for line in predictor.explanation.splitlines())
    st.html("".join(st.session_state.uploads.values()) + explanation)


def describe(predictor: LoadedPredictor, name: str, content: bytes) -> str:
    """What the model makes of an upload: pictures and numbers, or why it cannot be read."""
    try:
        (found,) = predictor.predict(ImageFile(Path(name), content))
    except InputError as error:
        return display.warning(str(error))
    row, name = found.row, str(found.row["image"])
    told = [f"<strong>{escape(str(row['class'])) or 'no class'}</strong>"]
    for column, value in row.items():
        if column.startswith("P(") or column == "p-value":
            told.append(f"{escape(column)} = {value:.2f}")
    return (
        f"<section><h2>{escape(name)}</h2>"
        + (display.warning(f"Warning: {row['warning']}") if row["warning"] else "")
        + f'<p class="large"><span>{"</span> <span>".join(told)}</span></p>'
        + display.pictures(
            (found.outlined, f"X-ray {name}", "Lungs that were found"),
            (found.heat_map, f"Heat map of {name}", "What speaks for its class"),
        )
        + "</section>"
    )


def show_numbers(predictor: LoadedPredictor, metrics: Path) -> None:
    numbers = lecture.read_numbers(metrics, predictor.metadata)
    st.html(f'<p class="large">{escape(numbers.sentence)}</p><p>{escape(numbers.verdict)}</p>')
    st.html(display.bars(numbers.areas, ("cross-validated", "AUC (95 % interval); dots: chance")))
    alt = "Training and validation loss and accuracy by epoch"
    address = data_address("png", numbers.plot)
    st.html(f'<img src="{address}" alt="{alt}" style="width: 100%">')


def show_shortcut(predictor: LoadedPredictor, folder: Path) -> None:
    with st.container(horizontal=True):
        more = st.button("Next image") + 10 * st.button("Ten more images")
    if more or st.session_state.guesses:
        show_guesses(predictor, folder, more)
    st.html(SHORTCUT)


def show_guesses(predictor: LoadedPredictor, folder: Path, more: int) -> None:
    """Guess `more` images of the data set, and show how often the guesses were right so far."""
    guesses, right = st.session_state.guesses, st.session_state.right
    data = open_dataset(folder, predictor)
    with st.spinner("Guessing ..."):
        for i in range(len(guesses), min(len(data), len(guesses) + more)):
            guesses.append(describe_guess(predictor, data, i, right))
    if right:
        rows = lecture.shares_right(data, right)
        seen = f"{len(guesses)} of {len(data)} images that trained neither"
        st.html(display.bars(rows, (seen, "right (95 % interval); dots: chance")))
    st.html("".join(reversed(guesses)))


def describe_guess(
    predictor: LoadedPredictor, data: Dataset, i: int, right: list[tuple[int, bool, bool]]
) -> str:
    """Both guesses for an image, which are added to `right`, or why the image does not count."""
    try:
        found = lecture.guess(predictor, data, i)
    except InputError as error:
        return display.warning(str(error))
    right.append((i, *found.right))
    name = data.names([i])[0]
    model, thumbnail = (
        f"{said}: {'right' if hit else 'wrong'}"
        for said, hit in zip(found.said, found.right, strict=True)
    )
    return (
        f"<section><h2>Truth: {escape(found.truth)}</h2>"
        + display.pictures(
            (found.image.outlined, f"X-ray {name}", f"The model says {model}"),
            (found.thumbnail, f"8 x 8 thumbnail of {name}", f"The thumbnail says {thumbnail}"),
        )
        + "</section>"
    )


if __name__ == "__main__":
    main()
