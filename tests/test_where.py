"""Tests of the comparison of the regions: AUCs, their difference and the sentence about them."""

from dataclasses import replace

import numpy as np
import pytest
from example_runs import CONFIG
from planted import draw_phantom, encode_jpeg

from covidxray.data.class_folder import fill_folder
from covidxray.data.loading import load_dataset
from covidxray.data.manifest import ManifestRow
from covidxray.evaluation import intervals
from covidxray.evaluation.regions import compare_regions
from covidxray.report.sentences import audit_verdict, describe_regions, describe_transplants
from covidxray.report.text import format_regions


def scores_of(rng, y, signal, repeats=3):
    """Scores of `y` with a given strength of the signal, (repeats, N)."""
    return signal * y + rng.normal(size=len(y)) + 0.1 * rng.normal(size=(repeats, len(y)))


def compared(lungs, outside, n=120, seed=0):
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 2 == 0
    scores = {
        name: scores_of(rng, y, signal)
        for name, signal in (("whole", max(lungs, outside)), ("lungs", lungs), ("outside", outside))
    }
    return compare_regions(y, scores, np.arange(n), np.arange(n) > 2)


def test_where_the_lungs_predict_better_the_sentence_says_so():
    regions = compared(lungs=3, outside=0)
    assert regions.difference.low > 0
    assert describe_regions(regions).endswith("the lungs predict the class better.")


def test_better_lungs_do_not_hide_that_the_outside_predicts_the_class_too():
    sentence = describe_regions(compared(lungs=4, outside=1))
    expected = (
        "the lungs predict the class better; but the rest of the image predicts the class, too"
    )
    assert expected in sentence


def test_where_the_outside_predicts_better_the_lungs_are_not_needed():
    regions = compared(lungs=0, outside=3)
    assert regions.difference.high < 0
    assert describe_regions(regions).endswith("which is more: the model does not need the lungs.")


def test_where_the_outside_predicts_as_well_the_lungs_are_not_needed():
    regions = replace(compared(3, 3), difference=intervals.Estimate(0.0, -0.04, 0.03))
    sentence = describe_regions(regions)
    assert "which is as good within 0.05: the model does not need the lungs" in sentence


def test_where_few_patients_cannot_tell_the_sentence_says_so():
    sentence = describe_regions(compared(lungs=3, outside=3, n=40))
    assert "both predict the class, and these 40 patients cannot tell which is better" in sentence
    assert "as good" not in sentence


def test_one_region_that_is_shown_and_one_that_is_not_are_no_difference_yet():
    regions = replace(
        compared(1, 1),
        p_values={"whole": 0.001, "lungs": 0.004, "outside": 0.02},
        difference=intervals.Estimate(0.05, -0.03, 0.14),
    )
    sentence = describe_regions(regions)
    assert (
        "only the lungs can be shown to be better than chance, but these 120 patients" in sentence
    )


def test_without_any_signal_the_sentence_concludes_nothing():
    sentence = describe_regions(compared(0, 0, n=40))
    assert "none is shown to be better than chance" in sentence


def test_the_lines_fit_80_columns_and_count_the_lungs_found():
    text = format_regions(compared(3, 1), "cv ")
    assert max(map(len, text.splitlines())) <= 80
    assert "a pair of lungs was found in 117 of 120 images" in text
    for name in ("whole picture: ", "lungs alone: ", "all but the lungs: ", "lungs - outside: "):
        assert name in text


def test_a_difference_is_the_difference_of_the_two_areas():
    rng = np.random.default_rng(1)
    y, groups = np.arange(60) % 3 == 0, np.arange(60) // 2
    a, b = scores_of(rng, y, 2), scores_of(rng, y, 1)
    found = intervals.auc_difference(y, a, b, groups)
    value = intervals.auc(y, a, groups).value - intervals.auc(y, b, groups).value
    assert found.value == pytest.approx(value)
    assert found.low < found.value < found.high
    back = intervals.auc_difference(y, b, a, groups)
    assert (back.low, back.high) == pytest.approx((-found.high, -found.low))


def test_scores_compared_with_themselves_have_a_difference_of_zero():
    rng = np.random.default_rng(2)
    y = np.arange(50) % 2 == 0
    scores = scores_of(rng, y, 1)
    found = intervals.auc_difference(y, scores, scores, np.arange(50))
    assert found.value == 0
    alone = intervals.auc(y, scores, np.arange(50))
    assert found.high - found.low < 0.6 * (alone.high - alone.low)


def test_the_difference_of_two_perfect_scores_has_an_interval_with_a_width():
    y = np.arange(40) % 2 == 0
    rng = np.random.default_rng(3)
    perfect = [10 * y + rng.random(40) for _ in range(2)]
    found = intervals.auc_difference(y, *perfect, np.arange(40))
    assert found.value == 0
    assert found.low < -0.05
    assert found.high > 0.05


def test_the_interval_of_a_difference_covers_the_truth_in_95_of_100_samples():
    """Normally distributed scores have known areas."""
    from scipy.special import ndtr

    truth = ndtr(1.5 / 2**0.5) - ndtr(0.8 / 2**0.5)
    inside = 0
    for seed in range(300):
        rng = np.random.default_rng(seed)
        y = np.arange(80) % 2 == 0
        shared = rng.normal(size=80)
        a, b = (s * y + 0.6 * shared + 0.8 * rng.normal(size=80) for s in (1.5, 0.8))
        found = intervals.auc_difference(y, a, b, np.arange(80))
        inside += found.low <= truth <= found.high
    assert 0.92 <= inside / 300 <= 0.99


N = 30  # drawings of a kind


def drawings(seed, diseased, shortcut):
    rng = np.random.default_rng(seed)
    severity = rng.uniform(0.3, 0.7, N) * diseased
    made = [draw_phantom(rng, severity=s, shortcut=shortcut) for s in severity]
    return [encode_jpeg(picture.image) for picture in made]


@pytest.fixture(scope="module")
def audited(tmp_path_factory):
    """A function that audits drawings whose sick have a lesion, a marker or both.

    It returns the comparison of the regions, the audit and its verdict, and the scores of the
    transplant test of the whole picture.
    """
    from covidxray.audit.audit import run_audit
    from covidxray.model.features import extract
    from covidxray.model.lungs import build_region_model
    from covidxray.model.network import build_network
    from covidxray.model.weights import load_weights
    from covidxray.pipeline.cross_validation import run_cross_validation
    from covidxray.pipeline.transplants import exchange_lungs

    network = build_network("portable", load_weights(), "auto")
    normal = drawings(2, False, None)

    def run(lesion, shortcut):
        root = tmp_path_factory.mktemp("where")
        for name, images in (("covid", drawings(1, lesion, shortcut)), ("normal", normal)):
            rows = [ManifestRow(f"{i}.jpg", "drawn", str(i), f"{name}{i}") for i in range(N)]
            fill_folder(root / name, zip(rows, images, strict=True))
        data = load_dataset(root, b"salt")
        unrotated = np.zeros((len(data), 0))
        parts = network.backbone, network.recipe, network.segmenter
        features = extract(lambda: build_region_model(*parts), data.paths, unrotated)
        config, rng = replace(CONFIG, region="whole", folds=5, repeats=4), np.random.default_rng(0)
        found = run_cross_validation(config, data, features, rng)
        audit = run_audit(data, features.image_statistics, 0, np.random.default_rng(0))
        exchanged = exchange_lungs(config, network, data, features, found, rng).regions["whole"]
        verdict = audit_verdict(audit, describe_regions(found.regions))
        return found.regions, audit, verdict, exchanged

    return run


@pytest.mark.release
@pytest.mark.long
@pytest.mark.slow
def test_with_a_lesion_and_no_shortcut_the_lungs_predict_better(audited):
    regions, _, verdict, exchanged = audited(lesion=True, shortcut=None)
    assert regions.difference.low > 0
    assert "the lungs predict the class better" in verdict
    # The lungs carry what the model knows, and nothing else does.
    assert exchanged.own_lungs.low > 0.7
    assert exchanged.own_drop.low < 0.1
    assert exchanged.fixed_lungs.low < 0.5 < exchanged.fixed_lungs.high
    assert exchanged.drop.low > 0.1
    assert "the model needs the lungs." in describe_transplants(exchanged)


@pytest.mark.release
@pytest.mark.long
@pytest.mark.slow
def test_with_a_marker_and_no_lesion_the_outside_predicts_better(audited):
    regions, audit, verdict, exchanged = audited(lesion=False, shortcut="marker")
    assert regions.difference.high < 0
    assert audit.alarm
    assert "which is more: the model does not need the lungs" in verdict
    assert exchanged.fixed_lungs.low > 0.7
    assert exchanged.own_lungs.low < 0.5 < exchanged.own_lungs.high
    assert exchanged.own_drop.low > 0.1
    assert "the model does not need the lungs" in describe_transplants(exchanged)


@pytest.mark.slow
@pytest.mark.long
def test_with_a_lesion_and_a_marker_the_verdict_names_both(audited):
    _, audit, verdict, exchanged = audited(lesion=True, shortcut="marker")
    assert audit.alarm
    assert "The label can be read from" in verdict
    assert "both predict the class" in verdict
    assert min(exchanged.fixed_lungs.low, exchanged.own_lungs.low) > 0.6
