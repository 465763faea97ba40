"""How often the 95 % intervals hold the true value, and the overlap factor of cross-validation.

    PYTHONPATH=. python benchmarks/coverage.py [--repetitions 400]

Scores of images are drawn from normal distributions: a part is the patient's own, so that images of
one patient are alike, and the positive class is shifted. The true sensitivity, specificity and AUC
are known. The last table draws features, cross-validates penalised logistic regressions on them,
and compares the spread of the AUC over data sets with the standard error that one data set gives.
"""

import argparse

import numpy as np
from scipy.special import ndtr

from covidxray.audit.baselines import fit_logistic
from covidxray.evaluation import intervals, splits
from covidxray.evaluation.calibration import calibrate
from covidxray.evaluation.metrics import scores_at_fixed_levels
from covidxray.evaluation.recalibration import class_weights

SHIFT = 1.5  # of the positive class, in standard deviations
ALIKE = 0.6  # share of the variance that the images of a patient have in common
FOLDS, REPEATS, WIDTH, PENALTY = 5, 5, 64, 10.0


def draw(patients: tuple[int, int], images: int, rng: np.random.Generator):
    """Truth, score and patient of each image of positive and negative patients."""
    groups = np.repeat(np.arange(sum(patients)), images)
    y_true = groups < patients[0]
    own = rng.normal(size=sum(patients))[groups] * ALIKE**0.5
    return y_true, SHIFT * y_true + own + rng.normal(size=len(groups)) * (1 - ALIKE) ** 0.5, groups


def coverage(patients: tuple[int, int], images: int, repetitions: int) -> dict[str, float]:
    """Share of the intervals of each kind that hold the true value."""
    truth = {"sensitivity": float(ndtr(SHIFT / 2)), "AUC": float(ndtr(SHIFT / 2**0.5))}
    truth["specificity"] = truth["sensitivity"]
    truth["sensitivity at specificity 0.90"] = float(ndtr(SHIFT - 1.2816))
    y, score, groups = draw((20_000, 20_000), 1, np.random.default_rng(0))
    truth["Brier score"] = float(np.square(ndtr(score - SHIFT / 2) - y).mean())
    held = {name: [0, 0] for name in truth}
    for seed in range(repetitions):
        y, score, groups = draw(patients, images, np.random.default_rng((seed, *patients, images)))
        rng, predicted = np.random.default_rng(seed), score >= SHIFT / 2
        found = {
            "sensitivity": intervals.share(predicted[y], groups[y]),
            "specificity": intervals.share(~predicted[~y], groups[~y]),
            "AUC": intervals.auc(y, score, groups),
        }
        if seed < repetitions // 4:  # resampling takes long
            found |= scores_at_fixed_levels(y, score, groups, rng)
            probability = ndtr(score - SHIFT / 2)
            found["Brier score"] = calibrate(y, probability, class_weights(y), groups, rng).brier
        for name, value in truth.items():
            if name in found:
                estimate = found[name]
                held[name][0] += estimate.low <= value <= estimate.high
                held[name][1] += 1
    return {name: inside / n if n else float("nan") for name, (inside, n) in held.items()}


def cross_validated(y: np.ndarray, x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Out-of-fold scores (REPEATS, N) of the default head."""
    n, fold = len(y), np.empty((REPEATS, len(y)), int)
    drawn = splits.repeated_folds(y.astype(int), np.arange(n), FOLDS, REPEATS, rng)
    for k, (repeat, _, test) in enumerate(drawn):
        fold[repeat, test] = k % FOLDS
    scores, labels = np.empty(fold.shape), np.repeat(y[None], REPEATS, 0)
    scaled = (x - x.mean(axis=0)) / x.std(axis=0) / np.sqrt(PENALTY * n * (1 - 1 / FOLDS))
    for k in range(FOLDS):
        test = fold == k
        weights = fit_logistic(scaled.astype(np.float32), labels, ~test)
        scores[test] = (weights[:, :-1] @ scaled.T + weights[:, -1:])[test]
    return scores


def overlap(sizes: tuple[int, int], shift: float, repetitions: int) -> tuple[float, ...]:
    """Mean AUC, ratio of spread to standard error, and coverage of the mean without and with the
    overlap factor."""
    estimates = []
    for seed in range(repetitions):
        rng = np.random.default_rng((seed, *sizes))
        y = np.arange(sum(sizes)) < sizes[0]
        x = rng.normal(size=(len(y), WIDTH))
        x[y, :4] += shift / 2
        scores, groups = cross_validated(y, x, rng), np.arange(len(y))
        plain = intervals.auc(y, scores, groups)
        influence = intervals._area(y, scores, groups)[1]
        error = np.sqrt(intervals._covariance(influence, influence))
        wide = intervals.auc(y, scores, groups, cross_validated=True)
        estimates.append((plain.value, error, plain.low, plain.high, wide.low, wide.high))
    value, error, low, high, wide_low, wide_high = np.array(estimates).T
    mean = value.mean()
    inside = (
        ((low <= mean) & (mean <= high)).mean(),
        ((wide_low <= mean) & (mean <= wide_high)).mean(),
    )
    return float(mean), float(value.std() / np.sqrt(np.square(error).mean())), *map(float, inside)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repetitions", default=400, type=int)
    repetitions = parser.parse_args().repetitions
    names = ("sensitivity", "specificity", "AUC", "sensitivity at specificity 0.90", "Brier score")
    print("| patients | images each | " + " | ".join(names) + " |")
    print("| --- | --- |" + " --- |" * len(names))
    for patients in ((10, 10), (25, 25), (60, 60), (10, 100), (25, 250)):
        for images in (1, 5):
            found = coverage(patients, images, repetitions)
            cells = " | ".join(f"{found[name]:.3f}" for name in names)
            print(f"| {patients[0]} + {patients[1]} | {images} | {cells} |", flush=True)
    print("\n| images | mean AUC | spread / standard error | coverage before | with the factor |")
    print("| --- | --- | --- | --- | --- |")
    for sizes in ((10, 10), (25, 25), (60, 60), (10, 100)):
        for shift in (0.0, 0.7, 1.5):
            mean, ratio, before, after = overlap(sizes, shift, repetitions // 2)
            cells = f"{mean:.2f} | {ratio:.2f} | {before:.3f} | {after:.3f}"
            print(f"| {sizes[0]} + {sizes[1]} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
