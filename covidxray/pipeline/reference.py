"""Normal images of a site, by which new images of the same site are classified."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from covidxray.data.inspection import ClassImage, read_class_folder
from covidxray.data.layouts import ClassFolder
from covidxray.data.manifest import ManifestRow
from covidxray.data.transplant import LungPicture
from covidxray.errors import InputError
from covidxray.evaluation import conformal
from covidxray.evaluation.conformal import Reference
from covidxray.model.model_file import ModelMetadata
from covidxray.model.predictor import Predictor
from covidxray.pipeline.engines import LocalEngine

if TYPE_CHECKING:
    from covidxray.cluster.ray_engine import RayEngine

PICTURES = 20  # of the reference that are kept for transplants
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class SiteReference:
    """Normal images of a site, one a patient.

    Attributes:
        reference: their scores of the positive class, and the rate that is asked for.
        digests: SHA-256 of the files.
        patients: digests of the patients (`patients.patient_digest`).
        rows: of the images.
        pictures: of images with a plausible pair of lungs.
    """

    reference: Reference
    digests: frozenset[str]
    patients: frozenset[str]
    rows: tuple[ManifestRow, ...]
    pictures: tuple[LungPicture, ...]

    def check(self, rows: Sequence[ManifestRow], patients: Sequence[str]) -> None:
        """Check that images with these rows and patients' digests can be classified by it.

        Views and devices that the reference does not have are logged.

        Raises:
            InputError: an image, or its patient, is in the reference.
        """
        for row, patient in zip(rows, patients, strict=True):
            if row.sha256 in self.digests or (patient and patient in self.patients):
                reason = "or another image of the patient, is in --reference"
                raise InputError(f"{row.filename}: the image, {reason}; remove it there")
        for name in ("view", "device"):
            ours, theirs = (
                {getattr(row, name).upper() for row in part} - {""} for part in (self.rows, rows)
            )
            if ours and theirs - ours:
                logger.info(
                    "some images have another %s than the reference: p-values may be "
                    "wrong for them",
                    name,
                )


def read_reference(
    folder: Path,
    rate: float,
    predictor: Predictor,
    engine: "LocalEngine | RayEngine",
) -> SiteReference:
    """Score the normal images in a folder; of a patient with several, the first.

    Raises:
        InputError: a threshold was given, too, the model has more than two classes, an image or its
            patient trained it, or there are too few images for the rate.
    """
    metadata = predictor.metadata
    if predictor.options["threshold"] is not None:
        raise InputError("--threshold: the reference gives the threshold; leave one of them out")
    if len(metadata.classes) > 2:
        raise InputError("--reference: works with models of two classes only; leave it out")
    salt = bytes.fromhex(metadata.salt)
    images, left_out = read_class_folder(ClassFolder("", folder), salt, engine.inspect_files)
    known: dict[str, int] = {}
    firsts = [
        known.setdefault(one.patient or str(one.path), k) == k for k, one in enumerate(images)
    ]
    images = [one for one, first in zip(images, firsts, strict=True) if first]
    used: list[ClassImage] = []
    scores: list[float] = []
    hashes: list[np.ndarray] = []
    pictures: list[LungPicture] = []
    predictions = engine.predict_files(
        predictor, [one.path for one in images], with_statistics=True
    )
    for one, found in zip(images, predictions, strict=True):
        if isinstance(found, InputError) or found.statistics is None or found.label is None:
            continue
        used.append(one)
        scores.append(float(found.probabilities[predictor.positive]))
        hashes.append(found.statistics.hash)
        if found.lungs_found and len(pictures) < PICTURES:
            pictures.append(LungPicture(found.image, found.lungs))
    unread = len(images) - len(used) + len(left_out)
    if skipped := unread + firsts.count(False):
        message = "reference: %d images are left out, %d of them unreadable or without lungs"
        logger.info(message, skipped, unread)
    needed = conformal.images_needed(rate)
    if len(used) < needed:
        reason = f"holds {len(used)} images that can be used, and a rate of {rate:g} needs {needed}"
        raise InputError(f"{folder}: {reason}; add {needed - len(used)}")
    _refuse_trained(metadata, used, np.array(hashes))
    return SiteReference(
        reference=Reference(np.array(scores), rate),
        digests=frozenset(one.row.sha256 for one in used),
        patients=frozenset(one.patient for one in used) - {""},
        rows=tuple(one.row for one in used),
        pictures=tuple(pictures),
    )


def _refuse_trained(
    metadata: ModelMetadata, images: Sequence[ClassImage], hashes: np.ndarray
) -> None:
    trained = metadata.trained_images([one.row.sha256 for one in images], hashes)
    trained |= metadata.trained_patients([one.patient for one in images])
    for k in np.flatnonzero(trained)[:1]:
        reason = "the image, or another one of the patient, trained the model"
        raise InputError(f"{images[k].path}: {reason}; remove it from --reference")
