"""Measure the distance of perceptual hashes between copies of one image and between images.

    PYTHONPATH=. python benchmarks/duplicate_distance.py FOLDER [FOLDER ...]

`duplicates.DUPLICATE_BITS` lies between the two kinds of distances.
"""

import argparse
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from PIL import Image
from tqdm import tqdm

from covidxray.data.duplicates import hash_distance, near_duplicates, perceptual_hash
from covidxray.data.folders import EXTENSIONS
from covidxray.data.images import read_image


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", nargs="+", type=Path)
    folders = parser.parse_args().folders
    paths = sorted(p for f in folders for p in f.rglob("*") if p.suffix.lower() in EXTENSIONS)
    hashes, smaller = [], []
    with TemporaryDirectory() as folder:
        copy = Path(folder) / "copy.jpg"
        for path in tqdm(paths):
            hashes.append(perceptual_hash(read_image(path)))
            with Image.open(path) as image:
                image.convert("RGB").resize((300, 280)).save(copy, quality=60)
            smaller.append(perceptual_hash(read_image(copy)))
    hashes = np.array(hashes)
    same = hash_distance(hashes, np.array(smaller))
    print(f"{len(paths)} images")
    print(f"the same at 300x280, JPEG quality 60: median {np.median(same):.0f}, max {same.max()}")
    rows, columns = near_duplicates(hashes, bits=256).T  # every pair
    apart = hash_distance(hashes[rows], hashes[columns])
    order = np.argsort(apart, kind="stable")[:20]
    print("the closest pairs of files:")
    for k in order:
        print(f"{apart[k]:4d}  {paths[rows[k]].name}  {paths[columns[k]].name}")


if __name__ == "__main__":
    main()
