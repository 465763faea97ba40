"""What the baselines' areas, intervals and p-values are worth: patients count, and luck does."""

import io
import json
from dataclasses import asdict, replace

import numpy as np
import pytest
from PIL import Image
from scipy.stats import norm

from covidxray.audit import audit
from covidxray.audit.audit import estimate_power, run_audit
from covidxray.audit.baselines import fit_baselines, permutation_p_values
from covidxray.data.class_folder import fill_folder
from covidxray.data.images import read_with_statistics
from covidxray.data.loading import load_dataset
from covidxray.data.manifest import ManifestRow
from covidxray.evaluation import intervals
from covidxray.report.sentences import audit_verdict


def fitted(y_true, *columns, images=1, permutations=19, seed=0):
    """Baselines of one feature each, with `images` copies of every patient's image."""
    groups = np.repeat(np.arange(len(y_true)), images)
    features = {
        f"{i}": ((x - x.mean()) / x.std())[groups, None].astype(np.float32)
        for i, x in enumerate(np.asarray(columns, float))
    }
    rng = np.random.default_rng(seed)
    return fit_baselines(features, np.asarray(y_true)[groups], groups, rng, permutations)


@pytest.mark.parametrize("permutations", [19, 99])
def test_no_p_value_is_less_than_one_in_all_permutations_and_the_data_itself(permutations):
    y_true = np.arange(30) < 12
    noise = np.random.default_rng(0).normal(size=30)
    found = fitted(y_true, y_true, noise, permutations=permutations)
    assert found[0].p_value == pytest.approx(1 / (permutations + 1))
    assert 1 / (permutations + 1) < found[1].p_value <= 1


def test_of_two_patients_a_class_not_even_a_perfect_baseline_is_evidence():
    """A third of all ways to give four patients their labels, two of six, is as good or better."""
    y_true = np.array([True, False, True, False])
    (found,) = fitted(y_true, y_true, permutations=199)
    assert found.auc.value == 1
    assert found.p_value > 0.1


def test_the_more_baselines_are_tried_the_less_a_good_one_proves():
    rng = np.random.default_rng(4)
    y_true = np.arange(40) < 16
    signal = rng.normal(size=40) + 0.9 * y_true
    noise = rng.normal(size=(12, 40))
    p_values = [fitted(y_true, signal, *noise[:n], permutations=99)[0].p_value for n in (0, 2, 12)]
    assert p_values[0] < p_values[1] < p_values[2]


@pytest.mark.parametrize("images", [2, 7])
def test_a_perfect_baseline_of_many_images_is_as_sure_as_its_patients_are_many(images):
    y_true = np.arange(21) < 8
    (found,) = fitted(y_true, y_true, images=images)
    expected = intervals.auc(y_true, y_true.astype(float), np.arange(21))
    assert (found.auc.low, found.auc.high) == pytest.approx((expected.low, expected.high))


def test_a_baseline_of_seven_positive_patients_is_resampled_by_patient():
    """Five positive patients lie above all others, two below: of seven drawn from these, all lie
    above in 9 of 100 resamples, so the interval ends at 1. Ten images of each, drawn one by one,
    would end it far lower."""
    y_true = np.arange(47) < 7
    feature = np.r_[[5.0] * 5, [-5.0] * 2, np.linspace(-0.5, 0.5, 40)]
    (found,) = fitted(y_true, feature, images=10)
    assert found.auc.value == pytest.approx(5 / 7, abs=0.02)
    assert found.auc.high > 0.97


def test_permuted_patients_keep_their_images_together():
    """A difference between patients, each with eight like images, is no evidence of the label."""
    alarms = 0
    for seed in range(8):
        rng = np.random.default_rng(seed)
        y_true = np.arange(12) < 5
        (found,) = fitted(y_true, rng.normal(size=12), images=8, permutations=39, seed=seed)
        alarms += found.p_value <= 0.05
    assert alarms <= 1


def test_given_scores_are_as_sure_as_their_patients_are_many():
    """Of the 70 ways to give eight patients their labels one is as good as a perfect score; every
    way is as good as a score that tells nothing."""
    groups = np.repeat([90, 10, 70, 30, 50, 40, 60, 20], [1, 2, 3, 4, 4, 3, 2, 1])
    y_true = np.arange(20) < 10
    scores = {"whole": y_true * 1.0, "lungs": np.zeros(20)}
    found = permutation_p_values(y_true, scores, groups, np.random.default_rng(0))
    assert found["whole"] == pytest.approx(1 / 70, abs=0.012)
    assert found["lungs"] == 1


def test_labels_exchanged_so_that_one_class_is_left_count_as_chance():
    """The second patient's positive image is lost where the other one's label replaces both."""
    y_true, groups = np.array([False, False, True]), np.array([0, 1, 1])
    rng = np.random.default_rng(0)
    found = permutation_p_values(y_true, {"worst": -1.0 * y_true}, groups, rng)
    assert found == {"worst": 1}


def test_the_critical_area_is_one_that_noise_hardly_reaches():
    y_true, noise = np.arange(60) < 30, np.random.default_rng(0).normal(size=60)
    (found,) = fitted(y_true, noise, permutations=99)
    assert 0.6 < found.critical < 0.85


def test_the_p_value_of_a_given_score_is_corrected_for_the_others():
    y_true, groups = np.arange(30) < 12, np.arange(30)
    score = y_true + np.random.default_rng(0).normal(scale=1.4, size=30)
    noise = np.random.default_rng(1).normal(size=(8, 30))
    others = {str(i): one for i, one in enumerate(noise)}
    alone, corrected = (
        permutation_p_values(y_true, scores, groups, np.random.default_rng(0))["whole"]
        for scores in ({"whole": score}, {"whole": score, **others})
    )
    assert 1 / 300 <= alone < corrected / 2


def test_the_power_of_an_audit_worked_out_by_hand():
    """Hanley and McNeil 1982, for 20 and 50 patients with two images each."""
    y_true, groups = np.arange(140) < 40, np.arange(140) // 2
    area = 0.8 - 0.9 / 20
    q1, q2 = area / (2 - area), 2 * area**2 / (1 + area)
    variance = area * (1 - area) + 19 * (q1 - area**2) + 49 * (q2 - area**2)
    error = np.sqrt(intervals.overlap_factor(area) * variance / (20 * 50))
    for critical in (0.65, 0.75):
        expected = norm.sf(critical, area, error)
        assert estimate_power(critical, y_true, groups) == pytest.approx(expected)
    few = estimate_power(0.5, np.arange(4) < 2, np.arange(4))  # the area is no less than 0.5
    assert few == pytest.approx(0.5)


def picture(seed, border=None, size=48):
    """Coloured noise as PNG bytes, in a border of one grey if that is given."""
    rng = np.random.default_rng(seed)
    noise = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
    pixels = np.array(Image.fromarray(noise).resize((size, size), Image.Resampling.BICUBIC))
    if border is not None:
        inner = pixels[5:-5, 5:-5].copy()
        pixels[:] = border
        pixels[5:-5, 5:-5] = inner
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def filled(root, images):
    """Class folders from class name -> (patient, manifest's changes, bytes) of each image."""
    for name, listed in images.items():
        rows = [
            (replace(ManifestRow(f"{i:02}.png", "s", f"{name}{i}", patient), **changes), content)
            for i, (patient, changes, content) in enumerate(listed)
        ]
        fill_folder(root / name, rows)
    return load_dataset(root, b"salt")


def audited(data):
    image_statistics = [read_with_statistics(path)[1] for path in data.paths]
    return run_audit(data, image_statistics, data.index("covid"), np.random.default_rng(0))


def test_an_audit_counts_patients_with_copies_of_one_picture_as_one(tmp_path):
    """As if all images of the patients who share a picture had one patient's name."""
    listed = {"asthma": [], "covid": [], "healthy": []}
    for k, (name, patients) in enumerate({"asthma": 3, "covid": 6, "healthy": 9}.items()):
        for i in range(patients):
            for copy in range(3):  # each under another patient
                listed[name].append((f"{name}{i}-{copy}", {}, picture(20 * k + i)))
    data = filled(tmp_path, listed)
    merged = replace(data, groups=np.arange(54) // 3)
    found, expected = audited(data), audited(merged)
    assert found.baselines == expected.baselines
    assert found.folds == expected.folds == 5
    assert not found.alarm
    # 18 pictures of noise: three copies of each would make areas far better than chance.
    assert all(baseline.auc.low < 0.5 for baseline in found.baselines)
    assert found.findings.copies == found.findings.across_patients == 54


def test_of_a_class_above_the_limit_whole_patients_are_drawn(tmp_path, monkeypatch):
    monkeypatch.setattr(audit, "CAP", 6)
    listed = {
        name: [(f"{name}{i // 2}", {}, picture(30 * k + i, size=16)) for i in range(n)]
        for k, (name, n) in enumerate({"covid": 14, "healthy": 4}.items())
    }
    data = filled(tmp_path, listed)
    found = audited(data)
    assert np.bincount(data.labels[found.chosen]).tolist() == [6, 4]
    assert (np.bincount(data.groups[found.chosen]) % 2 == 0).all()
    assert (found.positive, found.images, found.patients) == ("covid", 10, 5)
    assert (found.folds, found.repeats, found.permutations, found.level) == (2, 3, 299, 0.01)


@pytest.fixture(scope="module")
def two_shortcuts(tmp_path_factory):
    """The audit of a data set whose view tells the label, as do most of its pictures' borders."""
    root = tmp_path_factory.mktemp("shortcuts")
    listed = {}
    for k, (name, n) in enumerate([("asthma", 18), ("covid", 27), ("healthy", 18)]):
        view = {"view": "AP" if name == "covid" else "PA"}
        bright = [(name == "covid") != (i % 9 == 0) for i in range(n)]
        listed[name] = [
            (f"{name}{i}", view, picture(100 * k + i, 230 * bright[i])) for i in range(n)
        ]
    return audited(filled(root, listed))


def test_of_two_strong_shortcuts_the_one_that_a_model_can_see_comes_first(two_shortcuts):
    found = two_shortcuts
    areas = {baseline.name: baseline.auc.value for baseline in found.baselines}
    assert areas["manifest"] == 1
    assert 0.8 < areas["frame"] < 0.98
    assert found.alarm
    assert found.best.name != "manifest"
    strong = [baseline.name for baseline in found.baselines if baseline.auc.value >= 0.8]
    assert strong[-1] == "manifest"
    assert "without looking at a lung" in audit_verdict(found)


def test_baselines_stand_in_the_order_of_their_evidence(two_shortcuts):
    baselines = two_shortcuts.baselines
    evident = [baseline.p_value <= 0.01 for baseline in baselines]
    assert evident == sorted(evident, reverse=True)
    areas = [round(b.auc.value, 2) for b in baselines if b.name != "manifest" and b.p_value <= 0.01]
    assert areas == sorted(areas, reverse=True)


def test_two_seeds_draw_other_folds_and_other_permutations():
    rng = np.random.default_rng(0)
    y_true, columns = np.arange(30) < 12, rng.normal(size=(4, 30))
    first, again, other = (fitted(y_true, *columns, seed=seed) for seed in (1, 1, 2))
    assert first == again
    assert [b.auc for b in first] != [b.auc for b in other]


def test_an_image_that_cannot_be_read_changes_nothing_that_an_audit_says_of_the_others(
    script, tmp_path
):
    """One in the middle: the same as if it had never been there."""
    listed = {
        name: [(f"{name}{i // 2}", {"age": str(20 + 7 * i)}, picture(50 * k + i)) for i in range(n)]
        for k, (name, n) in enumerate({"asthma": 5, "covid": 7, "healthy": 6}.items())
    }
    whole = listed["covid"][2]
    listed["covid"][2] = (*whole[:2], whole[2][: len(whole[2]) // 2])
    filled(tmp_path / "set", listed)
    found = {}
    for name in ("with", "without"):
        options = ("-d", "set", "--seed", 0, "--json", f"{name}.json")
        done = script("audit_dataset.py", *options, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        found[name] = json.loads((tmp_path / f"{name}.json").read_text())
        assert ("1 left out" in done.stdout + done.stderr) is (name == "with")
        manifest = tmp_path / "set" / "covid" / "manifest.csv"
        rows = manifest.read_text().splitlines(keepends=True)
        manifest.write_text("".join(row for row in rows if not row.startswith("02.png")))
        (tmp_path / "set" / "covid" / "02.png").unlink(missing_ok=True)
    assert found["with"] == found["without"]
    expected = audited(load_dataset(tmp_path / "set", b"salt"))
    assert expected.images == 17
    for baseline, told in zip(expected.baselines, found["with"]["baselines"], strict=True):
        expected = {"name": baseline.name, "auc": asdict(baseline.auc)}
        assert told == {**expected, "p_value": baseline.p_value}
