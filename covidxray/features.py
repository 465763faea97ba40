"""Images -> features, clean and rotated, each pushed through the backbone once.

One pass gives three poolings of the same maps: of the whole picture, of the lungs alone, and of all
but the lungs (`lungs.pool_three`).
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import cv2
import keras
import numpy as np
from tqdm import tqdm

from covidxray.backbone import FEATURES, Recipe
from covidxray.clues import Clue, measure
from covidxray.images import read_image
from covidxray.lungs import GRID, POOLS, Segmenter, attach, pool_three

BATCH = 16  # images per forward pass: the rate no longer rises beyond, the memory does


@dataclass(frozen=True)
class Features:
    """`views` of each pooling (N, 1 + V, 512) float32, the clean view first; `lungs` (N, 28, 28)
    float32, logits of the clean view; `clues` N, for the audit."""

    views: dict[str, np.ndarray]
    lungs: np.ndarray
    clues: list[Clue]

    @property
    def hashes(self) -> np.ndarray:
        """Perceptual hashes, (N, 4) uint64."""
        return np.stack([clue.hash for clue in self.clues])


def rotate(image: np.ndarray, degrees: float) -> np.ndarray:
    """Rotate about the centre, the border's pixels continued outwards ("nearest" fill)."""
    height, width = image.shape[:2]
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), degrees, 1.0)
    return cv2.warpAffine(
        image, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )


def extract(
    backbone: keras.Model,
    recipe: Recipe,
    segmenter: Segmenter,
    paths: list[Path],
    *,
    views: int,
    rotation: float,
    rng: np.random.Generator,
) -> Features:
    """Features of every image, clean and in `views` random rotations.

    Args:
        backbone: of this recipe, images (n, 224, 224, 3) -> (n, 512).
        rotation: largest angle, in degrees, to either side.
        rng: draws the angles.

    Raises:
        InputError: an image cannot be decoded.
    """
    angles = draw_angles(len(paths), views, rotation, rng)
    with tqdm(total=angles.size + len(paths), desc="VGG16", unit="view") as bar:
        return pass_through(three_pools(backbone, recipe, segmenter), paths, angles, bar)


def draw_angles(n: int, views: int, rotation: float, rng: np.random.Generator) -> np.ndarray:
    """Angles (n, views) in degrees, up to `rotation` to either side."""
    return rng.uniform(-rotation, rotation, size=(n, views))


def three_pools(backbone: keras.Model, recipe: Recipe, segmenter: Segmenter) -> keras.Model:
    """Images -> features (n, 512) of each pooling, and logits of the lungs (n, 28, 28)."""
    logits = attach(backbone, segmenter)
    pools = pool_three(backbone, recipe, logits)
    return keras.Model(backbone.input, [*pools.values(), logits])


def pass_through(
    model: keras.Model, paths: Sequence[Path], angles: np.ndarray, bar: tqdm
) -> Features:
    """Features of files, clean and rotated by `angles` (N, V), from what `three_pools` makes."""
    clues: list[Clue] = []
    views = angles.shape[1]

    def every_view() -> Iterator[np.ndarray]:
        for i, path in enumerate(paths):
            image = read_image(path)
            clues.append(measure(path, image))
            yield image
            yield from (rotate(image, angle) for angle in angles[i])

    features = np.empty((len(POOLS), len(paths), 1 + views, FEATURES), np.float32)
    lungs = np.empty((len(paths), GRID, GRID), np.float32)
    for k, (*vectors, found) in enumerate(in_batches(model, every_view())):
        image, view = divmod(k, 1 + views)
        features[:, image, view] = vectors
        if view == 0:
            lungs[image] = found
        bar.update()
    return Features(dict(zip(POOLS, features, strict=True)), lungs, clues)


def in_batches(
    model: keras.Model, images: Iterable[np.ndarray]
) -> Iterator[tuple[np.ndarray, ...]]:
    """Push images (224, 224, 3) through a model, a batch at a time: each one's outputs, in order.

    A last, smaller batch is filled up: another shape would be compiled anew.
    """
    remaining = iter(images)
    while batch := list(islice(remaining, BATCH)):
        filled = np.zeros((BATCH, *batch[0].shape), np.float32)
        filled[: len(batch)] = batch
        outputs = model.predict_on_batch(filled)
        columns = outputs if isinstance(outputs, list | tuple) else [outputs]
        yield from zip(*(np.asarray(column)[: len(batch)] for column in columns), strict=True)
