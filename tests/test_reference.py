"""A site's own normal images as a reference: p-values, the rate that they promise, and refusals."""

import csv
import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest

from covidxray.data.manifest import ManifestRow
from covidxray.errors import InputError
from covidxray.evaluation import conformal
from covidxray.pipeline.reference import SiteReference, read_reference


def test_a_p_value_counts_the_references_that_score_at_least_as_high():
    reference = conformal.Reference(np.array([0.1, 0.2, 0.2, 0.3]), 0.5)
    found = reference.p_values(np.array([0.05, 0.2, 0.25, 0.9]))
    assert found.tolist() == [1.0, 0.8, 0.4, 0.2]


@pytest.mark.parametrize(("rate", "needed"), [(0.1, 9), (0.05, 19), (1 / 3, 2), (0.5, 1)])
def test_the_number_of_images_that_a_rate_needs(rate, needed):
    assert conformal.images_needed(rate) == needed
    assert conformal.allowed(needed, rate) >= 1
    assert conformal.allowed(needed - 1, rate) < 1


@pytest.mark.parametrize("n", [9, 19, 30, 57])
@pytest.mark.parametrize("rate", [0.1, 0.25, 0.5])
def test_the_threshold_is_passed_exactly_where_the_p_value_is_at_most_the_rate(n, rate):
    rng = np.random.default_rng(n)
    reference = conformal.Reference(rng.integers(12, size=n) / 12, rate)  # with ties
    scores = np.concatenate([rng.random(200), np.arange(12) / 12])
    positive = scores >= reference.threshold
    assert (positive == (reference.p_values(scores) <= rate + 1e-12)).all()


def test_the_rate_of_one_set_of_nine_lies_between_0_003_and_0_34():
    interval = conformal.Reference(np.arange(9), 0.1).rate_interval
    assert interval == pytest.approx((0.0028, 0.336), abs=0.001)


def test_the_rate_holds_on_average_and_its_interval_for_95_of_100_sets():
    rng = np.random.default_rng(0)
    for n, rate in ((9, 0.1), (25, 0.2)):
        sets = [conformal.Reference(rng.random(n), rate) for _ in range(4000)]
        rates = 1 - np.array([one.threshold for one in sets])  # of even scores
        assert rates.mean() == pytest.approx(np.floor(rate * (n + 1)) / (n + 1), abs=0.005)
        low, high = sets[0].rate_interval
        assert ((rates >= low) & (rates <= high)).mean() == pytest.approx(0.95, abs=0.01)


def test_a_reference_gives_the_threshold_and_the_p_values_of_its_scores():
    reference = conformal.Reference(np.arange(1, 10) / 10, 0.1)
    assert reference.threshold == np.nextafter(0.9, 1)
    assert reference.p_values(np.array([0.95, 0.9, 0.05])).tolist() == [0.1, 0.2, 1.0]


def reference_of(rows, patients):
    digests = frozenset(row.sha256 for row in rows)
    reference = conformal.Reference(np.linspace(0, 1, 9), 0.1)
    return SiteReference(reference, digests, frozenset(patients), tuple(rows), ())


def row(name, sha="", view="", device=""):
    return ManifestRow(name, "s", name, "", sha256=sha, view=view, device=device)


@pytest.mark.parametrize(("sha", "patient"), [("aa", ""), ("bb", "p1")])
def test_an_image_or_a_patient_of_the_reference_is_not_classified_by_it(sha, patient):
    reference = reference_of([row("r.png", "aa")], ["p1"])
    reference.check([row("x.png", "cc"), row("y.png", "dd")], ["p2", ""])
    with pytest.raises(InputError, match=r"y\.png: the image, or another image of the patient"):
        reference.check([row("x.png", "cc"), row("y.png", sha)], ["p2", patient])


@pytest.mark.parametrize(
    ("theirs", "said"),
    [({"view": "PA"}, ""), ({"view": "AP"}, "another view"), ({}, ""), ({"device": "d"}, "")],
)
def test_images_of_another_view_than_the_reference_are_told_of(caplog, theirs, said):
    reference_of([row("r.png", "aa", view="pa")], []).check([row("x.png", "b", **theirs)], [""])
    assert said in caplog.text
    assert bool(said) == bool(caplog.text)


def test_a_model_of_three_classes_is_refused(tmp_path):
    metadata = SimpleNamespace(classes=("a", "b", "c"))
    model = SimpleNamespace(metadata=metadata, options={"threshold": None})
    with pytest.raises(InputError, match="two classes only"):
        read_reference(tmp_path, 0.1, model, None)


def test_a_threshold_and_a_reference_exclude_each_other(tmp_path):
    model = SimpleNamespace(metadata=None, options={"threshold": 0.3})
    with pytest.raises(InputError, match="--threshold: the reference gives the threshold"):
        read_reference(tmp_path, 0.1, model, None)


@pytest.fixture(scope="module")
def site(tmp_path_factory, script):
    """Normal drawings of a site, as a reference, and other drawings."""
    root = tmp_path_factory.mktemp("site")
    made = script("make_demo_dataset.py", "-s", 12, "-o", root / "a", "--seed", 5)
    assert made.returncode == 0, made.stderr
    assert script("make_demo_dataset.py", "-s", 3, "-o", root / "b", "--seed", 6).returncode == 0
    for manifest in root.glob("*/*/manifest.csv"):  # no patient of the training set
        text = manifest.read_text().replace("covidxray-phantom", manifest.parts[-3])
        manifest.write_text(text)
    return root


@pytest.mark.slow
def test_predictions_are_classified_by_their_p_values(trained, site, script, tmp_path):
    given = ("--reference", site / "a/normal", "--false-positives", 0.2, site / "b")
    command = ("predict_covid19.py", "-m", trained[0], "--csv", "p.csv", *given)
    done = script(*command, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    with open(tmp_path / "p.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 6
    for found in rows:
        assert (found["class"] == "covid") == (float(found["p-value"]) <= 0.2)
    # Every fifth patient has two images, of which one counts.
    assert "2 images are left out" in done.stderr
    said = " ".join(done.stdout.split())
    assert "Threshold from 10 normal reference images: 0.2 of normal images like them" in said
    assert max(map(len, done.stdout.splitlines())) <= 80


@pytest.mark.long
@pytest.mark.slow
def test_an_evaluation_reports_the_rate_and_draws_references_from_it(
    trained, site, script, tmp_path
):
    sick = tmp_path / "sick"
    shutil.copytree(site / "b", sick)
    shutil.rmtree(sick / "normal")
    given = ("--reference", site / "a/normal", "--json", "e.json", "-d", site / "b")
    done = script("evaluate_covid19.py", "-m", trained[0], *given, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "e.json").read_text())
    assert found["reference"]["images"] == 10
    interval = conformal.Reference(np.arange(10), 0.1).rate_interval
    assert found["reference"]["interval"] == pytest.approx(interval)
    rates = np.array(found["reference"]["p_values"]) <= 0.1
    assert found["evaluation"]["sensitivity"]["count"] == rates[:3].sum()
    # Two normal patients are too few to spare one: the lungs come from the reference.
    assert found["transplants"]["whole"]["references"] == 3
    assert found["transplants"]["whole"]["negatives"] == 3


@pytest.mark.slow
@pytest.mark.parametrize(
    ("reference", "rate", "said"),
    [
        ("a/normal", 0.05, "holds 10 images that can be used, and a rate of 0.05 needs 19; add 9"),
        ("trained", 0.5, "trained the model; remove it from --reference"),
        ("b/normal", 0.5, "is in --reference; remove it there"),
    ],
)
def test_a_reference_that_cannot_serve_is_one_line(
    trained, site, script, tmp_path, reference, rate, said
):
    folder = trained[1] / "normal" if reference == "trained" else site / reference
    given = ("--reference", folder, "--false-positives", rate, site / "b/normal")
    done = script("predict_covid19.py", "-m", trained[0], *given, cwd=tmp_path)
    assert done.returncode == 2
    last = done.stderr.strip().splitlines()[-1]
    assert said in last, done.stderr
    assert done.stdout == ""
