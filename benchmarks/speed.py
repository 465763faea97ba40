"""Measure time and memory of training, prediction and evaluation, and of the tutorial's recipe.

    python benchmarks/speed.py --dataset dataset radiographs --sizes 50 500 1000 5000

The floor is the time that no program with this network can avoid: the import of Keras and its
backend, and the forward passes at the rate of images that are already in memory. Folders of any
size are made of copies of a data set's JPEG files, which differ in bytes after the end of the
image; each data set has a table of its own. Everything runs in fresh processes, one after another,
round after round. The table shows medians, with ranges in brackets. "Over the floor", "tutorial's"
and "cold training's" are ratios within a round.
"""

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parent.parent
ONE, IMPORTS, BARE = "predict, one image", "imports", "bare forward pass"
PREDICT, EVALUATE = "predict, all images", "evaluate, all images"
TUTORIAL, COLD, WARM, FLOOR = "tutorial's recipe", "ours, cold", "ours, warm", "floor"


@dataclass(frozen=True)
class Cost:
    """Time of a process in seconds, its peak memory in MB, and its standard output."""

    seconds: float
    memory: float
    output: str = ""


def measure(command: list, folder: Path) -> Cost:
    """Run Python with these arguments in `folder`; end the benchmark if it fails."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        began = time.perf_counter()
        command = [sys.executable, *map(str, command)]
        process = subprocess.Popen(command, cwd=folder, stdout=out, stderr=err, env=environment)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        err.seek(0)
        if process.returncode:
            sys.exit(f"{' '.join(command)}\n{err.read()}")
        scale = 2**20 if sys.platform == "darwin" else 2**10  # the unit of ru_maxrss is bytes or KB
        return Cost(seconds, usage.ru_maxrss / scale * 2**20 / 1e6, out.read())


def make_folder(dataset: Path, n: int, folder: Path) -> Path:
    """Fill `folder` with `n` copies of a data set's JPEG files, spread evenly over its classes."""
    classes = sorted(path for path in dataset.iterdir() if path.is_dir())
    for k, source in enumerate(classes):
        files = sorted(p for p in source.iterdir() if p.suffix.lower() in (".jpg", ".jpeg"))
        (folder / source.name).mkdir(parents=True)
        for i in range(n // len(classes) + (k < n % len(classes))):
            path = files[i % len(files)]
            made = folder / source.name / f"{i:05d}-{path.name}"
            made.write_bytes(path.read_bytes() + f"copy {i}".encode())
    return folder


def bare(n: int) -> None:
    """Print how many images in memory pass the network per second, from at most 40 batches."""
    import numpy as np

    from covidxray.model.features import BATCH
    from covidxray.model.recipes import RECIPES
    from covidxray.model.vgg16 import build_backbone, resolve_precision
    from covidxray.model.weights import load_weights

    backbone = build_backbone(load_weights(), RECIPES["portable"], resolve_precision("auto"))
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (BATCH, 224, 224, 3)).astype(np.float32)
    backbone.predict_on_batch(images)
    batches = max(3, min(40, n // BATCH))
    began = time.perf_counter()
    for _ in range(batches):
        backbone.predict_on_batch(images)
    print(json.dumps(batches * BATCH / (time.perf_counter() - began)))


def one_round(n: int, folder: Path, work: Path, tutorial: bool, use: bool) -> dict[str, Cost]:
    """Measure everything once, on one folder of `n` images.

    With `tutorial`, its recipe is measured, too, and with `use`, the saved model on all images.
    """
    shutil.rmtree(work / "cache", ignore_errors=True)
    train = [ROOT / "train_covid19.py", "--dataset", folder, "--cache", work / "cache"]
    train += ["--transplant", "0"]
    image = next(folder.rglob("*.jp*g"))
    costs = {
        IMPORTS: measure(["-c", "import keras"], work),
        BARE: measure([__file__, "--bare", n], work),
    }
    if tutorial:
        recipe = ROOT / "benchmarks" / "tutorial_recipe.py"
        costs[TUTORIAL] = measure([recipe, "--dataset", folder], work)
    costs |= {COLD: measure(train, work), WARM: measure(train, work)}
    model = ["--model", "covid19.keras", "--no-cache"]
    costs[ONE] = measure([ROOT / "predict_covid19.py", *model, image], work)
    if use:
        costs[PREDICT] = measure([ROOT / "predict_covid19.py", *model, folder], work)
        evaluate = [ROOT / "evaluate_covid19.py", *model, "--dataset", folder, "--transplant", 0]
        costs[EVALUATE] = measure(evaluate, work)
    passes = n / float(costs[BARE].output)
    costs[FLOOR] = Cost(costs[IMPORTS].seconds + passes, costs[BARE].memory)
    costs[BARE] = Cost(passes, costs[BARE].memory)
    return costs


def cell(values: list[float], form: str) -> str:
    """The median as text, with the range in brackets if there are several values."""
    middle = format(median(values), form)
    if len(values) == 1:
        return middle
    return f"{middle} ({format(min(values), form)} to {format(max(values), form)})"


def rows(n: int, rounds: list[dict[str, Cost]]) -> list[str]:
    """Rows of the table for one number of images."""
    lines = []
    for name in (TUTORIAL, COLD, WARM, FLOOR, BARE, IMPORTS, ONE, PREDICT, EVALUATE):
        if name not in rounds[0]:
            continue
        passed = 1 if name == ONE else n
        columns = defaultdict(list)
        for costs in rounds:
            seconds = costs[name].seconds
            columns["time"].append(seconds)
            columns["rate"].append(passed / seconds)
            columns["memory"].append(costs[name].memory)
            columns["beyond"].append(seconds - costs[IMPORTS].seconds)
            columns["floor"].append(seconds / costs[FLOOR].seconds)
            columns["training"].append(costs[COLD].seconds / seconds)
            if TUTORIAL in costs:
                columns["tutorial"].append(costs[TUTORIAL].seconds / seconds)
        used = name in (PREDICT, EVALUATE)
        job = name in (TUTORIAL, COLD, WARM, FLOOR)
        cells = [f"{n}", name]
        cells += [cell(columns["time"], ".1f")]
        cells += [cell(columns["rate"], ".1f") if name != IMPORTS else ""]
        cells += [cell(columns["memory"], ".0f")]
        cells += [cell(columns["beyond"], ".1f") if name not in (BARE, IMPORTS) else ""]
        cells += [cell(columns["floor"], ".2f") if job or used else ""]
        cells += [cell(columns["tutorial"], ".1f") if job and columns["tutorial"] else ""]
        cells += [cell(columns["training"], ".2f") if used else ""]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    folders = "folders of class folders with JPEG files"
    add("-d", "--dataset", type=Path, nargs="+", default=[ROOT / "dataset"], help=folders)
    add("--sizes", nargs="+", type=int, default=[50, 500, 1000, 5000], help="numbers of images")
    used = "sizes at which all images are also predicted and evaluated"
    add("--use", nargs="*", type=int, default=[1000], help=used)
    add("--tutorial", nargs="*", type=int, default=[50], help="sizes for the tutorial's recipe")
    add("--rounds", type=int, default=3, help="number of measurements of everything")
    add("--bare", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.bare:
        bare(args.bare)
        return
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores")
    for dataset in args.dataset:
        print(f"\n{dataset.name}:\n")
        print(
            "| images | what | time, s | images/s | peak memory, MB | s beyond the imports "
            "| over the floor | tutorial's time over it | cold training's time over it |"
        )
        print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |", flush=True)
        for n in args.sizes:
            with tempfile.TemporaryDirectory(prefix="speed-") as name:
                work = Path(name)
                folder = make_folder(dataset, n, work / "images")
                tutorial, use = n in args.tutorial, n in args.use
                rounds = [one_round(n, folder, work, tutorial, use) for _ in range(args.rounds)]
                print("\n".join(rows(n, rounds)), flush=True)


if __name__ == "__main__":
    main()
