"""Where images are read, decoded and pushed through VGG16: this process, or `cluster.Cluster`."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from covidxray.clues import Clue
from covidxray.dataset import Dataset, look_at_all
from covidxray.errors import InputError

if TYPE_CHECKING:
    from covidxray.classifier import Classifier, Prediction
    from covidxray.features import Features


class Local:
    """This process: images are decoded in threads, beside the forward pass."""

    look_at = staticmethod(look_at_all)

    def extract(self, backbone, recipe, segmenter, data: Dataset, **turned: Any) -> "Features":
        """See `features.extract`; the images are a data set's."""
        from covidxray.features import extract  # imports Keras

        return extract(backbone, recipe, segmenter, data.paths, **turned)

    def judge(
        self, classifier: "Classifier", paths: Sequence[Path], clues: list[Clue] | None = None
    ) -> "Iterator[Prediction | InputError]":
        """See `classifier.Classifier.judge`."""
        return classifier.judge(paths, clues)
