"""The trained part, many fits at a time, and the whole model.

A head is: standardise, Dense ReLU, dropout, Dense softmax, or without the middle two a logistic
regression. F heads are trained as one stacked network whose kernels have a leading axis F. Adam
works element by element and the loss is the sum of the F losses, so each head learns what it would
learn alone, in as many steps an epoch as the largest of their training sets needs.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import keras
import numpy as np

from covidxray.backbone import Recipe


@dataclass(frozen=True)
class HeadOptions:
    """How a head is made and trained; the defaults are the tutorial's.

    `units` 0 leaves out the hidden layer; `l2` times a kernel's squared weights is the penalty.
    """

    units: int = 64
    dropout: float = 0.5
    l2: float = 0.0
    epochs: int = 25
    batch_size: int = 8
    learning_rate: float = 1e-3


def usual_batch(n: int) -> int:
    """Images per step for a data set of `n`: the tutorial's 8, or an eightieth of them.

    Four fifths are then 64 steps an epoch at most. Thousands of small steps take longer than VGG16
    does, and follow single images where the mean is to be learnt.
    """
    return max(8, n // 80)


def options_for(
    recipe: Recipe,
    units: int | None,
    dropout: float | None,
    epochs: int,
    batch_size: int,
    learning_rate: float | None,
) -> HeadOptions:
    """A recipe's head; None leaves to the recipe what it knows."""
    return HeadOptions(
        recipe.units if units is None else units,
        recipe.dropout if dropout is None else dropout,
        recipe.l2,
        epochs,
        batch_size,
        recipe.learning_rate if learning_rate is None else learning_rate,
    )


@dataclass(frozen=True)
class Heads:
    """F trained heads: their standardisation (F, D), their weights, and the training's history.

    `kernels` are (F, D, units) and (F, units, C), `biases` (F, units) and (F, C), or, without a
    hidden layer, one of (F, D, C) and one of (F, C).
    """

    mean: np.ndarray
    scale: np.ndarray
    kernels: tuple[np.ndarray, ...]
    biases: tuple[np.ndarray, ...]
    history: dict[str, list[float]]

    def pick(self, fit: int) -> "Heads":
        """One of them alone."""
        one = slice(fit, fit + 1)
        kernels, biases = (tuple(w[one] for w in part) for part in (self.kernels, self.biases))
        return Heads(self.mean[one], self.scale[one], kernels, biases, self.history)

    def predict(self, features: np.ndarray, fit: int) -> np.ndarray:
        """Class probabilities of features (n, D) by one head: float64 (n, C)."""
        x = (features - self.mean[fit]) / self.scale[fit]
        for kernel, bias in zip(self.kernels[:-1], self.biases[:-1], strict=True):
            x = np.maximum(x @ kernel[fit] + bias[fit], 0)
        logits = (x @ self.kernels[-1][fit] + self.biases[-1][fit]).astype(np.float64)
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
    steps = -(-max(len(indices) for indices in train) // options.batch_size)
    n_classes = int(labels.max()) + 1
    widths = [*([options.units] if options.units else []), n_classes]
    inputs = keras.Input((len(train),), dtype="int32")
    rows = views.reshape(-1, views.shape[2])
    # The batches are gathered in the graph: what Keras is fed with are indices, and all steps of an
    # epoch are one call.
    table = keras.layers.Embedding(*rows.shape, weights=[rows], trainable=False)
    x = (table(inputs) - mean) / scale
    layers = []
    for width in widths:
        layer = keras.layers.EinsumDense(
            "bfi,fio->bfo",
            (len(train), width),
            activation="relu" if len(layers) < len(widths) - 1 else "softmax",
            bias_axes="fo",
            kernel_regularizer=keras.regularizers.L2(options.l2) if options.l2 else None,
        )
        if layers:
            x = keras.layers.Dropout(options.dropout, seed=int(streams[0].integers(2**31)))(x)
        x = layer(x)
        layers.append(layer)
    stack = keras.Model(inputs, x)
    fan_in = views.shape[2]
    for layer, width in zip(layers, widths, strict=True):
        # Without hidden units there is no symmetry to break: logistic regression starts at zero.
        start = _glorot(streams[1:], fan_in, width) * (len(widths) > 1)
        layer.set_weights([start, np.zeros((len(train), width), np.float32)])
        fan_in = width

    def heads() -> Heads:
        kernels, biases = zip(*(layer.get_weights() for layer in layers), strict=True)
        return Heads(mean, scale, kernels, biases, {})

    followed: list[tuple[float, float]] = []
    if validation is not None:
        # Keras, given these images, would take a second more to trace and to start 25 evaluations.
        clean, truth = views[validation, 0], labels[validation]
        follow = keras.callbacks.LambdaCallback(
            on_epoch_end=lambda *_: followed.append(_score(heads(), clean, truth, options.l2))
        )
    stack.compile(
        optimizer=keras.optimizers.Adam(options.learning_rate),
        loss=keras.losses.SparseCategoricalCrossentropy(reduction="sum"),
        weighted_metrics=None if validation is None else ["accuracy"],
        # Compiling takes longer than the training, but JAX would interpret every step.
        jit_compile=keras.config.backend() == "jax",
        steps_per_execution=steps if keras.config.backend() == "tensorflow" else 1,
    )
    history = stack.fit(
        _batches(views.shape[1], labels, train, steps, options.batch_size, streams[1:]),
        steps_per_epoch=steps,
        epochs=options.epochs,
        shuffle=False,
        callbacks=None if validation is None else [follow],
        verbose=0,
    ).history
    if followed:
        history["val_loss"], history["val_accuracy"] = map(list, zip(*followed, strict=True))
    return replace(heads(), history=history)


def _score(heads: Heads, x: np.ndarray, y: np.ndarray, l2: float) -> tuple[float, float]:
    """Loss, penalty included, and accuracy of the first head on features (n, D) of classes (n,)."""
    predicted = heads.predict(x, 0)
    penalty = l2 * sum(float(np.square(kernel[0]).sum()) for kernel in heads.kernels)
    hit = np.maximum(predicted[np.arange(len(y)), y], keras.config.epsilon())
    accuracy = float((predicted.argmax(axis=1) == y).mean())
    return float(-np.log(hit).mean()) + penalty, accuracy


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
    views: int,
    labels: np.ndarray,
    train: Sequence[np.ndarray],
    steps: int,
    size: int,
    streams: Sequence[np.random.Generator],
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Yield indices of views (B, F), y (B, F) and weights (B, F), epoch after epoch.

    Each class weighs the same in a training set, however many images it has. Batches not full are
    filled up by images of weight 0; the weights of a batch sum to 1 on average.
    """
    counts = [np.bincount(labels[indices]) for indices in train]
    rarity = [steps / (np.count_nonzero(n) * np.maximum(n, 1)) for n in counts]
    while True:
        index = np.zeros((len(train), steps * size), np.int64)
        view = np.zeros_like(index)
        rare = np.zeros(index.shape, np.float32)
        for f, (indices, rng) in enumerate(zip(train, streams, strict=True)):
            slots = _slots(len(indices), steps, size)
            index[f, slots] = rng.permutation(indices)
            view[f, slots] = rng.integers(views, size=len(indices))
            rare[f, slots] = rarity[f][labels[index[f, slots]]]
        for step in range(steps):
            part = np.s_[:, step * size : (step + 1) * size]
            i = index[part].T
            yield (i * views + view[part].T).astype(np.int32), labels[i], rare[part].T


def cross_validate(
    pools: dict[str, np.ndarray],
    labels: np.ndarray,
    folds: Sequence[tuple[int, np.ndarray, np.ndarray]],
    options: HeadOptions,
    rng: np.random.Generator,
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Train a head on every pooling in every fold of every repeat, all together, and predict what
    it did not see.

    Args:
        pools: name -> views; these, `labels`, `options` and `rng` as for `fit_heads`.
        folds: (repeat, training indices, test indices), repeats in order.

    Returns:
        Name -> probabilities (R, N, C), and (R, N) int: which fold's fit predicted an image.
    """
    heads = fit_pools(pools, labels, [train for _, train, _ in folds], options, rng)
    repeats = folds[-1][0] + 1
    fit = np.empty((repeats, len(labels)), np.int64)
    shape = (repeats, len(labels), int(labels.max()) + 1)
    probabilities = {name: np.empty(shape) for name in pools}
    for f, (repeat, _, test) in enumerate(folds):
        fit[repeat, test] = f
        for k, (name, views) in enumerate(pools.items()):
            predicted = heads.predict(views[test, 0], k * len(folds) + f)
            probabilities[name][repeat, test] = predicted
    return probabilities, fit


def fit_pools(
    pools: dict[str, np.ndarray],
    labels: np.ndarray,
    train: Sequence[np.ndarray],
    options: HeadOptions,
    rng: np.random.Generator,
) -> Heads:
    """`fit_heads` on every pooling: first all training sets on the first one, and so on.

    An image in another pooling is to a head another image.
    """
    views = np.concatenate(list(pools.values()))
    shifted = [indices + k * len(labels) for k in range(len(pools)) for indices in train]
    return fit_heads(views, np.tile(labels, len(pools)), shifted, options, rng)


def build_model(
    backbone: keras.Model, features: keras.KerasTensor, heads: Heads, dropout: float
) -> keras.Model:
    """Backbone and first head as one model: raw 0-255 RGB (n, 224, 224, 3) -> (n, C).

    `features` (n, D) are what is made of the backbone's maps.
    """
    x = keras.layers.Normalization(
        mean=heads.mean[0].tolist(),
        variance=np.square(heads.scale[0], dtype=np.float64).tolist(),
        name="standardise",
    )(features)
    if len(heads.kernels) > 1:
        x = keras.layers.Dense(heads.kernels[0].shape[2], activation="relu", name="hidden")(x)
        x = keras.layers.Dropout(dropout, name="dropout")(x)
    output = keras.layers.Dense(
        heads.kernels[-1].shape[2], activation="softmax", name="probabilities"
    )
    model = keras.Model(backbone.input, output(x), name="covid19")
    names = ["probabilities"] if len(heads.kernels) == 1 else ["hidden", "probabilities"]
    for name, kernel, bias in zip(names, heads.kernels, heads.biases, strict=True):
        model.get_layer(name).set_weights([kernel[0], bias[0]])
    return model
