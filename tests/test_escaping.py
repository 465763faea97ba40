"""A page made of hostile names, by a real run: nothing of them is more than text in it."""

import json
import zipfile
from dataclasses import replace

import numpy as np
import pytest
from pages import Page
from test_dicom import save_dicom

from covidxray.data.class_folder import fill_folder
from covidxray.data.manifest import ManifestRow
from covidxray.demo.phantom import draw_phantom, encode_jpeg
from covidxray.model.model_file import MEMBER

TAG = "<img src=x onerror=alert(1)>"
QUOTE = "\"' onload='alert(1)' $_{x} &amp;{{7*7}}"
HOSTILE = "</title></style></td><script>alert(1)</script>"
CLASSES = (f"covid {TAG}", f"normal {QUOTE}")


@pytest.fixture
def hostile(trained, tmp_path):
    """A model and a data set whose every name and cell is hostile."""
    model = tmp_path / f"{TAG}.keras"
    with zipfile.ZipFile(trained[0]) as old, zipfile.ZipFile(model, "w") as new:
        for member in old.namelist():
            content = old.read(member)
            if member == MEMBER:
                metadata = {"classes": CLASSES, "positive": CLASSES[0], "synthetic": False}
                metadata["card"] = {"data set": HOSTILE, HOSTILE: HOSTILE, "weights": QUOTE}
                content = json.dumps({**json.loads(content), **metadata})
            new.writestr(member, content)
    root = tmp_path / f"data {TAG}"
    rng = np.random.default_rng(0)
    for label, name in enumerate(CLASSES):
        rows = []
        for i in range(3):
            picture = draw_phantom(rng, size=64, severity=0.7 * (1 - label)).image
            row = ManifestRow(f"{i}{TAG}.jpg", HOSTILE, HOSTILE, f"{label}{i}{HOSTILE}", HOSTILE)
            row = replace(row, finding=HOSTILE, age=HOSTILE, sex=HOSTILE, license=HOSTILE)
            rows.append((replace(row, url=HOSTILE), encode_jpeg(picture)))
        fill_folder(root / name, rows, [(HOSTILE, HOSTILE), (QUOTE, QUOTE)])
    grey = np.ascontiguousarray(np.atleast_3d(draw_phantom(rng, size=64).image)[..., 0])
    texts = {"PatientSex": "O", "PatientComments": HOSTILE, "ViewPosition": "<B>"}
    save_dicom(root / CLASSES[1] / f"{QUOTE}.dcm", grey, **texts)
    return model, root


@pytest.mark.long
@pytest.mark.slow
def test_the_page_of_an_evaluation_has_hostile_names_as_text_alone(hostile, script, tmp_path):
    model, root = hostile
    done = script(
        "evaluate_covid19.py", "-m", model, "-d", root, "--report", "r.html", cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    page = Page((tmp_path / "r.html").read_text())
    for text in (*CLASSES, TAG, QUOTE, HOSTILE):
        assert text in page.text
    images = [attributes["src"] for attributes in page.all("img")]
    assert len(images) > 4 and all(src.startswith("data:image/") for src in images)
    assert not any(
        tag in ("script", "iframe", "object", "form", "base") for tag, _ in page.elements
    )
    names = {name for _, attributes in page.elements for name in attributes}
    assert not {name for name in names if name.startswith("on")}
