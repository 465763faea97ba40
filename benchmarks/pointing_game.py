"""Measure how often the maximum of a heat map lies on a lesion of a drawing.

    PYTHONPATH=. python benchmarks/pointing_game.py --model covid19.keras [--drawings 100]

This is the pointing game (Zhang et al. 2016) on new drawings with disease, whose lesions are known
for each pixel. A heat map hits if its maximum lies on a lesion, or within 15 pixels of one. Train
the model on the demo set first: `python train_covid19.py -d dataset`.
"""

import argparse
from pathlib import Path

import cv2
import numpy as np

from covidxray.data import SIZE
from covidxray.data.lung_masks import heat_in_centre
from covidxray.demo.phantom import DEMO_SEVERITY, draw_phantom
from covidxray.evaluation.intervals import share
from covidxray.model.predictor import Predictor

TOLERANCE = 15  # pixels, as in the paper, whose images have a similar size


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True, type=Path)
    parser.add_argument("--drawings", default=100, type=int)
    parser.add_argument("--seed", default=2020, type=int)
    args = parser.parse_args()
    classifier = Predictor(args.model)
    rng = np.random.default_rng(args.seed)
    phantoms = [
        draw_phantom(rng, size=SIZE, severity=rng.uniform(*DEMO_SEVERITY))
        for _ in range(args.drawings)
    ]
    images = (np.repeat(phantom.image[..., None], 3, axis=2) for phantom in phantoms)
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * TOLERANCE + 1,) * 2)

    # One row per drawing: hit, and chance of a random point in the image or in the lungs to hit.
    rows, shares = [], []
    for phantom, prediction in zip(phantoms, classifier.predict(images), strict=True):
        if prediction.label != classifier.positive or not prediction.heat.any():
            continue
        lungs, near = phantom.lungs, cv2.dilate(phantom.lesions.astype(np.uint8), disc) > 0
        place = np.unravel_index(prediction.heat.argmax(), prediction.heat.shape)
        masks = phantom.lesions, near
        rows.append([(m[place], m.mean(), m[lungs].mean()) for m in (*masks, lungs)])
        heat = prediction.heat / prediction.heat.sum()
        inside = heat[phantom.lesions].sum(), heat[lungs].sum()
        shares.append((heat_in_centre(heat), *inside))
    if not rows:
        raise SystemExit("no drawing is classified as diseased")
    hit, anywhere, in_lungs = np.moveaxis(np.array(rows, float), 2, 0)  # (n, 3) each
    called = f"{len(rows)} of {args.drawings} drawings"
    print(f"{called} are classified as {classifier.metadata.positive}; only these are counted")
    names = ("on a lesion", f"within {TOLERANCE} pixels of a lesion", "in a lung")
    for k, name in enumerate(names):
        print(f"\nhottest point {name}: {share(hit[:, k] > 0, np.arange(len(hit)))}")
        print(f"  by chance, anywhere in the picture: {anywhere[:, k].mean():.4f}")
        print(f"  by chance, anywhere in the lungs:   {in_lungs[:, k].mean():.4f}")
    means = np.mean(shares, axis=0)
    print("\nshare of the heat: {:.4f} centre, {:.4f} lesions, {:.4f} lungs".format(*means))


if __name__ == "__main__":
    main()
