"""Grad-CAM (Selvaraju et al. 2017): which parts of a picture raise the score of a class.

The weight of a map is its mean gradient. Between the last convolution and the score stand a
pooling over the whole map and a head of one or two layers, so the gradient has a closed form: no
backend's automatic differentiation is needed, and one forward pass yields maps and prediction.
"""

import cv2
import keras
import numpy as np

from covidxray.images import SIZE
from covidxray.masks import enlarge

CENTRE = 0.7  # of each side: the central part of the picture
EVEN = CENTRE**2  # the share of heat that lies there if it is the same everywhere
NOTE = (
    f"The central part is {CENTRE:.0%} of the width and of the height; heat spread evenly would "
    f"put {EVEN:.0%} of itself there."
)


def head_gradient(model: keras.Model, features: np.ndarray, label: int) -> np.ndarray:
    """Gradient (D,) of a class's score, less the mean of all scores, by the features (D,).

    The score is the input of the softmax, which is only known up to a constant in all classes.
    """
    standardise, output = model.get_layer("standardise"), model.get_layer("probabilities")
    deviation = np.maximum(np.sqrt(np.ravel(standardise.variance)), keras.config.epsilon())
    kernel = np.asarray(output.kernel)
    gradient = kernel[:, label] - kernel.mean(axis=1)
    if "hidden" in [layer.name for layer in model.layers]:
        weights, bias = (np.asarray(w) for w in model.get_layer("hidden").weights)
        x = (features - np.ravel(standardise.mean)) / deviation
        gradient = weights @ (gradient * (x @ weights + bias > 0))
    return gradient / deviation


def coarse_heat(
    model: keras.Model,
    power: int,
    features: np.ndarray,
    maps: np.ndarray,
    label: int,
    within: np.ndarray | None = None,
) -> np.ndarray:
    """Where one picture speaks for a class, at the resolution of the maps.

    Args:
        model: as `head.build_model` makes it.
        power: exponent of its pooling (`backbone.Recipe`); above 1, `maps` are what is pooled.
        features: (D,), what the head sees.
        maps: (h, w, D), of the last convolution.
        label: of the class.
        within: (28, 28), logits of the lungs if they alone are pooled, as only they can speak then.

    Returns:
        float32 (h, w), 0 where nothing speaks for the class.
    """
    maps = maps.astype(np.float32)
    weights = head_gradient(model, features, label)
    if within is not None and not (within > 0).any():
        within = None
    if power > 1:
        # The gradient of a generalised mean f at one place: (map / f) ** (power - 1) / places.
        raised = np.power(maps, power - 1)
        part = raised.mean(axis=(0, 1)) if within is None else raised[within > 0].mean(axis=0)
        weights = weights * part / np.maximum(features, 1e-6) ** (power - 1)
    return np.maximum(maps @ weights.astype(np.float32), 0)


def spread(coarse: np.ndarray, within: np.ndarray | None = None) -> np.ndarray:
    """Heat (h, w) on the picture: float32 (224, 224), 0 to 1; all zero where there is none.

    `within` is as for `coarse_heat`.
    """
    heat = np.maximum(cv2.resize(coarse, (SIZE, SIZE), interpolation=cv2.INTER_CUBIC), 0)
    if within is not None and (within > 0).any():
        heat *= enlarge(within)
    return heat / heat.max() if heat.max() > 0 else heat


def central_share(heat: np.ndarray) -> float:
    """The share of a picture's heat (224, 224) in its central part; NaN if there is no heat."""
    edge = round(SIZE * (1 - CENTRE) / 2)
    total = float(heat.sum())
    return float(heat[edge:-edge, edge:-edge].sum()) / total if total else float("nan")
