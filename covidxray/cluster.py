"""Reading, decoding and VGG16 on a Ray cluster; what comes back is what the local engine gives.

Ray Data maps chunks of images over a pool of actors. An actor builds its model once, from a copy
in Ray's object store. A node may be lost: its actors start again elsewhere, and what they had not
handed in is computed again. A chunk is the local engine's batch of images, and what comes back is
put in order, so features are the same to the bit on machines of one kind.
"""

import hashlib
import json
import logging
import os
import pickle
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm import tqdm

from covidxray.cli import quiet_backend
from covidxray.clues import Clue
from covidxray.errors import InputError
from covidxray.files import on_disk, whole_file

if TYPE_CHECKING:
    import keras

    from covidxray.backbone import Recipe
    from covidxray.classifier import Classifier, Prediction
    from covidxray.dataset import Dataset
    from covidxray.features import Features
    from covidxray.lungs import Segmenter
    from covidxray.manifest import Row

CHUNK = 16  # images a call: `features.BATCH`, so that a batch holds the same images on any engine
PART = 1024  # images a Parquet file
CPUS = 8  # most an actor takes: VGG16 gains little from more
LOGITS = "lung_logits"
SURFACE = ("thumbnail", "frame", "histogram", "hash")  # of `Clue`: its arrays
KEY = b"covidxray"  # of the files' metadata: what their features were made of


class Cluster:
    """An engine (see `engine.Local`): the Ray cluster at `address`, "auto" for the one on this
    machine, or None for a new one that ends with this program.

    `folder` keeps features, as Parquet files; those that it holds already are not computed again.
    None: they go once they are read.

    Raises:
        InputError: Ray is not installed, or there is none at that address.
    """

    def __init__(self, address: str | None, folder: Path | None = None):
        self._folder = folder
        os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # Ray keeps logs of its own
        try:
            import ray.data
        except ImportError as error:
            mend = "pip install -r requirements-cluster.txt"
            raise InputError(f"--engine ray: Ray is not installed; {mend}") from error
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        package = Path(__file__).parent
        # The nodes run this program's code, whatever they have, and the backend that runs here.
        environment = {"py_modules": [str(package)], "env_vars": {"TF_CPP_MIN_LOG_LEVEL": "2"}}
        if backend := os.environ.get("KERAS_BACKEND"):
            environment["env_vars"]["KERAS_BACKEND"] = backend
        quiet = {"logging_level": "ERROR", "log_to_driver": False}
        try:
            with quiet_backend():
                ray.init(address or "local", runtime_env=environment, **quiet)
        except (ConnectionError, RuntimeError, ValueError) as error:
            mend = "start one with 'ray start --head', or give another address"
            raise InputError(f"--ray-address {address}: no Ray answers; {mend}") from error

    def look_at(self, paths: Sequence[Path], listed: Sequence[bool], salt: bytes) -> "list[Row]":
        """See `dataset.look_at_all`."""
        chunks = [(paths[k : k + CHUNK], listed[k : k + CHUNK]) for k in _starts(paths)]
        return [row for _, rows in self._map(_Looker, (salt,), chunks) for row in rows]

    def extract(
        self,
        backbone: "keras.Model",
        recipe: "Recipe",
        segmenter: "Segmenter",
        data: "Dataset",
        *,
        views: int,
        rotation: float,
        rng: np.random.Generator,
    ) -> "Features":
        """See `features.extract`; the images are a data set's.

        Raises:
            InputError: an image cannot be decoded, or the folder holds other features.
        """
        from covidxray import summary
        from covidxray.features import draw_angles
        from covidxray.lungs import to_arrays

        paths, angles = data.paths, draw_angles(len(data), views, rotation, rng)
        made_of = [summary.versions(), backbone.to_json(), repr(recipe), angles]
        made_of += [*backbone.get_weights(), *to_arrays(segmenter).values()]
        made_of += [row.sha256 for row in data.rows]
        with ExitStack() as stack:
            folder = self._folder or Path(stack.enter_context(tempfile.TemporaryDirectory()))
            parts = Parts(folder, _digest(made_of))
            done = parts.indices()
            starts = [k for k in _starts(paths) if k not in done]
            chunks = [(paths[k : k + CHUNK], angles[k : k + CHUNK]) for k in starts]
            bar = stack.enter_context(tqdm(total=len(paths), desc="VGG16 on Ray", unit="image"))
            bar.update(len(done))
            stack.enter_context(parts)
            made_of = backbone, recipe, segmenter
            for k, features in self._map(_Extractor, made_of, chunks, in_order=False):
                parts.add(starts[k], features)
                bar.update(len(features.clues))
            parts.flush()
            return parts.read(len(paths), 1 + views)

    def judge(
        self, classifier: "Classifier", paths: Sequence[Path], clues: list[Clue] | None = None
    ) -> "Iterator[Prediction | InputError]":
        """See `classifier.Classifier.judge`."""
        chunks = [paths[k : k + CHUNK] for k in _starts(paths)]
        for _, (predictions, seen) in self._map(_Judge, (classifier.path.read_bytes(),), chunks):
            if clues is not None:
                clues += seen
            yield from predictions

    def _map(
        self, work: type, made_of: tuple, chunks: list, in_order: bool = True
    ) -> Iterator[tuple[int, Any]]:
        """A chunk's number, and what `work(*made_of)`, made once an actor, returns for it."""
        import ray

        if not chunks:
            return
        context = ray.data.DataContext.get_current()
        context.execution_options.preserve_order = in_order
        context.enable_progress_bars = False
        nodes = [node["Resources"].get("CPU", 0) for node in ray.nodes() if node["Alive"]]
        cpus = max(1, min([CPUS, *(int(n) for n in nodes if n)]))
        actors = min(len(chunks), max(1, int(sum(n // cpus for n in nodes))))
        # Ray Data's actors start again, and calls are repeated, as often as nodes are lost.
        table = ray.data.from_items(
            [{"k": k, "chunk": pickle.dumps(chunk)} for k, chunk in enumerate(chunks)],
            override_num_blocks=len(chunks),
        ).map_batches(
            _Actor,
            fn_constructor_args=(work, ray.put(made_of)),
            batch_size=1,
            num_cpus=cpus,
            compute=ray.data.ActorPoolStrategy(
                min_size=1,
                max_size=actors,
                initial_size=actors,
                max_concurrent_calls_per_actor=2,  # one fetches while the other computes
                enable_true_multi_threading=True,
            ),
        )
        for row in table.iter_rows():
            found = pickle.loads(row["found"])
            if isinstance(found, InputError):
                raise found
            yield row["k"], found


class _Actor:
    """A process on a node; what it returns is pickled."""

    def __init__(self, work: type, made_of: Any):
        import ray

        # TensorFlow would take every CPU of the node; Ray says here how many are this actor's.
        os.environ.setdefault("TF_NUM_INTRAOP_THREADS", os.environ.get("OMP_NUM_THREADS", "0"))
        self._work = work(*ray.get(made_of))

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, Any]:
        try:
            found = self._work(pickle.loads(batch["chunk"][0]))
        # Anything else is a defect, and ends the run with its traceback.
        except InputError as error:
            found = error
        return {"k": batch["k"], "found": [pickle.dumps(found)]}


class _Looker:
    """Reads files for `dataset.load_dataset`."""

    def __init__(self, salt: bytes):
        self._salt = salt

    def __call__(self, chunk: tuple[Sequence[Path], Sequence[bool]]) -> "list[Row]":
        from covidxray.dataset import look

        with ThreadPoolExecutor(CHUNK) as pool:
            return list(pool.map(look, *chunk, [self._salt] * CHUNK))


class _Extractor:
    """Features of images."""

    def __init__(self, backbone: "keras.Model", recipe: "Recipe", segmenter: "Segmenter"):
        from covidxray.features import three_pools

        self._model = three_pools(backbone, recipe, segmenter)
        self._one_at_a_time = Lock()

    def __call__(self, chunk: tuple[Sequence[Path], np.ndarray]) -> "Features":
        from covidxray.features import Features, compute

        paths, angles = chunk
        with _fetched(paths) as files, self._one_at_a_time:
            seen = list(compute(self._model, files, angles, quiet=True))
        if error := next((one for one in seen if isinstance(one, InputError)), None):
            raise error
        return Features.of(seen)


class _Judge:
    """Predictions by a saved model, from its file's bytes."""

    def __init__(self, model: bytes):
        from covidxray.classifier import Classifier

        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "model.keras")
            path.write_bytes(model)
            self._classifier = Classifier(path)
        self._one_at_a_time = Lock()

    def __call__(self, paths: Sequence[Path]) -> "tuple[list[Prediction | InputError], list[Clue]]":
        clues: list[Clue] = []
        with _fetched(paths) as files, self._one_at_a_time:
            found = list(self._classifier.judge(files, clues))
        for i, (file, path) in enumerate(zip(files, paths, strict=True)):
            if isinstance(found[i], InputError):
                found[i] = InputError(str(found[i]).replace(str(file), str(path)))
        return found, clues


@contextmanager
def _fetched(paths: Sequence[Path]) -> Iterator[list[Path]]:
    """`files.on_disk` for many paths, fetched all at a time."""
    with ExitStack() as stack, ThreadPoolExecutor(CHUNK) as pool:
        yield list(pool.map(stack.enter_context, map(on_disk, paths)))


class Parts:
    """Features in Parquet files, in a folder for them alone; `made_of` is what they depend on.

    Raises:
        InputError: the folder cannot be made, or holds features that depend on something else.
    """

    def __init__(self, folder: Path, made_of: str):
        import pyarrow.parquet

        self._parquet = pyarrow.parquet
        self._folder, self._made_of = folder, made_of.encode()
        self._waiting: list[tuple[int, Features]] = []
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"{folder}: cannot be made ({error.strerror})") from error
        for path in self._files():
            try:
                metadata = self._parquet.read_schema(path).metadata or {}
            except (OSError, ValueError) as error:
                raise InputError(f"{path}: is damaged; remove it") from error
            if metadata.get(KEY) != self._made_of:
                mend = "give another folder, or remove it"
                raise InputError(f"{path}: is of other images or options; {mend}")

    def __enter__(self) -> "Parts":
        return self

    def __exit__(self, *_: object) -> None:
        self.flush()

    def _files(self) -> list[Path]:
        return sorted(self._folder.glob("*.parquet"))

    def indices(self) -> set[int]:
        """Which images are there."""
        tables = (self._parquet.read_table(path, columns=["index"]) for path in self._files())
        return {index for table in tables for index in table["index"].to_pylist()}

    def add(self, start: int, features: "Features") -> None:
        """Keep the features of images from index `start` on."""
        self._waiting.append((start, features))
        if sum(len(waiting.clues) for _, waiting in self._waiting) >= PART:
            self.flush()

    def flush(self) -> None:
        """Write what was added since the last file."""
        if not self._waiting:
            return
        import pyarrow

        starts, found = zip(*self._waiting, strict=True)
        clues = [clue for features in found for clue in features.clues]
        index = [start + i for start, f in self._waiting for i in range(len(f.clues))]
        arrays = {name: [f.views[name] for f in found] for name in found[0].views}
        arrays = {name: np.concatenate(parts) for name, parts in arrays.items()}
        arrays[LOGITS] = np.concatenate([f.lungs for f in found])
        arrays |= {name: np.stack([getattr(clue, name) for clue in clues]) for name in SURFACE}
        columns = {
            name: pyarrow.FixedSizeListArray.from_arrays(a.ravel(), a[0].size)
            for name, a in arrays.items()
        }
        columns |= {"index": index, "file": [json.dumps(clue.file) for clue in clues]}
        table = pyarrow.table(columns).replace_schema_metadata({KEY: self._made_of})
        with whole_file(self._folder / f"{starts[0]:08d}.parquet") as part:
            self._parquet.write_table(table, part, use_dictionary=["file"], compression="zstd")
        self._waiting = []

    def read(self, n: int, views: int) -> "Features":
        """All of it, in the order of the images."""
        from covidxray.backbone import FEATURES
        from covidxray.features import Features
        from covidxray.lungs import GRID, POOLS

        pools = {pool: np.empty((n, views, FEATURES), np.float32) for pool in POOLS}
        lungs = np.empty((n, GRID, GRID), np.float32)
        clues: list[Clue] = [None] * n
        for path in self._files():
            table = self._parquet.read_table(path).combine_chunks()
            index = table["index"].to_numpy()

            def array(name: str, *shape: int, table=table) -> np.ndarray:
                return table[name].combine_chunks().flatten().to_numpy().reshape(-1, *shape)

            for pool, found in pools.items():
                found[index] = array(pool, views, FEATURES)
            lungs[index] = array(LOGITS, GRID, GRID)
            surface = zip(*(array(name, len(table[name][0])) for name in SURFACE), strict=True)
            for i, facts, values in zip(index, table["file"].to_pylist(), surface, strict=True):
                clues[i] = Clue(**dict(zip(SURFACE, values, strict=True)), file=json.loads(facts))
        return Features(pools, lungs, clues)


def _starts(items: Sequence) -> range:
    return range(0, len(items), CHUNK)


def _digest(parts: Sequence[Any]) -> str:
    """Of arrays, and of what else has a text that says all of it."""
    digest = hashlib.sha256()
    for part in parts:
        content = np.ascontiguousarray(part) if isinstance(part, np.ndarray) else str(part).encode()
        digest.update(hashlib.sha256(content).digest())
    return digest.hexdigest()
