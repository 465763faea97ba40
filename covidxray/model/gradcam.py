"""Grad-CAM (Selvaraju et al. 2017): which parts of an image raise the score of a class.

The weight of a map is the mean gradient of the score. Only a pooling and a head of one or two
layers follow the last convolution, so the gradient has a closed form: automatic differentiation is
not needed, and one forward pass gives both the maps and the prediction.
"""

import cv2
import keras
import numpy as np

from covidxray.data import SIZE
from covidxray.data.lung_masks import enlarge


def head_gradient(model: keras.Model, features: np.ndarray, label: int) -> np.ndarray:
    """Gradient (D,) of a class's score minus the mean of all scores, at features (D,).

    A score is an input of the softmax. It is defined up to a constant that all classes share, which
    is why the mean is subtracted.
    """
    standardise, output = model.get_layer("standardise"), model.get_layer("probabilities")
    scale, offset = np.asarray(standardise.scale), np.asarray(standardise.offset)
    kernel = np.asarray(output.kernel)
    gradient = kernel[:, label] - kernel.mean(axis=1)
    if "hidden" in [layer.name for layer in model.layers]:
        weights, bias = (np.asarray(w) for w in model.get_layer("hidden").weights)
        x = features * scale + offset
        gradient = weights @ (gradient * (x @ weights + bias > 0))
    return gradient * scale


def coarse_heat(
    model: keras.Model,
    power: int,
    features: np.ndarray,
    maps: np.ndarray,
    label: int,
    within: np.ndarray | None = None,
) -> np.ndarray:
    """Grad-CAM of one image, at the resolution of the maps.

    Args:
        model: from `model_file.build_model`.
        power: exponent of its pooling (`vgg16.Recipe`). If it is above 1, `maps` must be the maps
            that are pooled.
        features: (D,), the input of the head.
        maps: (h, w, D), of the last convolution.
        label: of the class.
        within: (28, 28), logits of the lungs if the model pools only the lungs.

    Returns:
        float32 (h, w), at least 0.
    """
    maps = maps.astype(np.float32)
    weights = head_gradient(model, features, label)
    if within is not None and not (within > 0).any():
        within = None
    if power > 1:
        # The gradient of a generalised mean f at one cell: (map / f) ** (power - 1) / cells.
        raised = np.power(maps, power - 1)
        part = raised.mean(axis=(0, 1)) if within is None else raised[within > 0].mean(axis=0)
        weights = weights * part / np.maximum(features, 1e-6) ** (power - 1)
    return np.maximum(maps @ weights.astype(np.float32), 0)


def enlarge_heat(coarse: np.ndarray, within: np.ndarray | None = None) -> np.ndarray:
    """Scale the result of `coarse_heat` to the image: float32 (224, 224) with maximum 1, or all 0.

    `within` is as for `coarse_heat`; the heat outside these lungs becomes 0.
    """
    heat = np.maximum(cv2.resize(coarse, (SIZE, SIZE), interpolation=cv2.INTER_CUBIC), 0)
    if within is not None and (within > 0).any():
        heat *= enlarge(within)
    return heat / heat.max() if heat.max() > 0 else heat
