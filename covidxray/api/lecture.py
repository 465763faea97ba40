"""What a lecture shows of a saved model: the numbers of its training, and a shortcut next to it."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from covidxray.api.prediction import ClassifiedImage, LoadedPredictor
from covidxray.data.dataset import Dataset
from covidxray.data.image_statistics import THUMBNAIL
from covidxray.data.loading import load_dataset
from covidxray.data.lung_masks import NO_LUNGS
from covidxray.errors import InputError
from covidxray.evaluation.intervals import Estimate, share
from covidxray.evaluation.regions import REGION_NAMES

if TYPE_CHECKING:
    from covidxray.model.model_file import ModelMetadata

ENLARGED = 28  # pixels of the picture for one of the thumbnail


@dataclass(frozen=True)
class TrainingNumbers:
    """What a training wrote about its model.

    Attributes:
        sentence: compares the model with the best shortcut.
        verdict: whether there is a shortcut, and whether the model needs the lungs.
        areas: AUCs by name, of the regions, with exchanged lungs, and of the shortcuts.
        plot: the bytes of plot.png, loss and accuracy by epoch.
    """

    sentence: str
    verdict: str
    areas: dict[str, Estimate]
    plot: bytes


def read_numbers(metrics: Path, metadata: "ModelMetadata") -> TrainingNumbers:
    """Read metrics.json and the plot next to it.

    Raises:
        InputError: a file is missing or damaged, or of a training that did not write this model.
    """
    try:
        found = json.loads(metrics.read_text(encoding="utf-8"))
        if found["sentence"] != metadata.card["result"]:
            raise ValueError("numbers of another model")
        shortcuts = found["shortcuts"]
        plot = metrics.parent / Path(found["options"]["plot"]).name
        return TrainingNumbers(
            found["sentence"], shortcuts["verdict"], _areas(found), plot.read_bytes()
        )
    except (OSError, ValueError, LookupError, TypeError) as error:
        reason = "is not, with its plot, of the training that wrote this model"
        remedy = "run train_covid19.py, or give the file with --metrics"
        raise InputError(f"{metrics}: {reason}; {remedy}") from error


def _areas(found: dict[str, Any]) -> dict[str, Estimate]:
    shortcuts, rows = found["shortcuts"], {}
    if regions := shortcuts["regions"]:
        rows = {name: regions[key] for key, name in REGION_NAMES.items()}
    if transplants := found["transplants"]:
        own = transplants[found["options"]["region"]]
        rows["same healthy lungs in every image"] = own["fixed_lungs"]
    rows |= {f"shortcut: {one['name']}": one["auc"] for one in shortcuts["baselines"]}
    return {name: Estimate(**estimate) for name, estimate in rows.items()}


@dataclass(frozen=True)
class Guess:
    """What the model and the baseline on the 8 x 8 thumbnail say of a labelled image.

    Attributes:
        truth: the image's class.
        said: the class that the model, and then the thumbnail, says; with more than two classes,
            all but the positive one are one.
        right: whether that is so, of the model and of the thumbnail.
    """

    image: ClassifiedImage
    truth: str
    said: tuple[str, str]
    right: tuple[bool, bool]

    @property
    def thumbnail(self) -> np.ndarray:
        """The 8 x 8 thumbnail, enlarged to uint8 RGB (224, 224, 3)."""
        assert self.image.prediction.statistics is not None
        grey = self.image.prediction.statistics.thumbnail.reshape(THUMBNAIL, THUMBNAIL)
        grey = grey.round().astype(np.uint8).repeat(ENLARGED, 0).repeat(ENLARGED, 1)
        return np.stack([grey] * 3, axis=-1)


def unseen_images(folder: Path, metadata: "ModelMetadata", seed: int = 42) -> Dataset:
    """Those images of a data set that did not train a model, nor others of their patients, in
    random order.

    Raises:
        InputError: the data set cannot be used, or no such image is left.
    """
    data = load_dataset(folder, bytes.fromhex(metadata.salt), classes=metadata.classes)
    trained = np.isin([row.sha256 for row in data.rows], metadata.trained_on)
    unseen = np.flatnonzero(~trained & ~metadata.trained_patients(data.patients))
    if not len(unseen):
        raise InputError(f"{folder}: all its images trained the model; give others with --dataset")
    return data.select(np.random.default_rng(seed).permutation(unseen))


def guess(predictor: LoadedPredictor, data: Dataset, i: int) -> Guess:
    """Compare the guesses for image `i` of a data set.

    Raises:
        InputError: the image cannot be read, gets no class, or is a copy of a training image.
    """
    metadata = predictor.metadata
    (image,) = predictor.predict(data.paths[i], with_statistics=True)
    found, name = image.prediction, data.names([i])[0]
    if found.label is None or found.statistics is None:
        raise InputError(f"{name}: {NO_LUNGS}; it does not count")
    if metadata.trained_images([data.rows[i].sha256], found.statistics.hash[None])[0]:
        raise InputError(f"{name}: is a copy of a training image; it does not count")
    truth = data.classes[data.labels[i]]
    model = metadata.classes[found.label] == metadata.positive
    thumbnail = found.acquisition["thumbnail"] >= 0.5
    others = " or ".join(one for one in metadata.classes if one != metadata.positive)
    said = metadata.positive if model else others, metadata.positive if thumbnail else others
    is_positive = truth == metadata.positive
    return Guess(image, truth, said, (model == is_positive, thumbnail == is_positive))


def shares_right(data: Dataset, right: Sequence[tuple[int, bool, bool]]) -> dict[str, Estimate]:
    """How often the model and the thumbnail were right; `right` are an image and `Guess.right`."""
    images, *both = map(np.array, zip(*right, strict=True))
    shares = [share(hits, data.groups[images]) for hits in both]
    named = zip(("the model", "the 8 x 8 thumbnail"), shares, strict=True)
    return {name: found for name, found in named if found}
