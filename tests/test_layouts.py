"""Data sets are read as they are published: splits, masks, folders of patients, any suffix."""

import json
import shutil

import numpy as np
import pytest
from conftest import ROOT
from PIL import Image
from test_dicom import save_dicom

from covidxray.cli import show_dataset
from covidxray.data.folders import list_images, list_tree
from covidxray.data.loading import load_dataset
from covidxray.errors import InputError

SALT = b"of the tests"


@pytest.fixture
def put(tmp_path, picture):
    """A function that writes different pictures to these paths, and returns the root."""
    counter = iter(range(1000, 9000))

    def write(*paths, root="set"):
        for path in paths:
            (tmp_path / root / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / root / path).write_bytes(picture(next(counter)))
        return tmp_path / root

    return write


def names(data):
    return data.names(range(len(data)))


def test_an_image_is_recognised_by_its_content_whatever_its_suffix(put, tmp_path):
    root = put("a/x.png", "a/no-suffix", "a/y.jfif", "b/z.jpe", "b/1.2.840")
    for kind in ("BMP", "GIF", "TIFF", "WEBP", "JPEG"):
        Image.new("L", (30, 30), 128).save(root / "b" / f"as-{kind.lower()}", kind)
    (root / "b" / "notes.txt").write_text("BMI of the patients")
    assert names(load_dataset(root, SALT)) == [
        *("a/no-suffix", "a/x.png", "a/y.jfif", "b/1.2.840", "b/as-bmp", "b/as-gif"),
        *("b/as-jpeg", "b/as-tiff", "b/as-webp", "b/z.jpe"),
    ]


def test_formats_that_cannot_be_read_are_named_and_counted(put, capsys):
    root = put("a/x.png", "b/y.png")
    for name in ("a/scan.nii.gz", "a/photo.HEIC", "other.jp2"):
        (root / name).write_bytes(b"any content")
    data = load_dataset(root, SALT)
    assert len(data.left_out) == 3
    show_dataset(data)
    printed = capsys.readouterr()
    assert printed.out == "set: 1 a + 1 b images, 2 patients; 3 left out\n"
    assert "scan.nii.gz: is of a format that cannot be read; convert it to PNG" in printed.err


def test_many_files_left_out_for_one_reason_are_counted(put, capsys):
    data = load_dataset(put("a/x.png", "b/y.png", *(f"{i:02d}.png" for i in range(23))), SALT)
    show_dataset(data)
    told = [line for line in capsys.readouterr().err.splitlines() if "left out" in line]
    assert len(told) == 11
    assert told[-1] == "[INFO] left out: 13 more for the same reason"


def test_folders_of_patients_below_a_class_are_patients(put):
    frontal = [f"covid/patient{i}/study{k}/view1_frontal.png" for i in range(3) for k in (1, 2)]
    root = put(*frontal, "covid/single.png", "normal/p10/s1/x.png", "normal/patient2/x.png")
    data = load_dataset(root, SALT)
    assert names(data) == [
        *frontal,
        "covid/single.png",
        "normal/p10/s1/x.png",
        "normal/patient2/x.png",
    ]
    # The second patient of each class is one.
    assert data.groups.tolist() == [0, 0, 1, 1, 2, 2, 3, 4, 2]
    assert len(set(names(data))) == len(data)
    assert data.left_out == ()


def test_a_folder_that_is_no_patients_among_those_below_a_class_leaves_them_out(put):
    root = put("covid/a.png", "covid/patient1/x.png", "covid/rejected/y.png", "normal/b.png")
    data = load_dataset(root, SALT)
    assert names(data) == ["covid/a.png", "normal/b.png"]
    left_out = sorted(str(error) for error in data.left_out)
    assert len(left_out) == 2
    assert left_out[1].endswith(
        "rejected/y.png: lies in a folder inside the class folder; move it up to use it"
    )


def test_a_class_whose_images_all_lie_deeper_is_said_with_one_of_them(put):
    root = put("covid/rejected/y.png", "normal/b.png")
    with pytest.raises(InputError, match=r"covid: holds no images that are used \(.*y\.png: lies"):
        load_dataset(root, SALT)


def test_images_and_masks_next_to_each_other_are_images_and_their_lung_masks(put):
    root = put(
        *(f"{c}/{kind}/{c}-{i}.png" for c in "ab" for kind in ("images", "masks") for i in (1, 2))
    )
    (root / "b/masks/b-2.png").unlink()
    data = load_dataset(root, SALT)
    assert names(data) == [f"{c}/images/{c}-{i}.png" for c in "ab" for i in (1, 2)]
    masks = [root / "a/masks/a-1.png", root / "a/masks/a-2.png", root / "b/masks/b-1.png", None]
    assert data.masks == masks


def test_images_added_to_a_class_are_named_by_the_class_and_the_file(put):
    root, own = put("a/1.png", "b/2.png"), put("3.png", root="own")
    data = load_dataset(root, SALT, added=[("b", own)])
    assert names(data) == ["a/1.png", "b/2.png", "b/3.png"]
    assert data.labels.tolist() == [0, 1, 1]
    with pytest.raises(InputError, match="no class c to add to; there are a, b"):
        load_dataset(root, SALT, added=[("c", own)])


def test_a_set_without_any_file_that_can_be_read_is_refused_with_one_of_them(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a/gone.png").symlink_to(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"gone\.png: is not a file, or a link that leads nowh"):
        load_dataset(tmp_path, SALT, classes=("a", "b"))


def test_masks_are_never_predicted(put):
    root = put("a/images/1.png", "a/masks/1.png", "b/Masks/deep/2.png", "c.png")
    found, left_out = list_tree(root)
    assert found == [root / "a/images/1.png", root / "c.png"]
    assert len(left_out) == 2
    (root / "b/Masks/1.nii").write_bytes(b"x")
    assert len(list_tree(root)[1]) == 3
    assert "is a mask by the name of its folder" in str(left_out[0])


SPLIT = [
    f"{split}/{c}/{split}{c}{i}.png"
    for split in ("train", "val", "test")
    for c in "ab"
    for i in (1, 2)
]


def test_the_folder_test_of_a_data_set_is_what_is_held_out(put):
    data = load_dataset(put(*SPLIT), SALT)
    assert data.classes == ("a", "b")
    held_out = [name for name, out in zip(names(data), data.held_out, strict=True) if out]
    assert held_out == [
        "test/a/testa1.png",
        "test/a/testa2.png",
        "test/b/testb1.png",
        "test/b/testb2.png",
    ]
    assert names(data.development) == [name for name in names(data) if name not in held_out]


def test_splits_are_accepted_only_if_every_folder_fits(put):
    root = put(*SPLIT, "extra/x.png")
    with pytest.raises(InputError, match="holds no images that are used"):
        load_dataset(root, SALT)
    shutil.rmtree(root / "extra")
    shutil.rmtree(root / "val" / "a")
    shutil.rmtree(root / "val" / "b")
    with pytest.raises(InputError, match="holds no images"):
        load_dataset(root, SALT)


def test_images_between_the_folders_of_a_split_are_named(put):
    data = load_dataset(put(*SPLIT, "test/between.png"), SALT)
    (error,) = data.left_out
    assert str(error).endswith("between.png: lies in no class folder; move it into one")


def test_patients_and_copies_that_are_in_test_are_found_elsewhere(put):
    root = put(
        "train/a/00000001_000.png", "train/b/x.png", "test/a/00000001_001.png", "test/b/y.png"
    )
    data = load_dataset(root, SALT)
    ((index, error),) = data.find_leaks().items()
    assert names(data)[index] == "train/a/00000001_000.png"
    assert "is of a patient, or a copy of an image, that is in test" in str(error)
    again, _ = data.merge(
        np.array([[0], [2**64 - 1], [2**32 - 1], [2**64 - 1]], np.uint64).repeat(4, 1)
    )
    assert sorted(again.find_leaks()) == sorted({index, names(data).index("train/b/x.png")})


def test_lateral_views_are_counted(tmp_path, capsys):
    drawing = np.add.outer(np.arange(64), np.arange(64)).astype(np.uint8)
    for i, view in enumerate(("PA", "LL", "LATERAL", "")):
        (tmp_path / "set" / "ab"[i % 2]).mkdir(parents=True, exist_ok=True)
        save_dicom(tmp_path / "set" / "ab"[i % 2] / f"{i}.dcm", drawing, ViewPosition=view)
    show_dataset(load_dataset(tmp_path / "set", SALT))
    assert "[INFO] 2 images are lateral views, a/2.dcm for one" in capsys.readouterr().err


@pytest.mark.slow
def test_training_scores_the_users_own_test_and_trains_on_nothing_of_it(tmp_path, script):
    """One drawing lies in `train` and, under another name, in `test`."""
    root = tmp_path / "set"
    for name in ("covid", "normal"):
        drawings = list_images(ROOT / "dataset" / name)
        for split, chosen in (("train", drawings[:8]), ("test", drawings[-2:])):
            (root / split / name).mkdir(parents=True)
            for path in chosen:
                shutil.copy(path, root / split / name)
    shutil.copy(list_images(root / "test/covid")[0], root / "train/covid/copy.jpg")
    done = script("train_covid19.py", "-d", root, "--repeats", 1, "--folds", 2, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "metrics.json").read_text())
    tested = [
        f"test/{n}/{p.name}" for n in ("covid", "normal") for p in list_images(root / "test" / n)
    ]
    assert sorted(found["split"]["test"]) == sorted(tested)
    assert "train/covid/copy.jpg" not in found["split"]["train"]
    assert len(found["split"]["train"]) == 16
    assert found["dataset"]["left_out"] == 1
    assert found["held_out"]["accuracy"]["total"] == 4
    assert "held-out 4 images of the folder test" in done.stdout
    message = "1 images are not trained on: their patients or copies are in test; train/covid/"
    assert message in done.stderr
