"""Measure where the time of a training goes: imports by package, and CPU time by step of an image.

    PYTHONPATH=. python benchmarks/stages.py --dataset dataset --images 400

The import is that of the scripts. The first table sums the time of each
module by package, as Python's own -X importtime reports it, which takes time itself. The second
table gives milliseconds for one image. "Files to features" is what a training does until its heads
are fitted; on two cores, the time for one image is at least half of its CPU time.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import numpy as np
from speed import ROOT

from covidxray.process import quiet_backend

# As `process.quiet_backend` does, which also hides what -X importtime writes.
CODE = """
import gc, sys
from covidxray.process import UNUSED
gc.disable()
sys.modules.update(dict.fromkeys(UNUSED))
import keras
"""
PACKAGES = 12  # rows of the first table


def measure_imports() -> None:
    """Print the seconds that the import of Keras spends in the modules of each package."""
    command = [sys.executable, "-X", "importtime", "-c", CODE]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    seconds: dict[str, float] = defaultdict(float)
    for line in done.stderr.splitlines():
        own, bar, name = line.removeprefix("import time:").replace("|", "", 1).partition("|")
        if bar and own.split()[0].isdigit():
            seconds[name.strip().partition(".")[0]] += int(own.split()[0]) / 1e6
    largest = sorted(seconds.items(), key=lambda item: -item[1])
    print("| package | s |\n| --- | --- |")
    for name, spent in [*largest[:PACKAGES], ("all", sum(seconds.values()))]:
        print(f"| {name} | {spent:.2f} |")


def measure_steps(dataset: Path, n: int) -> None:
    """Print milliseconds of time and of CPU time that one image takes, step by step."""
    with quiet_backend():
        from covidxray.model import features, vgg16
        from covidxray.model.cache import Cache
        from covidxray.model.network import build_network
        from covidxray.model.weights import load_weights

        network = build_network("portable", load_weights(), "auto")
        other = build_network("portable", load_weights(), "auto")
        bare, regions = vgg16.trace(other.backbone), network.region_model
    files = sorted(p for p in dataset.rglob("*") if p.suffix.lower() in (".jpg", ".jpeg"))
    files = [files[i % len(files)] for i in range(n)]
    rng, unrotated = np.random.default_rng(0), np.empty((n, 0))
    batch = rng.integers(0, 256, (vgg16.BATCH, 224, 224, 3)).astype(np.float32)

    def pass_through(model) -> None:
        for _ in range(n // vgg16.BATCH):
            model.predict_on_batch(batch)

    def extract(folder: str) -> None:
        names = [f"{i:064x}" for i in range(n)]
        cached = features.CachedFeatures(Cache(Path(folder)), names, {}) if folder else None
        features.extract(lambda: regions, files, unrotated, cached)

    with tempfile.TemporaryDirectory() as folder:
        steps: dict[str, Callable[[], object]] = {
            "VGG16": lambda: pass_through(bare),
            "VGG16, lungs and three regions": lambda: pass_through(regions),
            "read, decode, resize, measure, in one thread": lambda: [
                features.read_with_statistics(path) for path in files
            ],
            "files to features": lambda: extract(""),
            "files to features, stored in the cache": lambda: extract(folder),
        }
        for model in (bare, regions):
            model.predict_on_batch(batch)
        print(f"\n| step, {vgg16.resolve_precision('auto')} | ms | CPU ms |\n| --- | --- | --- |")
        for name, step in steps.items():
            began, cpu = time.perf_counter(), time.process_time()
            step()
            spent = time.perf_counter() - began, time.process_time() - cpu
            print(f"| {name} | {spent[0] / n * 1e3:.1f} | {spent[1] / n * 1e3:.1f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    dataset = "folder with JPEG files"
    parser.add_argument("-d", "--dataset", type=Path, default=ROOT / "dataset", help=dataset)
    multiple = "number of images, a multiple of 16"
    parser.add_argument("-n", "--images", type=int, default=400, help=multiple)
    args = parser.parse_args()
    measure_imports()
    measure_steps(args.dataset, args.images)


if __name__ == "__main__":
    main()
