"""Recalibration: turn scores into probabilities that come true, for equally common classes.

Platt 1999 (Advances in Large Margin Classifiers, 61-74): a logistic regression of the class on the
log-odds, with smoothed targets. Each class has the same weight, however many images it has, so that
probabilities and decisions do not follow the shares of the classes in a convenience sample. Scores
and probabilities are float64 (..., C), and sum to 1 over the C classes; `labels` are (N,) int64.
"""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax

LEAST = 1e-12  # of a score whose logarithm is taken
# A smaller slope would turn the order of the scores round, which only chance can ask for.
LEAST_SLOPE = 0.01


@dataclass(frozen=True)
class Recalibration:
    """The logarithms of the scores times `slope` plus `offsets` (C,) are those of probabilities."""

    slope: float
    offsets: np.ndarray

    def apply(self, scores: np.ndarray) -> np.ndarray:
        """The probabilities (..., C) of scores."""
        return softmax(self.slope * np.log(np.maximum(scores, LEAST)) + self.offsets, axis=-1)


def fit_recalibration(labels: np.ndarray, scores: np.ndarray) -> Recalibration:
    """Fit a recalibration to scores (R, N, C) of images that did not train what scored them."""
    classes = scores.shape[2]
    logs = np.log(np.maximum(scores, LEAST))
    logs = logs - logs.mean(axis=2, keepdims=True)
    n = np.bincount(labels, minlength=classes)
    weights = class_weights(labels) / len(scores)
    missed = 1 / (n + 2)  # Platt's target for another class than the true one
    targets = (missed / max(1, classes - 1))[labels][:, None] * np.ones(classes)
    targets[np.arange(len(labels)), labels] = 1 - missed[labels]

    def loss(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        log_p = log_softmax(parameters[0] * logs + parameters[1:], axis=2)
        excess = weights[:, None] * (np.exp(log_p) - targets)
        gradient = np.concatenate([[(excess * logs).sum()], excess.sum(axis=(0, 1))])
        return float(-(weights[:, None] * targets * log_p).sum()), gradient

    start = np.concatenate([[1.0], np.zeros(classes)])
    bounds = [(LEAST_SLOPE, None), *[(None, None)] * classes]
    found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds, tol=1e-10).x
    return Recalibration(float(found[0]), found[1:] - found[1:].mean())


def recalibrate_out_of_fold(labels: np.ndarray, scores: np.ndarray, fold: np.ndarray) -> np.ndarray:
    """Probabilities (R, N, C) of scores, each recalibrated by the scores of the other folds.

    `fold` is (R, N) int64, the fold that an image was tested in.
    """
    probabilities = np.empty_like(scores)
    for repeat, folds in enumerate(fold):
        for number in np.unique(folds):
            test = folds == number
            fitted = fit_recalibration(labels[~test], scores[repeat : repeat + 1, ~test])
            probabilities[repeat, test] = fitted.apply(scores[repeat, test])
    return probabilities


def at_prevalence(probabilities: np.ndarray, positive: int, prevalence: float) -> np.ndarray:
    """Probabilities (..., C) where a share `prevalence` of the patients is positive.

    The given ones are for equally common classes. The negative classes share the rest equally.
    """
    others = (1 - prevalence) / (probabilities.shape[-1] - 1)
    prior = np.full(probabilities.shape[-1], others)
    prior[positive] = prevalence
    odds = probabilities * prior
    return odds / odds.sum(axis=-1, keepdims=True)


def class_weights(labels: np.ndarray) -> np.ndarray:
    """Weights (N,) that sum to 1, with the same sum for each class that occurs."""
    _, index, n = np.unique(labels, return_inverse=True, return_counts=True)
    return 1 / (len(n) * n[index])
