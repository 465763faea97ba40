"""Frozen VGG16 -> (N, 512) pooled features."""

from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np

from covidxray.images import SIZE
from covidxray.weights import Weights

FEATURES = 512
LAST = "last_convolution"  # of a recipe's last block: the maps that heat is drawn from
MAPS = "maps"  # what is pooled, float32


@dataclass(frozen=True)
class Recipe:
    """Which features of VGG16 are used, and the head upon them.

    Blocks up to `block` are computed. Their last convolution, or with `pooled` what its max pooling
    keeps, is averaged over the whole map as a generalised mean of exponent `power` (GeM; Radenovic,
    Tolias, Chum 2019): 1 is the plain mean, and the higher, the nearer to the maximum.
    """

    block: int
    pooled: bool
    power: int
    units: int
    dropout: float
    l2: float
    learning_rate: float


RECIPES = {
    # Of all tried, the highest AUC and fewest false alarms elsewhere: docs/measurements.md.
    "portable": Recipe(
        block=4, pooled=False, power=3, units=0, dropout=0.0, l2=10.0, learning_rate=3e-4
    ),
    # The tutorial's head, on the mean over the whole of the map instead of its upper left.
    "tutorial": Recipe(
        block=5, pooled=True, power=1, units=64, dropout=0.5, l2=0.0, learning_rate=1e-3
    ),
}


def native_bfloat16() -> bool:
    """Whether this CPU multiplies bfloat16 natively (Linux says; elsewhere: no)."""
    try:
        flags = Path("/proc/cpuinfo").read_text()
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags


def resolve_precision(name: str) -> str:
    """Turn "auto" into "bfloat16" where the CPU is made for it, else "float32"."""
    if name != "auto":
        return name
    return "bfloat16" if native_bfloat16() else "float32"


def build_backbone(weights: Weights, recipe: Recipe, precision: str = "float32") -> keras.Model:
    """VGG16 up to the recipe's block, pooled over the whole map.

    The tutorial's `AveragePooling2D((4, 4))` keeps one cell of the 7x7 map, the upper left.

    Returns:
        A frozen model: raw 0-255 RGB (N, 224, 224, 3) -> float32 (N, 512).
    """
    dtype = "mixed_bfloat16" if precision == "bfloat16" else "float32"
    images = keras.Input((SIZE, SIZE, 3), name="rgb_0_to_255")
    x = keras.layers.Normalization(
        mean=weights.mean.tolist(),
        variance=np.square(weights.std.astype(np.float64)).tolist(),
        dtype="float32",
        name="normalise",
    )(images)
    convolutions = []
    blocks = [(64, 2), (128, 2), (256, 3), (512, 3), (512, 3)][: recipe.block]
    for block, (filters, depth) in enumerate(blocks, 1):
        for i in range(1, depth + 1):
            last = block == recipe.block and i == depth
            layer = keras.layers.Conv2D(
                filters,
                3,
                padding="same",
                activation="relu",
                dtype=dtype,
                name=LAST if last else f"block{block}_conv{i}",
            )
            x = layer(x)
            convolutions.append(layer)
        if block < recipe.block or recipe.pooled:
            x = keras.layers.MaxPooling2D(2, dtype=dtype, name=f"block{block}_pool")(x)
    x = keras.layers.Identity(dtype="float32", name=MAPS)(x)
    features = generalised_mean(x, recipe.power)
    features = keras.layers.Identity(dtype="float32", name="features")(features)
    model = keras.Model(images, features, name="vgg16")
    n = len(convolutions)
    for layer, kernel, bias in zip(
        convolutions, weights.kernels[:n], weights.biases[:n], strict=True
    ):
        layer.set_weights([kernel, bias])
    model.trainable = False
    return model


def generalised_mean(maps, power: int, weight=None):
    """Pool maps (n, h, w, D) to (n, D): a generalised mean, of places weighed by (n, h, w, 1)."""
    ops = keras.ops
    x = ops.power(maps, power) if power > 1 else maps
    if weight is None:
        mean = ops.mean(x, axis=(1, 2))
    else:
        mean = ops.sum(x * weight, axis=(1, 2)) / ops.sum(weight, axis=(1, 2))
    return ops.power(mean, 1 / power) if power > 1 else mean
