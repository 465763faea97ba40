"""Images are compared within their site, view and device, and no others."""

import itertools
from types import SimpleNamespace

import numpy as np
import pytest

from covidxray.data.dataset import Dataset
from covidxray.data.manifest import ManifestRow
from covidxray.evaluation import intervals
from covidxray.evaluation.strata import PROPERTIES, Strata, permutation_p_value, score_strata
from covidxray.model import heads
from covidxray.model.labelled_features import LabelledFeatures
from covidxray.pipeline import strata as pipeline_strata


def row(site="", view="", device="", name="x.png"):
    return ManifestRow(name, "s", name, "", view=view, site=site, device=device)


def score(is_positive, scores, groups, rows, properties=PROPERTIES, seed=0):
    strata = Strata.of(rows, properties)
    rng = np.random.default_rng(seed)
    return score_strata(np.array(is_positive), scores, np.array(groups), strata, rng)


def by_hand(is_positive, score, rows):
    """Share of the pairs of equal site, view and device that are in order."""
    wins = []
    for i, j in itertools.product(np.flatnonzero(is_positive), np.flatnonzero(~is_positive)):
        if all(getattr(rows[i], name) == getattr(rows[j], name) for name in PROPERTIES):
            wins.append((np.sign(score[i] - score[j]) + 1) / 2)
    return np.mean(wins), len(wins)


@pytest.mark.parametrize("seed", range(4))
def test_the_area_counts_the_pairs_of_equal_site_view_and_device(seed):
    rng = np.random.default_rng(seed)
    drawn = zip(*(rng.integers(3, size=60) for _ in PROPERTIES), strict=True)
    rows = [row(f"hospital {a}", ("PA", "AP", "")[b], f"machine {c}") for a, b, c in drawn]
    truth = rng.random(60) < 0.4
    scores = rng.integers(8, size=(5, 60)) / 8 + 0.2 * truth  # with ties
    found = score(truth, {"model": scores}, np.arange(60), rows)
    areas = [by_hand(truth, repeat, rows)[0] for repeat in scores]
    assert found.areas["model"].value == pytest.approx(np.mean(areas))
    assert found.pairs == by_hand(truth, scores[0], rows)[1]
    assert found.known == PROPERTIES


def test_a_score_that_tells_hospitals_apart_is_worth_nothing_within_them():
    rng = np.random.default_rng(1)
    sick_here = np.repeat([0.9, 0.1], 100)  # of two hospitals
    truth = rng.random(200) < sick_here
    rows = [row("north" if i < 100 else "south") for i in range(200)]
    scores = sick_here + 0.01 * rng.normal(size=200)
    found = score(truth, {"model": scores}, np.arange(200), rows)
    assert intervals.auc(truth, scores, np.arange(200)).value > 0.85
    assert found.areas["model"].low < 0.5 < found.areas["model"].high
    assert found.p_values["model"] > 0.05


def test_a_score_that_finds_the_disease_keeps_its_area_within_strata():
    rng = np.random.default_rng(0)
    truth = rng.random(120) < 0.5
    rows = [row(f"hospital {i % 3}", "PA") for i in range(120)]
    found = score(truth, {"model": truth + 0.5 * rng.normal(size=120)}, np.arange(120), rows)
    assert found.areas["model"].low > 0.8
    assert found.p_values["model"] == 0.001
    assert (found.strata, found.share > 0.3) == (3, True)


def test_the_largest_stratum_is_named_with_its_share_of_the_pairs():
    truth = np.array([True, True, True, False, False, True, False])
    rows = [row("North", "PA")] * 5 + [row("South", "AP")] * 2
    found = score(truth, {"model": np.arange(7.0)}, np.arange(7), rows)
    assert (found.pairs, found.strata, found.largest) == (7, 2, "North, PA")
    assert found.share == pytest.approx(6 / 7)


@pytest.mark.parametrize(
    ("rows", "properties", "known", "pairs"),
    [
        ([row("a"), row("a"), row("b"), row("b")], PROPERTIES, ("site",), 0),
        ([row("a"), row("a"), row(), row()], PROPERTIES, ("site",), 0),
        ([row()] * 4, PROPERTIES, (), 0),
        ([row(view="PA")] * 4, PROPERTIES, ("view",), 4),
        ([row("a"), row("A "), row("b"), row("a")], PROPERTIES, ("site",), 2),
        ([row("a", "PA"), row("b", "PA"), row("c", "PA"), row("d", "PA")], ("view",), ("view",), 4),
    ],
)
def test_only_what_is_known_has_to_agree(rows, properties, known, pairs):
    truth = np.array([True, True, False, False])
    found = score(truth, {"model": np.arange(4.0)}, np.arange(4), rows, properties)
    assert (found.known, found.pairs, bool(found.areas)) == (known, pairs, pairs > 0)


def test_chance_is_reported_as_chance_where_patients_have_several_images():
    def p_value(seed):
        rng = np.random.default_rng(seed)
        groups = np.repeat(np.arange(24), 3)
        truth, own = (rng.permutation(24) < 12)[groups], rng.normal(size=24)[groups]
        return permutation_p_value(truth, own, groups, np.arange(72) % 2, rng)

    found = np.array([p_value(seed) for seed in range(100)])
    assert 0.01 <= (found <= 0.1).mean() <= 0.2
    assert 0.35 <= np.median(found) <= 0.65


def test_the_interval_of_a_perfect_score_has_a_width_and_that_of_clustered_ones_is_wider():
    truth = np.arange(20) < 10
    rows = [row("a")] * 20
    perfect = score(truth, {"model": truth * 1.0}, np.arange(20), rows).areas["model"]
    assert perfect.value == perfect.high == 1
    assert 0.7 < perfect.low < 0.95
    noisy = truth + np.random.default_rng(0).normal(size=20)
    alone = score(truth, {"model": noisy}, np.arange(20), rows).areas["model"]
    many = score(
        np.tile(truth, 4), {"model": np.tile(noisy, 4)}, np.tile(np.arange(20), 4), 4 * rows
    )
    assert many.areas["model"].high - many.areas["model"].low == pytest.approx(
        alone.high - alone.low, abs=0.05
    )


def test_cross_validated_scores_have_a_wider_interval_and_a_larger_p():
    rng = np.random.default_rng(1)
    truth = np.arange(40) < 20
    scores = truth + 2 * rng.normal(size=40)
    rows = [row("a")] * 40
    found = score(truth, {"fixed": scores, "cv": scores[None]}, np.arange(40), rows)
    fixed, cv = found.areas["fixed"], found.areas["cv"]
    assert fixed.value == cv.value
    assert cv.high - cv.low > 1.1 * (fixed.high - fixed.low)
    assert 0.4 < cv.low < fixed.low < fixed.value < fixed.high < cv.high < 0.95
    assert found.p_values["cv"] > found.p_values["fixed"]


def test_a_score_of_some_images_is_compared_on_these():
    truth = np.array([True, True, False, False])
    partly = np.array([[np.nan, 2.0, 1.0, np.nan]])
    found = score(truth, {"model": np.ones(4), "shortcut": partly}, np.arange(4), [row("a")] * 4)
    assert found.areas["shortcut"].value == 1
    assert found.areas["model"].value == 0.5


def test_a_score_of_images_without_a_pair_has_no_area():
    truth, rows = np.array([True, False, True, True]), [row("a"), row("a"), row("b"), row("b")]
    apart = np.array([np.nan, np.nan, 1.0, 2.0])
    found = score(truth, {"model": np.arange(4.0), "shortcut": apart}, np.arange(4), rows)
    assert set(found.areas) == set(found.p_values) == {"model"}


def test_images_that_are_compared_with_none_narrow_no_interval():
    truth = np.arange(20) < 10
    alone = score(truth, {"model": truth * 1.0}, np.arange(20), [row("a")] * 20)
    more = np.r_[truth, np.repeat([True, False], 30)]
    rows = [row("a")] * 20 + [row("b")] * 30 + [row("c")] * 30
    found = score(more, {"model": more * 1.0}, np.arange(80), rows)
    assert (found.pairs, found.strata, found.largest, found.share) == (100, 1, "a", 1)
    assert found.areas["model"] == alone.areas["model"]


class Recorded:
    """`heads.fit_heads`, which keeps the images that it trains on."""

    def __init__(self):
        self.train = []

    def __call__(self, data, train, options, rng):
        self.train.append(train[0])
        return ORIGINAL(data, train, options, rng)


ORIGINAL = heads.fit_heads


def test_a_site_that_is_left_out_trains_nothing_and_neither_do_its_patients(monkeypatch):
    n = 48
    labels = np.arange(n) % 2
    sites = np.repeat(["north", "south", "", "small"], [16, 14, 10, 8])
    groups = np.arange(n)
    groups[[0, 1]] = groups[[20, 21]]  # two patients of north have images in south
    held_out = np.arange(n) == 10
    values = np.random.default_rng(0).normal(size=(n, 4)).astype(np.float32)
    values[:, 0] += 3 * labels
    data = Dataset(
        name="d",
        classes=("covid", "normal"),
        paths=[None] * n,
        labels=labels,
        groups=groups,
        patients=[""] * n,
        image_names=[""] * n,
        held_out=held_out,
        masks=[None] * n,
        rows=[row(site) for site in sites],
        without_manifest=(),
        left_out=(),
    )
    own = {"whole": LabelledFeatures(values, np.arange(n), labels)}
    features = SimpleNamespace(labelled=lambda labels: own)
    config = SimpleNamespace(region="whole", positive="covid", recipe="portable")
    options = SimpleNamespace(solved=True, l2=0.1)
    monkeypatch.setattr(pipeline_strata, "head_options", lambda config: options)
    monkeypatch.setattr(heads, "fit_heads", recorded := Recorded())
    found = pipeline_strata.leave_sites_out(config, data, features, np.random.default_rng(0))
    assert [one.site for one in found] == ["north", "south"]  # small has four of each class
    for one, train in zip(found, recorded.train, strict=True):
        test = (sites == one.site) & ~held_out
        assert one.positives + one.negatives == test.sum()
        assert not np.isin(groups[train], groups[test]).any()
        assert not held_out[train].any()
        assert one.auc.value > 0.9
