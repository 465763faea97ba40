"""The results of an external evaluation: values only, without Keras."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from covidxray.audit.result import AuditResult
from covidxray.evaluation.conformal import Reference
from covidxray.evaluation.external_scores import BaselineScore, ExternalScores
from covidxray.evaluation.intervals import Estimate
from covidxray.evaluation.metrics import predictive_values
from covidxray.evaluation.regions import RegionComparison
from covidxray.evaluation.strata import PROPERTIES, StratifiedScores
from covidxray.pipeline.runs import Gallery, TransplantRun

if TYPE_CHECKING:
    from covidxray.data.dataset import Dataset
    from covidxray.model.model_file import ModelMetadata


@dataclass(frozen=True, kw_only=True)
class PredictorConfig:
    """Options of a saved model in use; each field has the name of its option.

    `cache` is None to keep nothing, and `reference` None for the model's own threshold.
    """

    model: Path
    threshold: float | None = None
    explain_class: str | None = None
    reference: Path | None = None
    false_positives: float = 0.1
    precision: str = "auto"
    cache: Path | None = None
    engine: str = "local"
    ray_address: str | None = None


@dataclass(frozen=True, kw_only=True)
class ExternalConfig(PredictorConfig):
    """Options of evaluate_covid19.py; each field has the name of its option.

    `prevalence` is the share of positive patients where the model is used, if that is known.
    """

    dataset: tuple[Path, ...]
    seed: int = 42
    prevalence: float | None = None
    stratify: tuple[str, ...] = PROPERTIES
    transplant: int = 0
    transplant_pictures: Path | None = None
    plots: Path | None = None


@dataclass(frozen=True)
class Evidence:
    """What speaks for and against the lungs, on images of both classes.

    Attributes:
        region_scores: region -> (N,) float64, probability of the positive class.
        acquisition: name -> score of each baseline of `model.acquisition`, the best one first.
        transplants: None if there are too few images, or none are wanted.
        audit: of these images themselves; None if a class has too few patients.
    """

    region_scores: dict[str, np.ndarray]
    regions: RegionComparison
    strata: StratifiedScores
    acquisition: dict[str, BaselineScore]
    transplants: TransplantRun | None
    audit: AuditResult | None


@dataclass(frozen=True)
class ExternalRun:
    """Everything that the evaluation of a saved model on N labelled images found.

    Attributes:
        model: the model's file.
        data: the images that could be read; patients who share a picture are one group.
        copies: how many images have a copy under another patient.
        positive: label of the positive class.
        probabilities: (N, C) float64.
        pairs_of_lungs: in how many images a pair of lungs was found.
        warnings: how many images carry a warning.
        gallery: cases to show.
        trained_images, trained_patients: (N,) bool, whether an image, or its patient, was among
            the training images.
        scores: at the model's threshold, and what needs none.
        evidence: None where the images are of one class.
        reference: normal images of the site that give the threshold; None without them.
    """

    config: ExternalConfig
    model: Path
    metadata: "ModelMetadata"
    data: "Dataset"
    copies: int
    positive: int
    probabilities: np.ndarray
    pairs_of_lungs: int
    warnings: int
    gallery: Gallery
    trained_images: np.ndarray
    trained_patients: np.ndarray
    scores: ExternalScores
    evidence: Evidence | None
    reference: Reference | None

    @property
    def predictive_values(self) -> dict[str, Estimate]:
        """PPV and NPV at the prevalence; see `metrics.predictive_values`."""
        scores = self.scores.evaluation
        return predictive_values(scores.sensitivity, scores.specificity, self.config.prevalence)
