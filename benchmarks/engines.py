"""Images per second of the local engine and of a Ray cluster, on the same images.

Each engine runs twice, once to start its processes and compile, and once on the clock; a Ray actor
is made anew every time, so its start is on the clock and counts less the more images there are.
"""

import argparse
import time
from pathlib import Path

import numpy as np

from covidxray import cli, options
from covidxray.backbone import RECIPES, build_backbone, resolve_precision
from covidxray.cluster import Cluster
from covidxray.dataset import load_dataset
from covidxray.engine import Local
from covidxray.lungs import load_segmenter
from covidxray.weights import load_weights


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-d", "--dataset", required=True, type=options.existing_folder)
    parser.add_argument("--ray-address", help="of a running cluster; None: this machine alone")
    parser.add_argument("--features", type=Path, help="new folder, to weigh the Parquet files")
    parser.add_argument("--precision", default="auto", choices=("auto", "float32", "bfloat16"))
    args = parser.parse_args()
    recipe, precision = RECIPES["portable"], resolve_precision(args.precision)
    made_of = build_backbone(load_weights(), recipe, precision), recipe, load_segmenter()
    cluster, found = Cluster(args.ray_address), {}
    start = time.perf_counter()
    data = load_dataset(args.dataset, bytes(16), look_at=cluster.look_at)
    print(f"{len(data)} images, {precision}; looked at in {time.perf_counter() - start:.1f} s")
    for name, engine in (("local", Local()), ("ray", cluster)):
        for folder in (None, args.features):
            cluster._folder = folder
            start, rng = time.perf_counter(), np.random.default_rng(0)
            found[name] = engine.extract(*made_of, data, views=0, rotation=0, rng=rng)
            seconds = time.perf_counter() - start
        print(f"{name:<8}{seconds:8.1f} s{len(data) / seconds:8.2f} images/s")
    pairs = [(found["local"].views[pool], ray) for pool, ray in found["ray"].views.items()]
    print(f"largest difference: {max(np.abs(a - b).max() for a, b in pairs)}")
    if args.features:
        size = sum(path.stat().st_size for path in args.features.glob("*.parquet"))
        print(f"Parquet: {size / len(data):.0f} bytes an image")


if __name__ == "__main__":
    cli.run(main)
