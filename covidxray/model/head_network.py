"""F heads as one Keras network, trained together as the tutorial trains its head.

The kernels of the stacked network have a leading axis F. Adam works on each weight alone and the
loss is the sum of the F losses, so each head learns what it would learn alone in the same number of
steps per epoch. That number is set by the largest of the training sets.
"""

from collections.abc import Callable, Iterator, Sequence

import keras
import numpy as np

from covidxray.model.labelled_features import LabelledFeatures
from covidxray.model.recipes import HeadOptions


class HeadNetwork:
    """F heads as one network: rows (B, F) of a table of features -> probabilities (B, F, C).

    The features are part of the graph, so that Keras is given indices only and all steps of an
    epoch are one call. The arguments are those of `heads.fit_heads`. In each epoch every training
    image is used once: unchanged or as one of its augmentations, drawn at random.
    """

    def __init__(
        self,
        data: LabelledFeatures,
        train: Sequence[np.ndarray],
        options: HeadOptions,
        rng: np.random.Generator,
    ):
        self._labels, self._train, self._options = data.labels, train, options
        self._variants = len(data.values) // len(data.labels)
        dropout_rng, *self._rngs = rng.spawn(len(train) + 1)
        mean, scale = zip(*(data.standardisation(images) for images in train), strict=True)
        self._mean = np.stack(mean).astype(np.float32)
        self._scale = np.stack(scale).astype(np.float32)
        inputs = keras.Input((len(train),), dtype="int32")
        table = keras.layers.Embedding(*data.values.shape, weights=[data.values], trainable=False)
        x = (table(inputs) - self._mean) / self._scale
        self._layers: list[keras.layers.Layer] = []
        if options.units:
            x = self._add_dense(x, options.units, "relu")
            seed = int(dropout_rng.integers(2**31))
            x = keras.layers.Dropout(options.dropout, seed=seed)(x)
        x = self._add_dense(x, data.classes, "softmax")
        self._network = keras.Model(inputs, x)
        self._initialise()

    def _add_dense(self, x: keras.KerasTensor, width: int, activation: str) -> keras.KerasTensor:
        shape = (len(self._train), width)
        layer = keras.layers.EinsumDense(
            "bfi,fio->bfo", shape, activation=activation, bias_axes="fo"
        )
        self._layers.append(layer)
        return layer(x)

    def _initialise(self) -> None:
        """Set the biases to 0 and the kernels to random numbers (Glorot and Bengio 2010).

        A logistic regression starts at 0 because it has no symmetry to break. Its random numbers
        are drawn nevertheless, which keeps the results of a seed the same as in earlier versions.
        """
        for layer in self._layers:
            heads, fan_in, fan_out = layer.kernel.shape
            limit = np.sqrt(6 / (fan_in + fan_out))
            drawn = [rng.uniform(-limit, limit, (fan_in, fan_out)) for rng in self._rngs]
            kernel = np.stack(drawn).astype(np.float32) * (len(self._layers) > 1)
            layer.set_weights([kernel, np.zeros((heads, fan_out), np.float32)])

    def fit(self, on_epoch_end: Callable[[], None] | None = None) -> None:
        """Train the heads, and call a function after each epoch."""
        steps = -(-max(len(indices) for indices in self._train) // self._options.batch_size)
        self._network.compile(
            optimizer=keras.optimizers.Adam(self._options.learning_rate),
            loss=keras.losses.SparseCategoricalCrossentropy(reduction="sum"),
            # Compilation takes longer than the training, but without it JAX interprets every step.
            jit_compile=keras.config.backend() == "jax",
            steps_per_execution=steps if keras.config.backend() == "tensorflow" else 1,
        )
        callbacks = []
        if on_epoch_end:
            callbacks = [keras.callbacks.LambdaCallback(on_epoch_end=lambda *_: on_epoch_end())]
        self._network.fit(
            self._batches(steps),
            steps_per_epoch=steps,
            epochs=self._options.epochs,
            shuffle=False,
            callbacks=callbacks,
            verbose=0,
        )

    def _batches(self, steps: int) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Yield rows of features, labels and weights, each (B, F), epoch after epoch without end.

        Each class has the same total weight in a training set, however many images it has. Batches
        are filled up with images of weight 0; the weights of a batch sum to 1 on average.
        """
        labels, size = self._labels, self._options.batch_size
        counts = [np.bincount(labels[indices]) for indices in self._train]
        class_weights = [steps / (np.count_nonzero(n) * np.maximum(n, 1)) for n in counts]
        while True:
            image = np.zeros((len(self._train), steps * size), np.int64)
            variant = np.zeros_like(image)
            weight = np.zeros(image.shape, np.float32)
            for f, (indices, rng) in enumerate(zip(self._train, self._rngs, strict=True)):
                slots = _slots(len(indices), steps, size)
                image[f, slots] = rng.permutation(indices)
                variant[f, slots] = rng.integers(self._variants, size=len(indices))
                weight[f, slots] = class_weights[f][labels[image[f, slots]]]
            for step in range(steps):
                part = np.s_[:, step * size : (step + 1) * size]
                rows = variant[part].T * len(labels) + image[part].T
                yield rows.astype(np.int32), labels[image[part].T], weight[part].T

    def weights(self) -> tuple[np.ndarray, np.ndarray, tuple, tuple]:
        """Mean and scale (F, D), kernels (F, in, out) and biases (F, out) as they are now."""
        kernels, biases = zip(*(layer.get_weights() for layer in self._layers), strict=True)
        return self._mean, self._scale, kernels, biases


def _slots(n: int, steps: int, size: int) -> np.ndarray:
    """Distinct positions (n,) below steps * size for n images spread evenly over the steps.

    No step may be empty: the momentum of Adam would change a head without any image.
    """
    step = np.arange(n) * steps // n
    return step * size + np.arange(n) - np.searchsorted(step, step)
