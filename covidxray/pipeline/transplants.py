"""The transplant test: a model scores images whose lungs were exchanged with those of others.

Every image gets the lungs of the same normal images, the references. A model that still tells the
classes apart does not need the lungs. The other way round, each image's lungs are put into the
chests of the references.
"""

import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

import keras
import numpy as np
from tqdm import tqdm

from covidxray.audit.audit import NORMAL
from covidxray.data.dataset import Dataset
from covidxray.data.images import read_image
from covidxray.data.lung_masks import enlarge, find_pairs
from covidxray.data.prefetch import ordered_map
from covidxray.data.transplant import LungPicture, transplant
from covidxray.evaluation.transplants import score_transplants
from covidxray.model.feature_table import Features
from covidxray.model.network import Network
from covidxray.model.vgg16 import BATCH, forward
from covidxray.pipeline.runs import (
    CrossValidationResult,
    TrainConfig,
    TransplantPicture,
    TransplantRun,
)

logger = logging.getLogger(__name__)
QUICK = 50  # images of the quick test of each training run, half of each class
LARGEST = 500  # images of the whole test
PICTURES = 2  # of each class that are kept


@dataclass(frozen=True)
class Scorer:
    """A model that scores pictures.

    Attributes:
        network: the model that the pictures pass through.
        score: index of an image, and the outputs of the network for J pictures made from it ->
            region -> (J, R) scores of the positive class by R heads.
        untouched: region -> (R, N) scores of the N images as they are.
        cross_validated: whether no head has seen the images that it scores.
    """

    network: keras.Model
    score: Callable[[int, list[np.ndarray]], dict[str, np.ndarray]]
    untouched: dict[str, np.ndarray]
    cross_validated: bool


def cross_validated_scorer(
    network: keras.Model, result: CrossValidationResult, positive: int
) -> Scorer:
    """Each image is scored by the heads that were not trained on it; `network` gives the features
    of each region and the logits of the lungs."""

    def score(image: int, outputs: list[np.ndarray]) -> dict[str, np.ndarray]:
        scores = {}
        for (region, heads), features in zip(result.heads.items(), outputs, strict=False):
            rows = [heads.predict(features, fit)[:, positive] for fit in result.fold[:, image]]
            scores[region] = np.stack(rows, axis=1)
        return scores

    return Scorer(network, score, result.region_scores, True)


def exchange_lungs(
    config: TrainConfig,
    network: Network,
    data: Dataset,
    features: Features,
    cross_validation: CrossValidationResult | None,
    rng: np.random.Generator,
) -> TransplantRun | None:
    """The transplant test of a training run: the quick one, or with `--transplant K` the whole one.

    None without cross-validation, with `--transplant 0`, or if there are too few images.
    """
    if not cross_validation or config.transplant == 0:
        return None
    part, logits = data.development, features.lungs[~data.held_out]
    positive, number = data.index(config.positive), config.transplant or 1
    scorer = cross_validated_scorer(network.region_model, cross_validation, positive)
    subjects = draw_references(part, positive, logits, number, rng, features.pixels)
    return run_transplants(subjects, scorer, config.transplant is not None, rng)


@dataclass(frozen=True)
class Subjects:
    """The images of a transplant test.

    Attributes:
        data: N images.
        is_positive, usable: (N,) bool, whether an image is of the positive class, and whether a
            plausible pair of lungs was found.
        logits: (N, 28, 28) of their lungs.
        references: pictures whose lungs, or chests, are put in.
        taken: (N,) bool, images of the references' patients, which are not scored.
        pixels: of images that need not be read again, by path.
    """

    data: Dataset
    is_positive: np.ndarray
    usable: np.ndarray
    logits: np.ndarray
    references: tuple[LungPicture, ...]
    taken: np.ndarray
    pixels: Mapping[Path, np.ndarray]

    def picture(self, image: int) -> LungPicture:
        """An image by its index, with its lungs."""
        path = self.data.paths[image]
        pixels = self.pixels[path] if path in self.pixels else read_image(path)
        return LungPicture(pixels, enlarge(self.logits[image]))


@dataclass(frozen=True)
class _Transplants:
    """What was made from an image: pictures by kind, in the order of the network's outputs."""

    image: int
    untouched: np.ndarray
    made: dict[str, list[np.ndarray]]


def draw_references(
    data: Dataset,
    positive: int,
    logits: np.ndarray,
    number: int,
    rng: np.random.Generator,
    pixels: Mapping[Path, np.ndarray] = MappingProxyType({}),
) -> Subjects:
    """Draw normal images of different patients as references.

    Fewer are drawn where not two patients without the positive class would remain. Classes with a
    name that says normal are preferred to others. `pixels` are those of `Subjects`.
    """
    usable = find_pairs(logits)
    is_positive = data.labels == positive
    normal = np.array([bool(NORMAL.search(name)) for name in data.classes])[data.labels]
    others = usable & ~is_positive
    order = rng.permutation(np.flatnonzero(others & normal if (others & normal).any() else others))
    first = order[np.sort(np.unique(data.groups[order], return_index=True)[1])]
    spare = len(np.unique(data.groups[others])) - 2
    chosen = first[: max(0, min(number, spare))].tolist()
    taken = np.isin(data.groups, data.groups[chosen])
    subjects = Subjects(data, is_positive, usable, logits, (), taken, pixels)
    return replace(subjects, references=tuple(map(subjects.picture, chosen)))


def run_transplants(
    subjects: Subjects, scorer: Scorer, whole: bool, rng: np.random.Generator
) -> TransplantRun | None:
    """Score images with exchanged lungs.

    Args:
        whole: whether all directions are tested, on up to `LARGEST` images, and not only the
            references' lungs on up to `QUICK`.
        rng: draws the images.

    Returns:
        None without a reference, or if a class has fewer than two patients.
    """
    data, is_positive = subjects.data, subjects.is_positive
    scored, cap = subjects.usable & ~subjects.taken, LARGEST if whole else QUICK
    sides = [np.flatnonzero(scored & side) for side in (is_positive, ~is_positive)]
    if not subjects.references or min(len(np.unique(data.groups[side])) for side in sides) < 2:
        logger.info("lungs are not exchanged: too few images with lungs, or too few patients")
        return None
    chosen = np.sort(np.concatenate([rng.permutation(side)[: cap // 2] for side in sides]))
    rows: dict[str, dict[str, list[np.ndarray]]] = {region: {} for region in scorer.untouched}
    pictures: list[TransplantPicture] = []
    for item, outputs in tqdm(
        _pass_through(scorer.network, subjects, chosen, whole),
        total=len(chosen),
        desc="transplants",
        unit="image",
    ):
        for region, found in scorer.score(item.image, outputs).items():
            at = 0
            for kind, made in item.made.items():
                rows[region].setdefault(kind, []).append(found[at : at + len(made)])
                at += len(made)
        label = data.classes[data.labels[item.image]]
        if sum(picture.truth == label for picture in pictures) < PICTURES:
            pictures.append(_picture(item, subjects, label))
    left_out = int((~subjects.usable & ~subjects.taken).sum())
    results = {}
    for region, kinds in rows.items():
        scores = {kind: np.stack(found, axis=-1) for kind, found in kinds.items()}
        scores["untouched"] = scorer.untouched[region][:, chosen]
        groups, truth = data.groups[chosen], is_positive[chosen]
        results[region] = score_transplants(truth, scores, groups, left_out, scorer.cross_validated)
    return TransplantRun(results, tuple(pictures))


def _pass_through(
    network: keras.Model, subjects: Subjects, chosen: np.ndarray, whole: bool
) -> Iterator[tuple[_Transplants, list[np.ndarray]]]:
    """Make the pictures of each image in threads, and pass them through the network."""

    def make(image: int) -> _Transplants:
        own = subjects.picture(image)
        references = subjects.references
        made = {"fixed_lungs": [transplant(one, own).pixels for one in references]}
        if whole:
            moved = [transplant(own, one) for one in references]
            made["own_lungs"] = [one.pixels for one in moved]
            made["put_back"] = [transplant(moved[0], own).pixels]
        return _Transplants(image, own.pixels, made)

    def pixels(item: _Transplants) -> list[np.ndarray]:
        return [picture for made in item.made.values() for picture in made]

    pictures = (2 * len(subjects.references) + 1) if whole else len(subjects.references)
    size = max(1, BATCH // pictures)
    yield from forward(network, ordered_map(make, chosen.tolist()), pixels, size)


def _picture(item: _Transplants, subjects: Subjects, label: str) -> TransplantPicture:
    """The images that a report shows side by side, of the first reference."""
    own = LungPicture(item.untouched, enlarge(subjects.logits[item.image]))
    name = subjects.data.names([item.image])[0]
    moved = transplant(own, subjects.references[0]).pixels
    return TransplantPicture(name, label, item.untouched, moved, item.made["fixed_lungs"][0])
