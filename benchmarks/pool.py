"""Every image of the four sources that the benchmarks draw from, and its features.

Not a benchmark itself. `add_sources` adds the sources' options to a parser, `read_pool` reads what
they name; `--cache FILE` keeps features between runs.
"""

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlparse

import keras
import numpy as np
from tqdm import tqdm

from covidxray import lungs
from covidxray.backbone import RECIPES, Recipe, build_backbone, resolve_precision
from covidxray.clues import Clue, measure
from covidxray.features import in_batches, rotate
from covidxray.images import list_images, perceptual_hash, read_image
from covidxray.manifest import Row
from covidxray.sources import cohen, kaggle
from covidxray.splits import merge_duplicates
from covidxray.weights import load_weights

LAYERS = ("block3_pool", "block4_pool", "block4_conv3", "last_convolution", "block5_pool")
POWERS = (1, 2, 3, 4, 6)


@dataclass(frozen=True)
class Pool:
    """N images: `kind` is covid, control, normal, pneumonia (Kaggle's train), nih, tutorial (its
    own normals) or other (Cohen's other views and CT); `groups` (N,) patients, copies merged;
    `places` where each was taken (Cohen's location, else the site it was published on)."""

    paths: list[Path]
    rows: list[Row]
    kind: np.ndarray
    groups: np.ndarray
    places: np.ndarray
    pixels: np.ndarray

    def of(self, *kinds: str) -> np.ndarray:
        """Indices of these kinds."""
        return np.flatnonzero(np.isin(self.kind, kinds))

    def clues(self) -> list[Clue]:
        """What the audit measures of each image."""
        return [measure(path, image) for path, image in zip(self.paths, self.pixels, strict=True)]


def add_sources(parser: argparse.ArgumentParser) -> None:
    """Options for the four sources."""
    add = parser.add_argument
    add("--covid", required=True, type=Path, help="clone of Cohen's repository")
    add("--kaggle", required=True, type=Path, help="the Kaggle set, chest_xray")
    add("--nih", required=True, type=Path, help="folder of NIH adults without finding")
    add("--tutorial", type=Path, help="the tutorial's own dataset/normal")
    add("--cache", type=Path, help="folder to keep features in; None: compute them again")
    add("--draws", default=20, type=int)
    add("--seed", default=0, type=int)


def read_pool(args: argparse.Namespace) -> Pool:
    """Read every image of the sources."""
    found: dict[Path, tuple[str, Row, str]] = {}
    records = cohen.read_metadata(args.covid / "metadata.csv")
    kinds = [(cohen.select(records, "COVID-19", ["PA"]), "covid")]
    kinds += [(cohen.select_controls(records, "COVID-19", ["PA"]), "control"), (records, "other")]
    for chosen, kind in kinds:
        for record in chosen:
            path = cohen.locate(args.covid, record)
            if path.is_file():
                place = record.location or urlparse(record.url).netloc
                found.setdefault(path, (kind, record.row(), place))
    for path in kaggle.list_normal(args.kaggle, ["train"])[0]:
        found[path] = ("normal", kaggle.row(args.kaggle, path), kaggle.SOURCE)
    for path in list_images(args.kaggle / "train" / "PNEUMONIA"):
        patient = path.name.split("_")[0]
        found[path] = ("pneumonia", Row(path.name, kaggle.SOURCE, "", patient), kaggle.SOURCE)
    for path in list_images(args.nih):
        found[path] = ("nih", Row(path.name, "nih", "", path.name.split("_")[0]), "nih")
    for path in list_images(args.tutorial) if args.tutorial else []:
        found[path] = ("tutorial", Row(path.name, "tutorial", "", path.name), kaggle.SOURCE)
    pixels = np.stack([read_image(path) for path in tqdm(found, desc="reading")])
    rows = [row for _, row, _ in found.values()]
    keys = [f"{row.source}\0{row.patient_id or row.filename}" for row in rows]
    groups = np.unique(keys, return_inverse=True)[1]
    groups, _ = merge_duplicates(groups, np.stack([perceptual_hash(image) for image in pixels]))
    kind = np.array([kind for kind, _, _ in found.values()])
    places = np.array([place for _, _, place in found.values()])
    return Pool(list(found), rows, kind, groups, places, pixels)


def features(
    args: argparse.Namespace,
    pool: Pool,
    name: str,
    change: Callable[[np.ndarray], np.ndarray] = lambda image: image,
) -> dict[tuple[str, int | str], np.ndarray]:
    """Features (N, D) of every layer in LAYERS, by generalised mean of each power in POWERS, by the
    maximum and by the standard deviation; of images changed by `change`, which has a `name`."""
    cached = args.cache / f"{name}.npz" if args.cache else None
    if cached and cached.exists():
        stored = np.load(cached)
        return {(layer, how): stored[f"{layer}/{how}"] for layer, how in _columns()}
    weights = load_weights("torchvision")
    whole = Recipe(block=5, pooled=True, power=1, units=0, dropout=0, l2=0, learning_rate=0)
    backbone = build_backbone(weights, whole, resolve_precision("auto"))
    pooled = []
    for layer, how in _columns():
        maps = keras.ops.cast(backbone.get_layer(layer).output, "float32")
        pooled.append(_pool(maps, how))
    model = keras.Model(backbone.input, pooled)
    images = tqdm(map(change, pool.pixels), total=len(pool.pixels), desc=name)
    columns = zip(*in_batches(model, images), strict=True)
    result = {key: np.stack(column) for key, column in zip(_columns(), columns, strict=True)}
    if cached:
        cached.parent.mkdir(exist_ok=True)
        np.savez(cached, **{f"{layer}/{how}": v for (layer, how), v in result.items()})
    return result


def poolings(args: argparse.Namespace, pool: Pool) -> dict[str, np.ndarray]:
    """Features (N, 512) of the default recipe over the whole picture, the lungs alone and all but
    the lungs, by name."""
    cached = args.cache / "poolings.npz" if args.cache else None
    if cached and cached.exists():
        with np.load(cached) as stored:
            return dict(stored)
    recipe = RECIPES["portable"]
    backbone = build_backbone(load_weights("torchvision"), recipe, resolve_precision("auto"))
    pooled = lungs.pool_three(backbone, recipe, lungs.attach(backbone, lungs.load_segmenter()))
    model = keras.Model(backbone.input, list(pooled.values()))
    images = tqdm(pool.pixels, desc="three poolings")
    columns = zip(*in_batches(model, images), strict=True)
    result = {name: np.stack(column) for name, column in zip(pooled, columns, strict=True)}
    if cached:
        cached.parent.mkdir(exist_ok=True)
        np.savez(cached, **result)
    return result


def turned(image: np.ndarray) -> np.ndarray:
    """One rotated view, as in training; the angle depends on the image alone."""
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
    """About `n` images of a kind, whole patients at a time, none of the patients `banned`."""
    available = pool.of(kind)
    if banned is not None:
        available = available[~np.isin(pool.groups[available], banned)]
    order = rng.permutation(np.unique(pool.groups[available]))
    drawn = np.concatenate([available[pool.groups[available] == patient] for patient in order])
    return drawn[:n]


def spread(values: list[float] | np.ndarray) -> str:
    """Mean, and the range of the middle 95 % of draws."""
    low, high = np.nanquantile(values, (0.025, 0.975))
    return f"{np.nanmean(values):.2f} ({low:.2f} to {high:.2f})"
