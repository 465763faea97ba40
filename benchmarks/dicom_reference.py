"""Compare how DICOM files are shown with dcmtk, an independent implementation of the standard.

    apt install dcmtk
    PYTHONPATH=. python benchmarks/dicom_reference.py             # pydicom's own test files
    PYTHONPATH=. python benchmarks/dicom_reference.py FOLDER ...  # grey files with one frame there

dcmtk decodes RLE, JPEG and JPEG-LS. JPEG 2000, which it does not, is decoded by imagecodecs and
given to dcmtk uncompressed. dcmtk cuts fractions off, so a difference of one level is a rounding.
"""

import argparse
import subprocess
import tempfile
import warnings
from pathlib import Path

import cv2
import imagecodecs
import numpy as np
import pydicom
from pydicom import uid
from pydicom.encaps import get_frame

from covidxray.data import dicom
from covidxray.data.image_file import ImageFile
from covidxray.errors import InputError

TESTS = Path(pydicom.__file__).parent / "data" / "test_files"
JPEG2000 = (uid.JPEG2000, uid.JPEG2000Lossless)
REASONS = {
    "JPEG2000-embedded-sequence-delimiter.dcm": "it holds no image, and tests parsing alone",
    "MR_truncated.dcm": "it is cut short",
    "image_dfl.dcm": "deflated files are refused by name, because they may be bombs",
    "rtdose_expb_1frame.dcm": "dcmtk swaps halves of big-endian words of 32 bits; here it is shown "
    "like rtdose_1frame.dcm, which holds the same values",
}


def find_files(folders: list[Path]) -> list[tuple[Path, pydicom.Dataset]]:
    """Grey files with one frame, and their content."""
    found = []
    for path in sorted(path for folder in folders for path in folder.rglob("*")):
        try:
            ds = pydicom.dcmread(path)
            grey = str(ds.get("PhotometricInterpretation", "")).startswith("MONOCHROME")
            if grey and "Rows" in ds and int(ds.get("NumberOfFrames") or 1) == 1:
                found.append((path, ds))
        except Exception:  # no DICOM file, or one that pydicom cannot parse
            continue
    return found


def read_reference(path: Path, ds: pydicom.Dataset, folder: Path) -> np.ndarray | str:
    """Grey (H, W) as dcmtk shows it with the same table, window or range; or its message."""
    syntax = uid.UID(ds.file_meta.get("TransferSyntaxUID", ""))
    if syntax in JPEG2000:
        try:
            frame = imagecodecs.jpeg2k_decode(get_frame(ds.PixelData, 0, number_of_frames=1))
        except Exception as error:  # an error of its own for each format
            return f"imagecodecs: {error}"
        ds.PixelData = frame.astype(f"u{ds.BitsAllocated // 8}").tobytes()
        ds.file_meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
        path = folder / "x.dcm"
        ds.save_as(path, implicit_vr=False, little_endian=True)
    voi = ["+Wm"]
    if "WindowCenter" in ds and ds.WindowCenter not in (None, ""):
        voi = ["+Wi", "1"]
    if "VOILUTSequence" in ds:
        voi = ["+Wl", "1"]
    tool = "dcmj2pnm" if "JPEG" in syntax.name and "LS" not in syntax.name else "dcm2pnm"
    tool = "dcml2pnm" if "JPEG-LS" in syntax.name else tool
    command = [tool, "-O", *voi, "--write-8-bit-pnm", path, folder / "x.pgm"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        return done.stderr.strip().splitlines()[-1] if done.stderr.strip() else "no message"
    return cv2.imread(str(folder / "x.pgm"), cv2.IMREAD_GRAYSCALE)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", nargs="*", type=Path, default=[TESTS])
    folders = parser.parse_args().folders
    warnings.simplefilter("ignore")
    print(f"{'file':<44}{'largest':>8}{'mean':>8}  difference, of 255 levels")
    agree, total = 0, 0
    with tempfile.TemporaryDirectory() as temporary:
        for path, ds in find_files(folders):
            reference = read_reference(path, ds, Path(temporary))
            total += 1
            try:
                ours = dicom.decode(ImageFile.read(path))[0][..., 0].astype(int)
            except InputError as error:
                ours = str(error).removeprefix(f"{path}: ")
            if isinstance(reference, str) or isinstance(ours, str):
                here = ours if isinstance(ours, str) else "shown"
                there = reference if isinstance(reference, str) else "shown"
                reason = REASONS.get(path.name, "not explained")
                print(f"{path.name[:43]:<44}{reason} (here: {here}; dcmtk: {there})")
                continue
            difference = np.abs(ours - reference)
            agree += difference.max() <= 1
            reason = REASONS.get(path.name, "not explained") if difference.max() > 1 else ""
            print(f"{path.name[:43]:<44}{difference.max():>8}{difference.mean():>8.2f}  {reason}")
    print(f"{agree} of {total} files agree to one level")


if __name__ == "__main__":
    main()
