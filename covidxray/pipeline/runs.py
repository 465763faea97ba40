"""The configuration and the results of a training run: values only, without Keras."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from covidxray.audit.result import AuditResult
from covidxray.evaluation import metrics
from covidxray.evaluation.intervals import Estimate, Quartiles
from covidxray.evaluation.regions import RegionComparison
from covidxray.evaluation.strata import StratifiedScores
from covidxray.evaluation.transplants import TransplantScores

if TYPE_CHECKING:
    from covidxray.data.dataset import Dataset
    from covidxray.model.heads import Heads


@dataclass(frozen=True)
class TrainConfig:
    """The options of train_covid19.py; each field has the name of its option.

    `repeats` and `batch_size` are None until the number of images is known (`with_defaults`); `lr`,
    `units` and `dropout` are None where the recipe decides. `cache` is None to keep no features.
    """

    dataset: Path
    add: tuple[tuple[str, Path], ...]
    plot: Path
    model: Path
    metrics: Path
    report: Path | None
    positive: str
    weights: str
    recipe: str
    region: str
    augment: int
    rotation: float
    epochs: int
    batch_size: int | None
    lr: float | None
    units: int | None
    dropout: float | None
    test_size: float
    folds: int
    repeats: int | None
    threshold: float | None
    sensitivity: float | None
    prevalence: float | None
    stratify: tuple[str, ...]
    transplant: int | None
    transplant_pictures: Path | None
    plots: Path | None
    fit_all: bool
    precision: str
    cache: Path | None
    seed: int
    engine: str
    ray_address: str | None
    features: Path | None

    def with_defaults(self, **values: Any) -> "TrainConfig":
        """This configuration with these values for fields that are still None."""
        missing = {name: value for name, value in values.items() if getattr(self, name) is None}
        return replace(self, **missing)

    @property
    def outputs(self) -> tuple[Path | None, ...]:
        """The files to write; None for a report that is not wanted."""
        return self.plot, self.model, self.metrics, self.report

    @property
    def patients_needed(self) -> int:
        """How many patients each class needs: one for every fold, or one for each hold-out part."""
        return self.folds if self.repeats else 2


@dataclass(frozen=True)
class HoldoutResult:
    """One head trained on a part of the images and scored on the rest, as in the tutorial.

    `train` and `test` are sorted indices, int64 (n,); `probabilities`, float64 (len(test), C), and
    `scores` are of the test images. `heads` is the recalibrated head, and `history` has loss,
    accuracy, val_loss and val_accuracy after each epoch of its training.
    """

    train: np.ndarray
    test: np.ndarray
    heads: "Heads"
    history: dict[str, list[float]]
    probabilities: np.ndarray
    scores: metrics.ClassificationScores


@dataclass(frozen=True)
class CrossValidationResult:
    """Repeated cross-validation by patient, with a head on each region of the images.

    Attributes:
        labels: (N,) int64, of the images that took part.
        is_positive: (N,) bool, whether they are of the positive class.
        region_scores: region -> (R, N) float64, score of the positive class.
        heads: region -> the heads of all fits.
        fold: (R, N) int64, the fit that was not trained on an image, and scored it.
        probabilities: (R, N) float64, recalibrated, of the positive class from the model's region.
        threshold: the given one, or the one that keeps the given sensitivity; None for neither.
        scores: of these probabilities at the threshold.
    """

    folds: int
    repeats: int
    labels: np.ndarray
    is_positive: np.ndarray
    region_scores: dict[str, np.ndarray]
    heads: dict[str, "Heads"]
    fold: np.ndarray
    probabilities: np.ndarray
    threshold: float | None
    scores: metrics.CrossValidationScores
    regions: RegionComparison


@dataclass(frozen=True)
class SiteScore:
    """The AUC at a site whose images and patients did not train the head."""

    site: str
    positives: int
    negatives: int
    auc: Estimate


@dataclass(frozen=True)
class TransplantPicture:
    """An image, uint8 RGB (224, 224, 3), and what the first reference made of it.

    `name` is class/file, and `truth` its class.
    """

    name: str
    truth: str
    untouched: np.ndarray
    own_lungs: np.ndarray
    fixed_lungs: np.ndarray


@dataclass(frozen=True)
class TransplantRun:
    """The scores of a transplant test by region, and some of its pictures."""

    regions: dict[str, TransplantScores]
    pictures: tuple[TransplantPicture, ...]


@dataclass(frozen=True)
class Case:
    """One image, what the model predicts for it, and where that comes from.

    Attributes:
        name: class/file.
        image: uint8 (224, 224, 3), RGB.
        heat: float32 (224, 224), 0 to 1 (Grad-CAM).
        truth, predicted: names of classes.
        probability: of the positive class.
        lungs: bool (224, 224), where the segmenter finds lungs.
        heat_in_lungs: share of the heat inside the lungs; NaN where there is no heat.
    """

    name: str
    image: np.ndarray
    heat: np.ndarray
    truth: str
    predicted: str
    probability: float
    lungs: np.ndarray
    heat_in_lungs: float


@dataclass(frozen=True)
class Gallery:
    """The most confident wrong and right cases, wrong ones first, and where the heat of all lies.

    The three means are over all images that have heat, and None where none has: the share of heat
    in the central part of the picture, the share in the lungs, and the lungs' share of the picture.
    """

    cases: tuple[Case, ...]
    heat_in_centre: float | None
    heat_in_lungs: float | None
    lung_area: float | None


@dataclass(frozen=True)
class TrainingRun:
    """Everything that one training run found.

    Attributes:
        config: with values for `repeats` and `batch_size`.
        data: the images used; patients who share a picture are one group.
        copies: how many images have a copy under another patient.
        positive: label of the positive class.
        cross_validation: None with `--repeats 0`.
        versus_shortcut: cross-validated AUC minus that of the best shortcut, on the same images;
            None without cross-validation, as is `strata`.
        sites: scores at sites that were left out.
        transplants: None if there are too few images, or none are wanted.
        lung_dice: overlap of the lungs found with the masks that came with the images; None
            where none came.
        weights: name and SHA-256 of the ImageNet weights.
        precision: "float32" or "bfloat16", of VGG16 while training.
    """

    config: TrainConfig
    data: "Dataset"
    copies: int
    positive: int
    holdout: HoldoutResult
    cross_validation: CrossValidationResult | None
    audit: AuditResult
    versus_shortcut: Estimate | None
    strata: StratifiedScores | None
    sites: tuple[SiteScore, ...]
    transplants: TransplantRun | None
    lung_dice: Quartiles | None
    weights: tuple[str, str]
    precision: str

    @property
    def threshold(self) -> float | None:
        """Probability of the positive class from which the saved model predicts it; None where it
        predicts the most probable class."""
        one = self.cross_validation or self.config
        return one.threshold

    @property
    def predictive_values(self) -> dict[str, Estimate]:
        """PPV and NPV at `--prevalence`, of the cross-validation if there is one; see `metrics`."""
        scores = self.cross_validation.scores if self.cross_validation else self.holdout.scores
        return metrics.predictive_values(
            scores.sensitivity, scores.specificity, self.config.prevalence
        )

    @property
    def regions(self) -> RegionComparison | None:
        """How the cross-validated AUCs of the regions compare; None without cross-validation."""
        return self.cross_validation.regions if self.cross_validation else None
