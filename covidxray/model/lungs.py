"""Find the lungs with a small segmenter on the maps of VGG16, and pool features over regions.

The segmenter reads the maps of blocks 2, 3 and 4, which VGG16 computes anyway. They are reduced to
28 x 28 cells, log-scaled and standardised, and pass through a 1 x 1 and three 5 x 5 convolutions
that also read the coordinates of each cell. The segmenter in this package was trained on drawn
radiographs only (benchmarks/train_segmenter.py), so it contains no data of patients. Its overlap
with the masks of real X-rays is as high as that of two such sets of masks with each other
(docs/measurements.md).

The receptive field of a cell is larger than its 8 x 8 pixels: block 4 sees 92 pixels. Features from
just outside the lungs therefore contain information from inside them, and the reverse.
"""

from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
from keras import layers, ops

from covidxray.model.arrays import StandardisedLayers, read_arrays
from covidxray.model.recipes import REGIONS, Recipe
from covidxray.model.vgg16 import LAST, MAPS, generalised_mean, trace

GRID = 28  # cells per side
# Layers of VGG16 whose maps the segmenter reads, and how many pixels per side become one cell.
TAPS = (("block2_conv2", 4), ("block3_conv3", 2), ("block4_conv3", 1))
WIDTH = 32
# Filters, size of the kernel and dilation of each convolution.
CONVOLUTIONS = ((WIDTH, 1, 1), (WIDTH, 5, 1), (WIDTH, 5, 2), (1, 5, 1))
FILE = Path(__file__).with_name("lungs.npz")
LOGITS = "lung_logits"
# Added to the weight of every cell, so that a region without any cell becomes the whole picture.
LEAST = 1e-12


@dataclass(frozen=True)
class Segmenter(StandardisedLayers):
    """The lung segmenter: standardisation (896,) of the maps' logarithms, then four convolutions
    with kernels (h, w, in, out) and biases (out,)."""


def load_segmenter() -> Segmenter:
    """The segmenter of this package."""
    with FILE.open("rb") as file:
        arrays = read_arrays(file)
    return Segmenter.from_arrays({name: a.astype(np.float32) for name, a in arrays.items()})


def lung_maps(backbone: keras.Model) -> keras.KerasTensor:
    """The maps that the segmenter reads: float32 (n, 28, 28, 896) of a `vgg16.build_backbone`."""
    names = {layer.name for layer in backbone.layers}
    parts = []
    for name, size in TAPS:
        maps = ops.cast(backbone.get_layer(name if name in names else LAST).output, "float32")
        parts.append(ops.average_pool(maps, size, size) if size > 1 else maps)
    return ops.log(1 + ops.concatenate(parts, axis=-1))  # ONNX knows no log1p


def build_head(
    maps: keras.KerasTensor, segmenter: Segmenter, dropout: float = 0.0
) -> keras.KerasTensor:
    """Build the segmenter on `lung_maps`: logits (n, 28, 28), above 0 inside the lungs.

    Raises:
        ValueError: the arrays of the segmenter have other shapes.
    """
    axis = np.linspace(-1, 1, GRID, dtype=np.float32)
    y, x = np.meshgrid(axis, axis, indexing="ij")
    coordinates = np.stack([x, y, np.abs(x)], axis=-1)[None]
    scale = segmenter.scale.astype(np.float64)
    offset = (-segmenter.mean / scale).tolist()
    z = layers.Rescaling((1 / scale).tolist(), offset, name="lung_standardise")(maps)
    z = layers.SpatialDropout2D(dropout)(z) if dropout else z
    convolutions = [
        layers.Conv2D(
            filters,
            size,
            padding="same" if size > 1 else "valid",
            dilation_rate=dilation,
            activation="relu" if filters > 1 else None,
            kernel_initializer="zeros",  # as in `vgg16.build_backbone`
            name=f"lung_conv{i}",
        )
        for i, (filters, size, dilation) in enumerate(CONVOLUTIONS)
    ]
    z = convolutions[0](z)
    z = ops.concatenate([z, ops.add(ops.zeros_like(z[..., :3]), coordinates)], axis=-1)
    for convolution in convolutions[1:]:
        z = convolution(z)
    weights = zip(convolutions, segmenter.kernels, segmenter.biases, strict=True)
    for convolution, kernel, bias in weights:
        convolution.set_weights([kernel, bias])
    return layers.Reshape((GRID, GRID), name=LOGITS)(z)


def find_lungs(backbone: keras.Model, segmenter: Segmenter) -> keras.KerasTensor:
    """Logits (n, 28, 28) of the lungs; a model that already has a segmenter keeps it."""
    if LOGITS in {layer.name for layer in backbone.layers}:
        return backbone.get_layer(LOGITS).output
    logits = build_head(lung_maps(backbone), segmenter)
    keras.Model(backbone.input, logits).trainable = False  # freezes its layers
    return logits


def pool_regions(
    backbone: keras.Model, recipe: Recipe, logits: keras.KerasTensor
) -> dict[str, keras.KerasTensor]:
    """Pool the maps over each region of `REGIONS`: region -> features (n, 512).

    A cell belongs to the lungs if its logit is above 0. If no cell does, the features of the lungs
    are those of the whole picture.
    """
    maps = backbone.get_layer(MAPS).output
    inside = ops.cast(ops.greater(logits, 0), "float32")[..., None]
    size = GRID // maps.shape[1]
    inside = ops.average_pool(inside, size, size) if size > 1 else inside
    weights = {"whole": None, "lungs": inside + LEAST, "outside": 1 - inside + LEAST}
    return {name: generalised_mean(maps, recipe.power, weights[name]) for name in REGIONS}


def region_outputs(
    model: keras.Model, recipe: Recipe, segmenter: Segmenter
) -> list[keras.KerasTensor]:
    """The features (n, 512) of each region and the logits of the lungs for a loaded model.

    They are built in a graph of their own, which becomes one layer. Keras numbers operations anew
    in every process, and a loaded model keeps the numbers of the process that saved it: in one
    graph, two operations could have the same name.
    """
    names = {layer.name for layer in model.layers}
    names &= {LAST, MAPS, LOGITS, *(name for name, _ in TAPS)}
    taps = {name: model.get_layer(name).output for name in sorted(names)}
    inputs = [keras.Input(tap.shape[1:], dtype=tap.dtype, name=name) for name, tap in taps.items()]
    backbone = keras.Model(inputs, inputs)  # input layers under the names of the tapped layers
    logits = find_lungs(backbone, segmenter)
    outputs = [*pool_regions(backbone, recipe, logits).values(), logits]
    return keras.Model(inputs, outputs, name="regions")(list(taps.values()))


def build_region_model(backbone: keras.Model, recipe: Recipe, segmenter: Segmenter) -> keras.Model:
    """Images (n, 224, 224, 3) -> features (n, 512) of each region, logits of lungs (n, 28, 28)."""
    logits = find_lungs(backbone, segmenter)
    regions = pool_regions(backbone, recipe, logits)
    return trace(keras.Model(backbone.input, [*regions.values(), logits]))
