"""Three poolings beside each other: which one knows, by how much, and what that means."""

import numpy as np
import pytest

from covidxray import metrics
from covidxray.dataset import load_dataset
from covidxray.manifest import Row, fill_folder
from covidxray.phantom import draw_phantom, encode_jpeg
from covidxray.where import compare_pools, format_where


def scores_of(rng, y, signal, repeats=3):
    """Scores that tell `y` with a strength, (repeats, N)."""
    return signal * y + rng.normal(size=len(y)) + 0.1 * rng.normal(size=(repeats, len(y)))


def compared(lungs, outside, n=120, seed=0):
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 2 == 0
    scores = {
        name: scores_of(rng, y, signal)
        for name, signal in (("whole", max(lungs, outside)), ("lungs", lungs), ("outside", outside))
    }
    return compare_pools(y, scores, np.arange(n), np.arange(n) > 2)


def test_lungs_that_know_more_are_said_to():
    where = compared(lungs=3, outside=0)
    assert where.difference.low > 0
    assert where.sentence.endswith("the lungs tell more.")


def test_lungs_that_know_more_do_not_hide_what_the_rest_knows():
    sentence = compared(lungs=4, outside=1).sentence
    assert "the lungs tell more; but what is outside them gives the class away, too" in sentence


def test_a_rest_that_knows_more_is_said_to():
    where = compared(lungs=0, outside=3)
    assert where.difference.high < 0
    assert where.sentence.endswith("which is more: the model need not look at a lung.")


def test_a_rest_that_knows_as_much_is_said_to():
    sentence = compared(lungs=3, outside=3).sentence
    assert "both give the class away: the model need not look at a lung" in sentence


def test_where_nothing_is_known_nothing_is_concluded():
    assert "neither is shown to be better than chance" in compared(0, 0, n=40).sentence


def test_lines_fit_a_terminal_and_count_the_lungs_found():
    text = format_where(compared(3, 1), "cv ")
    assert max(map(len, text.splitlines())) <= 80
    assert "a pair of lungs was found in 117 of 120 images" in text
    for name in ("whole picture: ", "lungs alone: ", "all but the lungs: ", "lungs - outside: "):
        assert name in text


def test_a_difference_is_that_of_the_areas():
    rng = np.random.default_rng(1)
    y, groups = np.arange(60) % 3 == 0, np.arange(60) // 2
    a, b = scores_of(rng, y, 2), scores_of(rng, y, 1)
    found = metrics.auc_difference(y, a, b, groups)
    value = metrics.auc(y, a, groups).value - metrics.auc(y, b, groups).value
    assert found.value == pytest.approx(value)
    assert found.low < found.value < found.high
    back = metrics.auc_difference(y, b, a, groups)
    assert (back.low, back.high) == pytest.approx((-found.high, -found.low))


def test_scores_against_themselves_differ_by_nothing():
    rng = np.random.default_rng(2)
    y = np.arange(50) % 2 == 0
    scores = scores_of(rng, y, 1)
    found = metrics.auc_difference(y, scores, scores, np.arange(50))
    assert found.value == 0
    alone = metrics.auc(y, scores, np.arange(50))
    assert found.high - found.low < 0.6 * (alone.high - alone.low)


def test_two_perfect_scores_still_have_a_width():
    y = np.arange(40) % 2 == 0
    rng = np.random.default_rng(3)
    perfect = [10 * y + rng.random(40) for _ in range(2)]
    found = metrics.auc_difference(y, *perfect, np.arange(40))
    assert found.value == 0
    assert found.low < -0.05
    assert found.high > 0.05


def test_the_interval_of_a_difference_covers_it():
    """Of 300 samples the true difference lies in about 95 %; normal scores have known areas."""
    from scipy.special import ndtr

    truth = ndtr(1.5 / 2**0.5) - ndtr(0.8 / 2**0.5)
    inside = 0
    for seed in range(300):
        rng = np.random.default_rng(seed)
        y = np.arange(80) % 2 == 0
        shared = rng.normal(size=80)
        a, b = (s * y + 0.6 * shared + 0.8 * rng.normal(size=80) for s in (1.5, 0.8))
        found = metrics.auc_difference(y, a, b, np.arange(80))
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
    """A function from what the sick have (a lesion, a marker, both) to their audit's verdict."""
    from covidxray.audit import audit
    from covidxray.backbone import RECIPES, build_backbone, resolve_precision
    from covidxray.features import extract
    from covidxray.head import options_for
    from covidxray.lungs import load_segmenter
    from covidxray.training import fit_repeatedly
    from covidxray.weights import load_weights

    recipe = RECIPES["portable"]
    backbone = build_backbone(load_weights(), recipe, resolve_precision("auto"))

    def run(lesion, shortcut):
        root = tmp_path_factory.mktemp("where")
        for name, images in (
            ("covid", drawings(1, lesion, shortcut)),
            ("normal", drawings(2, False, None)),
        ):
            rows = [Row(f"{i}.jpg", "drawn", str(i), f"{name}{i}") for i in range(N)]
            fill_folder(root / name, zip(rows, images, strict=True))
        data = load_dataset(root, b"salt")
        still = {"views": 0, "rotation": 0, "rng": np.random.default_rng(0)}
        features = extract(backbone, recipe, load_segmenter(), data.paths, **still)
        options = options_for(recipe, None, None, 25, 8, None)
        scoring = "whole", 0, options, 5, 4, np.random.default_rng(0)
        where = fit_repeatedly(data, features, *scoring).where
        return audit(data, features.clues, 0, np.random.default_rng(0), where)

    return run


@pytest.mark.slow
def test_of_drawings_with_a_lesion_and_no_shortcut_the_lungs_tell_more(audited):
    found = audited(lesion=True, shortcut=None)
    assert found.where.difference.low > 0
    assert "the lungs tell more" in found.verdict


@pytest.mark.slow
def test_of_drawings_with_a_marker_and_no_lesion_the_rest_tells_more(audited):
    found = audited(lesion=False, shortcut="marker")
    assert found.where.difference.high < 0
    assert found.alarm
    assert "which is more: the model need not look at a lung" in found.verdict


@pytest.mark.slow
def test_of_drawings_with_both_the_audit_says_both(audited):
    found = audited(lesion=True, shortcut="marker")
    assert found.alarm
    assert "The label can be read from" in found.verdict
    assert "both give the class away" in found.verdict
