"""The false-positive rate of references of several sizes, on normal images split at random.

    PYTHONPATH=. python benchmarks/reference_rate.py --model covid19.keras --normals nih-normal

The normal images must be of different patients and must not have trained the model. Each split
takes some of them as a reference and classifies the others by `--false-positives RATE`. By theory
the mean rate is floor(RATE (n + 1)) / (n + 1) for references of n images. "Simulated" is of scores
drawn from a uniform distribution.
"""

import argparse
from pathlib import Path

import numpy as np

from covidxray.data.folders import list_images
from covidxray.evaluation import conformal
from covidxray.model.prediction import Prediction
from covidxray.model.predictor import Predictor

SPLITS = 2000


def mean_rate(scores: np.ndarray, n: int, rate: float, rng: np.random.Generator) -> float:
    """Mean share of positives among the images that are not in the reference."""
    rates = []
    for _ in range(SPLITS):
        order = rng.permutation(scores)
        rates.append((order[n:] >= conformal.Reference(order[:n], rate).threshold).mean())
    return float(np.mean(rates))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True, type=Path)
    parser.add_argument("--normals", required=True, type=Path)
    args = parser.parse_args()
    predictor = Predictor(args.model)
    found = predictor.predict_files(list_images(args.normals))
    usable = [one for one in found if isinstance(one, Prediction) and one.label is not None]
    scores = np.array([one.probabilities[predictor.positive] for one in usable])
    rng = np.random.default_rng(0)
    print(
        f"{len(scores)} normal images, {SPLITS} splits; above 0.5: {(scores >= 0.5).mean():.2f}\n"
    )
    print(f"| reference | rate | theory | simulated | these images |\n|{' --- |' * 5}")
    for n, rate in ((9, 0.1), (19, 0.1), (19, 0.05), (30, 0.1), (40, 0.2)):
        theory = conformal.allowed(n, rate) / (n + 1)
        drawn = mean_rate(rng.random(2 * n + 60), n, rate, rng)
        cells = f"{theory:.3f} | {drawn:.3f} | {mean_rate(scores, n, rate, rng):.3f}"
        print(f"| {n} | {rate} | {cells} |")


if __name__ == "__main__":
    main()
