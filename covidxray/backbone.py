"""Frozen VGG16 -> (N, 512) pooled features."""

from pathlib import Path

import keras
import numpy as np

from covidxray.images import SIZE
from covidxray.weights import Weights

FEATURES = 512


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


def build_backbone(weights: Weights, precision: str = "float32") -> keras.Model:
    """VGG16 up to its last pooling, averaged over the whole map.

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
    for block, (filters, depth) in enumerate([(64, 2), (128, 2), (256, 3), (512, 3), (512, 3)], 1):
        for i in range(1, depth + 1):
            layer = keras.layers.Conv2D(
                filters,
                3,
                padding="same",
                activation="relu",
                dtype=dtype,
                name=f"block{block}_conv{i}",
            )
            x = layer(x)
            convolutions.append(layer)
        x = keras.layers.MaxPooling2D(2, dtype=dtype, name=f"block{block}_pool")(x)
    features = keras.layers.GlobalAveragePooling2D(dtype="float32", name="features")(x)
    model = keras.Model(images, features, name="vgg16")
    for layer, kernel, bias in zip(convolutions, weights.kernels, weights.biases, strict=True):
        layer.set_weights([kernel, bias])
    model.trainable = False
    return model
