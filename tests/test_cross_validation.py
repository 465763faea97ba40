"""Cross-validated predictions are those of fits made apart, on nothing but the other folds."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from covidxray.evaluation.splits import repeated_folds
from covidxray.model.heads import cross_validate, fit_heads
from covidxray.model.labelled_features import LabelledFeatures
from covidxray.model.recipes import HeadOptions

LINEAR = HeadOptions(units=0, dropout=0.0, l2=0.1)
SHORT = HeadOptions(units=4, dropout=0.2, epochs=3, learning_rate=0.01)
SIZES = (10, 14, 24)  # of three classes
GROUPS = np.arange(sum(SIZES)) // 2


def cohort():
    """Features (48, 1, 6) of three regions with unlike signals, and labels: three classes."""
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1, 2], SIZES)
    pools = {}
    for name, column, shift in (("whole", 0, 1.0), ("lungs", 3, 3.0), ("outside", 5, 0.0)):
        pools[name] = rng.normal(size=(48, 1, 6)).astype(np.float32)
        pools[name][:, 0, column] += shift * labels
    return pools, labels


def validate(pools, labels, folds, options, seed=1):
    regions = {name: LabelledFeatures.of(views, labels) for name, views in pools.items()}
    return cross_validate(regions, folds, options, np.random.default_rng(seed))


def folds_of(labels, repeats=2, seed=0):
    rng = np.random.default_rng(seed)
    return list(repeated_folds(labels, GROUPS, 3, repeats, rng))


@pytest.fixture(scope="module")
def validated():
    """Regions, labels, folds, and what cross-validation makes of them."""
    pools, labels = cohort()
    folds = folds_of(labels)
    return pools, labels, folds, *validate(pools, labels, folds, LINEAR)


def test_every_region_is_predicted_by_fits_on_its_own_features_of_the_other_folds(validated):
    pools, labels, folds, found, *_ = validated
    assert found.keys() == pools.keys()
    for name, views in pools.items():
        for repeat, train, test in folds:
            x = views[:, 0].astype(float)
            x = (x - x[train].mean(axis=0)) / x[train].std(axis=0)
            strength = {"C": 1 / (2 * 0.1 * len(train)), "tol": 1e-8}
            reference = LogisticRegression(class_weight="balanced", **strength)
            expected = reference.fit(x[train], labels[train]).predict_proba(x[test])
            np.testing.assert_allclose(found[name][repeat, test], expected, atol=1e-4)


def test_which_fit_predicted_an_image_is_told(validated):
    _, _, folds, _, fit, _ = validated
    assert fit.shape == (2, 48)
    told = {
        (repeat, frozenset(np.flatnonzero(fit[repeat] == f)))
        for repeat in (0, 1)
        for f in np.unique(fit[repeat])
    }
    assert told == {(repeat, frozenset(test)) for repeat, _, test in folds}


def test_the_heads_of_all_fits_are_those_that_predicted(validated):
    pools, _, folds, found, _, heads = validated
    for name, views in pools.items():
        for f, (repeat, _, test) in enumerate(folds):
            expected = heads[name].predict(views[test, 0], f)
            np.testing.assert_array_equal(found[name][repeat, test], expected)


@pytest.mark.parametrize("options", [LINEAR, SHORT])
def test_an_images_own_fold_never_teaches_the_fit_that_predicts_it(options):
    """Other labels in a fold, and other features of half of it, leave its predictions as they are;
    those of the other folds, whose fits learn from it, move."""
    pools, labels = cohort()
    folds = folds_of(labels, repeats=1)
    _, _, test = folds[1]
    before, *_ = validate(pools, labels, folds, options)
    labels[test] = (labels[test] + 1) % 3
    for views in pools.values():
        views[test[1::2]] += 50
    after, *_ = validate(pools, labels, folds, options)
    others = np.setdiff1d(np.arange(len(labels)), test)
    for name in pools:
        np.testing.assert_array_equal(before[name][0, test[::2]], after[name][0, test[::2]])
        assert (before[name][0, others] != after[name][0, others]).any()


def test_the_clean_image_is_predicted_and_no_augmentation_of_it():
    """The augmentations show nothing; the clean images tell the classes well apart."""
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1, 2], SIZES)
    views = np.zeros((48, 3, 6), np.float32)
    views[:, 0] = rng.normal(size=(48, 6))
    views[np.arange(48), 0, labels] += 8
    options = HeadOptions(units=0, dropout=0.0, epochs=40, learning_rate=0.05)
    pools, folds = {"whole": views, "lungs": views[..., ::-1]}, folds_of(labels)
    found, *_ = validate(pools, labels, folds, options)
    for probabilities in found.values():
        assert (probabilities.argmax(axis=2) == labels).mean() > 0.95


@pytest.fixture(scope="module")
def stacked():
    """Augmentations that alone tell the classes apart, their labels, and two heads fitted on all
    of them."""
    labels = np.repeat([0, 1, 2], SIZES)
    views = np.random.default_rng(0).normal(size=(48, 3, 6)).astype(np.float32)
    views[np.arange(48), 1:, labels] += 8
    options = HeadOptions(units=8, dropout=0.0, epochs=40, learning_rate=0.05)
    train = [np.arange(48)] * 2
    data = LabelledFeatures.of(views, labels)
    return views, labels, fit_heads(data, train, options, np.random.default_rng(1))


@pytest.mark.parametrize("view", [1, 2])
def test_every_augmentation_is_learnt_from(stacked, view):
    views, labels, heads = stacked
    for fit in (0, 1):
        predicted = heads.predict(views[:, view], fit).argmax(axis=1)
        assert (predicted == labels).mean() > 0.9


def test_heads_fitted_together_start_from_numbers_of_their_own(stacked):
    heads = stacked[2]
    assert (heads.kernels[0][0] != heads.kernels[0][1]).any()
