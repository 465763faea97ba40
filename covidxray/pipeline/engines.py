"""Where images are read, decoded and passed through VGG16: on this machine or on a Ray cluster."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from covidxray.data.dataset import Dataset
from covidxray.data.image_file import ImageFile
from covidxray.data.inspection import inspect_files
from covidxray.errors import InputError
from covidxray.files import is_remote

if TYPE_CHECKING:
    from covidxray.cluster.ray_engine import RayEngine
    from covidxray.model.feature_table import Features
    from covidxray.model.features import CachedFeatures
    from covidxray.model.network import Network
    from covidxray.model.prediction import Prediction
    from covidxray.model.predictor import Predictor


class LocalEngine:
    """This process: images are decoded in threads while the network computes.

    See `inspection.inspect_files`, `features.extract` and `Predictor.predict_files`.
    """

    inspect_files = staticmethod(inspect_files)

    def extract(
        self,
        network: "Network",
        data: Dataset,
        angles: np.ndarray,
        cached: "CachedFeatures | None" = None,
    ) -> "Features":
        from covidxray.model.features import extract  # imports Keras

        return extract(lambda: network.region_model, data.paths, angles, cached)

    def predict_files(
        self,
        predictor: "Predictor",
        paths: Sequence[Path | ImageFile],
        with_statistics: bool = False,
    ) -> "Iterator[Prediction | InputError]":
        return predictor.predict_files(paths, with_statistics)


def open_engine(
    name: str, ray_address: str | None, places: Iterable[Path], features: Path | None = None
) -> "LocalEngine | RayEngine":
    """The engine that the command line asks for, "local" or "ray"; both give the same results.

    `places` are the files and folders that will be read; for the others, see `RayEngine`. Raises
    InputError if Ray is not installed or does not answer, or an option or a place needs Ray.
    """
    if name == "ray":
        from covidxray.cluster.ray_engine import RayEngine  # optional, and slow to import

        return RayEngine(ray_address, features)
    for option, value in (("--ray-address", ray_address), ("--features", features)):
        if value:
            raise InputError(f"{option}: works with --engine ray only; add that option")
    for path in filter(is_remote, places):
        raise InputError(f"{path}: is read with --engine ray only; add that option, or fetch it")
    return LocalEngine()
