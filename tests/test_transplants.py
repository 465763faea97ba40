"""Lungs that are exchanged between images, and what a model's scores of them mean."""

import csv
import dataclasses
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
from example_runs import example_data, example_scores, example_transplants
from PIL import Image

from covidxray.data.images import read_image
from covidxray.data.lung_masks import enlarge
from covidxray.data.transplant import LungPicture, transplant
from covidxray.demo.phantom import draw_phantom
from covidxray.evaluation.intervals import Estimate, auc, auc_difference
from covidxray.evaluation.transplants import score_transplants
from covidxray.model.heads import Heads
from covidxray.pipeline import transplants
from covidxray.report.evidence import save_pictures
from covidxray.report.sentences import describe_transplants
from covidxray.report.text import format_transplants


def drawn(seed, severity=0.0):
    phantom = draw_phantom(np.random.default_rng(seed), size=224, severity=severity)
    return LungPicture(np.repeat(phantom.image[..., None], 3, axis=2), phantom.lungs)


def painted(left, top, width, height, level):
    """Grey pictures with a box of another grey for lungs."""
    pixels, lungs = np.full((224, 224, 3), 100, np.uint8), np.zeros((224, 224), bool)
    lungs[top : top + height, left : left + width] = True
    pixels[lungs] = level
    return LungPicture(pixels, lungs)


def test_lungs_put_into_their_own_chest_change_nothing():
    picture = drawn(0)
    assert (transplant(picture, picture).pixels == picture.pixels).all()


def test_the_lungs_of_the_donor_fill_the_box_of_the_hosts_lungs():
    donor, host = painted(20, 30, 80, 120, 200), painted(60, 50, 120, 90, 10)
    made = transplant(donor, host)
    inside = np.zeros((224, 224), bool)
    inside[55:135, 65:175] = True
    assert (made.pixels[inside] == 200).all()
    assert (made.lungs == host.lungs).mean() > 0.99


def test_the_donor_fades_out_between_the_fifth_and_the_sixth_pixel_beside_the_lungs():
    donor, host = painted(70, 60, 60, 60, 200), painted(60, 80, 80, 60, 10)
    donor = LungPicture(np.full_like(donor.pixels, 200), donor.lungs)
    made = transplant(donor, host)
    assert made.pixels.dtype == np.uint8
    row, column = made.pixels[110, :, 0].astype(int), made.pixels[:, 100, 0].astype(int)
    for side in (row[59::-1], row[140:], column[79::-1], column[140:]):
        assert side[4] + side[5] == pytest.approx(100 + 200, abs=1)
        assert (np.diff(side[:14]) <= 0).all()
        assert (side[0], side[14]) == (pytest.approx(194, abs=4), 100)


def test_beyond_its_edge_the_donor_is_continued_by_its_last_pixels():
    donor, host = painted(0, 0, 80, 224, 200), painted(60, 50, 120, 90, 150)
    assert transplant(donor, host).pixels.min() == 100


def test_the_lungs_of_the_picture_made_are_the_donors_in_their_new_place():
    donor, host = painted(20, 30, 80, 120, 200), painted(60, 50, 160, 120, 10)
    donor.lungs[:, 50:70] = False  # between the two lungs
    made = transplant(donor, host)
    expected = host.lungs.copy()
    expected[:, 120:160] = False
    assert (made.lungs == expected).mean() > 0.99


def test_far_from_the_lungs_of_both_the_host_stays_as_it_is():
    donor, host = drawn(1), drawn(2)
    made = transplant(donor, host)
    near = np.zeros((224, 224), bool)
    for y, x in np.argwhere(made.lungs | host.lungs)[::3]:
        near[max(0, y - 18) : y + 19, max(0, x - 18) : x + 19] = True
    assert (~near).mean() > 0.1
    assert (made.pixels[~near] == host.pixels[~near]).all()
    assert np.abs(made.pixels.astype(int) - host.pixels)[host.lungs].mean() > 5


def test_lungs_that_are_moved_and_put_back_are_nearly_the_same():
    own, other = drawn(3, severity=0.6), drawn(4)
    back = transplant(transplant(own, other), own)
    difference = np.abs(back.pixels.astype(int) - own.pixels)
    foreign = np.abs(transplant(other, own).pixels.astype(int) - own.pixels)
    assert difference.mean() < 0.3 * foreign.mean()


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return example_data(tmp_path_factory.mktemp("transplants") / "drawings")


@pytest.fixture
def logits():
    """Of a plausible pair of lungs, for each image; but not for the first of each class."""
    y, x = np.mgrid[:28, :28]
    pair = (np.abs(np.abs(x - 13.5) - 6) < 4) & (np.abs(y - 13.5) < 8)
    table = np.repeat(np.where(pair, 3.0, -3.0)[None], 16, axis=0).astype(np.float32)
    table[[0, 8]] = -3
    return table


def test_references_are_normal_images_of_different_patients(data, logits):
    for seed in range(10):
        found = transplants.draw_references(data, 0, logits, 2, np.random.default_rng(seed))
        patients = set(data.groups[found.taken])
        assert len(found.references) == len(patients) == 2
        assert (data.labels[found.taken] == 1).all()
        known = [read_image(data.paths[i]) for i in np.flatnonzero(found.taken & found.usable)]
        for one in found.references:
            assert any((one.pixels == pixels).all() for pixels in known)


def test_two_patients_without_the_disease_always_remain(data, logits):
    found = transplants.draw_references(data, 0, logits, 9, np.random.default_rng(0))
    assert len(found.references) == 2  # of four patients
    few = data.select([0, 1, 2, 8, 9, 10])
    parts = few, 0, logits[[0, 1, 2, 8, 9, 10]], 1
    assert transplants.draw_references(*parts, np.random.default_rng(0)).references == ()


def test_a_class_that_says_normal_gives_the_references(data, logits):
    labels = np.array([0] * 4 + [2] * 4 + [1] * 8)
    three = dataclasses.replace(data, classes=("covid", "normal", "pneumonia"), labels=labels)
    for seed in range(5):
        found = transplants.draw_references(three, 0, logits, 1, np.random.default_rng(seed))
        assert set(labels[found.taken]) == {1}


class Network:
    """Stands for a network: what it puts out are the pictures."""

    def predict_on_batch(self, images):
        return images


def exchanged(data, logits, score, whole=True, repeats=2, number=2):
    rng = np.random.default_rng(0)
    subjects = transplants.draw_references(data, 0, logits, number, rng)
    untouched = {"whole": example_scores(data)[:repeats]}
    scorer = transplants.Scorer(Network(), score, untouched, True)
    return subjects, transplants.run_transplants(subjects, scorer, whole, rng)


def test_every_image_with_lungs_but_those_of_the_references_patients_is_scored(data, logits):
    seen = {}

    def score(image, outputs):
        seen[image] = outputs[0]
        return {"whole": np.zeros((len(outputs[0]), 2))}

    subjects, run = exchanged(data, logits, score)
    scores = run.regions["whole"]
    expected = set(range(16)) - {0, 8} - set(np.flatnonzero(subjects.taken).tolist())
    assert set(seen) == expected
    assert (scores.positives, scores.positives + scores.negatives) == (7, len(expected))
    assert scores.left_out == 1 + (not subjects.taken[8])
    assert scores.references == 2
    first, second = subjects.references
    for image, pictures in seen.items():
        own = LungPicture(read_image(data.paths[image]), enlarge(logits[image]))
        moved = [transplant(own, one) for one in (first, second)]
        expected = [transplant(one, own) for one in (first, second)]
        expected += [*moved, transplant(moved[0], own)]
        assert (pictures == np.stack([picture.pixels for picture in expected])).all()


def test_the_quick_test_makes_one_picture_of_an_image(data, logits):
    counts = []

    def score(image, outputs):
        counts.append(len(outputs[0]))
        return {"whole": np.zeros((1, 2))}

    _, run = exchanged(data, logits, score, whole=False, number=1)
    assert set(counts) == {1}
    assert run.regions["whole"].own_lungs is run.regions["whole"].put_back is None
    assert len(run.pictures) == 4


def test_an_image_is_scored_by_the_heads_that_were_not_trained_on_it():
    rng = np.random.default_rng(0)
    kernels = rng.normal(size=(6, 3, 2)).astype(np.float32)
    heads = Heads(np.zeros((6, 3)), np.ones((6, 3)), (kernels,), (np.zeros((6, 2)),))
    fold = np.array([[0, 1, 2], [4, 5, 3]])
    result = SimpleNamespace(heads={"whole": heads}, fold=fold, region_scores={})
    scorer = transplants.cross_validated_scorer(None, result, 1)
    features = rng.normal(size=(4, 3)).astype(np.float32)
    found = scorer.score(1, [features, None])["whole"]
    expected = [heads.predict(features, fit)[:, 1] for fit in (1, 5)]
    assert found == pytest.approx(np.stack(expected, axis=1))


@pytest.mark.parametrize(
    ("fixed", "drop", "words"),
    [
        ((0.55, 0.4, 0.7), (0.4, 0.3, 0.5), "falls from 0.95 to 0.55 (0.40 to 0.70): the model "),
        ((0.7, 0.6, 0.8), (0.25, 0.1, 0.3), "and what surrounds them predicts the class, too."),
        ((0.95, 0.9, 1.0), (0.0, -0.1, 0.1), "is 0.95 (0.90 to 1.00): the model does not need"),
        ((0.90, 0.8, 1.0), (0.05, -0.1, 0.1), "is still 0.90 (0.80 to 1.00): the model does not"),
        ((0.60, 0.4, 0.8), (0.35, -0.1, 0.6), "cannot tell whether the model needs the lungs."),
    ],
)
def test_the_sentence_claims_what_the_intervals_show(data, fixed, drop, words):
    scores = example_transplants(data, example_scores(data)).regions["whole"]
    scores = dataclasses.replace(
        scores,
        untouched=Estimate(0.95, 0.9, 1.0),
        fixed_lungs=Estimate(*fixed),
        drop=Estimate(*drop),
    )
    assert words in describe_transplants(scores)


def test_where_moving_lungs_changes_the_score_the_test_says_little(data):
    scores = example_transplants(data, example_scores(data)).regions["whole"]
    scores = dataclasses.replace(scores, back_drop=Estimate(0.2, 0.1, 0.3))
    said = describe_transplants(scores)
    assert said.startswith("Lungs that are moved and put back lower the AUC from ")
    assert said.endswith("so that the transplants say little here.")


def test_the_artefact_is_one_half_where_the_method_changes_no_score():
    rng = np.random.default_rng(0)
    truth, scores = np.arange(40) < 20, rng.normal(size=(3, 40))
    kinds = {"untouched": scores, "fixed_lungs": np.stack([scores, scores])}
    same = score_transplants(truth, kinds, np.arange(40), 0, True)
    assert same.artefact.value == pytest.approx(0.5)
    kinds["fixed_lungs"] = kinds["fixed_lungs"] + 9
    assert score_transplants(truth, kinds, np.arange(40), 0, True).artefact.value == 1


def test_transplants_worked_out_by_hand():
    """Two positive images, of one patient, and three negative ones; two references."""
    truth, groups = np.arange(5) < 2, np.array([0, 0, 1, 2, 3])
    untouched = np.array([[0.9, 0.25, 0.3, 0.2, 0.1]])  # 5 of 6 pairs in order
    fixed = np.array([[[0.9, 0.2, 0.3, 0.1, 0.5]], [[0.5] * 5]])  # 4 of 6 pairs in order; half
    kinds = {"untouched": untouched, "fixed_lungs": fixed, "own_lungs": -fixed}
    kinds["put_back"] = untouched[None]
    for validated in (True, False):
        found = score_transplants(truth, kinds, groups, 7, validated)
        assert (found.positives, found.negatives, found.patients) == (2, 3, 4)
        assert (found.references, found.left_out) == (2, 7)
        assert found.untouched == found.put_back == auc(truth, untouched, groups, validated)
        assert found.fixed_lungs == auc(truth, fixed[:, 0], groups, validated)
        assert found.fixed_lungs.value == pytest.approx(7 / 12)
        assert found.own_lungs.value == pytest.approx(5 / 12)
        drops = (found.drop.value, found.own_drop.value, found.back_drop.value)
        assert drops == pytest.approx((3 / 12, 5 / 12, 0))
        assert found.drop == auc_difference(truth, untouched, fixed[:, 0], groups, validated)
        # Negative images with a reference's lungs rank above the same untouched in 6 of 9 pairs,
        # and with the other one's in all.
        assert found.artefact.value == pytest.approx(15 / 18)


def test_the_block_fits_80_columns_and_names_what_was_left_out(data):
    scores = example_transplants(data, example_scores(data)).regions["whole"]
    text = format_transplants(scores)
    assert max(map(len, text.splitlines())) <= 80
    assert "8 + 8 images, 2 references; left out without a" in text
    for name in ("untouched", "own lungs, reference's chest", "own lungs, put back"):
        assert f"\n{name}: " in text


def test_pictures_stand_side_by_side_in_files_named_after_the_image(data, tmp_path):
    run = example_transplants(data, example_scores(data))
    save_pictures(tmp_path, run)
    (path,) = tmp_path.iterdir()
    assert path.name == "01-covid-a & b.jpg.png"
    pixels = np.array(Image.open(path))
    picture = run.pictures[0]
    assert pixels.shape == (224, 680, 3)
    for k, part in enumerate((picture.untouched, picture.own_lungs, picture.fixed_lungs)):
        assert (pixels[:, 228 * k : 228 * k + 224] == part).all()


@pytest.mark.long
@pytest.mark.slow
def test_an_image_without_a_pair_of_lungs_gets_no_class(trained, script, tmp_path, picture):
    (tmp_path / "set/covid").mkdir(parents=True)
    (tmp_path / "set/normal").mkdir()
    for name in ("covid", "normal"):
        for path in sorted((trained[1] / name).glob("*.jpg")):
            shutil.copy(path, tmp_path / "set" / name)
    (tmp_path / "set/normal/noise.png").write_bytes(picture(1))
    table = ("--csv", "p.csv", "set/normal")
    done = script("predict_covid19.py", "-m", trained[0], *table, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    with open(tmp_path / "p.csv", newline="", encoding="utf-8") as file:
        rows = {row["image"]: row for row in csv.DictReader(file)}
    assert rows["set/normal/noise.png"]["class"] == ""
    assert rows["set/normal/noise.png"]["warning"] == "no pair of lungs found"
    assert "1 of 7 images get no class: no pair of lungs was found in them" in done.stdout
    options = ("-d", "set", "--repeats", 0, "--epochs", 1, "--no-cache")
    for command in (
        ("evaluate_covid19.py", "-m", trained[0], "-d", "set"),
        ("train_covid19.py", *options),
    ):
        done = script(*command, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert "set: 6 covid + 6 normal images, 12 patients; 1 left out" in done.stdout
        assert "normal/noise.png: no pair of lungs found" in done.stderr
    done = script("train_covid19.py", *options, "--region", "whole", cwd=tmp_path)
    assert "left out" not in done.stdout


@pytest.mark.parametrize("name", ["train_covid19.py", "evaluate_covid19.py"])
def test_a_place_for_pictures_that_is_a_file_is_one_line(script, tmp_path, name):
    (tmp_path / "taken").write_text("x")
    done = script(
        name, "-d", tmp_path, "-m", "m.keras", "--transplant-pictures", "taken", cwd=tmp_path
    )
    assert done.returncode == 2
    assert "--transplant-pictures: taken: cannot be filled" in done.stderr


def test_transplants_without_cross_validation_are_refused(script, tmp_path):
    done = script(
        "train_covid19.py", "-d", tmp_path, "--transplant", 2, "--repeats", 0, cwd=tmp_path
    )
    assert done.returncode == 2
    assert "--transplant: needs the cross-validation" in done.stderr


def test_too_few_images_are_said(data, logits, caplog):
    _, run = exchanged(data, np.full_like(logits, -1), None)
    assert run is None
    assert "lungs are not exchanged: too few images with lungs" in caplog.text
