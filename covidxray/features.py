"""Images -> features, clean and rotated, each pushed through the backbone once.

One pass gives three poolings of the same maps: of the whole picture, of the lungs alone, and of all
but the lungs (`lungs.pool_three`).
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import cv2
import keras
import numpy as np
from tqdm import tqdm

from covidxray.backbone import FEATURES, Recipe
from covidxray.clues import Clue, look
from covidxray.lungs import GRID, POOLS, Segmenter, attach, pool_three
from covidxray.pipeline import ordered_map

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
    angles = rng.uniform(-rotation, rotation, size=(len(paths), views))
    clues: list[Clue] = []

    def every_view() -> Iterator[np.ndarray]:
        for i, (image, clue) in enumerate(ordered_map(look, paths)):
            clues.append(clue)
            yield image
            yield from (rotate(image, angle) for angle in angles[i])

    logits = attach(backbone, segmenter)
    pools = pool_three(backbone, recipe, logits)
    model = keras.Model(backbone.input, [*pools.values(), logits])
    features = np.empty((len(POOLS), len(paths), 1 + views, FEATURES), np.float32)
    lungs = np.empty((len(paths), GRID, GRID), np.float32)
    with tqdm(total=len(paths) * (1 + views), desc="VGG16", unit="view") as bar:
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

    A last, smaller batch is not filled up: to trace another shape takes less than to compute it.
    """
    remaining = iter(images)
    while batch := list(islice(remaining, BATCH)):
        outputs = model.predict_on_batch(np.stack(batch).astype(np.float32))
        columns = outputs if isinstance(outputs, list | tuple) else [outputs]
        yield from zip(*map(np.asarray, columns), strict=True)
