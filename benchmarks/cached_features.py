"""Measure time and memory of a training whose features are all in the cache.

    PYTHONPATH=. python benchmarks/cached_features.py --sizes 500 5000 20000

The images are copies of a data set's JPEG files, which differ in bytes after the end of the image
(`speed.make_folder`). The cache gets the features of the copied image, each value multiplied by
random noise, and a random perceptual hash, so that no image counts as a copy of another. Nothing
passes through VGG16. "After the features" is what training does once it has them all. Temporary
files take 90 KB for each image (TMPDIR).
"""

import argparse
import os
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from speed import ROOT, make_folder

from covidxray.data.inspection import inspect_files
from covidxray.model.cache import Cache
from covidxray.model.features import CachedFeatures, compute_features, depends_on
from covidxray.model.network import build_network
from covidxray.model.weights import load_weights
from covidxray.process import quiet_backend

NOISE = 0.3  # standard deviation of the logarithm of what a feature is multiplied by
TRAINS = "training heads"  # what the log says when all features are there


def fill_cache(folder: Path, source: Path, cache: Path) -> None:
    """Put features into the cache for every image of a folder that `make_folder` filled."""
    with quiet_backend():
        network = build_network("portable", load_weights(), "auto")
    sources = sorted(source.rglob("*.jp*g"))
    none = np.empty((len(sources), 0))
    found = compute_features(network.region_model, sources, none, quiet=True)
    of_source = dict(zip((path.name for path in sources), found, strict=True))
    depends = depends_on(network.weights, network.recipe, network.segmenter, network.precision)
    paths = sorted(folder.rglob("*.jp*g"))
    rows = inspect_files(paths, [True] * len(paths), b"")
    cached = CachedFeatures(Cache(cache, 10**11), [row.sha256 for row in rows], depends)
    rng = np.random.default_rng(0)
    for i, path in enumerate(paths):
        features = of_source[path.name.partition("-")[2]]
        noise = np.exp(NOISE * rng.normal(size=features.regions.shape[-1])).astype(np.float32)
        hash = rng.integers(0, 2**64, 4, np.uint64)
        statistics = replace(features.statistics, hash=hash)
        varied = replace(features, regions=features.regions * noise, statistics=statistics)
        cached.put(i, none[0], varied)


def train(folder: Path, work: Path) -> tuple[float, float, float]:
    """Seconds of a training, seconds of it after the features, and peak memory in MB."""
    command = [sys.executable, ROOT / "train_covid19.py", "--dataset", folder]
    command += ["--cache", work / "cache", "--transplant", "0"]
    began = time.perf_counter()
    process = subprocess.Popen(
        command, cwd=work, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    lines, times = [], {}

    def listen() -> None:
        for line in process.stderr:
            lines.append(line)
            times.setdefault(TRAINS in line, time.perf_counter())

    listener = threading.Thread(target=listen)
    listener.start()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    ended = time.perf_counter()
    listener.join()
    if process.returncode or True not in times:
        sys.exit("".join(lines))
    return ended - began, ended - times[True], usage.ru_maxrss * 1024 / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    dataset = "folder of class folders with JPEG files"
    parser.add_argument("-d", "--dataset", type=Path, default=ROOT / "dataset", help=dataset)
    parser.add_argument("--sizes", nargs="+", type=int, default=[500, 5000, 20000])
    args = parser.parse_args()
    print("| images | whole run, s | after the features, s | peak memory, MB |")
    print("| --- | --- | --- | --- |", flush=True)
    for n in args.sizes:
        with tempfile.TemporaryDirectory() as name:
            work = Path(name)
            folder = make_folder(args.dataset, n, work / "images")
            fill_cache(folder, args.dataset, work / "cache")
            whole, after, memory = train(folder, work)
            print(f"| {n} | {whole:.1f} | {after:.1f} | {memory:.0f} |", flush=True)


if __name__ == "__main__":
    main()
