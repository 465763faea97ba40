"""Apply a saved model to images: probabilities, warnings, the lungs and a heat map."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np

from covidxray.data.image_file import ImageFile
from covidxray.data.image_statistics import ImageStatistics
from covidxray.data.images import read_image, read_with_statistics
from covidxray.data.lung_masks import NO_LUNGS, enlarge, is_pair_of_lungs
from covidxray.data.prefetch import attempt, ordered_map
from covidxray.errors import InputError
from covidxray.evaluation import metrics
from covidxray.files import sha256_of
from covidxray.model import acquisition
from covidxray.model.cache import Cache
from covidxray.model.features import cache_key, versions
from covidxray.model.gradcam import coarse_heat, enlarge_heat
from covidxray.model.lungs import region_outputs
from covidxray.model.model_file import load_model
from covidxray.model.outliers import non_radiograph_warning
from covidxray.model.prediction import Prediction
from covidxray.model.recipes import FEATURES, RECIPES, REGIONS
from covidxray.model.vgg16 import LAST, at_precision, forward, trace

WIDTHS = {acquisition.VIEW: FEATURES, "thumbnail": 64, "frame": 56, "histogram": 23}

# What the network computes from one image, and the cache stores, as float32 arrays: `probabilities`
# (C,), `regions` (3, 512), the features of `recipes.REGIONS`, `logits` (28, 28) of the lungs, and
# `heat` (h, w) of the predicted class (`gradcam.coarse_heat`).
NetworkOutputs = dict[str, np.ndarray]


@dataclass(frozen=True)
class _DecodedImage:
    """An image on its way through the network; `cached` are its outputs from an earlier run."""

    pixels: np.ndarray
    statistics: ImageStatistics | None
    key: str
    cached: NetworkOutputs | None


class Predictor:
    """A model loaded from the file `path`; `positive` is the index of its positive class.

    Args:
        cache: stores what the network computes from each file.
        threshold: takes the place of the model's own.
        explain: class whose heat maps are made; None for the predicted class of each image.
        precision: "float32" or "bfloat16", of the convolutions.

    Raises:
        InputError: the file cannot be read as a model of this program, or has no class `explain`.
    """

    def __init__(
        self,
        path: Path,
        cache: Cache | None = None,
        threshold: float | None = None,
        explain: str | None = None,
        precision: str = "float32",
    ):
        self.path = path
        self.options: dict[str, Any] = {
            "threshold": None,
            "explain": explain,
            "precision": precision,
        }
        network, self.metadata, auxiliary = load_model(path)
        self._network = at_precision(network, precision)
        if explain is not None and explain not in self.metadata.classes:
            known = ", ".join(self.metadata.classes)
            raise InputError(f"--explain-class {explain}: is no class of the model; give {known}")
        self._explained = None if explain is None else self.metadata.classes.index(explain)
        self.positive = self.metadata.classes.index(self.metadata.positive)
        self.outlier_detector = auxiliary.outlier_detector
        self.other_heads = auxiliary.other_heads
        self.baselines = auxiliary.baselines
        self._recipe = RECIPES[self.metadata.recipe]
        try:
            self._check_shapes()
            regions = region_outputs(self._network, self._recipe, auxiliary.segmenter)
            maps = self._network.get_layer(LAST).output
        except Exception as error:  # Keras and NumPy raise several kinds of exceptions
            raise InputError(
                f"{path}: its parts do not fit together; train the model again"
            ) from error
        # Probabilities, features of each of `recipes.REGIONS`, logits of the lungs, the last maps.
        self.network = trace(
            keras.Model(self._network.input, [self._network.output, *regions, maps])
        )
        self._cache = cache
        self._depends = {**versions(), "model": sha256_of(path)} if cache else {}
        if threshold is not None:
            self.set_threshold(threshold)

    def set_threshold(self, threshold: float) -> None:
        """Classify by another threshold than the model's own."""
        self.options["threshold"] = threshold
        self.metadata = replace(self.metadata, threshold=threshold)

    def _check_shapes(self) -> None:
        detector, features = self.outlier_detector, np.zeros((1, FEATURES))
        shapes = [detector.distance(features).shape, detector.limit.shape]
        shapes += [heads.predict(features, 0).shape for heads in self.other_heads.values()]
        expected = [(1,), (), *[(1, len(self.metadata.classes))] * len(self.other_heads)]
        for name, heads in self.baselines.items():
            shapes.append(heads.predict(np.zeros((1, WIDTHS[name])), 0).shape)
            expected.append((1, 2))
        if shapes != expected:
            raise ValueError("arrays of other shapes")

    def predict_files(
        self, paths: Iterable[Path | ImageFile], with_statistics: bool = False
    ) -> Iterator[Prediction | InputError]:
        """Predict files, in order; an error stands in place of a file that cannot be read.

        `Prediction.statistics` are measured only `with_statistics`, because this takes some time.
        """
        decoded = ordered_map(attempt(lambda path: self._decode(path, with_statistics)), paths)
        for image, outputs in forward(self.network, decoded, _uncached_pixels):
            if isinstance(image, InputError):
                yield image
                continue
            found = image.cached or self._network_outputs(outputs)
            if self._cache and not image.cached:
                self._cache.put(image.key, found)
            yield self._predict(image.pixels, found, image.statistics)

    def predict(self, images: Iterable[np.ndarray]) -> Iterator[Prediction]:
        """Predict images, uint8 RGB (224, 224, 3), in order."""
        for image, outputs in forward(self.network, images, lambda image: [image]):
            yield self._predict(image, self._network_outputs(outputs))

    def _decode(self, path: Path | ImageFile, with_statistics: bool) -> _DecodedImage:
        """Read a file, and look for it in the cache."""
        file = ImageFile.read(path)
        if with_statistics:
            pixels, statistics = read_with_statistics(file)
        else:
            pixels, statistics = read_image(file), None
        if not self._cache:
            return _DecodedImage(pixels, statistics, "", None)
        key = cache_key({**self._depends, **self.options, "image": file.sha256})
        return _DecodedImage(pixels, statistics, key, self._cache.get(key))

    def _network_outputs(self, outputs: list[np.ndarray]) -> NetworkOutputs:
        """Combine the outputs of the network for one image."""
        probabilities, *regions, logits, maps = (output[0] for output in outputs)
        features = regions[REGIONS.index(self.metadata.region)]
        label, within = self._explained, self._within(logits)
        if label is None:
            label = self._label(probabilities)
        heat = coarse_heat(self._network, self._recipe.power, features, maps, label, within)
        return {
            "probabilities": probabilities,
            "regions": np.stack(regions),
            "logits": logits,
            "heat": heat,
        }

    def region_scores(
        self, probabilities: np.ndarray, features: dict[str, np.ndarray]
    ) -> dict[str, np.ndarray]:
        """Region -> scores (n,) of the positive class, from the probabilities (n, C) of the network
        and its features of each region, (n, 512)."""
        scores = {self.metadata.region: probabilities[:, self.positive]}
        for region, heads in self.other_heads.items():
            scores[region] = heads.predict(features[region], 0)[:, self.positive]
        return scores

    def _label(self, probabilities: np.ndarray) -> int:
        row = probabilities.astype(np.float64)[None]
        return int(metrics.decide(row, self.positive, self.metadata.threshold)[0])

    def _within(self, logits: np.ndarray) -> np.ndarray | None:
        """The logits if the model pools only the lungs."""
        return logits if self.metadata.region == "lungs" else None

    def _predict(
        self, image: np.ndarray, outputs: NetworkOutputs, statistics: ImageStatistics | None = None
    ) -> Prediction:
        features = dict(zip(REGIONS, outputs["regions"], strict=True))
        probabilities = outputs["probabilities"].astype(np.float64)
        rows = {region: feature[None] for region, feature in features.items()}
        scores = self.region_scores(probabilities[None], rows)
        distance = float(self.outlier_detector.distance(features["whole"][None])[0])
        distance /= float(self.outlier_detector.limit)
        lungs_found = is_pair_of_lungs(enlarge(outputs["logits"]))
        usable = lungs_found or self.metadata.region != "lungs"
        warning = non_radiograph_warning(image)
        if not warning and not lungs_found:
            warning = NO_LUNGS
        if not warning and distance > 1:
            warning = "unlike the training images"
        return Prediction(
            image=image,
            probabilities=probabilities,
            scores={region: float(score[0]) for region, score in scores.items()},
            label=self._label(outputs["probabilities"]) if usable else None,
            distance=distance,
            warning=warning,
            acquisition=acquisition.score_image(self.baselines, features["whole"], statistics),
            logits=outputs["logits"],
            lungs_found=lungs_found,
            heat=enlarge_heat(outputs["heat"], self._within(outputs["logits"])),
            statistics=statistics,
        )


def _uncached_pixels(image: _DecodedImage | InputError) -> list[np.ndarray]:
    return [] if isinstance(image, InputError) or image.cached else [image.pixels]
