"""Load the class folders of a data set."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np

from covidxray.data.dataset import Dataset
from covidxray.data.inspection import ClassImage, inspect_files, read_class_folder
from covidxray.data.layouts import find_class_folders
from covidxray.data.manifest import ManifestRow
from covidxray.errors import InputError, printable


def load_dataset(
    root: Path,
    salt: bytes,
    *,
    classes: Sequence[str] | None = None,
    added: Sequence[tuple[str, Path]] = (),
    inspect_files: Callable[..., Iterable[ManifestRow | InputError]] = inspect_files,
) -> Dataset:
    """Read the class folders in `root`. Hidden files and folders are ignored.

    Two images are of one patient if their manifest rows name the same source and patient id, if
    their DICOM headers have the same Patient ID or, without one, the same study, or if their names
    in the form of NIH's data set begin alike, or if they lie in the same folder of a patient. Any
    other image is its own patient. A file that cannot be read, or is not where the images of a
    class lie (`layouts`), is left out.

    Args:
        root: folder of class folders.
        salt: of the patients' digests (`patient_digest`); nothing else depends on it.
        classes: of a model, to which all folders must belong. None: two or more folders.
        added: pairs of a class and a folder with more images of it.
        inspect_files: reads the files; `RayEngine.inspect_files` does so on many machines.

    Raises:
        InputError: a class is missing, unknown or empty, a manifest does not fit its folder,
            drawings are mixed with real images, or no file can be read.
    """
    names, folders, left_out = find_class_folders(root, classes, added)
    images: list[ClassImage] = []
    without_manifest = []
    for folder in folders:
        found, errors = read_class_folder(folder, salt, inspect_files)
        images += found
        left_out += errors
        if not any(image.listed for image in found) and not all(i.patient for i in found):
            without_manifest.append(folder.name)
    if not images:
        raise left_out[-1]
    _refuse_mixture([image.path for image in images], [image.row for image in images])
    numbers: dict[str | int, int] = {}  # of patients; an image without one is its own patient
    groups = [
        numbers.setdefault(image.patient or i, len(numbers)) for i, image in enumerate(images)
    ]
    return Dataset(
        name=printable(root.resolve().name),
        classes=names,
        paths=[image.path for image in images],
        labels=np.array([names.index(image.folder.name) for image in images], np.int64),
        groups=np.array(groups, np.int64),
        patients=[image.patient for image in images],
        image_names=[image.name(root) for image in images],
        held_out=np.array([image.folder.held_out for image in images]),
        masks=[image.mask for image in images],
        rows=[image.row for image in images],
        without_manifest=tuple(dict.fromkeys(without_manifest)),
        left_out=tuple(left_out),
    )


def _refuse_mixture(paths: Sequence[Path], rows: Sequence[ManifestRow]) -> None:
    folders = {row.synthetic == "yes": path.parent for path, row in zip(paths, rows, strict=True)}
    if len(folders) == 2:
        raise InputError(
            f"{folders[True]}: holds drawings while {folders[False]} holds real images; "
            "fill both with real ones (build_covid_dataset.py, sample_kaggle_dataset.py)"
        )
