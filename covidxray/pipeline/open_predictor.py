"""A saved model ready to predict files, with normal images of the site if they are given."""

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from covidxray.data.image_file import ImageFile
from covidxray.errors import InputError
from covidxray.pipeline.engines import LocalEngine, open_engine
from covidxray.pipeline.external_run import PredictorConfig
from covidxray.process import quiet_backend

if TYPE_CHECKING:
    from covidxray.cluster.ray_engine import RayEngine
    from covidxray.model.prediction import Prediction
    from covidxray.model.predictor import Predictor
    from covidxray.pipeline.reference import SiteReference

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class OpenPredictor:
    """A model, where it computes, and the reference (or None) whose threshold it has."""

    predictor: "Predictor"
    engine: "LocalEngine | RayEngine"
    reference: "SiteReference | None"

    def predict_files(
        self, files: Sequence[Path | ImageFile], with_statistics: bool = False
    ) -> "Iterator[Prediction | InputError]":
        """Predict files as `Predictor.predict_files`, in order.

        Raises:
            InputError: a file, or its patient, is in the reference.
        """
        if self.reference:
            salt = bytes.fromhex(self.predictor.metadata.salt)
            found = self.engine.inspect_files(files, [False] * len(files), salt)
            rows = [row for row in found if not isinstance(row, InputError)]
            self.reference.check(rows, [row.patient_id for row in rows])
        return self.engine.predict_files(self.predictor, files, with_statistics)


def open_predictor(config: PredictorConfig, places: Iterable[Path] = ()) -> OpenPredictor:
    """Load a model, and read its reference; `places` are the files and folders to be read.

    Raises:
        InputError: the model or the reference cannot be used, or options do not fit together.
    """
    engine = open_engine(config.engine, config.ray_address, places)
    logger.info("loading model...")
    with quiet_backend():
        from covidxray.model.cache import open_cache
        from covidxray.model.predictor import Predictor
        from covidxray.model.vgg16 import resolve_precision
        from covidxray.pipeline.reference import read_reference

        cache = open_cache(config.cache, config.engine)
        precision = resolve_precision(config.precision)
        predictor = Predictor(
            config.model, cache, config.threshold, config.explain_class, precision
        )
    if not config.reference:
        return OpenPredictor(predictor, engine, None)
    reference = read_reference(config.reference, config.false_positives, predictor, engine)
    predictor.set_threshold(reference.reference.threshold)
    return OpenPredictor(predictor, engine, reference)
