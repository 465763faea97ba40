"""Images -> features, clean and rotated, each pushed through the backbone once."""

from dataclasses import dataclass
from pathlib import Path

import cv2
import keras
import numpy as np
from tqdm import tqdm

from covidxray.backbone import FEATURES
from covidxray.images import perceptual_hash, read_image

BATCH = 16  # images per forward pass: the rate no longer rises beyond, the memory does


@dataclass(frozen=True)
class Features:
    """`views` (N, 1 + V, 512) float32, the clean view first; `hashes` (N, 4) uint64."""

    views: np.ndarray
    hashes: np.ndarray


def rotate(image: np.ndarray, degrees: float) -> np.ndarray:
    """Rotate about the centre, the border's pixels continued outwards ("nearest" fill)."""
    height, width = image.shape[:2]
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), degrees, 1.0)
    return cv2.warpAffine(
        image, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )


def extract(
    backbone: keras.Model,
    paths: list[Path],
    *,
    views: int,
    rotation: float,
    rng: np.random.Generator,
) -> Features:
    """Features of every image, clean and in `views` random rotations.

    Args:
        backbone: images (n, 224, 224, 3) -> (n, 512).
        rotation: largest angle, in degrees, to either side.
        rng: draws the angles.

    Raises:
        InputError: an image cannot be decoded.
    """
    angles = rng.uniform(-rotation, rotation, size=(len(paths), views))
    features = np.empty((len(paths), 1 + views, FEATURES), np.float32)
    hashes = np.empty((len(paths), 4), np.uint64)
    flat = features.reshape(-1, FEATURES)
    batch: list[np.ndarray] = []
    done = 0
    with tqdm(total=len(flat), desc="VGG16", unit="view") as bar:
        for i, path in enumerate(paths):
            image = read_image(path)
            hashes[i] = perceptual_hash(image)
            batch += [image, *(rotate(image, angle) for angle in angles[i])]
            while len(batch) >= BATCH or (batch and i == len(paths) - 1):
                head, batch = batch[:BATCH], batch[BATCH:]
                # A last, smaller batch is filled up: another shape would be compiled anew.
                filled = np.zeros((BATCH, *image.shape), np.float32)
                filled[: len(head)] = head
                output = backbone.predict_on_batch(filled)
                flat[done : done + len(head)] = np.asarray(output)[: len(head)]
                done += len(head)
                bar.update(len(head))
    return Features(features, hashes)
