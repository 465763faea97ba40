"""Reading, decoding and VGG16 on a Ray cluster; what comes back is what the local engine gives.

Ray Data maps chunks of images over a pool of actors. An actor builds its model once, from a copy
in Ray's object store. A node may be lost: its actors start again elsewhere, and what they had not
handed in is computed again. A chunk is the local engine's batch of images, and what comes back is
put in order, so features are the same to the bit on machines of one kind.
"""

import hashlib
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
from covidxray.files import on_disk
from covidxray.parts import Parts

if TYPE_CHECKING:
    import keras

    from covidxray.backbone import Recipe
    from covidxray.classifier import Classifier, Prediction
    from covidxray.dataset import Dataset
    from covidxray.features import Features, Seen
    from covidxray.lungs import Segmenter
    from covidxray.manifest import Row

CHUNK = 16  # images a call: `features.BATCH`, so that a batch holds the same images on any engine
CPUS = 8  # most an actor takes: VGG16 gains little from more


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
            InputError: the folder holds other features.
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
            starts = [
                k for k in _starts(paths) if not done.issuperset(range(len(paths))[k:][:CHUNK])
            ]
            chunks = [(paths[k : k + CHUNK], angles[k : k + CHUNK]) for k in starts]
            bar = stack.enter_context(tqdm(total=len(paths), desc="VGG16 on Ray", unit="image"))
            bar.update(len(done))
            stack.enter_context(parts)
            made_of = backbone, recipe, segmenter
            unread = {}
            for k, found in self._map(_Extractor, made_of, chunks, in_order=False):
                indexed = dict(enumerate(found, starts[k]))
                errors = {i: one for i, one in indexed.items() if isinstance(one, InputError)}
                parts.add({i: one for i, one in indexed.items() if i not in errors})
                unread |= errors
                bar.update(len(found) - len(done.intersection(indexed)))
            parts.flush()
            return parts.read(len(paths), 1 + views, dict(sorted(unread.items())))

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

    def __call__(self, chunk: tuple[Sequence[Path], np.ndarray]) -> "list[Seen | InputError]":
        from covidxray.features import compute

        paths, angles = chunk
        with _fetched(paths) as files, self._one_at_a_time:
            found = list(compute(self._model, files, angles, quiet=True))
        return _renamed(found, files, paths)


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
        return _renamed(found, files, paths), clues


def _renamed(found: list, files: Sequence[Path], paths: Sequence[Path]) -> list:
    """What was found of fetched files; the errors among it name the places they came from."""
    return [
        InputError(str(one).replace(str(file), str(path))) if isinstance(one, InputError) else one
        for one, file, path in zip(found, files, paths, strict=True)
    ]


@contextmanager
def _fetched(paths: Sequence[Path]) -> Iterator[list[Path]]:
    """`files.on_disk` for many paths, fetched all at a time."""
    with ExitStack() as stack, ThreadPoolExecutor(CHUNK) as pool:
        yield list(pool.map(stack.enter_context, map(on_disk, paths)))


def _starts(items: Sequence) -> range:
    return range(0, len(items), CHUNK)


def _digest(parts: Sequence[Any]) -> str:
    """Of arrays, and of what else has a text that says all of it."""
    digest = hashlib.sha256()
    for part in parts:
        content = np.ascontiguousarray(part) if isinstance(part, np.ndarray) else str(part).encode()
        digest.update(hashlib.sha256(content).digest())
    return digest.hexdigest()
