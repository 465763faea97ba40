"""One .keras file holds all that prediction needs: the model, and beside it what it was made of.

A .keras file is a zip archive; two members are added that Keras passes over.
"""

import io
import json
import zipfile
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import keras
import numpy as np

from covidxray.backbone import RECIPES
from covidxray.dataset import Dataset
from covidxray.errors import InputError
from covidxray.familiarity import Familiarity
from covidxray.head import Heads
from covidxray.images import DUPLICATE_BITS, SIZE, hash_distance
from covidxray.lungs import POOLS, Segmenter, from_arrays, to_arrays
from covidxray.weights import read_arrays

MEMBER = "covidxray.json"
ARRAYS = "covidxray.npz"


@dataclass(frozen=True)
class About:
    """What a model was made of, and how to use it.

    `pool` is what its features are pooled over (`lungs.POOLS`). `trained_on` are SHA-256 digests of
    its images; `hashes` their perceptual hashes, in hexadecimal, that know a copy at another size;
    `patients` digests of its patients under `salt` (see `dataset.patient_digest`). `card` says the
    rest in words.
    """

    classes: tuple[str, ...]
    positive: str
    threshold: float
    synthetic: bool
    recipe: str
    pool: str
    salt: str
    trained_on: list[str]
    hashes: list[str]
    patients: list[str]
    card: dict[str, str] = field(default_factory=dict)

    def trained_images(self, data: Dataset, hashes: np.ndarray) -> np.ndarray:
        """Which images of a data set (N,) bool were trained on, byte for byte or as a copy.

        Args:
            data: the data set.
            hashes: (N, 4) uint64, its perceptual hashes.
        """
        known = np.array([np.frombuffer(bytes.fromhex(h), np.uint64) for h in self.hashes])
        same = np.isin([row.sha256 for row in data.rows], self.trained_on)
        if len(known):
            near = [hash_distance(known, h).min() <= DUPLICATE_BITS for h in hashes]
            same |= np.array(near, bool)
        return same

    def trained_patients(self, data: Dataset) -> np.ndarray:
        """Which images (N,) bool are of a patient trained on; `data` was loaded with our salt."""
        return np.isin(data.patients, [p for p in self.patients if p])


@dataclass(frozen=True)
class Beside:
    """What is kept beside the model: what its training images have in common (features of the whole
    picture), where the lungs are, and the heads trained on the poolings that it does not use."""

    familiarity: Familiarity
    segmenter: Segmenter
    rivals: dict[str, Heads]

    def arrays(self) -> dict[str, np.ndarray]:
        """All of it by name, float32."""
        named = {f"familiarity/{name}": value for name, value in asdict(self.familiarity).items()}
        named |= {f"lungs/{name}": value for name, value in to_arrays(self.segmenter).items()}
        for pool, heads in self.rivals.items():
            named |= {f"rival-{pool}/mean": heads.mean, f"rival-{pool}/scale": heads.scale}
            for i, (kernel, bias) in enumerate(zip(heads.kernels, heads.biases, strict=True)):
                named |= {f"rival-{pool}/kernel{i}": kernel, f"rival-{pool}/bias{i}": bias}
        return {name: np.asarray(value, np.float32) for name, value in named.items()}

    @classmethod
    def of(cls, named: dict[str, np.ndarray], rivals: Iterable[str]) -> "Beside":
        """The reverse of `arrays`; KeyError or TypeError if something is missing."""

        def under(name: str) -> dict[str, np.ndarray]:
            start = len(name) + 1
            return {key[start:]: v for key, v in named.items() if key.startswith(f"{name}/")}

        def heads(parts: dict[str, np.ndarray]) -> Heads:
            depth = range(sum(key.startswith("kernel") for key in parts))
            kernels, biases = (tuple(parts[f"{k}{i}"] for i in depth) for k in ("kernel", "bias"))
            return Heads(parts["mean"], parts["scale"], kernels, biases, {})

        return cls(
            Familiarity(**under("familiarity")),
            from_arrays(under("lungs")),
            {pool: heads(under(f"rival-{pool}")) for pool in rivals},
        )


def save_model(model: keras.Model, path: Path, about: About, beside: Beside) -> None:
    """Save a model with all that prediction needs inside the one file."""
    model.save(path)
    arrays = io.BytesIO()
    np.savez(arrays, **beside.arrays())
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(MEMBER, json.dumps(asdict(about), indent=1))
        archive.writestr(ARRAYS, arrays.getvalue())


def load_model(path: Path) -> tuple[keras.Model, About, Beside]:
    """Read what `save_model` wrote; no code in the file is run.

    Raises:
        InputError: the file is not there, damaged, or not of train_covid19.py.
    """
    mend = "give the .keras file that train_covid19.py wrote"
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.namelist()
            # Keras reads another name as its older format.
            if path.suffix != ".keras" or MEMBER not in members or ARRAYS not in members:
                raise InputError(f"{path}: is not a model of this program; {mend}")
            if any(member.compress_type != zipfile.ZIP_STORED for member in archive.infolist()):
                raise ValueError(
                    "packed: neither we nor Keras do so, and it may unfold without end"
                )
            fields = json.loads(archive.read(MEMBER))
            named = read_arrays(io.BytesIO(archive.read(ARRAYS)))
        about = About(**{**fields, "classes": tuple(fields["classes"])})
        _check(about)
        beside = Beside.of(named, [pool for pool in POOLS if pool != about.pool])
        model = keras.saving.load_model(path, compile=False, safe_mode=True)
        fits = model.input_shape == (None, SIZE, SIZE, 3)
        fits &= model.output_shape == (None, len(about.classes)) and about.pool in POOLS
        if not fits or about.recipe not in RECIPES or about.positive not in about.classes:
            raise InputError(f"{path}: its parts do not fit together; train it again")
    except InputError:
        raise
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file; {mend}") from error
    except Exception as error:  # damage makes Keras raise almost anything
        raise InputError(f"{path}: cannot be read as a model; {mend}") from error
    return model, about, beside


def _check(about: About) -> None:
    """ValueError or TypeError where a field is not what it should be."""
    texts = [*about.classes, about.positive, about.recipe, about.pool, about.card["data set"]]
    texts += [*about.trained_on, *about.patients, *about.card.values()]
    if not all(isinstance(text, str) for text in texts):
        raise TypeError("not texts")
    if not 0 <= about.threshold <= 1 or not 1 <= len(bytes.fromhex(about.salt)) <= 64:
        raise ValueError("no threshold, or no salt")
    if any(len(bytes.fromhex(code)) != 32 for code in about.hashes):
        raise ValueError("no hash")
