"""Kaggle's pneumonia set: normal means normal, one picture once, one image a patient."""

import io
import zlib

import numpy as np
import pytest
from PIL import Image

from covidxray.data import kaggle
from covidxray.data.manifest import read_exclusions, read_manifest
from covidxray.errors import InputError


@pytest.fixture
def chest_xray(tmp_path, picture):
    """A function that makes train/NORMAL and test/NORMAL from file names."""

    def make(train, test=()):
        root = tmp_path / "chest_xray"
        for split, names in (("train", train), ("test", test)):
            (root / split / "NORMAL").mkdir(parents=True)
            for name in names:
                number = zlib.crc32(f"{split}/{name}".encode())
                (root / split / "NORMAL" / name).write_bytes(picture(number, "JPEG"))
        return root

    return make


def test_pneumonia_by_name_is_never_sampled_and_is_said(chest_xray, script, tmp_path):
    root = chest_xray(["IM-0001-0001.jpeg", "person1_bacteria_2.jpeg", "person2_virus_3.jpeg"])
    done = script("sample_kaggle_dataset.py", "-k", root, "-o", tmp_path / "n", "-s", 1)
    assert done.returncode == 0
    assert "2 pneumonia images" in done.stdout
    assert set(read_manifest(tmp_path / "n")) == {"IM-0001-0001.jpeg"}


def test_every_normal_image_is_in_the_folder_or_among_the_excluded(chest_xray, script, tmp_path):
    names = [f"IM-{patient:04d}-0001.jpeg" for patient in range(6)]
    root = chest_xray([*names, "IM-0000-0002.jpeg", "person1_bacteria_2.jpeg"])
    normal = root / "train" / "NORMAL"
    (normal / names[1]).write_bytes((normal / names[0]).read_bytes())
    (normal / names[2]).write_bytes((normal / names[2]).read_bytes()[:200])
    out = tmp_path / "n"
    script("sample_kaggle_dataset.py", "-k", root, "-o", out, "-s", 3, "--seed", 13)
    assert set(read_manifest(out)) == {names[0], names[4], names[5]}
    assert dict(read_exclusions(out)) == {
        "person1_bacteria_2.jpeg": "pneumonia by its name",
        "IM-0000-0002.jpeg": "another image of the patient",
        names[1]: "copy of another image",
        names[2]: "damaged",
        names[3]: "not drawn",
    }


def test_18_of_the_tutorials_25_normal_images_are_pneumonia(real_data, tmp_path):
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "NORMAL").symlink_to(real_data / "tutorial-normal")
    normal, pneumonia = kaggle.list_normal(tmp_path, ["train"])
    assert (len(normal), len(pneumonia)) == (7, 18)


@pytest.mark.parametrize(
    ("name", "patient"),
    [
        ("IM-0115-0001.jpeg", "IM-0115"),
        ("IM-0033-0001-0002.jpeg", "IM-0033"),
        ("NORMAL2-IM-0315-0001.jpeg", "NORMAL2-IM-0315"),
        ("NORMAL-28501-0001.jpeg", "NORMAL-28501"),
        ("scan.jpeg", "scan"),
    ],
)
def test_the_name_tells_the_patient(tmp_path, name, patient):
    assert kaggle.patient_of(tmp_path / name) == patient


def test_one_image_per_patient_by_default(chest_xray, script, tmp_path):
    root = chest_xray(["IM-0001-0001.jpeg", "IM-0001-0002.jpeg", "IM-0002-0001.jpeg"])
    script("sample_kaggle_dataset.py", "-k", root, "-o", tmp_path / "n", "-s", 2)
    patients = [row.patient_id for row in read_manifest(tmp_path / "n").values()]
    assert sorted(patients) == ["IM-0001", "IM-0002"]


def test_asking_for_too_many_says_how_many_there_are(chest_xray, script, tmp_path):
    root = chest_xray(["IM-0001-0001.jpeg", "IM-0001-0002.jpeg", "IM-0002-0001.jpeg"])
    done = script("sample_kaggle_dataset.py", "-k", root, "-o", tmp_path / "n", "-s", 3)
    assert done.returncode == 2
    assert "there are 2 normal patients" in done.stderr
    assert not (tmp_path / "n").exists()


def test_the_same_picture_at_another_size_is_taken_once(chest_xray, real_data, tmp_path):
    root = chest_xray([])
    source = real_data / "chest_xray" / "train" / "NORMAL" / "IM-0395-0001.jpeg"
    with Image.open(source) as image:
        image.save(root / "train" / "NORMAL" / "IM-0001-0001.jpeg")
        small = image.convert("L").resize((224, 224))
    file = io.BytesIO()
    small.save(file, "JPEG", quality=70)
    (root / "test" / "NORMAL" / "IM-0002-0001.jpeg").write_bytes(file.getvalue())
    paths, _ = kaggle.list_normal(root, ["train", "test"])
    taken, _, _ = kaggle.sample(paths, 1, np.random.default_rng(0))
    assert len(taken) == 1
    with pytest.raises(InputError, match="there are 1"):
        kaggle.sample(paths, 2, np.random.default_rng(0))


def test_the_four_pictures_in_two_splits_are_found(real_data):
    paths, _ = kaggle.list_normal(real_data / "chest_xray", ["train", "test", "val"])
    with pytest.raises(InputError, match="there are 126"):
        kaggle.sample(paths, 1000, np.random.default_rng(0), one_per_patient=False)


def test_the_folder_above_will_do(chest_xray, tmp_path):
    root = chest_xray(["IM-0001-0001.jpeg"])
    assert kaggle.find_root(root) == root
    assert kaggle.find_root(tmp_path) == root


def test_a_seed_gives_one_sample(chest_xray, script, tmp_path):
    root = chest_xray([f"IM-{i:04d}-0001.jpeg" for i in range(30)])
    samples = []
    for seed in (1, 1, 2):
        arguments = ("-k", root, "-o", tmp_path / "n", "-s", 8, "--seed", seed)
        script("sample_kaggle_dataset.py", *arguments)
        samples.append(set(read_manifest(tmp_path / "n")))
    assert samples[0] == samples[1] != samples[2]


@pytest.mark.parametrize(
    ("splits", "sources"),
    [
        ((), {"train"}),
        (("--split", "test"), {"test"}),
        (("--split", "train", "test"), {"train", "test"}),
    ],
)
def test_images_come_out_of_the_splits_asked_for(chest_xray, script, tmp_path, splits, sources):
    train, test = ([f"IM-{i:04d}-0001.jpeg" for i in range(n, n + 4)] for n in (0, 100))
    root = chest_xray(train, test)
    n = 4 * len(sources)
    arguments = ("-k", root, "-o", tmp_path / "n", "-s", n, *splits)
    done = script("sample_kaggle_dataset.py", *arguments)
    assert done.returncode == 0, done.stderr
    rows = read_manifest(tmp_path / "n")
    assert {row.source_id.split("/")[0] for row in rows.values()} == sources
    chosen = (train if "train" in sources else []) + (test if "test" in sources else [])
    assert sorted(rows) == sorted(chosen)
    assert f"{n} images of {n} patients, from {n} normal" in done.stdout


def test_several_images_of_a_patient_are_taken_on_demand_alone(chest_xray, script, tmp_path):
    names = [f"IM-0001-{i:04d}.jpeg" for i in range(4)] + ["IM-0002-0001.jpeg"]
    root = chest_xray(names)
    arguments = ("sample_kaggle_dataset.py", "-k", root, "-o", tmp_path / "n", "-s")
    done = script(*arguments, 4, "--all-per-patient")
    assert done.returncode == 0, done.stderr
    rows = read_manifest(tmp_path / "n")
    assert len(rows) == 4
    patients = {row.patient_id for row in rows.values()}
    assert f"4 images of {len(patients)} patients, from 5 normal" in done.stdout
    (left_out,) = set(names) - set(rows)
    assert read_exclusions(tmp_path / "n") == [(left_out, "not drawn")]
    assert script(*arguments, 3).returncode == 2
    assert script(*arguments, 2).returncode == 0
    assert len(read_manifest(tmp_path / "n")) == 2


def test_a_manifests_row_says_where_the_image_was_taken_from(chest_xray, script, tmp_path):
    root = chest_xray(["IM-0001-0001.jpeg"], ["NORMAL2-IM-0007-0002.jpeg"])
    out = tmp_path / "n"
    script("sample_kaggle_dataset.py", "-k", root, "-o", out, "-s", 1, "--split", "test")
    (row,) = read_manifest(out).values()
    assert row.source_id == "test/NORMAL/NORMAL2-IM-0007-0002.jpeg"
    assert (row.filename, row.patient_id) == ("NORMAL2-IM-0007-0002.jpeg", "NORMAL2-IM-0007")
    assert (row.source, row.finding) == (kaggle.SOURCE, "No Finding")
    assert (row.license, row.synthetic) == ("CC BY 4.0", "no")
    assert (out / row.filename).read_bytes() == (root / row.source_id).read_bytes()


def test_a_name_that_two_splits_share_is_taken_once_whatever_its_case(chest_xray):
    root = chest_xray(["IM-0001-0001.jpeg"], ["im-0001-0001.JPEG"])
    paths, _ = kaggle.list_normal(root, ["train", "test"])
    taken, copies, _ = kaggle.sample(paths, 1, np.random.default_rng(0), one_per_patient=False)
    assert (len(taken), len(copies)) == (1, 0)
    with pytest.raises(InputError, match="there are 1 normal different images"):
        kaggle.sample(paths, 2, np.random.default_rng(0), one_per_patient=False)


def test_a_second_image_of_a_patient_does_not_end_the_drawing(chest_xray):
    root = chest_xray([f"IM-0001-{i:04d}.jpeg" for i in range(5)] + ["IM-0002-0001.jpeg"])
    paths, _ = kaggle.list_normal(root, ["train"])
    for seed in range(10):
        taken, _, _ = kaggle.sample(paths, 2, np.random.default_rng(seed))
        assert {kaggle.patient_of(path) for path in taken} == {"IM-0001", "IM-0002"}


def test_damaged_images_are_given_with_their_errors(chest_xray):
    root = chest_xray(["IM-0001-0001.jpeg"])
    (root / "train" / "NORMAL" / "IM-0002-0001.jpeg").write_bytes(b"no image")
    paths, _ = kaggle.list_normal(root, ["train"])
    with pytest.raises(InputError, match="there are 1 normal patients; give a smaller number"):
        kaggle.sample(paths, 2, np.random.default_rng(0))
    found = [kaggle.sample(paths, 1, np.random.default_rng(seed)).damaged for seed in range(9)]
    errors = [str(error) for damaged in found for error in damaged.values()]
    assert errors and all("IM-0002-0001.jpeg: is not an image" in error for error in errors)


def test_only_images_that_are_not_hidden_are_listed(chest_xray):
    root = chest_xray(["IM-0001-0001.jpeg", "._IM-0002-0001.jpeg"])
    (root / "train" / "NORMAL" / "notes.txt").write_text("none")
    normal, pneumonia = kaggle.list_normal(root, ["train"])
    assert [path.name for path in [*normal, *pneumonia]] == ["IM-0001-0001.jpeg"]


def test_what_is_missing_is_said_with_its_folder(chest_xray, tmp_path):
    root = chest_xray(["IM-0001-0001.jpeg"])
    (tmp_path / "__MACOSX" / "train" / "NORMAL").mkdir(parents=True)
    (tmp_path / "a-file").write_text("none")
    assert kaggle.find_root(tmp_path) == root
    with pytest.raises(InputError, match="val/NORMAL: no such folder; choose another --split"):
        kaggle.list_normal(root, ["val"])
    with pytest.raises(InputError, match="NORMAL: has no train/NORMAL; give the unzipped"):
        kaggle.find_root(root / "train" / "NORMAL")


def test_a_row_names_licence_and_address_of_the_data_set(chest_xray):
    root = chest_xray(["IM-0001-0001.jpeg"])
    row = kaggle.row(root, root / "train" / "NORMAL" / "IM-0001-0001.jpeg")
    assert row.license == "CC BY 4.0"
    assert row.url == "https://data.mendeley.com/datasets/rscbjbr9sj"
