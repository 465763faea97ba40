"""Where the lungs are: a small head on the maps of VGG16 that are computed anyway.

The maps of blocks 2, 3 and 4, brought to 28 x 28, log-scaled and standardised, go through a 1 x 1
and three 5 x 5 convolutions, coordinates beside them. The head that comes with this package has
seen drawings only (benchmarks/train_segmenter.py), so nothing of a patient is in it. Against masks
of real X-rays it does as well as two such sets do against each other (docs/measurements.md).

A map's cell is not its 8 x 8 pixels alone: block 4 sees 92 pixels around it. What lies just outside
the lungs still knows of what is in them, and the reverse.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
from keras import layers, ops

from covidxray.backbone import LAST, MAPS, Recipe, generalised_mean

GRID = 28  # cells a side
TAPS = (("block2_conv2", 4), ("block3_conv3", 2), ("block4_conv3", 1))  # pixels that become one
WIDTH, DILATIONS = 32, (1, 2, 1)
FILE = Path(__file__).with_name("lungs.npz")
LOGITS = "lung_logits"
POOLS = ("whole", "lungs", "outside")
LEAST = 1e-12  # weight of every cell: where no lung is found, the lungs are the whole picture


@dataclass(frozen=True)
class Segmenter:
    """`mean` and `scale` (896,) of the maps' logarithms; kernels and biases of the convolutions."""

    mean: np.ndarray
    scale: np.ndarray
    kernels: tuple[np.ndarray, ...]
    biases: tuple[np.ndarray, ...]


def load_segmenter() -> Segmenter:
    """The head that comes with this package."""
    with np.load(FILE) as arrays:
        return from_arrays({name: arrays[name].astype(np.float32) for name in arrays.files})


def to_arrays(segmenter: Segmenter) -> dict[str, np.ndarray]:
    """A segmenter as named arrays, for a file."""
    arrays = {"mean": segmenter.mean, "scale": segmenter.scale}
    for i, (kernel, bias) in enumerate(zip(segmenter.kernels, segmenter.biases, strict=True)):
        arrays |= {f"kernel{i}": kernel, f"bias{i}": bias}
    return arrays


def from_arrays(arrays: dict[str, np.ndarray]) -> Segmenter:
    """The reverse of `to_arrays`; KeyError if one is missing."""
    parts = range(len(DILATIONS) + 1)
    kernels = tuple(arrays[f"kernel{i}"] for i in parts)
    return Segmenter(
        arrays["mean"], arrays["scale"], kernels, tuple(arrays[f"bias{i}"] for i in parts)
    )


def lung_maps(backbone: keras.Model) -> keras.KerasTensor:
    """What the head sees of a backbone (`backbone.build_backbone`): (n, 28, 28, 896) float32."""
    names = {layer.name for layer in backbone.layers}
    parts = []
    for name, size in TAPS:
        maps = ops.cast(backbone.get_layer(name if name in names else LAST).output, "float32")
        parts.append(ops.average_pool(maps, size, size) if size > 1 else maps)
    return ops.log1p(ops.concatenate(parts, axis=-1))


def build_head(maps: keras.KerasTensor, segmenter: Segmenter, dropout: float = 0.0):
    """The head upon `lung_maps`: logits (n, 28, 28), lungs above 0."""
    at = np.linspace(-1, 1, GRID, dtype=np.float32)
    y, x = np.meshgrid(at, at, indexing="ij")
    places = np.stack([x, y, np.abs(x)], axis=-1)[None]
    variance = np.square(segmenter.scale, dtype=np.float64)
    z = layers.Normalization(mean=segmenter.mean.tolist(), variance=variance.tolist())(maps)
    z = layers.SpatialDropout2D(dropout)(z) if dropout else z
    convolutions = [layers.Conv2D(WIDTH, 1, activation="relu", name="lung_conv0")]
    for i, dilation in enumerate(DILATIONS, 1):
        last = i == len(DILATIONS)
        convolutions.append(
            layers.Conv2D(
                1 if last else WIDTH,
                5,
                padding="same",
                dilation_rate=dilation,
                activation=None if last else "relu",
                name=f"lung_conv{i}",
            )
        )
    z = convolutions[0](z)
    z = ops.concatenate([z, ops.add(ops.zeros_like(z[..., :3]), places)], axis=-1)
    for convolution in convolutions[1:]:
        z = convolution(z)
    weights = zip(convolutions, segmenter.kernels, segmenter.biases, strict=True)
    for convolution, kernel, bias in weights:
        convolution.set_weights([kernel, bias])
    return layers.Reshape((GRID, GRID), name=LOGITS)(z)


def attach(backbone: keras.Model, segmenter: Segmenter) -> keras.KerasTensor:
    """Logits (n, 28, 28) of lungs on a backbone, or of a model that has such a head already."""
    if LOGITS in {layer.name for layer in backbone.layers}:
        return backbone.get_layer(LOGITS).output
    logits = build_head(lung_maps(backbone), segmenter)
    keras.Model(backbone.input, logits).trainable = False
    return logits


def beside(model: keras.Model, recipe: Recipe, segmenter: Segmenter) -> list[keras.KerasTensor]:
    """`pool_three` of a loaded model, then its logits, made in a graph of their own.

    Keras numbers operations anew in every process, and a loaded model brings its numbers along: in
    one graph, two operations could have one name.
    """
    names = {layer.name for layer in model.layers}
    names &= {LAST, MAPS, LOGITS, *(name for name, _ in TAPS)}
    taps = {name: model.get_layer(name).output for name in sorted(names)}
    inputs = [keras.Input(tap.shape[1:], dtype=tap.dtype, name=name) for name, tap in taps.items()]
    stand_in = keras.Model(inputs, inputs)
    logits = attach(stand_in, segmenter)
    outputs = [*pool_three(stand_in, recipe, logits).values(), logits]
    return keras.Model(inputs, outputs, name="beside")(list(taps.values()))


def pool_three(
    backbone: keras.Model, recipe: Recipe, logits: keras.KerasTensor
) -> dict[str, keras.KerasTensor]:
    """The recipe's features (n, 512), pooled over the whole picture, over the lungs alone and over
    all but the lungs."""
    maps = backbone.get_layer(MAPS).output
    inside = ops.cast(ops.greater(logits, 0), "float32")[..., None]
    size = GRID // maps.shape[1]
    inside = ops.average_pool(inside, size, size) if size > 1 else inside
    weights: Sequence = (None, inside + LEAST, 1 - inside + LEAST)
    return {
        name: generalised_mean(maps, recipe.power, weight)
        for name, weight in zip(POOLS, weights, strict=True)
    }
