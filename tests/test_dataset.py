"""Class folders become a Dataset, or one line that says why not."""

import zlib

import numpy as np
import pytest
from test_dicom import IDENTIFIERS, save_dicom

from covidxray.data.class_folder import fill_folder
from covidxray.data.loading import load_dataset
from covidxray.data.manifest import ManifestRow
from covidxray.data.patients import patient_digest
from covidxray.errors import InputError

SALT = b"of the tests"


def rows(name, patients, source="s", synthetic="no"):
    return [
        ManifestRow(f"{name}{i}.png", source, f"{name}{i}", str(p), synthetic=synthetic)
        for i, p in enumerate(patients)
    ]


@pytest.fixture
def fill(tmp_path, picture):
    """A function that fills a class folder of the data set from manifest rows."""

    def make(name, listed):
        images = [(row, picture(zlib.crc32(row.filename.encode()))) for row in listed]
        fill_folder(tmp_path / name, images)
        return tmp_path

    return make


def test_classes_are_sorted_and_labels_point_at_them(fill):
    fill("normal", rows("n", [1]))
    data = load_dataset(fill("covid", rows("c", [1, 2])), SALT)
    assert data.classes == ("covid", "normal")
    assert data.labels.tolist() == [0, 0, 1]


def test_a_patient_of_one_source_is_one_group_in_whichever_class(fill):
    fill("normal", rows("n", [1, 3]))
    data = load_dataset(fill("covid", rows("c", [1, 2, 2])), SALT)
    assert data.groups[1] == data.groups[2]
    assert data.groups[0] == data.groups[3]
    assert len(np.unique(data.groups)) == 3


def test_the_same_number_in_another_source_is_another_patient(fill):
    fill("normal", rows("n", [1], source="t"))
    data = load_dataset(fill("covid", rows("c", [1])), SALT)
    assert data.groups[0] != data.groups[1]


def test_without_a_manifest_each_image_is_its_own_patient(fill, tmp_path, picture):
    fill("covid", rows("c", [1]))
    (tmp_path / "normal").mkdir()
    for i in range(3):
        (tmp_path / "normal" / f"{i}.png").write_bytes(picture(i))
    data = load_dataset(tmp_path, SALT)
    assert data.without_manifest == ("normal",)
    assert len(np.unique(data.groups)) == 4


def test_drawings_among_real_images_are_refused(fill):
    fill("covid", rows("c", [1]))
    root = fill("normal", rows("n", [1], synthetic="yes"))
    with pytest.raises(InputError, match="holds drawings"):
        load_dataset(root, SALT)


def test_one_class_is_too_few(fill):
    with pytest.raises(InputError, match="two or more class folders, has 1"):
        load_dataset(fill("covid", rows("c", [1])), SALT)


def test_a_class_without_images_is_named(fill, tmp_path):
    fill("covid", rows("c", [1]))
    (tmp_path / "normal").mkdir()
    with pytest.raises(InputError, match="normal: holds no images"):
        load_dataset(tmp_path, SALT)


def test_a_row_without_its_image_is_named(fill, tmp_path):
    fill("covid", rows("c", [1, 2]))
    fill("normal", rows("n", [1]))
    (tmp_path / "covid" / "c1.png").unlink()
    with pytest.raises(InputError, match=r"c1\.png: is listed in manifest.csv but missing"):
        load_dataset(tmp_path, SALT)


def test_the_digest_changes_with_an_image(fill, tmp_path, picture):
    fill("covid", rows("c", [1]))
    before = load_dataset(fill("normal", rows("n", [1])), SALT).sha256
    assert load_dataset(tmp_path, SALT).sha256 == before
    fill_folder(tmp_path / "normal", [(rows("n", [1])[0], picture(99))])
    assert load_dataset(tmp_path, SALT).sha256 != before


def test_groups_are_numbered_as_they_come_whatever_the_salt_and_the_path(fill, monkeypatch):
    fill("normal", rows("n", [7, 3, 5]))
    root = fill("covid", rows("c", [9, 5, 9]))
    assert load_dataset(root, SALT).groups.tolist() == [0, 1, 0, 2, 3, 1]
    monkeypatch.chdir(root.parent)
    again = load_dataset(root.relative_to(root.parent), b"another")
    assert again.groups.tolist() == [0, 1, 0, 2, 3, 1]


def test_a_patients_digest_is_of_source_and_id_and_of_no_use_with_another_salt(fill):
    fill("normal", rows("n", [1, ""]))
    data = load_dataset(fill("covid", rows("c", [1, 2])), SALT)
    assert data.patients[0] == data.patients[2] == patient_digest("s\x001", SALT)
    assert data.patients[0] not in (data.patients[1], patient_digest("s\x001", b"another"))
    assert len(data.patients[0]) == 32
    assert patient_digest("\udcff", SALT) != patient_digest("\udcfe", SALT)  # not of UTF-8
    assert data.patients[3] == ""


@pytest.fixture
def hospital(tmp_path):
    """Five DICOM files: two of one patient, one of another, two that do not say of whom."""
    noise = np.random.default_rng(0).integers(0, 256, (6, 16, 16), dtype=np.uint8)
    tags = {"PatientSex": "F", "PatientAge": "045Y", "ViewPosition": "PA"}
    for folder in ("covid", "normal"):
        (tmp_path / folder).mkdir()
    save_dicom(tmp_path / "covid" / "a", noise[0], **IDENTIFIERS, **tags)
    save_dicom(tmp_path / "covid" / "b.dcm", noise[1], PatientID="17")
    save_dicom(tmp_path / "normal" / "c.png", noise[2], **IDENTIFIERS)
    save_dicom(tmp_path / "normal" / "d.dcm", noise[3], PatientID="")
    save_dicom(tmp_path / "normal" / "e.dcm", noise[4])
    return tmp_path


def test_two_dicom_files_of_one_patient_are_one_group(hospital):
    data = load_dataset(hospital, SALT)
    assert data.groups.tolist() == [0, 1, 0, 2, 3]
    assert data.patients[0] == data.patients[2] == patient_digest("MRN-7731", SALT)
    assert data.patients[3:] == ["", ""]
    assert data.without_manifest == ("normal",)


def test_a_dicom_file_gives_its_row_what_may_be_kept(hospital):
    row = load_dataset(hospital, SALT).rows[0]
    assert (row.source, row.view, row.sex, row.age) == ("dicom", "PA", "F", "45")
    assert row.patient_id == patient_digest("MRN-7731", SALT)


def test_a_manifest_goes_before_a_dicom_files_own_header(tmp_path, fill):
    fill("normal", rows("n", [1]))
    save_dicom(tmp_path / "x", np.zeros((8, 8), np.uint8), **IDENTIFIERS)
    fill_folder(tmp_path / "covid", [(ManifestRow("x.dcm", "s", "x", "1"), tmp_path / "x")])
    data = load_dataset(tmp_path, SALT)
    assert data.groups.tolist() == [0, 0]
    assert data.rows[0].source == "s"


def test_nothing_that_tells_the_patient_is_in_a_data_set(hospital):
    data = load_dataset(hospital, SALT)
    shown = f"{data} {data!r} {vars(data)} {data.names(range(len(data)))}"
    for value in IDENTIFIERS.values():
        assert value not in shown


def test_a_models_classes_need_only_one_of_their_folders(fill):
    root = fill("normal", rows("n", [1, 2]))
    data = load_dataset(root, SALT, classes=["pneumonia", "normal", "covid"])
    assert data.classes == ("pneumonia", "normal", "covid")
    assert data.labels.tolist() == [1, 1]
    assert str(data) == f"{root.name}: 2 normal images, 2 patients"
    assert data.names([0]) == ["normal/n0.png"]


def test_a_folder_that_is_no_class_of_the_model_is_named(fill):
    root = fill("flu", rows("n", [1]))
    with pytest.raises(InputError, match="flu: is no class of the model; its classes are b, a"):
        load_dataset(root, SALT, classes=["b", "a"])


def test_a_models_classes_without_any_folder_are_refused(tmp_path):
    with pytest.raises(InputError, match="no class folder; the model's classes are b, a"):
        load_dataset(tmp_path, SALT, classes=["b", "a"])


def test_folders_of_archivers_are_no_classes(fill, tmp_path):
    fill("covid", rows("c", [1]))
    fill("normal", rows("n", [1]))
    for name in ("__MACOSX", ".cache"):
        (tmp_path / name).mkdir()
    assert load_dataset(tmp_path, SALT).classes == ("covid", "normal")


@pytest.fixture
def seven(fill):
    """Seven images of three classes; patients with several images each, one in two classes."""
    fill("asthma", rows("a", [1, 2, 1]))
    fill("healthy", rows("h", [2, 5]))
    return fill("covid", rows("c", [3, 3]))


@pytest.mark.parametrize("unread", [[0], [1], [3], [6], [1, 3], [2, 4, 5]])
def test_an_image_left_out_takes_what_belongs_to_it_along_and_nothing_else(seven, unread):
    data = load_dataset(seven, SALT)
    left = data.without({i: InputError(f"image {i}") for i in unread})
    kept = [i for i in range(7) if i not in unread]
    assert len(left) == len(kept)
    for name in ("paths", "patients", "rows", "masks"):
        assert getattr(left, name) == [getattr(data, name)[i] for i in kept]
    np.testing.assert_array_equal(left.labels, data.labels[kept])
    np.testing.assert_array_equal(
        left.groups[:, None] == left.groups, data.groups[kept][:, None] == data.groups[kept]
    )
    assert left.names(range(len(left))) == data.names(kept)
    assert [str(error) for error in left.left_out] == [f"image {i}" for i in unread]


def test_an_image_left_out_might_as_well_never_have_been_there(seven):
    data = load_dataset(seven, SALT)
    left = data.without({1: InputError("no image")})
    (seven / "asthma" / "a1.png").write_text("no image")
    other = rows("a", [1, 2, 1])
    pictures = [(other[i], (seven / "asthma" / f"a{i}.png").read_bytes()) for i in (0, 2)]
    (seven / "asthma" / "a1.png").unlink()
    (seven / "asthma" / "manifest.csv").unlink()
    for i in (0, 2):
        (seven / "asthma" / f"a{i}.png").unlink()
    fill_folder(seven / "asthma", pictures)
    never = load_dataset(seven, SALT)
    assert left.sha256 == never.sha256
    assert left.sha256 != data.sha256
    assert (left.rows, left.patients) == (never.rows, never.patients)
    assert str(left) == f"{never}; 1 left out"


def test_copies_join_the_patients_of_a_data_set_and_change_nothing_else(seven):
    data = load_dataset(seven, SALT)  # patients 1, 2, 1, 3, 3, 2, 5
    hashes = np.random.default_rng(0).integers(0, 2**63, (7, 4)).astype(np.uint64)
    hashes[4] = hashes[0]  # an image of patient 1 is one of patient 3, too
    merged, copies = data.merge(hashes)
    assert copies == 2
    groups = merged.groups
    assert len({groups[i] for i in (0, 2, 3, 4)}) == 1
    assert groups[1] == groups[5]
    assert len(np.unique(groups)) == 3
    assert (merged.patients, merged.sha256) == (data.patients, data.sha256)
    assert data.groups.tolist() == [0, 1, 0, 2, 2, 1, 3]


def test_names_as_in_nihs_data_set_tell_the_patient(tmp_path, picture):
    names = ("00000001_000.png", "00000001_001.png", "00000002_000.png", "00000002.png")
    for first, folder in ((0, "covid"), (10, "normal")):
        (tmp_path / folder).mkdir()
        for number, name in enumerate(names):
            (tmp_path / folder / name).write_bytes(picture(first + number))
    data = load_dataset(tmp_path, SALT)
    assert [path.name for path in data.paths[2:4]] == ["00000002.png", "00000002_000.png"]
    assert data.groups.tolist() == [0, 0, 1, 2, 0, 0, 3, 2]
