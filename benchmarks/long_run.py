"""Predict ten thousand images, one in a hundred unreadable; measure time and memory, check tables.

    python benchmarks/long_run.py --images 10000

The folder is made as in `speed.py`. Every hundredth image is then damaged: cut short, empty, a
text, a DICOM file without pixels, or arbitrary bytes. The benchmark prints the last line of
predict_covid19.py, its time, and its resident memory in each tenth of the run. It fails if a
table lacks a readable image.
"""

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from speed import ROOT, make_folder

SPOILT = (
    lambda content: content[: len(content) // 2],
    lambda content: b"",
    lambda content: b"a text, not an image",
    lambda content: bytes(128) + b"DICM",
    lambda content: bytes(range(256)) * 8,
)


def spoil(folder: Path) -> int:
    """Damage every hundredth image, in each way in turn; return how many were damaged."""
    every = sorted(path for path in folder.rglob("*") if path.is_file())[50::100]
    for i, path in enumerate(every):
        path.write_bytes(SPOILT[i % len(SPOILT)](path.read_bytes()))
    return len(every)


def resident(process: int) -> float:
    """Resident memory of a running process, in MB; 0 after its end."""
    try:
        pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    except (OSError, IndexError):
        return 0.0
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def watch(process: subprocess.Popen) -> list[tuple[float, float]]:
    """Seconds since the start and resident memory in MB, once a second until the process ends."""
    began, found = time.perf_counter(), []
    while process.poll() is None:
        found.append((time.perf_counter() - began, resident(process.pid)))
        time.sleep(1)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("-d", "--dataset", type=Path, default=ROOT / "dataset", help="folder of JPEG class folders")
    add("-m", "--model", type=Path, help="saved model (default: a model trained on the data set)")
    add("--images", type=int, default=10_000, help="number of images")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="long-run-") as name:
        work = Path(name)
        model = args.model and args.model.resolve()
        if not model:
            train = [sys.executable, ROOT / "train_covid19.py", "-d", args.dataset.resolve()]
            subprocess.run([*train, "--repeats", "0"], cwd=work, check=True, capture_output=True)
            model = work / "covid19.keras"
        bad = spoil(make_folder(args.dataset, args.images, work / "images"))
        command = [sys.executable, ROOT / "predict_covid19.py", "-m", model, "images"]
        command += ["--csv", "t.csv", "--json", "t.json"]
        with open(work / "out", "w") as out, open(work / "err", "w") as err:
            process = subprocess.Popen(command, cwd=work, stdout=out, stderr=err)
            memory = watch(process)
        with open(work / "t.csv", newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        assert len(rows) == len(json.loads((work / "t.json").read_text())) == args.images - bad
        last = (work / "err").read_text().splitlines()[-1]
        print(f"exit code {process.returncode}, {memory[-1][0]:.0f} s; {last}")
        print(f"{len(rows)} rows in each table, {bad} images were damaged\n")
        print("| part of the run | resident memory, MB, highest and mean |\n| --- | --- |")
        for tenth in range(10):
            part = memory[len(memory) * tenth // 10 : len(memory) * (tenth + 1) // 10]
            sizes = [size for _, size in part] or [0.0]
            print(f"| {tenth + 1}/10 | {max(sizes):.0f}, {sum(sizes) / len(sizes):.0f} |")


if __name__ == "__main__":
    main()
