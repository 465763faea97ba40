"""Fuzz what reads files: a valid result or an InputError, no hang, and memory that is bounded.

    python tests/fuzz/fuzz.py TARGET [SECONDS]

Coverage-guided by atheris (Linux on x86-64, Python 3.11 to 3.13), from tests/fuzz/corpus/TARGET.
What it finds is written to the folder it runs in; put it into the corpus, which the tests replay.
"""

import io
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

HERE = Path(__file__).resolve().parent
CORPUS = HERE / "corpus"
sys.path[:0] = [str(HERE.parent.parent), str(HERE.parent)]
INSTRUMENTED = ["covidxray", "PIL", "pydicom", "zipfile", "numpy.lib", "keras.src.saving"]
MEMBERS = ("config.json", "covidxray.json", "covidxray.npz", "model.weights.h5")

Target = Callable[[bytes], object]


def reader(name: str) -> Target:
    """A target: a function of a file's bytes, which passes on anything but an InputError."""
    import numpy as np

    from covidxray.errors import InputError

    folder = Path(tempfile.mkdtemp(prefix="fuzz-"))

    def metadata(path: Path) -> None:
        from covidxray.data import cohen

        for record in cohen.read_metadata(path)[:20]:
            try:
                found = cohen.locate(folder, record)
            except InputError:
                continue
            assert found.resolve().is_relative_to(folder.resolve())
            cohen.find_masks(folder, [record.filename])

    def manifest(path: Path) -> None:
        from covidxray.data import manifest, spreadsheet_cells

        path.replace(folder / manifest.NAME)
        for row in manifest.read_manifest(folder).values():
            assert all(isinstance(value, str) for value in vars(row).values())
            assert all(
                spreadsheet_cells.from_cell(spreadsheet_cells.to_cell(v)) == v
                for v in vars(row).values()
            )
        (folder / manifest.NAME).replace(folder / manifest.EXCLUDED)
        manifest.read_exclusions(folder)

    def image(path: Path) -> None:
        from covidxray.data import dicom, images
        from covidxray.data.image_file import ImageFile

        pixels, statistics = images.read_with_statistics(path)
        assert pixels.shape == (224, 224, 3) and pixels.dtype == np.uint8
        assert np.isfinite(statistics.thumbnail).all()
        if statistics.file["format"].startswith("DICOM"):
            assert len(dicom.read_header(ImageFile.read(path), b"salt")["view"]) < 9

    def arrays(path: Path) -> None:
        from covidxray.model import weights

        weights.load_weights(str(path))

    def model(path: Path) -> None:
        from covidxray.model.model_file import load_model

        content = path.read_bytes()
        whole = (CORPUS / "model" / "whole").read_bytes()
        which = content[0] % (len(MEMBERS) + 1) if content else len(MEMBERS)
        if content != whole and which < len(MEMBERS):  # another member in a whole file
            with zipfile.ZipFile(io.BytesIO(whole)) as old, zipfile.ZipFile(path, "w") as new:
                for name in old.namelist():
                    changed = name == MEMBERS[which]
                    new.writestr(name, content[1:] if changed else old.read(name))
        load_model(path)

    read = {f.__name__: f for f in (metadata, manifest, image, arrays, model)}[name]

    def target(content: bytes) -> None:
        path = folder / {"model": "x.keras", "arrays": "x.npz"}.get(name, "x")
        path.write_bytes(content)
        try:
            read(path)
        except InputError as error:
            assert str(error).count("; ") >= 1, error

    return target


TARGETS = ("metadata", "manifest", "image", "arrays", "model")


def main() -> None:
    name, seconds = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 60
    if name not in TARGETS:
        sys.exit(f"{name}: no such target; there are {', '.join(TARGETS)}")
    import atheris

    with atheris.instrument_imports(include=INSTRUMENTED):
        target = reader(name)
        for seed in sorted((CORPUS / name).iterdir()):
            target(seed.read_bytes())  # imports all that is read with
    grown = tempfile.mkdtemp(prefix="fuzz-corpus-")
    limits = [f"-max_total_time={seconds}", "-timeout=20", "-rss_limit_mb=4096", "-max_len=65536"]
    places = [grown, str(CORPUS / name)]
    atheris.Setup([sys.argv[0], *limits, "-print_final_stats=1", *places], target)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
