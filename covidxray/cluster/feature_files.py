"""Keep the features of a data set in Parquet files, from which a later run continues."""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow
from pyarrow import parquet

from covidxray.data.dataset import Dataset
from covidxray.data.image_statistics import ImageStatistics
from covidxray.errors import InputError
from covidxray.files import atomic_write
from covidxray.model.feature_table import ImageFeatures
from covidxray.model.features import cache_key, depends_on
from covidxray.model.network import Network

KEY = b"covidxray"  # in the metadata of every file: a hash of everything its features depend on
TENSORS = ("regions", "lungs", "thumbnail", "frame", "histogram", "hash")


class FeatureFiles:
    """A folder of Parquet files, each with the features of some images of one data set.

    A row has the `index` of an image in the data set, the facts of its `file` as JSON, and the
    other arrays of `ImageFeatures` and `ImageStatistics` as Arrow tensors of a fixed shape.
    Features depend on the `network`, the `data` and the `angles`. The `folder` is created if it
    does not exist.
    """

    def __init__(self, folder: Path, network: Network, data: Dataset, angles: np.ndarray):
        parts = network.weights, network.recipe, network.segmenter, network.precision
        images = {"images": [row.sha256 for row in data.rows], "angles": angles.tolist()}
        self._metadata = {KEY: cache_key({**depends_on(*parts), **images}).encode()}
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def read(self) -> dict[int, ImageFeatures]:
        """The features in all files, by the index of the image.

        Raises InputError if a file is damaged, or has features of other images or options.
        """
        found: dict[int, ImageFeatures] = {}
        for path in sorted(self._folder.glob("[!.]*.parquet")):  # hidden: another run writes it
            try:
                table = parquet.read_table(path)
            except (OSError, ValueError) as error:
                raise InputError(f"{path}: is damaged; remove it") from error
            if table.schema.metadata != self._metadata:
                message = "has features of other images or options; give another folder"
                raise InputError(f"{path}: {message}, or remove this one")
            found |= _images(table)
        return found

    def write(self, images: Mapping[int, ImageFeatures]) -> None:
        """Write the features of images, by index, to a new file (see `files.atomic_write`)."""
        if images:
            with atomic_write(self._folder / f"{min(images):09}.parquet") as temporary:
                table = _table(images).replace_schema_metadata(self._metadata)
                parquet.write_table(table, temporary, compression="zstd", use_dictionary=["file"])


def _table(images: Mapping[int, ImageFeatures]) -> pyarrow.Table:
    rows = [{**vars(image), **vars(image.statistics)} for image in images.values()]
    columns = {"index": list(images), "file": [json.dumps(row["file"]) for row in rows]}
    for name in TENSORS:
        array = np.stack([row[name] for row in rows])
        columns[name] = pyarrow.FixedShapeTensorArray.from_numpy_ndarray(array)
    return pyarrow.table(columns)


def _images(table: pyarrow.Table) -> dict[int, ImageFeatures]:
    """The reverse of `_table`."""
    tensors = {name: table[name].combine_chunks().to_numpy_ndarray() for name in TENSORS}
    images = {}
    for row, index in enumerate(table["index"].to_pylist()):
        values = {name: tensor[row] for name, tensor in tensors.items()}
        regions, lungs = values.pop("regions"), values.pop("lungs")
        statistics = ImageStatistics(file=json.loads(table["file"][row].as_py()), **values)
        images[index] = ImageFeatures(regions, lungs, statistics)
    return images
