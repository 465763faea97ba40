"""Read, decode and pass images through VGG16 on a Ray cluster, with the local engine's results.

Ray Data maps chunks of images over a pool of actors, which are processes on the nodes, and returns
the results in order. If a node is lost, Ray Data starts its actors again on other nodes and repeats
the chunks whose results it had not returned.
"""

import logging
import os
import pickle
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm import tqdm

from covidxray.data.image_file import ImageFile
from covidxray.data.inspection import inspect_file
from covidxray.data.manifest import ManifestRow
from covidxray.data.prefetch import attempt, batched, ordered_map
from covidxray.errors import InputError

if TYPE_CHECKING:
    from covidxray.data.dataset import Dataset
    from covidxray.model.feature_table import Features
    from covidxray.model.network import Network
    from covidxray.model.prediction import Prediction
    from covidxray.model.predictor import Predictor

CPUS = 8  # the most that an actor uses; VGG16 is hardly faster with more
READERS = 16  # threads of an actor that read files, because object storage answers slowly
Work = Callable[[Sequence[Any]], Iterable[Any]]  # the items of a chunk -> a result for each item


class RayEngine:
    """An engine (`pipeline.engines`) that works on a Ray cluster.

    Args:
        ray_address: of a running cluster, "auto" for the one that this machine belongs to, or None
            to start Ray on this machine until the program ends.
        features_folder: keeps features as Parquet files; those that it has are not computed again.

    Raises InputError if Ray is not installed or does not answer.
    """

    # Images that an actor returns at a time, and of a Parquet file: four batches, so that an actor
    # decodes one batch while it computes another.
    chunk = 64

    def __init__(self, ray_address: str | None, features_folder: Path | None = None):
        self._folder = features_folder
        os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # Ray writes log files as well
        try:
            import ray.data
        except ImportError as error:
            remedy = "pip install -r requirements-cluster.txt"
            raise InputError(f"--engine ray: Ray is not installed; {remedy}") from error
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        # The nodes run the code and the backend of this program, whatever they have themselves.
        backend = os.environ.get("KERAS_BACKEND", "")  # empty: the default of Keras
        variables = {"TF_CPP_MIN_LOG_LEVEL": "2", "KERAS_BACKEND": backend}
        code = {"py_modules": [str(Path(__file__).resolve().parents[1])], "env_vars": variables}
        quiet: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
        try:  # a second engine in this process works on the same cluster
            ray.init(ray_address or "local", runtime_env=code, ignore_reinit_error=True, **quiet)
        except (ConnectionError, RuntimeError, ValueError) as error:
            remedy = "start one with 'ray start --head', or give another address"
            raise InputError(f"--ray-address {ray_address}: no Ray answers; {remedy}") from error

    def inspect_files(
        self, paths: Sequence[Path | ImageFile], listed: Sequence[bool], salt: bytes
    ) -> Iterator[ManifestRow | InputError]:
        return self._map(_prepare_inspection, (salt,), list(zip(paths, listed, strict=True)))

    def extract(
        self, network: "Network", data: "Dataset", angles: np.ndarray, cached: object = None
    ) -> "Features":
        """`features.extract`, but the folder of features takes the place of `cached`."""
        from covidxray.cluster.feature_files import FeatureFiles
        from covidxray.model.feature_table import Features, ImageFeatures

        files = FeatureFiles(self._folder, network, data, angles) if self._folder else None
        found: dict[int, ImageFeatures | InputError] = {**files.read()} if files else {}
        missing = [i for i in range(len(data)) if i not in found]
        parts = network.backbone, network.recipe, network.segmenter
        items = [(data.paths[i], angles[i]) for i in missing]
        results = self._map(_prepare_extraction, parts, items)
        bar = tqdm(results, "VGG16 on Ray", total=len(data), initial=len(found), unit="image")
        for computed in batched(zip(missing, bar, strict=True), self.chunk):
            if files:
                files.write({i: x for i, x in computed if isinstance(x, ImageFeatures)})
            found.update(computed)
        return Features.of(found.items(), data.paths)

    def predict_files(
        self,
        predictor: "Predictor",
        paths: Sequence[Path | ImageFile],
        with_statistics: bool = False,
    ) -> "Iterator[Prediction | InputError]":
        model = predictor.path.read_bytes()  # the nodes may not have the file
        return self._map(_prepare_prediction, (model, predictor.options, with_statistics), paths)

    def _map(
        self, prepare: Callable[..., Work], arguments: tuple, items: Sequence[Any]
    ) -> Iterator[Any]:
        """The results of `prepare(*arguments)`, called once in each actor, for items, in order."""
        import ray

        if not items:
            return
        context = ray.data.DataContext.get_current()
        context.execution_options.preserve_order = True
        context.enable_progress_bars = False
        rows = [{"chunk": pickle.dumps(chunk)} for chunk in batched(items, self.chunk)]
        nodes = [int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"]]
        cpus = min([CPUS, *filter(None, nodes)])
        actors = min(len(rows), max(1, sum(n // cpus for n in nodes)))
        chunks = ray.data.from_items(rows, override_num_blocks=len(rows)).map(
            _Actor,  # type: ignore[arg-type]  # a class whose instances are called
            fn_constructor_args=(prepare, arguments),
            num_cpus=cpus,
            compute=ray.data.ActorPoolStrategy(min_size=1, max_size=actors, initial_size=actors),
        )
        for row in chunks.iter_rows():
            yield from pickle.loads(row["results"])


class _Actor:
    """A process on a node, which works on one chunk after the other."""

    def __init__(self, prepare: Callable[..., Work], arguments: tuple):
        # TensorFlow would use every CPU of the node; Ray tells here how many this actor may use.
        os.environ.setdefault("TF_NUM_INTRAOP_THREADS", os.environ.get("OMP_NUM_THREADS", "0"))
        self._work = prepare(*arguments)

    def __call__(self, row: dict[str, bytes]) -> dict[str, bytes]:
        return {"results": pickle.dumps(list(self._work(pickle.loads(row["chunk"]))))}


def _prepare_inspection(salt: bytes) -> Work:
    return lambda files: ordered_map(lambda f: inspect_file(f[0], f[1], salt), files, READERS)


def _prepare_extraction(*parts: Any) -> Work:
    from covidxray.model.features import compute_features
    from covidxray.model.lungs import build_region_model

    model = build_region_model(*parts)

    def extract(chunk: Sequence[tuple[Path, np.ndarray]]) -> Iterable[Any]:
        paths, angles = zip(*chunk, strict=True)
        return compute_features(model, _read_ahead(paths), np.stack(angles), quiet=True)

    return extract


def _prepare_prediction(model: bytes, options: dict[str, Any], with_statistics: bool) -> Work:
    from covidxray.model.predictor import Predictor

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.keras")
        path.write_bytes(model)
        predictor = Predictor(path, **options)
    return lambda paths: predictor.predict_files(_read_ahead(paths), with_statistics)


def _read_ahead(paths: Sequence[Path]) -> Iterator[Any]:
    """The files, but the path of one that cannot be read, so that decoding it returns the error."""
    files = ordered_map(attempt(ImageFile.read), paths, threads=READERS)
    for path, file in zip(paths, files, strict=True):
        yield path if isinstance(file, InputError) else file
