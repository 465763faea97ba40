"""Train many heads on the features at once, and use them.

A head is a standardisation followed by a logistic regression (one dense softmax layer), or by a
dense ReLU layer, dropout and a dense softmax layer.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import keras
import numpy as np

from covidxray.model.arrays import StandardisedLayers
from covidxray.model.head_network import HeadNetwork, HeadOptions


def default_batch_size(n: int) -> int:
    """Images per step for a data set of `n` images: 8 as in the tutorial, or `n` / 80 if larger.

    Four fifths of the images are then at most 64 steps per epoch. Thousands of small steps take
    longer than VGG16 does, and each follows a few images instead of the average.
    """
    return max(8, n // 80)


@dataclass(frozen=True)
class Heads(StandardisedLayers):
    """F trained heads: standardisation (F, D), kernels (F, in, out) and biases (F, out).

    `history` are the values of the training after each epoch, by name.
    """

    history: dict[str, list[float]] = field(default_factory=dict)

    def pick(self, fit: int) -> "Heads":
        """One of the F heads, as F = 1 heads."""
        one = slice(fit, fit + 1)
        kernels, biases = (tuple(w[one] for w in part) for part in (self.kernels, self.biases))
        return Heads(self.mean[one], self.scale[one], kernels, biases, self.history)

    def predict(self, features: np.ndarray, fit: int) -> np.ndarray:
        """Class probabilities of features (n, D) by head number `fit`: float64 (n, C)."""
        x = (features - self.mean[fit]) / self.scale[fit]
        for kernel, bias in zip(self.kernels[:-1], self.biases[:-1], strict=True):
            x = np.maximum(x @ kernel[fit] + bias[fit], 0)
        logits = (x @ self.kernels[-1][fit] + self.biases[-1][fit]).astype(np.float64)
        exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
        return exponentials / exponentials.sum(axis=1, keepdims=True)


def fit_heads(
    features: np.ndarray,
    labels: np.ndarray,
    train: Sequence[np.ndarray],
    options: HeadOptions,
    rng: np.random.Generator,
    validation: np.ndarray | None = None,
) -> Heads:
    """Train a head on each of F sets of images, all at once.

    In each epoch every training image is used once: unchanged or as one of its augmentations, drawn
    at random. Only the training images of a head enter its standardisation and its weights.

    Args:
        features: (N, 1 + A, D) float32, of the unchanged image first.
        labels: (N,) int, 0 to C - 1.
        train: F arrays of image indices.
        rng: one stream is spawned for each head, so that a head does not depend on the others.
        validation: indices of images to score after each epoch, unchanged; F must be 1. The scores
            are for the plot alone: no head is chosen by them.
    """
    network = HeadNetwork(features, labels, train, options, rng)
    if validation is None:
        history = network.fit()
        return Heads(*network.weights(), history)
    unchanged, truth = features[validation, 0], labels[validation]
    scores: list[tuple[float, float]] = []

    def score() -> None:  # Keras would take a second more for the validation
        heads = Heads(*network.weights())
        scores.append(_loss_and_accuracy(heads, unchanged, truth, options.l2))

    history = network.fit(score)
    history["val_loss"], history["val_accuracy"] = map(list, zip(*scores, strict=True))
    return Heads(*network.weights(), history)


def _loss_and_accuracy(
    heads: Heads, features: np.ndarray, labels: np.ndarray, l2: float
) -> tuple[float, float]:
    """Loss, penalty included, and accuracy of the first head on features (n, D), labels (n,)."""
    predicted = heads.predict(features, 0)
    penalty = l2 * sum(float(np.square(kernel[0]).sum()) for kernel in heads.kernels)
    of_truth = predicted[np.arange(len(labels)), labels]
    loss = float(-np.log(np.maximum(of_truth, keras.config.epsilon())).mean()) + penalty
    return loss, float((predicted.argmax(axis=1) == labels).mean())


def cross_validate(
    regions: dict[str, np.ndarray],
    labels: np.ndarray,
    folds: Sequence[tuple[int, np.ndarray, np.ndarray]],
    options: HeadOptions,
    rng: np.random.Generator,
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Train a head on every region in every fold of every repeat, and predict the test images.

    Args:
        regions: region -> features (N, 1 + A, D). The other arguments are as for `fit_heads`.
        folds: (repeat, training indices, test indices), repeats in order.

    Returns:
        Region -> probabilities float64 (R, N, C), and int (R, N): the index in `folds` of the fit
        that predicted an image.
    """
    heads = fit_regions(regions, labels, [train for _, train, _ in folds], options, rng)
    repeats = folds[-1][0] + 1
    fit = np.empty((repeats, len(labels)), np.int64)
    shape = (repeats, len(labels), int(labels.max()) + 1)
    probabilities = {name: np.empty(shape) for name in regions}
    for f, (repeat, _, test) in enumerate(folds):
        fit[repeat, test] = f
        for k, (name, features) in enumerate(regions.items()):
            predicted = heads.predict(features[test, 0], k * len(folds) + f)
            probabilities[name][repeat, test] = predicted
    return probabilities, fit


def fit_regions(
    regions: dict[str, np.ndarray],
    labels: np.ndarray,
    train: Sequence[np.ndarray],
    options: HeadOptions,
    rng: np.random.Generator,
) -> Heads:
    """Train heads as `fit_heads` does, on all training sets of the first region, then of the next.

    For a head, an image in another region is another image. `regions` are region -> features
    (N, 1 + A, D); the other arguments are as for `fit_heads`.
    """
    features = np.concatenate(list(regions.values()))
    shifted = [indices + k * len(labels) for k in range(len(regions)) for indices in train]
    return fit_heads(features, np.tile(labels, len(regions)), shifted, options, rng)
