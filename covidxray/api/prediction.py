"""A saved model applied to images, as an object."""

from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np

from covidxray.api import display
from covidxray.data.image_file import ImageFile
from covidxray.errors import InputError
from covidxray.model.prediction import Prediction
from covidxray.pipeline.external_run import PredictorConfig
from covidxray.pipeline.open_predictor import OpenPredictor, open_predictor
from covidxray.report.plots import outline, overlay
from covidxray.report.prediction_table import PredictionTable, Row

Image = Path | str | bytes | np.ndarray | ImageFile


@dataclass(frozen=True)
class ClassifiedImage:
    """What the model predicts for one image; a notebook shows it with its heat map.

    Attributes:
        row: as in the JSON of predict_covid19.py: class, probabilities, p-value, warning, ...
        prediction: with the image, its lungs and its heat map as arrays.
        synthetic: whether the model was trained on drawings.
    """

    row: Row
    prediction: Prediction = field(repr=False)
    synthetic: bool

    @property
    def outlined(self) -> np.ndarray:
        """The image with the outline of the lungs, uint8 RGB (224, 224, 3)."""
        return outline(self.prediction.image, self.prediction.lungs)

    @property
    def heat_map(self) -> np.ndarray:
        """The same with the heat map over it, uint8 RGB (224, 224, 3)."""
        found = self.prediction
        return outline(overlay(found.image, found.heat), found.lungs)

    def _repr_html_(self) -> str:
        name = str(self.row["image"])
        shown = [(column, "" if cell is None else str(cell)) for column, cell in self.row.items()]
        return display.page(
            display.photograph(self.outlined, f"X-ray {name} with the outline of the lungs"),
            display.photograph(self.heat_map, f"The same with the heat map of {name}"),
            display.table(shown, ("column", "value")),
            synthetic=self.synthetic,
        )


class LoadedPredictor:
    """A model that is ready; `metadata` names its classes, its threshold and its training."""

    def __init__(self, opened: OpenPredictor):
        self._opened = opened
        self.metadata = opened.predictor.metadata
        reference = opened.reference.reference if opened.reference else None
        self._table = PredictionTable(self.metadata, reference=reference)

    @property
    def explanation(self) -> str:
        """What class, probability and p-value mean, a sentence or two in each line."""
        return "\n".join(self._table.sentences)

    def predict(self, *images: Image, with_statistics: bool = False) -> list[ClassifiedImage]:
        """Predict images, in order.

        Args:
            images: paths, the bytes of files (PNG, JPEG, DICOM, ...), arrays uint8 of (H, W) or RGB
                (H, W, 3), or `ImageFile` objects, which give bytes a name.
            with_statistics: whether predictions have `statistics`, and the scores of the baselines
                on them in `acquisition`; a blank image is then an error.

        Raises:
            InputError: an image cannot be read, or is in the reference.
        """
        files = [_as_file(image, k) for k, image in enumerate(images, start=1)]
        classified = []
        predictions = self._opened.predict_files(files, with_statistics)
        for file, found in zip(files, predictions, strict=True):
            if isinstance(found, InputError):
                raise found
            row = self._table.make_row(file.path, found, None)
            classified.append(ClassifiedImage(row, found, self.metadata.synthetic))
        return classified


def _as_file(image: Image, number: int) -> ImageFile:
    if isinstance(image, ImageFile):
        return image
    name = Path(f"image {number}")
    if isinstance(image, bytes):
        return ImageFile(name, image)
    if isinstance(image, np.ndarray):
        fits = image.ndim in (2, 3) and image.shape[2:] in ((), (3,)) and image.size
        if image.dtype != np.uint8 or not fits:
            raise InputError(f"{name}: must be uint8 of shape (H, W) or (H, W, 3); convert it")
        coloured = image if image.ndim == 2 else image[..., ::-1]
        return ImageFile(name, cv2.imencode(".png", coloured)[1].tobytes())
    return ImageFile.read(Path(image))


def load_predictor(
    model: Path | str,
    *,
    threshold: float | None = None,
    reference: Path | str | None = None,
    false_positives: float = 0.1,
    explain_class: str | None = None,
    precision: str = "auto",
) -> LoadedPredictor:
    """Load a model that train_covid19.py wrote; the arguments are options of predict_covid19.py.

    Raises:
        InputError: the model or the reference cannot be used, or options do not fit together.
    """
    config = PredictorConfig(
        model=Path(model),
        threshold=threshold,
        reference=Path(reference) if reference else None,
        false_positives=false_positives,
        explain_class=explain_class,
        precision=precision,
    )
    return LoadedPredictor(open_predictor(config))
