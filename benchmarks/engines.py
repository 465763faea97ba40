"""Measure images per second of the local engine and of a Ray cluster on the same images.

    python benchmarks/engines.py --dataset DIR --features NEW

Each engine runs twice, and the second run is timed. The first run compiles. Ray starts its actors
in each run, so the time includes their start, which matters less with more images.
"""

import argparse
import time
from pathlib import Path

import numpy as np

from covidxray import cli, process
from covidxray.cluster.ray_engine import RayEngine
from covidxray.data.loading import load_dataset
from covidxray.model.network import build_network
from covidxray.model.weights import load_weights
from covidxray.pipeline.engines import LocalEngine


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-d", "--dataset", required=True, type=cli.existing_folder)
    parser.add_argument("--ray-address", help="address of a running cluster (default: none)")
    parser.add_argument("--features", type=Path, help="new folder for Parquet files, to measure")
    parser.add_argument("--precision", default="auto", choices=("auto", "float32", "bfloat16"))
    args = parser.parse_args()
    network = build_network("portable", load_weights(), args.precision)
    cluster, found = RayEngine(args.ray_address), {}
    start = time.perf_counter()
    data = load_dataset(args.dataset, bytes(16), inspect_files=cluster.inspect_files)
    print(
        f"{len(data)} images, {network.precision}; inspected in {time.perf_counter() - start:.1f} s"
    )
    for name, engine in (("local", LocalEngine()), ("ray", cluster)):
        for folder in (None, args.features):
            cluster._folder = folder
            start = time.perf_counter()
            found[name] = engine.extract(network, data, np.zeros((len(data), 0)))
            seconds = time.perf_counter() - start
        print(f"{name:<8}{seconds:8.1f} s{len(data) / seconds:8.2f} images/s")
    pairs = [(found["local"].regions[region], ray) for region, ray in found["ray"].regions.items()]
    print(f"largest difference: {max(np.abs(a - b).max() for a, b in pairs)}")
    if args.features:
        size = sum(path.stat().st_size for path in args.features.glob("*.parquet"))
        print(f"Parquet: {size / len(data):.0f} bytes an image")


if __name__ == "__main__":
    process.run_script(main)
