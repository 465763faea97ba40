"""List the image files of folders; what is an image is decided by content, not by name."""

import re
from dataclasses import dataclass, field
from pathlib import Path

from covidxray.data.image_file import ImageFile
from covidxray.errors import InputError

# A file with one of these endings is listed without a look inside: if it is damaged, it is named.
EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".gif", ".webp", ".dcm", ".dicom")
# Formats of images that cannot be read here.
FOREIGN = (".nii", ".nii.gz", ".heic", ".heif", ".avif", ".jxl", ".jp2", ".j2k", ".mha", ".nrrd")
SIGNATURES = re.compile(
    rb"\xff\xd8\xff|\x89PNG\r\n\x1a\n|BM.{4}\0{4}|II\*\0|MM\0\*|GIF8|RIFF.{4}WEBP", re.DOTALL
)
MASKS = "masks"  # name of a folder of lung masks, in any case of letters
PNEUMONIA = re.compile(r"person\d+_(bacteria|virus)", re.IGNORECASE)  # names in data/kaggle.py


@dataclass
class Listing:
    """What a folder holds, sorted: images, folders, and an error for each file in `FOREIGN`."""

    images: list[Path] = field(default_factory=list)
    folders: list[Path] = field(default_factory=list)
    foreign: list[InputError] = field(default_factory=list)


def list_folder(folder: Path) -> Listing:
    """List one folder, which may be a `UPath`.

    Hidden files and folders, `__MACOSX` and DICOMDIR (a table of contents) are ignored.

    Raises:
        InputError: the folder cannot be listed.
    """
    found = Listing()
    try:
        for path in sorted(folder.iterdir()):
            if path.name.startswith(".") or path.name in ("__MACOSX", "DICOMDIR"):
                continue
            if path.is_dir():
                found.folders.append(path)
            elif path.name.lower().endswith(FOREIGN):
                remedy = "is of a format that cannot be read; convert it to PNG or DICOM"
                found.foreign.append(InputError(f"{path}: {remedy}"))
            elif path.suffix.lower() in EXTENSIONS or _begins_as_image(path):
                found.images.append(path)
    except OSError as error:
        reason = f"cannot be listed ({error.strerror or error}); change its permissions"
        raise InputError(f"{folder}: {reason}") from error
    return found


def list_images(folder: Path) -> list[Path]:
    """The images directly in a folder; see `list_folder`."""
    return list_folder(folder).images


def list_tree(folder: Path) -> tuple[list[Path], list[InputError]]:
    """The images in a folder and all folders below, sorted, and an error for each other one.

    Masks of lungs, by the name of their folder, are no images to predict or to train on. Links to
    folders are not followed, because they may form a loop.
    """
    listing = list_folder(folder)
    images, left_out = listing.images, listing.foreign
    for inner in listing.folders:
        if inner.is_symlink():
            continue
        found, errors = list_tree(inner)
        if is_masks(inner):
            message = "is a mask by the name of its folder; rename that to use it"
            errors += [InputError(f"{path}: {message}") for path in found]
        else:
            images += found
        left_out += errors
    return sorted(images), left_out


def is_masks(folder: Path) -> bool:
    """Whether a folder holds masks of lungs, by its name."""
    return folder.name.lower() == MASKS


def mask_of(image: Path) -> Path:
    """Where a builder puts the lung mask of an image, whether or not there is one."""
    return image.parent / MASKS / f"{image.name}.png"


def _begins_as_image(path: Path) -> bool:
    try:
        if not path.is_file():  # opening a named pipe would block
            return False
        with path.open("rb") as file:
            head = ImageFile(path, file.read(132))
        return head.is_dicom or SIGNATURES.match(head.content) is not None
    except OSError:
        return False
