"""Read the files of a class without decoding pixels: digest, patient, and what a header tells."""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from covidxray.data.image_file import ImageFile
from covidxray.data.layouts import ClassFolder, list_class
from covidxray.data.manifest import ManifestRow, read_manifest
from covidxray.data.patients import patient_digest
from covidxray.data.prefetch import ordered_map
from covidxray.errors import InputError

# Names in ChestX-ray14 (Wang et al. 2017): the patient, and the number of the image.
NIH_NAME = re.compile(r"(\d{8})_\d{3}\.png", re.IGNORECASE)


def inspect_file(path: Path | ImageFile, listed: bool, salt: bytes) -> ManifestRow | InputError:
    """Read an image file without decoding its pixels; the error if it cannot be read.

    The row has the file's SHA-256 and, for `source_id`, its path. If no manifest lists the file,
    the row also has the patient's digest where the name has the form of NIH's data set, and of a
    DICOM file what may be kept of its header.
    """
    try:
        file = ImageFile.read(path)
        path = file.path
        row = ManifestRow(path.name, "", str(path), "", sha256=file.sha256)
        if not listed and (named := NIH_NAME.fullmatch(path.name)):
            return replace(row, patient_id=patient_digest(f"nih\0{named[1]}", salt))
        if listed or not file.is_dicom:
            return row
        from covidxray.data.dicom import read_header  # pydicom is slow to import

        return replace(row, source="dicom", **read_header(file, salt))
    except InputError as error:
        return error


def inspect_files(
    paths: Sequence[Path | ImageFile], listed: Sequence[bool], salt: bytes
) -> Iterator[ManifestRow | InputError]:
    """`inspect_file` for many files in threads; results are in order and computed on demand."""
    files = zip(paths, listed, strict=True)
    return ordered_map(lambda file: inspect_file(*file, salt), files)


@dataclass(frozen=True)
class ClassImage:
    """An image of a class folder.

    Attributes:
        row: from the manifest if it is `listed` there, or else from what `inspect_file` found.
        patient: digest (`patient_digest`); "" if the image is its own patient.
        mask: lung mask that came with the image; None without one.
    """

    folder: ClassFolder
    path: Path
    listed: bool
    row: ManifestRow
    patient: str
    mask: Path | None

    def name(self, root: Path) -> str:
        """The path in `root` with slashes, or class/file of an added image."""
        inside = self.path.parts[: len(root.parts)] == root.parts
        parts = self.path.parts[len(root.parts) :] if inside else (self.folder.name, self.path.name)
        return "/".join(parts)


def read_class_folder(
    folder: ClassFolder,
    salt: bytes,
    inspect_files: Callable[..., Iterable[ManifestRow | InputError]],
) -> tuple[list[ClassImage], list[InputError]]:
    """The images of a class folder, and an error for each file that is left out.

    Raises:
        InputError: the manifest does not fit the folder, or there is no image.
    """
    manifest = read_manifest(folder.folder)
    listing = list_class(folder.folder, manifest)
    rows = [manifest.get(listing.name_of(path)) for path in listing.paths]
    images, left_out = [], listing.left_out
    inspected = inspect_files(listing.paths, [row is not None for row in rows], salt)
    for path, row, found in zip(listing.paths, rows, inspected, strict=True):
        if isinstance(found, InputError):
            left_out.append(found)
            continue
        name, patient = listing.name_of(path), found.patient_id
        if row:
            if row.sha256 not in ("", found.sha256):
                raise InputError(f"{path}: is not the image of its manifest; run the builder again")
            key = f"{row.source}\0{row.patient_id}" if row.patient_id else ""
            patient = key and patient_digest(key, salt)
        elif not patient and listing.by_patient and "/" in name:
            patient = patient_digest(f"folder\0{name.split('/')[0]}", salt)
        combined = replace(row or found, filename=name, sha256=found.sha256)
        mask = listing.mask_of(path, row)
        images.append(ClassImage(folder, path, row is not None, combined, patient, mask))
    return images, left_out
