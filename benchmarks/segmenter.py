"""Measure how well lungs are found, with two sets of masks of real X-rays and on images without.

    pip download --no-deps torchxrayvision==1.5.7
    PYTHONPATH=. python benchmarks/segmenter.py --covid covid-chestxray-dataset \\
        --kaggle chest_xray --nih nih-normal --v7 torchxrayvision-1.5.7-py3-none-any.whl

lungVAE's masks come with Cohen's repository. The package of torchxrayvision has masks by V7 of some
of its images. The segmenter of this project has seen neither set. It is compared with a segmenter
that is trained on lungVAE's masks, five times, and tested each time on the patients left out.
"""

import argparse
import io
import zipfile
from pathlib import Path

import cv2
import keras
import numpy as np
from pool import add_sources, read_pool
from sklearn.datasets import load_sample_images
from sklearn.model_selection import GroupKFold
from train_segmenter import fit, maps_of, shares, untrained

from covidxray.data import SIZE, cohen
from covidxray.data.images import read_mask, save_png
from covidxray.data.lung_masks import dice, enlarge, is_pair_of_lungs
from covidxray.evaluation.intervals import Quartiles
from covidxray.model.lungs import Segmenter, build_head, load_segmenter
from covidxray.report.plots import outline

V7 = "torchxrayvision/data/semantic_masks_v7labs_lungs.zip"
FOLDS, EPOCHS, SHOWN = 5, 60, 8


def read_v7(wheel: Path) -> dict[str, np.ndarray]:
    """Image name without extension -> mask by V7, bool (224, 224)."""
    with zipfile.ZipFile(wheel) as outer, zipfile.ZipFile(io.BytesIO(outer.read(V7))) as inner:
        found = {}
        for name in inner.namelist():
            if not name.endswith("/"):
                pixels = cv2.imdecode(np.frombuffer(inner.read(name), np.uint8), 0)
                small = cv2.resize(pixels, (SIZE, SIZE), interpolation=cv2.INTER_AREA)
                found[Path(name).stem] = small > 127
        return found


def find(segmenter: Segmenter, maps: np.ndarray) -> np.ndarray:
    """Masks, bool (n, 224, 224), from maps (n, 28, 28, 896)."""
    inputs = keras.Input(maps.shape[1:])
    model = keras.Model(inputs, build_head(inputs, segmenter))
    return np.array([enlarge(logits) for logits in model.predict(maps, batch_size=16, verbose=0)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_sources(parser)
    parser.add_argument("--v7", type=Path, required=True, help="the wheel of torchxrayvision")
    parser.add_argument("--pictures", type=Path, metavar="FILE", help="PNG of outlines to write")
    args = parser.parse_args()
    pool = read_pool(args)
    given: dict[str, dict[int, np.ndarray]] = {"lungVAE": {}, "V7": {}}
    v7 = read_v7(args.v7)
    for i, path in enumerate(pool.paths):
        if args.covid in path.parents:
            for mask in cohen.find_masks(args.covid, [path.name]).values():
                given["lungVAE"][i] = read_mask(mask)
            if path.stem in v7:
                given["V7"][i] = v7[path.stem]
    maps = maps_of(pool.pixels)
    found = {"drawings": find(load_segmenter(), maps)}
    learnt = np.array(sorted(given["lungVAE"]))
    tested = np.array(sorted(given["lungVAE"].keys() | given["V7"].keys()))
    held_out = np.zeros_like(found["drawings"])
    for k, (_, part) in enumerate(GroupKFold(FOLDS).split(tested, groups=pool.groups[tested])):
        test = tested[part]
        train = learnt[~np.isin(pool.groups[learnt], pool.groups[test])]
        truth = np.array([shares(given["lungVAE"][i]) for i in train])
        fitted = fit(maps[train], truth, untrained(maps[train]), EPOCHS, k)
        held_out[test] = find(fitted, maps[test])
    found["lungVAE's masks, patients held out"] = held_out
    print("\n| trained on | " + " | ".join(f"against {name}" for name in given) + " |")
    print("|" + " --- |" * 3)
    for name, masks in found.items():
        cells = [
            str(Quartiles.of([dice(masks[i], mask) for i, mask in truths.items()]))
            for truths in given.values()
        ]
        print("| " + " | ".join([name, *cells]) + " |")
    both = given["lungVAE"].keys() & given["V7"].keys()
    agreed = Quartiles.of([dice(given["lungVAE"][i], given["V7"][i]) for i in both])
    print(f"\nthe two sets against each other: {agreed}")

    kinds = {kind: pool.of(kind) for kind in ("covid", "control", "normal", "pneumonia", "nih")}
    other = pool.of("other")
    lateral = np.array([pool.rows[i].view == "L" for i in other])
    kinds |= {"AP views": other[~lateral], "lateral views": other[lateral]}
    kinds |= {"CT slices": pool.of("ct")}
    pairs = np.array([is_pair_of_lungs(mask) for mask in found["drawings"]])
    print("\n| images | number | a pair of lungs is found in |\n|" + " --- |" * 3)
    for kind, indices in kinds.items():
        print(f"| {kind} | {len(indices)} | {pairs[indices].mean():.2f} |")
    photographs = np.array([cv2.resize(x, (SIZE, SIZE)) for x in load_sample_images().images])
    seen = [is_pair_of_lungs(mask) for mask in find(load_segmenter(), maps_of(photographs))]
    print(f"| photographs | {len(seen)} | {np.mean(seen):.2f} |")
    if args.pictures:
        rng = np.random.default_rng(args.seed)
        rows = []
        for indices in kinds.values():
            shown = np.resize(rng.permutation(indices), SHOWN)
            rows.append([outline(pool.pixels[i], found["drawings"][i]) for i in shown])
        save_png(args.pictures, np.vstack([np.hstack(row) for row in rows]))


if __name__ == "__main__":
    main()
