"""Read what the scripts write into plain values, and say how two of those differ."""

import base64
import csv
import io
import json
import re
import zipfile
from collections.abc import Iterator
from difflib import SequenceMatcher
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from PIL import Image

PROGRESS = re.compile(r".*\[\d+:\d\d[<,][^]]*\]")  # a progress bar, which holds times
NUMBER = re.compile(r"(?<![\w.])[-+]?\d+(?:\.\d+)?(?:e[-+]?\d+)?")  # not the 16 of VGG16
IGNORED = {"versions", "shared_object_id"}  # JSON keys; the latter is an address in memory
Difference = tuple[bool, str]  # whether it is a failure; what it is


def read_output(path: Path) -> Any:
    """The content of one output: nested dicts and lists of strings, numbers and arrays.

    Pictures become uint8 RGB arrays (H, W, 3). Text, and what is in no known format, becomes one
    string, without progress bars where it is stderr.
    """
    if path.suffix in (".png", ".jpg", ".jpeg"):
        return _read_pixels(path)
    if path.suffix == ".keras":
        return _read_model(path)
    text = path.read_text(encoding="utf-8", errors="backslashreplace")
    if path.suffix == ".json":
        return json.loads(text)
    if path.suffix == ".csv":
        return list(csv.reader(io.StringIO(text)))
    if path.suffix == ".html":
        page = _Page(text)
        return {"text": "\n".join(page.lines), "pictures": page.pictures}
    if path.name == "stderr.txt":
        lines = [PROGRESS.sub("", line) for line in re.split(r"[\r\n]+", text)]
        return "\n".join(line for line in lines if line.strip())
    return text


def _read_pixels(file: Path | io.BytesIO) -> np.ndarray:
    with Image.open(file) as image:
        return np.asarray(image.convert("RGB"))


def _read_model(path: Path) -> dict[str, Any]:
    """The parts of a .keras file. The salt is random, and the patients' digests depend on it, so
    both are replaced by their length. Keras numbers the layers of a process, whichever model they
    are in, so the numbers that end their names are left out."""
    with zipfile.ZipFile(path) as archive:
        about = json.loads(archive.read("covidxray.json"))
        config = json.loads(re.sub(r'_\d+"', '"', archive.read("config.json").decode()))
        about |= {key: len(about[key]) for key in ("salt", "patients")}
        arrays = dict(np.load(io.BytesIO(archive.read("covidxray.npz"))))
        weights: dict[str, np.ndarray] = {}
        with h5py.File(io.BytesIO(archive.read("model.weights.h5"))) as file:
            names: list[str] = []
            file.visit(names.append)
            weights = {n: file[n][()] for n in names if isinstance(file[n], h5py.Dataset)}
    return {"about": about, "config": config, "arrays": arrays, "weights": weights}


class _Page(HTMLParser):
    """The text of an HTML page, with the descriptions of its pictures, and the pictures: arrays,
    but bytes for an SVG drawing."""

    def __init__(self, text: str):
        super().__init__()
        self.lines: list[str] = []
        self.pictures: list[np.ndarray | bytes] = []
        self._shown = True
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._shown = tag != "style"
        if tag == "img":
            named = dict(attrs)
            self.lines.append(named["alt"])
            content = base64.b64decode(named["src"].partition(";base64,")[2])
            drawing = named["src"].startswith("data:image/svg")
            self.pictures.append(content if drawing else _read_pixels(io.BytesIO(content)))

    def handle_data(self, data: str) -> None:
        if self._shown and data.strip():
            self.lines.append(" ".join(data.split()))


def compare_texts(before: str, after: str, place: str) -> Iterator[Difference]:
    """Blocks of lines that differ. One is a failure if its numbers differ, unless the two texts as
    a whole have the same numbers in the same order."""
    same = NUMBER.findall(before) == NUMBER.findall(after)
    a, b = before.splitlines(), after.splitlines()
    for kind, i, j, k, m in SequenceMatcher(None, a, b, autojunk=False).get_opcodes():
        if kind != "equal":
            old, new = "\n".join(a[i:j]), "\n".join(b[k:m])
            failed = not same and NUMBER.findall(old) != NUMBER.findall(new)
            yield failed, f"{place}: {old[:500]!r} -> {new[:500]!r}"


def compare_arrays(before: np.ndarray, after: np.ndarray, place: str) -> Iterator[Difference]:
    """The number of values that differ, the largest difference and the indices around all."""
    if before.shape != after.shape:
        yield True, f"{place}: shape {before.shape} -> {after.shape}"
    elif (bad := ~np.isclose(after, before, rtol=1e-6, atol=1e-12, equal_nan=True)).any():
        most = np.abs(after.astype(float) - before.astype(float))[bad].max()
        where = np.argwhere(bad)
        box = f"indices {where.min(axis=0).tolist()} to {where.max(axis=0).tolist()}"
        yield True, f"{place}: {bad.sum()} of {bad.size} values, by up to {most:.3g}, {box}"


def compare_values(before: Any, after: Any, place: str) -> Iterator[Difference]:
    """What differs between two contents of `read_output`, and where.

    A text without a space is a name or a hash, and no message that may be reworded.
    """
    match before, after:
        case dict(), dict():
            for key in sorted({*before, *after} - IGNORED):
                if key in before and key in after:
                    yield from compare_values(before[key], after[key], f"{place}/{key}")
                else:
                    yield True, f"{place}/{key}: only {'before' if key in before else 'after'}"
        case list(), list() if len(before) == len(after):
            for i, pair in enumerate(zip(before, after, strict=True)):
                yield from compare_values(*pair, f"{place}/{i}")
        case str(), str() if " " in before and " " in after:
            yield from compare_texts(before, after, place)
        case np.ndarray(), np.ndarray():
            yield from compare_arrays(before, after, place)
        case bytes(), bytes():
            if before != after:  # an SVG drawing holds words, too
                yield False, f"{place}: another drawing"
        case ((int() | float()), (int() | float())) if bool not in (type(before), type(after)):
            yield from compare_arrays(np.array(before), np.array(after), place)
        case _:
            if type(before) is not type(after) or before != after:
                yield True, f"{place}: {str(before)[:200]} -> {str(after)[:200]}"
