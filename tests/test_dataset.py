"""Class folders become a Dataset, or one line that says why not."""

import numpy as np
import pytest

from covidxray.dataset import load_dataset
from covidxray.errors import InputError
from covidxray.manifest import Row, fill_folder


def rows(name, patients, source="s", synthetic="no"):
    return [
        Row(f"{name}{i}.png", source, f"{name}{i}", str(p), synthetic=synthetic)
        for i, p in enumerate(patients)
    ]


@pytest.fixture
def fill(tmp_path, picture):
    """A function that fills a class folder of the data set from manifest rows."""

    def make(name, listed):
        images = [(row, picture(hash(row.filename) % 2**32)) for row in listed]
        fill_folder(tmp_path / name, images)
        return tmp_path

    return make


def test_classes_are_sorted_and_labels_point_at_them(fill):
    fill("normal", rows("n", [1]))
    data = load_dataset(fill("covid", rows("c", [1, 2])))
    assert data.classes == ("covid", "normal")
    assert data.labels.tolist() == [0, 0, 1]


def test_a_patient_of_one_source_is_one_group_in_whichever_class(fill):
    fill("normal", rows("n", [1, 3]))
    data = load_dataset(fill("covid", rows("c", [1, 2, 2])))
    assert data.groups[1] == data.groups[2]
    assert data.groups[0] == data.groups[3]
    assert len(np.unique(data.groups)) == 3


def test_the_same_number_in_another_source_is_another_patient(fill):
    fill("normal", rows("n", [1], source="t"))
    data = load_dataset(fill("covid", rows("c", [1])))
    assert data.groups[0] != data.groups[1]


def test_without_a_manifest_each_image_is_its_own_patient(fill, tmp_path, picture):
    fill("covid", rows("c", [1]))
    (tmp_path / "normal").mkdir()
    for i in range(3):
        (tmp_path / "normal" / f"{i}.png").write_bytes(picture(i))
    data = load_dataset(tmp_path)
    assert data.without_manifest == ("normal",)
    assert len(np.unique(data.groups)) == 4


def test_drawings_among_real_images_are_refused(fill):
    fill("covid", rows("c", [1]))
    root = fill("normal", rows("n", [1], synthetic="yes"))
    with pytest.raises(InputError, match="holds drawings"):
        load_dataset(root)


def test_one_class_is_too_few(fill):
    with pytest.raises(InputError, match="two or more class folders, has 1"):
        load_dataset(fill("covid", rows("c", [1])))


def test_a_class_without_images_is_named(fill, tmp_path):
    fill("covid", rows("c", [1]))
    (tmp_path / "normal").mkdir()
    with pytest.raises(InputError, match="normal: holds no images"):
        load_dataset(tmp_path)


def test_a_row_without_its_image_is_named(fill, tmp_path):
    fill("covid", rows("c", [1, 2]))
    fill("normal", rows("n", [1]))
    (tmp_path / "covid" / "c1.png").unlink()
    with pytest.raises(InputError, match=r"c1\.png: is in the manifest but gone"):
        load_dataset(tmp_path)


def test_the_digest_changes_with_an_image(fill, tmp_path, picture):
    fill("covid", rows("c", [1]))
    before = load_dataset(fill("normal", rows("n", [1]))).sha256
    assert load_dataset(tmp_path).sha256 == before
    fill_folder(tmp_path / "normal", [(rows("n", [1])[0], picture(99))])
    assert load_dataset(tmp_path).sha256 != before
