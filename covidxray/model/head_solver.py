"""Heads that are penalised logistic regressions: solved, and trained once for the plot.

The objective is the mean cross-entropy, in which each class has the same weight, plus `l2` times
the sum of the squared weights of the standardised features. It is convex, so it has one solution.
"""

from collections.abc import Callable, Sequence

import keras
import numpy as np
from threadpoolctl import threadpool_limits

from covidxray.model.labelled_features import LabelledFeatures, standardise
from covidxray.model.recipes import HeadOptions

# Change of the solution at which the search ends. Probabilities are then right to about 1e-6.
TOLERANCE = 1e-6
ABSENT = -30.0  # logit of a class that is not in a training set

Weights = tuple[np.ndarray, np.ndarray, tuple[np.ndarray], tuple[np.ndarray]]


def solve_heads(data: LabelledFeatures, train: Sequence[np.ndarray], l2: float) -> Weights:
    """Solve a head for each of F sets of images with scikit-learn's L-BFGS.

    Returns:
        Mean and scale (F, D), one kernel (F, D, C) and one bias (F, C), float32.
    """
    # The search is a series of short products, for which a second thread costs more than it helps.
    with threadpool_limits(1, "blas"):
        heads = [_solve(data, images, l2) for images in train]
    parts = zip(*heads, strict=True)
    mean, scale, kernel, bias = (np.stack(part).astype(np.float32) for part in parts)
    return mean, scale, (kernel,), (bias,)


def _solve(data: LabelledFeatures, images: np.ndarray, l2: float) -> tuple[np.ndarray, ...]:
    """Mean and scale (D,), kernel (D, C) and bias (C,) of one head."""
    from sklearn.linear_model import LogisticRegression  # slow to import

    rows = data.rows_of(images)
    x = data.values[rows].astype(np.float64)
    mean, scale = standardise(x)
    labels = data.labels[data.image[rows]]
    present = np.unique(labels)
    kernel, bias = np.zeros((data.values.shape[1], data.classes)), np.full(data.classes, ABSENT)
    bias[present] = 0
    if len(present) > 1:
        # scikit-learn adds half the squared weights to C times the sum of the losses. For two
        # classes its one column of weights is the difference of two opposite ones of ours, whose
        # squares sum to half of its square.
        regression = LogisticRegression(
            C=1 / l2 if len(present) == 2 else 1 / (2 * l2), tol=TOLERANCE, max_iter=10_000
        )
        regression.fit(x, labels, sample_weight=data.weights(rows))
        coefficients, intercepts = regression.coef_, regression.intercept_
        if len(present) == 2:
            coefficients = np.concatenate([-coefficients, coefficients]) / 2
            intercepts = np.concatenate([-intercepts, intercepts]) / 2
        kernel[:, present], bias[present] = coefficients.T, intercepts
    return mean, scale, kernel, bias


class SolverTraining:
    """A training of one head by Keras that ends close to the solution, for the plot.

    Each epoch is one step of gradient descent on all images. The features are first transformed by
    the Cholesky factor of an upper bound of the second derivative (Boehning, Annals of the
    Institute of Statistical Mathematics 44 (1992) 197-200), after which steps of size 1 converge.
    The step size starts at the learning rate and reaches 1 at the last epoch.
    """

    def __init__(self, data: LabelledFeatures, images: np.ndarray, options: HeadOptions):
        from scipy.linalg import solve_triangular  # slow to import

        self._options = options
        rows = data.rows_of(images)
        x = data.values[rows].astype(np.float64)
        mean, scale = standardise(x)
        self._mean, self._scale = mean.astype(np.float32), scale.astype(np.float32)
        x = np.pad(x, ((0, 0), (0, 1)), constant_values=1.0)  # the last weight is the intercept
        self._labels, weights = data.labels[data.image[rows]], data.weights(rows)
        penalised = np.diag([1.0] * (x.shape[1] - 1) + [0.0])
        bound = (x.T * weights) @ x / 2 + 2 * options.l2 * penalised
        factor = np.linalg.cholesky(bound)
        self._x = solve_triangular(factor, x.T, lower=True).T.astype(np.float32)
        self._back = np.linalg.inv(factor).T.astype(np.float32)  # trained weights -> weights
        self._weights = (weights * len(rows)).astype(np.float32)
        inputs = keras.Input((x.shape[1],))
        self._layer = keras.layers.Dense(
            data.classes,
            activation="softmax",
            use_bias=False,
            kernel_initializer="zeros",
            kernel_regularizer=self._penalty,
        )
        self._network = keras.Model(inputs, self._layer(inputs))

    def _penalty(self, trained: keras.KerasTensor) -> keras.KerasTensor:
        weights = keras.ops.matmul(self._back[:-1], trained)
        return self._options.l2 * keras.ops.sum(keras.ops.square(weights))

    def fit(self, on_epoch_end: Callable[[], None]) -> None:
        """Train the head, and call a function after each epoch."""
        epochs, rate = self._options.epochs, self._options.learning_rate
        schedule = keras.optimizers.schedules.PolynomialDecay(rate, max(1, epochs - 1), 1.0)
        self._network.compile(
            optimizer=keras.optimizers.SGD(schedule if epochs > 1 else 1.0),
            loss="sparse_categorical_crossentropy",
        )
        for _ in range(epochs):  # each is one batch; the preparations of `fit` take longer than it
            self._network.train_on_batch(self._x, self._labels, sample_weight=self._weights)
            on_epoch_end()

    def weights(self) -> Weights:
        """Mean, scale, kernel and bias of one head as they are now; see `solve_heads`."""
        weights = self._back @ np.asarray(self._layer.kernel)
        return self._mean[None], self._scale[None], (weights[None, :-1],), (weights[None, -1],)
