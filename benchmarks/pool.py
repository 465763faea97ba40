"""Read all images of the sources that the benchmarks use, and compute their features.

This module is not a benchmark. `add_sources` adds options to a parser, `read_pool` reads the images
that they name, and `--cache DIR` keeps features between runs.
"""

import argparse
import csv
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlparse

import keras
import numpy as np
from tqdm import tqdm

from covidxray.data import cohen, kaggle
from covidxray.data.duplicates import merge_groups_with_copies, perceptual_hash
from covidxray.data.folders import list_images
from covidxray.data.image_statistics import ImageStatistics
from covidxray.data.images import read_image, read_with_statistics
from covidxray.data.manifest import ManifestRow
from covidxray.model import lungs
from covidxray.model.features import rotate
from covidxray.model.recipes import RECIPES, HeadOptions, Recipe
from covidxray.model.vgg16 import build_backbone, forward, resolve_precision
from covidxray.model.weights import load_weights

LAYERS = ("block3_pool", "block4_pool", "block4_conv3", "last_convolution", "block5_pool")
POWERS = (1, 2, 3, 4, 6)


@dataclass(frozen=True)
class Pool:
    """N images of all sources.

    Attributes:
        paths, rows: their files, and manifest rows.
        kind: (N,) covid, control, normal, pneumonia (Kaggle's train), nih, tutorial (the tutorial's
            own normals), other (Cohen's other views) or ct (his CT slices).
        groups: (N,) numbers of patients; patients who share an image have one number.
        places: (N,) Cohen's location, or the web site of the publication if it is empty.
        pixels: (N, 224, 224, 3) uint8.
    """

    paths: list[Path]
    rows: list[ManifestRow]
    kind: np.ndarray
    groups: np.ndarray
    places: np.ndarray
    pixels: np.ndarray

    def of(self, *kinds: str) -> np.ndarray:
        """Indices of the images of these kinds."""
        return np.flatnonzero(np.isin(self.kind, kinds))

    def image_statistics(self) -> list[ImageStatistics]:
        """What the audit measures of each image."""
        return [read_with_statistics(path)[1] for path in self.paths]


def add_sources(parser: argparse.ArgumentParser) -> None:
    """Add the options that name the sources to a parser."""
    add = parser.add_argument
    add("--covid", required=True, type=Path, help="clone of Cohen's repository")
    add("--kaggle", required=True, type=Path, help="the Kaggle set, chest_xray")
    add("--nih", required=True, type=Path, help="folder of NIH adults without finding")
    add("--tutorial", type=Path, help="the tutorial's own dataset/normal")
    add("--cache", type=Path, help="folder that keeps features (default: keep none)")
    add("--draws", default=20, type=int)
    add("--seed", default=0, type=int)


def read_pool(args: argparse.Namespace) -> Pool:
    """Read every image of the sources."""
    found: dict[Path, tuple[str, ManifestRow, str]] = {}
    records = cohen.read_metadata(args.covid / "metadata.csv")
    with (args.covid / "metadata.csv").open(newline="", encoding="utf-8") as file:
        table = list(csv.DictReader(file))
    locations = {row["filename"]: row["location"] for row in table}
    kinds = [(cohen.select(records, "COVID-19", ["PA"]), "covid")]
    kinds += [(cohen.select_controls(records, "COVID-19", ["PA"]), "control"), (records, "other")]
    for chosen, kind in kinds:
        for record in chosen:
            path = cohen.locate(args.covid, record)
            if path.is_file():
                place = locations[record.filename] or urlparse(record.url).netloc
                found.setdefault(path, (kind, record, place))
    for row in table:  # `read_metadata` leaves CT slices out
        path = args.covid / row["folder"] / row["filename"]
        if row["modality"] == "CT" and path.is_file():
            record = ManifestRow(path.name, cohen.SOURCE, "", row["patientid"], row["view"])
            found.setdefault(path, ("ct", record, row["location"]))
    for path in kaggle.list_normal(args.kaggle, ["train"])[0]:
        found[path] = ("normal", kaggle.row(args.kaggle, path), kaggle.SOURCE)
    for path in list_images(args.kaggle / "train" / "PNEUMONIA"):
        patient = path.name.split("_")[0]
        found[path] = (
            "pneumonia",
            ManifestRow(path.name, kaggle.SOURCE, "", patient),
            kaggle.SOURCE,
        )
    for path in list_images(args.nih):
        found[path] = ("nih", ManifestRow(path.name, "nih", "", path.name.split("_")[0]), "nih")
    for path in list_images(args.tutorial) if args.tutorial else []:
        found[path] = ("tutorial", ManifestRow(path.name, "tutorial", "", path.name), kaggle.SOURCE)
    pixels = np.stack([read_image(path) for path in tqdm(found, desc="reading")])
    rows = [row for _, row, _ in found.values()]
    keys = [f"{row.source}\0{row.patient_id or row.filename}" for row in rows]
    groups = np.unique(keys, return_inverse=True)[1]
    groups, _ = merge_groups_with_copies(
        groups, np.stack([perceptual_hash(image) for image in pixels])
    )
    kind = np.array([kind for kind, _, _ in found.values()])
    places = np.array([place for _, _, place in found.values()])
    return Pool(list(found), rows, kind, groups, places, pixels)


def features(
    args: argparse.Namespace,
    pool: Pool,
    name: str,
    change: Callable[[np.ndarray], np.ndarray] = lambda image: image,
) -> dict[tuple[str, int | str], np.ndarray]:
    """Features (N, D) of every layer in LAYERS and every pooling.

    The poolings are the generalised mean of each power in POWERS, the maximum ("max") and the
    standard deviation ("std"). `change`, which has a `name`, is applied to each image first.
    """
    cached = args.cache / f"{name}.npz" if args.cache else None
    if cached and cached.exists():
        stored = np.load(cached)
        return {(layer, how): stored[f"{layer}/{how}"] for layer, how in _columns()}
    weights = load_weights("torchvision")
    whole = Recipe(block=5, pooled=True, power=1, head=HeadOptions())
    backbone = build_backbone(weights, whole, resolve_precision("auto"))
    pooled = []
    for layer, how in _columns():
        maps = keras.ops.cast(backbone.get_layer(layer).output, "float32")
        pooled.append(_pool(maps, how))
    model = keras.Model(backbone.input, pooled)
    images = tqdm(map(change, pool.pixels), total=len(pool.pixels), desc=name)
    outputs = (row for _, row in forward(model, images, lambda image: [image]))
    columns = map(np.concatenate, zip(*outputs, strict=True))
    result = dict(zip(_columns(), columns, strict=True))
    if cached:
        cached.parent.mkdir(exist_ok=True)
        np.savez(cached, **{f"{layer}/{how}": v for (layer, how), v in result.items()})
    return result


def poolings(args: argparse.Namespace, pool: Pool) -> dict[str, np.ndarray]:
    """Features (N, 512) of the default recipe in each region: whole, lungs, outside."""
    cached = args.cache / "poolings.npz" if args.cache else None
    if cached and cached.exists():
        with np.load(cached) as stored:
            return dict(stored)
    recipe = RECIPES["portable"]
    backbone = build_backbone(load_weights("torchvision"), recipe, resolve_precision("auto"))
    pooled = lungs.pool_regions(
        backbone, recipe, lungs.find_lungs(backbone, lungs.load_segmenter())
    )
    model = keras.Model(backbone.input, list(pooled.values()))
    images = tqdm(pool.pixels, desc="three poolings")
    outputs = (row for _, row in forward(model, images, lambda image: [image]))
    columns = map(np.concatenate, zip(*outputs, strict=True))
    result = dict(zip(pooled, columns, strict=True))
    if cached:
        cached.parent.mkdir(exist_ok=True)
        np.savez(cached, **result)
    return result


def turned(image: np.ndarray) -> np.ndarray:
    """A rotated copy of an image, as in training; the angle depends on the image only."""
    return rotate(image, np.random.default_rng(int(image.sum())).uniform(-15, 15))


def _columns() -> list[tuple[str, int | str]]:
    return [(layer, how) for layer in LAYERS for how in (*POWERS, "max", "std")]


def _pool(maps, how):
    if how == "max":
        return keras.ops.max(maps, axis=(1, 2))
    if how == "std":
        return keras.ops.std(maps, axis=(1, 2))
    mean = keras.ops.mean(keras.ops.power(maps, how), axis=(1, 2))
    return keras.ops.power(mean, 1 / how)


def draw_patients(
    pool: Pool, kind: str, n: int, rng: np.random.Generator, banned: np.ndarray | None = None
) -> np.ndarray:
    """Draw `n` images of a kind, patient by patient, except for the patients in `banned`."""
    available = pool.of(kind)
    if banned is not None:
        available = available[~np.isin(pool.groups[available], banned)]
    order = rng.permutation(np.unique(pool.groups[available]))
    drawn = np.concatenate([available[pool.groups[available] == patient] for patient in order])
    return drawn[:n]


def spread(values: list[float] | np.ndarray) -> str:
    """Mean and, in brackets, the range of the middle 95 % of draws, as text."""
    low, high = np.nanquantile(values, (0.025, 0.975))
    return f"{np.nanmean(values):.2f} ({low:.2f} to {high:.2f})"
