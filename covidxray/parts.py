"""Features in Parquet files, written as they come: what a cluster hands in (`cluster.Cluster`)."""

import json
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import numpy as np

from covidxray.clues import Clue
from covidxray.errors import InputError
from covidxray.files import whole_file

if TYPE_CHECKING:
    from covidxray.features import Features, Seen

PART = 1024  # images a file
LOGITS = "lung_logits"
SURFACE = ("thumbnail", "frame", "histogram", "hash")  # of `Clue`: its arrays
KEY = b"covidxray"  # of the files' metadata: what their features were made of


class Parts:
    """Features in Parquet files, in a folder for them alone; `made_of` is what they depend on.

    Raises:
        InputError: the folder cannot be made, or holds features that depend on something else.
    """

    def __init__(self, folder: Path, made_of: str):
        import pyarrow.parquet

        self._parquet = pyarrow.parquet
        self._folder, self._made_of = folder, made_of.encode()
        self._waiting: dict[int, Seen] = {}
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

    def add(self, seen: "dict[int, Seen]") -> None:
        """Keep what was computed of images, by index."""
        self._waiting |= seen
        if len(self._waiting) >= PART:
            self.flush()

    def flush(self) -> None:
        """Write what was added since the last file."""
        if not self._waiting:
            return
        import pyarrow

        from covidxray.features import Features

        features = Features.of(list(self._waiting.values()))
        arrays, clues = {**features.views, LOGITS: features.lungs}, features.clues
        arrays |= {name: np.stack([getattr(clue, name) for clue in clues]) for name in SURFACE}
        columns = {
            name: pyarrow.FixedSizeListArray.from_arrays(a.ravel(), a[0].size)
            for name, a in arrays.items()
        }
        columns |= {"index": list(self._waiting), "file": [json.dumps(clue.file) for clue in clues]}
        table = pyarrow.table(columns).replace_schema_metadata({KEY: self._made_of})
        with whole_file(self._folder / f"{uuid4().hex}.parquet") as part:
            self._parquet.write_table(table, part, use_dictionary=["file"], compression="zstd")
        self._waiting = {}

    def read(self, n: int, views: int, unread: dict[int, InputError]) -> "Features":
        """All of it, in the order of the `n` images, but for those that could not be read."""
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
        read = [i for i in range(n) if i not in unread]
        pools = {pool: found[read] for pool, found in pools.items()}
        return Features(pools, lungs[read], [clues[i] for i in read], unread)
