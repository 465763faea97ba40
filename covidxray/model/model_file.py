"""Build, save and load the model: one .keras file that holds everything needed for prediction.

A .keras file is a zip archive. Two members are added to it, which Keras ignores: the metadata as
JSON, and the arrays of the auxiliary models.
"""

import io
import json
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import keras
import numpy as np

from covidxray.data import SIZE
from covidxray.data.duplicates import near_duplicates
from covidxray.errors import InputError
from covidxray.model.arrays import read_arrays
from covidxray.model.heads import Heads
from covidxray.model.lungs import Segmenter
from covidxray.model.outliers import OutlierDetector
from covidxray.model.recipes import RECIPES, REGIONS

MEMBER = "covidxray.json"
ARRAYS = "covidxray.npz"
BASELINE = "baseline-"  # before the name of a baseline among the arrays
FORMAT = 3  # of the metadata and the arrays; a file with another number is refused
REMEDY = "give the .keras file that train_covid19.py wrote"


@dataclass(frozen=True)
class ModelMetadata:
    """How a model was trained, and how to use it."""

    classes: tuple[str, ...]  # in the order of the probabilities
    positive: str  # the class whose probability is compared with `threshold`
    threshold: float | None  # None: an image is classified as the most probable class
    synthetic: bool  # whether the training images are drawings
    recipe: str  # a key of `recipes.RECIPES`
    region: str  # the region whose features the model uses (`recipes.REGIONS`)
    salt: str  # hexadecimal, of the digests in `patients`
    trained_on: list[str]  # SHA-256 digests of the training files
    hashes: list[str]  # their perceptual hashes, hexadecimal, which find scaled copies
    patients: list[str]  # digests of the training patients (`patients.patient_digest`)
    card: dict[str, str] = field(default_factory=dict)  # more, as text; "data set" is always there
    format: int = FORMAT

    def trained_images(self, digests: Sequence[str], hashes: np.ndarray) -> np.ndarray:
        """Which images are training images or copies of one: bool (N,).

        Args:
            digests: N SHA-256 digests of their files.
            hashes: (N, 4) uint64, their perceptual hashes.
        """
        known = np.frombuffer(bytes.fromhex("".join(self.hashes)), np.uint64).reshape(-1, 4)
        same = np.isin(digests, self.trained_on)
        same[near_duplicates(known, hashes)[:, 1]] = True
        return same

    def trained_patients(self, patients: Sequence[str]) -> np.ndarray:
        """Which of N images are of a training patient, by digests made with the salt of this model:
        bool (N,)."""
        return np.isin(patients, [patient for patient in self.patients if patient])

    def check(self) -> None:
        """Check the types and the ranges of fields that were read from a file.

        Raises:
            ValueError, TypeError, KeyError: a field has another type or an impossible value.
        """
        texts = [*self.classes, self.positive, self.recipe, self.region, self.card["data set"]]
        texts += [*self.trained_on, *self.patients, *self.card.values()]
        if not all(isinstance(text, str) for text in texts):
            raise TypeError("not a text")
        threshold = 0 if self.threshold is None else self.threshold
        if not 0 <= threshold <= 1 or not 1 <= len(bytes.fromhex(self.salt)) <= 64:
            raise ValueError("threshold or salt out of range")
        if any(len(bytes.fromhex(code)) != 32 for code in self.hashes):
            raise ValueError("perceptual hash of another length")


@dataclass(frozen=True)
class AuxiliaryModels:
    """The models that are stored next to the network."""

    outlier_detector: OutlierDetector  # of the features of the whole picture
    segmenter: Segmenter
    other_heads: dict[str, Heads]  # by region: those that the model itself does not use
    baselines: dict[str, Heads]  # by name: `acquisition.KINDS`, and `VIEW` if views were known

    def to_arrays(self) -> dict[str, np.ndarray]:
        """All arrays by name, float32."""
        parts = {
            "outlier_detector": asdict(self.outlier_detector),
            "segmenter": self.segmenter.to_arrays(),
            **{f"head-{region}": heads.to_arrays() for region, heads in self.other_heads.items()},
            **{f"{BASELINE}{name}": heads.to_arrays() for name, heads in self.baselines.items()},
        }
        return {
            f"{part}/{name}": np.asarray(array, np.float32)
            for part, arrays in parts.items()
            for name, array in arrays.items()
        }

    @classmethod
    def from_arrays(
        cls, named: dict[str, np.ndarray], other_regions: Iterable[str]
    ) -> "AuxiliaryModels":
        """Create the models from the result of `to_arrays`.

        Raises:
            KeyError, TypeError: an array is missing or has an unknown name.
        """
        parts: dict[str, dict[str, np.ndarray]] = {}
        for key, array in named.items():
            part, _, name = key.partition("/")
            parts.setdefault(part, {})[name] = array
        return cls(
            OutlierDetector(**parts["outlier_detector"]),
            Segmenter.from_arrays(parts["segmenter"]),
            {region: Heads.from_arrays(parts[f"head-{region}"]) for region in other_regions},
            {
                part.removeprefix(BASELINE): Heads.from_arrays(arrays)
                for part, arrays in parts.items()
                if part.startswith(BASELINE)
            },
        )


def build_model(
    backbone: keras.Model, features: keras.KerasTensor, heads: Heads, dropout: float
) -> keras.Model:
    """Combine a backbone and the first of the heads: RGB 0 to 255 (n, 224, 224, 3) -> (n, C).

    `features` (n, D) are pooled from the maps of the backbone.
    """
    scale = heads.scale[0].astype(np.float64)
    x = keras.layers.Rescaling(
        (1 / scale).tolist(), (-heads.mean[0] / scale).tolist(), name="standardise"
    )(features)
    if len(heads.kernels) > 1:
        x = _dense(heads.kernels[0].shape[2], "relu", "hidden")(x)
        x = keras.layers.Dropout(dropout, name="dropout")(x)
    x = _dense(heads.kernels[-1].shape[2], "softmax", "probabilities")(x)
    model = keras.Model(backbone.input, x, name="covid19")
    names = ["hidden", "probabilities"][-len(heads.kernels) :]
    for name, kernel, bias in zip(names, heads.kernels, heads.biases, strict=True):
        model.get_layer(name).set_weights([kernel[0], bias[0]])
    return model


def _dense(width: int, activation: str, name: str) -> keras.layers.Layer:
    return keras.layers.Dense(width, activation=activation, kernel_initializer="zeros", name=name)


def save_model(
    model: keras.Model, path: Path, metadata: ModelMetadata, auxiliary: AuxiliaryModels
) -> None:
    """Save a model, its metadata and its auxiliary models in one file, which Keras 3.10 loads."""
    model.save(path)
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    config = json.loads(members["config.json"])
    _leave_out_news(config)
    arrays = io.BytesIO()
    np.savez(arrays, **auxiliary.to_arrays())  # type: ignore[arg-type]
    members["config.json"] = json.dumps(config).encode()
    members[MEMBER] = json.dumps(asdict(metadata), indent=1).encode()
    members[ARRAYS] = arrays.getvalue()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)


def _leave_out_news(part: Any) -> None:
    """Remove settings that older versions of Keras do not know, and that are at their defaults."""
    if isinstance(part, dict):
        settings = part.get("config")
        if isinstance(settings, dict):
            if str(part.get("module")).startswith("keras.src.ops"):
                settings.pop("name", None)
            if settings.get("quantization_config", "") is None:
                del settings["quantization_config"]
    for inner in part.values() if isinstance(part, dict) else part:
        if isinstance(inner, dict | list):
            _leave_out_news(inner)


def load_model(path: Path) -> tuple[keras.Model, ModelMetadata, AuxiliaryModels]:
    """Load a file of `save_model`, which may come from an untrusted source; no code in it is run.

    Raises:
        InputError: the file does not exist, is damaged or was not written by train_covid19.py.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.namelist()
            # Keras reads a file with another suffix in one of its older formats.
            if path.suffix != ".keras" or MEMBER not in members or ARRAYS not in members:
                raise InputError(f"{path}: is not a model of this program; {REMEDY}")
            # A small compressed member can be enormous; neither Keras nor `save_model` compresses.
            if any(member.compress_type != zipfile.ZIP_STORED for member in archive.infolist()):
                raise ValueError("compressed member")
            fields = json.loads(archive.read(MEMBER))
            if fields.get("format") != FORMAT:
                reason = "was written by another version of this program"
                raise InputError(f"{path}: {reason}; train the model again")
            arrays = read_arrays(io.BytesIO(archive.read(ARRAYS)))
        metadata = ModelMetadata(**{**fields, "classes": tuple(fields["classes"])})
        metadata.check()
        other_regions = [region for region in REGIONS if region != metadata.region]
        auxiliary = AuxiliaryModels.from_arrays(arrays, other_regions)
        model = keras.saving.load_model(path, compile=False, safe_mode=True)
        fits = model.input_shape == (None, SIZE, SIZE, 3)
        fits &= model.output_shape == (None, len(metadata.classes)) and metadata.region in REGIONS
        if not fits or metadata.recipe not in RECIPES or metadata.positive not in metadata.classes:
            raise InputError(f"{path}: its parts do not fit together; train the model again")
    except InputError:
        raise
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file; {REMEDY}") from error
    except Exception as error:  # a damaged file makes Keras raise almost any kind of exception
        raise InputError(f"{path}: cannot be read as a model; {REMEDY}") from error
    return model, metadata, auxiliary
