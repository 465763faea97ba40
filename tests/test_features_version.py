"""What is computed from an image changes only together with `FEATURES_VERSION`.

The features, statistics and lungs of three fixed images are compared with stored numbers. They are
summaries, compared at a tolerance that other CPUs meet. VGG16 has random weights, which need no
download. After a wanted change, raise `FEATURES_VERSION` in covidxray/model/features.py and run

    PYTHONPATH=. python tests/test_features_version.py

which prints the numbers to store under the new version.
"""

import json
import tempfile
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest

from covidxray.model.arrays import Weights
from covidxray.model.features import FEATURES_VERSION, compute_features
from covidxray.model.lungs import Segmenter, build_region_model
from covidxray.model.recipes import RECIPES, REGIONS
from covidxray.model.vgg16 import build_backbone

STORED = Path(__file__).with_name("features_versions.json")
ANGLES = np.array([[7.0], [-12.0], [4.5]])
REMEDY = "raise FEATURES_VERSION and store the new numbers (see the top of this file)"


def random_weights() -> Weights:
    """VGG16 with the same random kernels everywhere."""
    rng = np.random.RandomState(0)  # its numbers never change, unlike those of a Generator
    widths = [3, 64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512]
    kernels = [
        rng.normal(0, (2 / (9 * a)) ** 0.5, (3, 3, a, b)).astype(np.float32)
        for a, b in pairwise(widths)
    ]
    biases = [np.zeros(b, np.float32) for b in widths[1:]]
    mean, std = np.full(3, 120, np.float32), np.full(3, 60, np.float32)
    return Weights("random", kernels, biases, mean, std)


def random_segmenter() -> Segmenter:
    """A segmenter whose logits on random maps are on both sides of the threshold."""
    rng = np.random.RandomState(1)
    shapes = [(1, 1, 896, 32), (5, 5, 35, 32), (5, 5, 32, 32), (5, 5, 32, 1)]
    kernels = tuple(
        rng.normal(0, (2 / np.prod(shape[:3])) ** 0.5, shape).astype(np.float32) for shape in shapes
    )
    biases = (*(np.zeros(32, np.float32) for _ in range(3)), np.full(1, -0.85, np.float32))
    return Segmenter(np.full(896, 0.5, np.float32), np.ones(896, np.float32), kernels, biases)


def write_images(folder: Path) -> list[Path]:
    """Uncompressed images: large and grey, small and coloured, grey with 16 bits."""
    y, x = np.mgrid[:400, :360]
    rings = 120 + 90 * np.sin((x - 170) ** 2 / 900 + (y - 190) ** 2 / 700)
    fine = 40 * ((x // 2 + y // 3) % 2)
    small = np.stack([rings[::2, ::2], rings[::2, 1::2] * 0.9, rings[1::2, ::2] * 0.8], axis=-1)
    deep = 3000 + 15 * rings + 40 * fine + 8 * x
    images = {
        "large.bmp": (rings + fine).clip(0, 255).astype(np.uint8),
        "small.bmp": small.clip(0, 255).astype(np.uint8)[:150, :140],
        "deep.png": deep.astype(np.uint16),
    }
    for name, pixels in images.items():
        settings = [cv2.IMWRITE_PNG_COMPRESSION, 0] if name.endswith("png") else []
        assert cv2.imwrite(str(folder / name), pixels, settings)
    return [folder / name for name in images]


def summary(array: np.ndarray) -> list[float]:
    """The mean and a projection of an array, which changes if its elements change places."""
    values = np.ravel(array).astype(np.float64)
    return [float(values.mean()), float(np.abs(values) @ np.cos(np.arange(values.size)) ** 2)]


def numbers() -> dict[str, dict[str, list[float]]]:
    """Image -> name of an array -> its summary."""
    recipe = RECIPES["portable"]
    network = build_backbone(random_weights(), recipe), recipe, random_segmenter()
    with tempfile.TemporaryDirectory() as folder:
        paths = write_images(Path(folder))
        computed = list(compute_features(build_region_model(*network), paths, ANGLES, quiet=True))
    found = {}
    for path, image in zip(paths, computed, strict=True):
        statistics = image.statistics
        arrays = {"lungs": image.lungs}
        for region, features in zip(REGIONS, image.regions, strict=True):
            arrays |= {f"{region}, unchanged": features[0], f"{region}, rotated": features[1]}
        for name in ("thumbnail", "frame", "histogram"):
            arrays[name] = getattr(statistics, name)
        header = [v if isinstance(v, float) else len(str(v)) for v in statistics.file.values()]
        bits = np.unpackbits(statistics.hash.view(np.uint8))
        arrays |= {"file header": np.array(header), "perceptual hash": bits}
        found[path.name] = {name: summary(array) for name, array in arrays.items()}
    return found


@pytest.mark.slow
def test_the_features_of_three_images_are_those_stored_for_this_version():
    versions = json.loads(STORED.read_text())
    assert str(FEATURES_VERSION) in versions, f"no numbers for version {FEATURES_VERSION}: {REMEDY}"
    expected, found = versions[str(FEATURES_VERSION)], numbers()
    assert found.keys() == expected.keys()
    changed = [
        f"{image}: {name}"
        for image, arrays in expected.items()
        for name, values in arrays.items()
        if found[image].get(name) != pytest.approx(values, rel=1e-3)
    ]
    assert not changed, f"{'; '.join(changed)} changed: {REMEDY}"


if __name__ == "__main__":
    print(json.dumps({str(FEATURES_VERSION): numbers()}, indent=1))
