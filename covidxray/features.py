"""Images -> features, clean and rotated, each pushed through the backbone once.

One pass gives three poolings of the same maps: of the whole picture, of the lungs alone, and of all
but the lungs (`lungs.pool_three`).
"""

import hashlib
import json
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import keras
import numpy as np
from tqdm import tqdm

from covidxray.backbone import FEATURES, Recipe
from covidxray.cache import Cache
from covidxray.cli import info
from covidxray.clues import Clue, look
from covidxray.errors import InputError
from covidxray.images import SIZE
from covidxray.lungs import GRID, POOLS, Segmenter, attach, pool_three, to_arrays
from covidxray.pipeline import attempt, batched, one_ahead, ordered_map
from covidxray.weights import Weights

BATCH = 16  # images per forward pass: the rate no longer rises beyond, the memory does
# What the features are made by, besides the backend.
CODE = ("backbone.py", "clues.py", "codecs.py", "dicom.py", "features.py", "images.py", "lungs.py")
LIBRARIES = ("keras", "numpy", "opencv-python", "pillow", "pydicom", "imagecodecs", "imagehash")


@dataclass(frozen=True)
class Features:
    """`views` of each pooling (N, 1 + V, 512) float32, the clean view first; `lungs` (N, 28, 28)
    float32, logits of the clean view; `clues` N, for the audit. `unread` says, by index, which of
    the images asked for are not among the N, and why."""

    views: dict[str, np.ndarray]
    lungs: np.ndarray
    clues: list[Clue]
    unread: dict[int, InputError] = field(default_factory=dict)

    @property
    def hashes(self) -> np.ndarray:
        """Perceptual hashes, (N, 4) uint64."""
        return np.stack([clue.hash for clue in self.clues])

    @classmethod
    def of(cls, seen: "Sequence[Seen]") -> "Features":
        """What was computed of one image after another, together."""
        views = np.stack([one.views for one in seen], axis=1).astype(np.float32)
        lungs = np.stack([one.lungs for one in seen]).astype(np.float32)
        return cls(dict(zip(POOLS, views, strict=True)), lungs, [one.clue for one in seen])


def rotate(image: np.ndarray, degrees: float) -> np.ndarray:
    """Rotate about the centre, the border's pixels continued outwards ("nearest" fill)."""
    height, width = image.shape[:2]
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), degrees, 1.0)
    return cv2.warpAffine(
        image, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )


@dataclass(frozen=True)
class Seen:
    """What is computed of one image: `views` (3, 1 + V, 512), `lungs` and `clue` as above."""

    views: np.ndarray
    lungs: np.ndarray
    clue: Clue


def key_of(parts: dict[str, Any]) -> str:
    """An entry's name in the cache, from all that it depends on."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class Kept:
    """What a cache holds of N images: their SHA-256 `digests`, and all else that it `depends` on
    (`depends_on`)."""

    cache: Cache
    digests: list[str]
    depends: dict[str, Any]

    def key(self, i: int, angles: np.ndarray) -> str:
        """An entry's key: image `i` in these rotations."""
        return key_of({**self.depends, "image": self.digests[i], "angles": angles.tolist()})

    def get(self, i: int, angles: np.ndarray) -> Seen | None:
        """What is kept of image `i`; None if nothing is."""
        arrays = self.cache.get(self.key(i, angles))
        if arrays is None:
            return None
        return Seen(arrays.pop("views"), arrays.pop("lungs"), Clue.of(arrays))

    def put(self, i: int, angles: np.ndarray, seen: Seen) -> None:
        """Keep what was computed of image `i`."""
        arrays = {"views": seen.views, "lungs": seen.lungs, **seen.clue.arrays()}
        self.cache.put(self.key(i, angles), arrays)


def computed_by(*modules: str) -> dict[str, Any]:
    """The source of this program's modules, and the versions of the libraries."""
    code = hashlib.sha256()
    for name in modules:
        code.update(Path(__file__).with_name(name).read_bytes())
    versions = {name: version(name) for name in (*LIBRARIES, keras.backend.backend())}
    return {"code": code.hexdigest(), "versions": versions}


def depends_on(
    weights: Weights, recipe: Recipe, segmenter: Segmenter, precision: str
) -> dict[str, Any]:
    """What the features of an image depend on, but for the image and its rotations.

    This program's own part in it is told by its source, so that no change can be forgotten.
    """
    lungs = hashlib.sha256()
    for name, array in to_arrays(segmenter).items():
        lungs.update(f"{name}{array.dtype.str}{array.shape}".encode() + array.tobytes())
    return {
        **computed_by(*CODE),
        "weights": weights.sha256,
        "recipe": [recipe.block, recipe.pooled, recipe.power],
        "segmenter": lungs.hexdigest(),
        "precision": precision,
        "size": SIZE,
    }


def extract(
    backbone: keras.Model,
    recipe: Recipe,
    segmenter: Segmenter,
    paths: list[Path],
    *,
    views: int,
    rotation: float,
    rng: np.random.Generator,
    kept: Kept | None = None,
) -> Features:
    """Features of every image, clean and in `views` random rotations.

    Args:
        backbone: of this recipe, images (n, 224, 224, 3) -> (n, 512).
        rotation: largest angle, in degrees, to either side.
        rng: draws the angles.
        kept: what need not be computed; the rest is added.
    """
    angles = draw_angles(len(paths), views, rotation, rng)
    features = np.empty((len(POOLS), len(paths), 1 + views, FEATURES), np.float32)
    lungs = np.empty((len(paths), GRID, GRID), np.float32)
    clues: list = [None] * len(paths)

    def fill(i: int, seen: Seen) -> None:
        features[:, i], lungs[i], clues[i] = seen.views, seen.lungs, seen.clue

    missing, unread = [], {}
    for i in range(len(paths)):
        if seen := kept and kept.get(i, angles[i]):
            fill(i, seen)
        else:
            missing.append(i)
    if len(missing) < len(paths):
        info(f"{len(paths) - len(missing)} of {len(paths)} images are in the cache")
    if missing:
        model = three_pools(backbone, recipe, segmenter)
        computed = compute(model, [paths[i] for i in missing], angles[missing])
        for i, seen in zip(missing, computed, strict=True):
            if isinstance(seen, InputError):
                unread[i] = seen
                continue
            fill(i, seen)
            if kept:
                kept.put(i, angles[i], seen)
    if unread:
        read = [i for i in range(len(paths)) if i not in unread]
        features, lungs, clues = features[:, read], lungs[read], [clues[i] for i in read]
    return Features(dict(zip(POOLS, features, strict=True)), lungs, clues, unread)


def draw_angles(n: int, views: int, rotation: float, rng: np.random.Generator) -> np.ndarray:
    """Angles (n, views) in degrees, up to `rotation` to either side."""
    return rng.uniform(-rotation, rotation, size=(n, views))


def three_pools(backbone: keras.Model, recipe: Recipe, segmenter: Segmenter) -> keras.Model:
    """Images -> features (n, 512) of each pooling, and logits of the lungs (n, 28, 28)."""
    logits = attach(backbone, segmenter)
    pools = pool_three(backbone, recipe, logits)
    return keras.Model(backbone.input, [*pools.values(), logits])


def compute(
    model: keras.Model, paths: Sequence[Path], angles: np.ndarray, quiet: bool = False
) -> Iterator[Seen | InputError]:
    """Push every image through a model, clean and rotated by `angles` (N, V), in order; an error
    stands for one that cannot be read.

    Args:
        model: what `three_pools` makes.
        quiet: shows no progress.
    """
    clues: deque[Clue | InputError] = deque()

    def look_at(item: tuple[Path, np.ndarray]) -> tuple[list[np.ndarray], Clue]:
        pixels, clue = look(item[0])
        return [pixels, *(rotate(pixels, angle) for angle in item[1])], clue

    def every_view() -> Iterator[np.ndarray]:
        for found in ordered_map(attempt(look_at), zip(paths, angles, strict=True)):
            images, clue = ([], found) if isinstance(found, InputError) else found
            clues.append(clue)
            yield from images

    total = angles.size + len(paths)
    outputs = in_batches(model, every_view())
    bar = tqdm(outputs, total=total, desc="VGG16", unit="view", disable=quiet)
    outputs = iter(bar)
    while views := list(islice(outputs, 1 + angles.shape[1])):
        *vectors, lungs = (np.stack(column) for column in zip(*views, strict=True))
        while isinstance(clue := clues.popleft(), InputError):
            yield clue
        yield Seen(np.stack(vectors), lungs[0], clue)
    yield from clues


def in_batches(
    model: keras.Model, images: Iterable[np.ndarray]
) -> Iterator[tuple[np.ndarray, ...]]:
    """Push images (224, 224, 3) through a model, a batch at a time: each one's outputs, in order.

    The next batch goes through while one's outputs are used.
    """
    for rows in one_ahead(lambda batch: forward(model, batch), batched(images, BATCH)):
        yield from rows


def forward(model: keras.Model, batch: Sequence[np.ndarray]) -> list[tuple[np.ndarray, ...]]:
    """Push up to `BATCH` images (224, 224, 3) through a model, together: each one's outputs.

    A smaller batch is not filled up: to trace another shape takes less than to compute it.
    """
    if not batch:
        return []
    outputs = model.predict_on_batch(np.stack(batch).astype(np.float32))
    columns = outputs if isinstance(outputs, list | tuple) else [outputs]
    return list(zip(*map(np.asarray, columns), strict=True))
