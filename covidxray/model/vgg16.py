"""VGG16 (Simonyan and Zisserman 2015) with frozen ImageNet weights."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import keras
import numpy as np

from covidxray.data import SIZE
from covidxray.data.prefetch import batched, ordered_map
from covidxray.model.arrays import Weights
from covidxray.model.recipes import Recipe

BATCH = 16  # images per forward pass; larger batches need more memory and are not faster
LEAST_MEAN = 1e-20  # of a map's powers; its root differs from 0 by 2e-7
Item = TypeVar("Item")
LAST = "last_convolution"  # layer whose maps give the heat maps
MAPS = "maps"  # layer whose maps are pooled, in float32


def resolve_precision(name: str) -> str:
    """Replace "auto" by "bfloat16" if this is Linux and its CPU multiplies bfloat16 natively.

    Otherwise "auto" is "float32". Another name is returned as it is.
    """
    if name != "auto":
        return name
    try:
        flags = Path("/proc/cpuinfo").read_text()
    except OSError:
        return "float32"
    return "bfloat16" if "avx512_bf16" in flags or "amx_bf16" in flags else "float32"


def build_backbone(weights: Weights, recipe: Recipe, precision: str = "float32") -> keras.Model:
    """Build VGG16 up to the recipe's block, pooled over the whole map.

    Args:
        precision: "float32" or "bfloat16", of the convolutions.

    Returns:
        A frozen model: RGB from 0 to 255 (n, 224, 224, 3) -> float32 (n, 512).
    """
    dtype = "mixed_bfloat16" if precision == "bfloat16" else "float32"
    images = keras.Input((SIZE, SIZE, 3), name="rgb_0_to_255")
    # Lists of numbers become constants of an exported graph, as those of `Normalization` do not.
    std = weights.std.astype(np.float64)
    x = keras.layers.Rescaling(
        (1 / std).tolist(), (-weights.mean / std).tolist(), dtype="float32", name="normalise"
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
                kernel_initializer="zeros",  # older Keras does not know the default's settings
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


def at_precision(model: keras.Model, precision: str) -> keras.Model:
    """A model whose convolutions compute in "float32", as it is saved, or in "bfloat16".

    The weights stay float32, and so does everything behind the maps.
    """
    if precision == "float32":
        return model
    config = model.get_config()
    for layer in config["layers"]:
        if layer["class_name"] in ("Conv2D", "MaxPooling2D"):
            layer["config"]["dtype"] = f"mixed_{precision}"
    other = keras.Model.from_config(config)
    other.set_weights(model.get_weights())
    return other


def generalised_mean(
    maps: keras.KerasTensor, power: int, weight: keras.KerasTensor | None = None
) -> keras.KerasTensor:
    """Pool maps (n, h, w, D) to (n, D) by a generalised mean (GeM; Radenovic, Tolias, Chum 2019).

    Args:
        power: 1 is the plain mean; the higher the power, the nearer to the maximum.
        weight: (n, h, w, 1) of the cells; None weighs all of them equally.
    """
    ops = keras.ops
    x = ops.power(maps, power) if power > 1 else maps
    if weight is None:
        mean = ops.mean(x, axis=(1, 2))
    else:
        mean = ops.sum(x * weight, axis=(1, 2)) / ops.sum(weight, axis=(1, 2))
    # The root of 0 has no finite gradient, which whoever fine-tunes a saved model would meet.
    return ops.power(ops.maximum(mean, LEAST_MEAN), 1 / power) if power > 1 else mean


def trace(model: keras.Model) -> keras.Model:
    """Trace a model's predictions for batches of any size at once, where the backend traces.

    Keras would trace the first batch, and again the first that has another size. Returns the model.
    """
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        model.make_predict_function()
        batch = tf.TensorSpec((None, *model.input_shape[1:]), tf.float32)
        model.predict_function.get_concrete_function([(batch,)])
    return model


def forward(
    model: keras.Model,
    items: Iterable[Item],
    images_of: Callable[[Item], Sequence[np.ndarray]],
    size: int = BATCH,
) -> Iterator[tuple[Item, list[np.ndarray]]]:
    """Pass the images of items through a network, and return each item with its outputs, in order.

    While the outputs of one batch of `size` items are used, a thread computes the next batch.

    Args:
        model: images (n, 224, 224, 3) -> one or several outputs (n, ...).
        images_of: the k images (224, 224, 3) of an item; k may differ between items and may be 0.

    Yields:
        An item and its part (k, ...) of each output; no outputs if the whole batch has no images.
    """

    def forward_batch(batch: list[Item]) -> list[tuple[Item, list[np.ndarray]]]:
        images = [list(images_of(item)) for item in batch]
        outputs = _predict(model, [image for part in images for image in part])
        ends = np.cumsum([len(part) for part in images])
        return [
            (item, [output[end - len(part) : end] for output in outputs])
            for item, part, end in zip(batch, images, ends, strict=True)
        ]

    for results in ordered_map(forward_batch, batched(items, size), threads=1, ahead=2):
        yield from results


def _predict(model: keras.Model, images: list[np.ndarray]) -> list[np.ndarray]:
    """The outputs of a model for any number of images, at most `BATCH` images at a time."""
    parts = []
    for k in range(0, len(images), BATCH):
        # A smaller batch is not padded: tracing another shape takes less time than computing it.
        outputs = model.predict_on_batch(np.stack(images[k : k + BATCH]).astype(np.float32))
        parts.append(outputs if isinstance(outputs, list | tuple) else [outputs])
    return [np.concatenate(list(map(np.asarray, output))) for output in zip(*parts, strict=True)]
