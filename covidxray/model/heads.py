"""Heads on the features: train many of them, and use them.

A head is a standardisation followed by a logistic regression (one dense softmax layer), which is
solved, or by a dense ReLU layer, dropout and a dense softmax layer, which are trained.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from covidxray.errors import InputError
from covidxray.evaluation.recalibration import Recalibration
from covidxray.model.arrays import StandardisedLayers
from covidxray.model.head_network import HeadNetwork
from covidxray.model.head_solver import SolverTraining, solve_heads
from covidxray.model.labelled_features import LabelledFeatures
from covidxray.model.recipes import HeadOptions

DIVERGED = InputError("--lr: is too large, the training diverged; give a smaller learning rate")
History = dict[str, list[float]]  # loss, accuracy, val_loss and val_accuracy after each epoch


def default_batch_size(n: int) -> int:
    """Images per step for a data set of `n` images: 8 as in the tutorial, or `n` / 80 if larger.

    Four fifths of the images are then at most 64 steps per epoch. Thousands of small steps take
    longer than VGG16 does, and each follows a few images instead of the average.
    """
    return max(8, n // 80)


@dataclass(frozen=True)
class Heads(StandardisedLayers):
    """F trained heads: standardisation (F, D), kernels (F, in, out) and biases (F, out)."""

    def pick(self, fit: int, number: int = 1) -> "Heads":
        """A number of the F heads, from head `fit` on."""
        some = slice(fit, fit + number)
        kernels, biases = (tuple(w[some] for w in part) for part in (self.kernels, self.biases))
        return Heads(self.mean[some], self.scale[some], kernels, biases)

    def recalibrated(self, recalibration: Recalibration) -> "Heads":
        """These heads with a recalibration in the weights of the last layer."""
        slope, offsets = np.float32(recalibration.slope), recalibration.offsets.astype(np.float32)
        kernels = (*self.kernels[:-1], self.kernels[-1] * slope)
        biases = (*self.biases[:-1], self.biases[-1] * slope + offsets)
        return Heads(self.mean, self.scale, kernels, biases)

    def predict(self, features: np.ndarray, fit: int) -> np.ndarray:
        """Class probabilities of features (n, D) by head number `fit`: float64 (n, C)."""
        x = (features - self.mean[fit]) / self.scale[fit]
        for kernel, bias in zip(self.kernels[:-1], self.biases[:-1], strict=True):
            x = np.maximum(x @ kernel[fit] + bias[fit], 0)
        logits = (x @ self.kernels[-1][fit] + self.biases[-1][fit]).astype(np.float64)
        exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
        return exponentials / exponentials.sum(axis=1, keepdims=True)


def fit_heads(
    data: LabelledFeatures,
    train: Sequence[np.ndarray],
    options: HeadOptions,
    rng: np.random.Generator,
) -> Heads:
    """Train a head on each of F sets of images, given as arrays of image indices.

    Only the training images of a head, and their augmentations, enter its standardisation and its
    weights. A penalised logistic regression is solved and depends on neither `rng` nor the order of
    the images. Other heads are trained at once; one stream is spawned for each, so that a head does
    not depend on the others.
    """
    if options.solved:
        return Heads(*solve_heads(data, train, options.l2))
    network = HeadNetwork(data, train, options, rng)
    network.fit()
    return Heads(*network.weights())


def fit_with_history(
    data: LabelledFeatures,
    train: np.ndarray,
    validation: np.ndarray,
    options: HeadOptions,
    rng: np.random.Generator,
) -> tuple[Heads, History]:
    """Train one head as `fit_heads` does, and score its training on `validation` images.

    The scores are for the plot alone: no head is chosen by them. A head that is solved is trained
    once more for them (`head_solver.SolverTraining`).

    Raises:
        InputError: the training diverged.
    """
    training: HeadNetwork | SolverTraining
    if options.solved:
        training = SolverTraining(data, train, options)
    else:
        training = HeadNetwork(data, [train], options, rng)
    history: History = {"loss": [], "accuracy": [], "val_loss": [], "val_accuracy": []}

    def score() -> None:  # Keras would take a second more for the validation
        heads = Heads(*training.weights())
        for prefix, images in (("", train), ("val_", validation)):
            loss, accuracy = _loss_and_accuracy(heads, data, images)
            history[f"{prefix}loss"].append(loss)
            history[f"{prefix}accuracy"].append(accuracy)

    training.fit(score)
    if not np.isfinite(history["loss"]).all():
        raise DIVERGED
    if options.solved:
        return fit_heads(data, [train], options, rng), history
    return Heads(*training.weights()), history


def _loss_and_accuracy(
    heads: Heads, data: LabelledFeatures, images: np.ndarray
) -> tuple[float, float]:
    """Class-weighted mean cross-entropy, and accuracy, of the first head on unchanged images."""
    predicted, labels = heads.predict(data.values[images], 0), data.labels[images]
    of_truth = np.maximum(predicted[np.arange(len(images)), labels], 1e-7)  # as Keras does
    loss = -np.log(of_truth) @ data.weights(images)
    return float(loss), float((predicted.argmax(axis=1) == labels).mean())


def cross_validate(
    regions: dict[str, LabelledFeatures],
    folds: Sequence[tuple[int, np.ndarray, np.ndarray]],
    options: HeadOptions,
    rng: np.random.Generator,
) -> tuple[dict[str, np.ndarray], np.ndarray, dict[str, Heads]]:
    """Train a head on every region in every fold of every repeat, and predict the test images.

    Args:
        regions: the same N images in each.
        folds: (repeat, training indices, test indices), repeats in order.
        options, rng: as for `fit_heads`.

    Returns:
        Region -> probabilities float64 (R, N, C), and int (R, N): the index in `folds` of the fit
        that predicted an image, and region -> heads of the fits.

    Raises:
        InputError: a training diverged.
    """
    fits = fit_regions(regions, [train for _, train, _ in folds], options, rng)
    data = next(iter(regions.values()))
    shape = folds[-1][0] + 1, len(data.labels)
    fit = np.empty(shape, np.int64)
    probabilities = {name: np.empty((*shape, data.classes)) for name in regions}
    for f, (repeat, _, test) in enumerate(folds):
        fit[repeat, test] = f
        for name, region in regions.items():
            predicted = fits[name].predict(region.values[test], f)
            if not np.isfinite(predicted).all():
                raise DIVERGED
            probabilities[name][repeat, test] = predicted
    return probabilities, fit, fits


def fit_regions(
    regions: dict[str, LabelledFeatures],
    train: Sequence[np.ndarray],
    options: HeadOptions,
    rng: np.random.Generator,
) -> dict[str, Heads]:
    """Train heads as `fit_heads` does, on all training sets of each region."""
    if options.solved:
        return {name: fit_heads(data, train, options, rng) for name, data in regions.items()}
    # Heads that are trained are trained all at once: an image in another region is another image.
    data = LabelledFeatures.concatenate(list(regions.values()))
    n = len(data.labels) // len(regions)
    shifted = [indices + k * n for k in range(len(regions)) for indices in train]
    heads = fit_heads(data, shifted, options, rng)
    return {name: heads.pick(k * len(train), len(train)) for k, name in enumerate(regions)}
