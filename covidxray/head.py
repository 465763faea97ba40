"""The trained part, many fits at a time, and the whole model that is saved.

A head is: standardise, Dense ReLU, dropout, Dense softmax. F heads are trained as one stacked
network whose kernels have a leading axis F. Adam works element by element and the loss is the sum
of the F losses, so each head learns what it would learn alone, in as many steps an epoch as the
largest of their training sets needs.
"""

import json
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np

MEMBER = "covidxray.json"  # inside the .keras file, which is a zip archive


@dataclass(frozen=True)
class HeadOptions:
    """How a head is made and trained; the defaults are the tutorial's."""

    units: int = 64
    dropout: float = 0.5
    epochs: int = 25
    batch_size: int = 8
    learning_rate: float = 1e-3


@dataclass(frozen=True)
class Heads:
    """F trained heads: their standardisation (F, D), their weights, and the training's history.

    `kernels` are (F, D, units) and (F, units, C), `biases` (F, units) and (F, C).
    """

    mean: np.ndarray
    scale: np.ndarray
    kernels: tuple[np.ndarray, np.ndarray]
    biases: tuple[np.ndarray, np.ndarray]
    history: dict[str, list[float]]

    def predict(self, features: np.ndarray, fit: int) -> np.ndarray:
        """Class probabilities of features (n, D) by one head: float64 (n, C)."""
        x = (features - self.mean[fit]) / self.scale[fit]
        hidden = np.maximum(x @ self.kernels[0][fit] + self.biases[0][fit], 0)
        logits = (hidden @ self.kernels[1][fit] + self.biases[1][fit]).astype(np.float64)
        raised = np.exp(logits - logits.max(axis=1, keepdims=True))
        return raised / raised.sum(axis=1, keepdims=True)


def fit_heads(
    views: np.ndarray,
    labels: np.ndarray,
    train: Sequence[np.ndarray],
    options: HeadOptions,
    rng: np.random.Generator,
    validation: np.ndarray | None = None,
) -> Heads:
    """Train a head on each of F sets of images, all at once.

    In every epoch each image stands in one of its views, drawn afresh. Nothing but a head's own
    training images, in their views, enters its standardisation and its steps.

    Args:
        views: (N, 1 + V, D) float32, the clean view first.
        labels: (N,) int, 0 to C - 1.
        train: F arrays of image indices.
        rng: spawns one stream a head, so a head does not depend on which others are trained.
        validation: indices of images to follow during training (clean views; F must be 1).
    """
    streams = rng.spawn(len(train) + 1)
    mean, scale = _standardisation(views, train)
    n_classes = int(labels.max()) + 1
    kernels = (
        _glorot(streams[1:], views.shape[2], options.units),
        _glorot(streams[1:], options.units, n_classes),
    )
    biases = (
        np.zeros((len(train), options.units), np.float32),
        np.zeros((len(train), n_classes), np.float32),
    )
    inputs = keras.Input((len(train), views.shape[2]))
    hidden = keras.layers.EinsumDense(
        "bfi,fio->bfo", (len(train), options.units), activation="relu", bias_axes="fo"
    )
    output = keras.layers.EinsumDense(
        "bfi,fio->bfo", (len(train), n_classes), activation="softmax", bias_axes="fo"
    )
    drop = keras.layers.Dropout(options.dropout, seed=int(streams[0].integers(2**31)))
    stack = keras.Model(inputs, output(drop(hidden(inputs))))
    hidden.set_weights([kernels[0], biases[0]])
    output.set_weights([kernels[1], biases[1]])
    stack.compile(
        optimizer=keras.optimizers.Adam(options.learning_rate),
        loss=keras.losses.SparseCategoricalCrossentropy(reduction="sum"),
        weighted_metrics=["accuracy"],
        jit_compile=False,  # compiling takes longer than the training
    )
    steps = -(-max(len(indices) for indices in train) // options.batch_size)
    followed = None
    if validation is not None:
        x = (views[validation, 0] - mean[0]) / scale[0]
        weight = np.full((len(validation), 1), 1 / len(validation), np.float32)
        followed = (x[:, None], labels[validation, None], weight)
    history = stack.fit(
        _batches(views, labels, train, mean, scale, steps, options, streams[1:]),
        steps_per_epoch=steps,
        epochs=options.epochs,
        shuffle=False,
        validation_data=followed,
        validation_batch_size=len(validation) if validation is not None else None,
        verbose=0,
    ).history
    trained = [np.asarray(w) for w in stack.get_weights()[:4]]
    return Heads(mean, scale, (trained[0], trained[2]), (trained[1], trained[3]), history)


def _standardisation(
    views: np.ndarray, train: Sequence[np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation (F, D) over each set of training images and their views."""
    total = views.sum(axis=1, dtype=np.float64)
    squares = np.square(views, dtype=np.float64).sum(axis=1)
    mean = np.stack([total[i].sum(axis=0) / (len(i) * views.shape[1]) for i in train])
    square = np.stack([squares[i].sum(axis=0) / (len(i) * views.shape[1]) for i in train])
    deviation = np.sqrt(np.maximum(square - mean**2, 0))
    # A feature that never fires in training says nothing; 1 leaves it as it is.
    scale = np.where(deviation > 1e-6, deviation, 1.0)
    return mean.astype(np.float32), scale.astype(np.float32)


def _glorot(streams: Sequence[np.random.Generator], fan_in: int, fan_out: int) -> np.ndarray:
    limit = np.sqrt(6 / (fan_in + fan_out))
    return np.stack(
        [rng.uniform(-limit, limit, (fan_in, fan_out)).astype(np.float32) for rng in streams]
    )


def _slots(n: int, steps: int, size: int) -> np.ndarray:
    """Places (n,) in steps * size for n images spread evenly over the steps.

    No step may be empty: Adam's momentum would carry a head on without an image.
    """
    step = np.arange(n) * steps // n
    return step * size + np.arange(n) - np.searchsorted(step, step)


def _batches(
    views: np.ndarray,
    labels: np.ndarray,
    train: Sequence[np.ndarray],
    mean: np.ndarray,
    scale: np.ndarray,
    steps: int,
    options: HeadOptions,
    streams: Sequence[np.random.Generator],
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Yield x (B, F, D), y (B, F) and weights (B, F), epoch after epoch.

    Batches not full are filled up by images of weight 0; the weights of a batch sum to 1.
    """
    size = options.batch_size
    while True:
        index = np.zeros((len(train), steps * size), np.int64)
        view = np.zeros_like(index)
        real = np.zeros(index.shape, np.float32)
        for f, (indices, rng) in enumerate(zip(train, streams, strict=True)):
            slots = _slots(len(indices), steps, size)
            index[f, slots] = rng.permutation(indices)
            view[f, slots] = rng.integers(views.shape[1], size=len(indices))
            real[f, slots] = 1
        for step in range(steps):
            part = np.s_[:, step * size : (step + 1) * size]
            i, v, weight = index[part].T, view[part].T, real[part].T
            x = (views[i, v] - mean) / scale
            yield x, labels[i], weight / np.maximum(weight.sum(axis=0), 1)


def cross_validate(
    views: np.ndarray,
    labels: np.ndarray,
    folds: Sequence[tuple[int, np.ndarray, np.ndarray]],
    options: HeadOptions,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Train a head on every fold of every repeat, all together, and predict what it did not see.

    Args:
        views, labels, options, rng: see `fit_heads`.
        folds: (repeat, training indices, test indices), repeats in order.

    Returns:
        Probabilities (R, N, C), and (R, N) int: which fit predicted an image.
    """
    heads = fit_heads(views, labels, [train for _, train, _ in folds], options, rng)
    repeats = folds[-1][0] + 1
    probabilities = np.empty((repeats, len(labels), heads.biases[1].shape[1]))
    fit = np.empty((repeats, len(labels)), np.int64)
    for f, (repeat, _, test) in enumerate(folds):
        probabilities[repeat, test] = heads.predict(views[test, 0], f)
        fit[repeat, test] = f
    return probabilities, fit


def build_model(backbone: keras.Model, heads: Heads, dropout: float) -> keras.Model:
    """Backbone and first head as one model: raw 0-255 RGB (n, 224, 224, 3) -> (n, C)."""
    hidden = keras.layers.Dense(heads.kernels[0].shape[2], activation="relu", name="hidden")
    output = keras.layers.Dense(
        heads.kernels[1].shape[2], activation="softmax", name="probabilities"
    )
    standardise = keras.layers.Normalization(
        mean=heads.mean[0].tolist(),
        variance=np.square(heads.scale[0], dtype=np.float64).tolist(),
        name="standardise",
    )
    drop = keras.layers.Dropout(dropout, name="dropout")
    x = output(drop(hidden(standardise(backbone.output))))
    model = keras.Model(backbone.input, x, name="covid19")
    hidden.set_weights([heads.kernels[0][0], heads.biases[0][0]])
    output.set_weights([heads.kernels[1][0], heads.biases[1][0]])
    return model


def save_model(model: keras.Model, path: Path, about: dict) -> None:
    """Save a model with what prediction needs to know (`about`, JSON) inside the one file."""
    model.save(path)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(MEMBER, json.dumps(about, indent=1))
