"""Compare what a saved model predicts in float32 and in bfloat16 on labelled real images.

    PYTHONPATH=. python benchmarks/precision.py --model covid19.keras --dataset elsewhere

Prints the AUC in both, the largest difference of a probability, and how many decisions differ, with
their largest distance from the limit between the classes (of a model with a threshold, that one; of
another, of two classes, 0.5).
"""

import argparse
from pathlib import Path

import numpy as np
from sklearn.metrics import roc_auc_score

from covidxray.data.loading import load_dataset
from covidxray.errors import InputError
from covidxray.process import quiet_backend

with quiet_backend():
    from covidxray.model.predictor import Predictor


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-m", "--model", required=True, type=Path)
    parser.add_argument("-d", "--dataset", required=True, type=Path)
    args = parser.parse_args()
    found = {}
    for precision in ("float32", "bfloat16"):
        predictor = Predictor(args.model, precision=precision)
        metadata, positive = predictor.metadata, predictor.positive
        data = load_dataset(args.dataset, bytes.fromhex(metadata.salt), classes=metadata.classes)
        found[precision] = list(predictor.predict_files(data.paths))
    pairs = list(zip(*found.values(), strict=True))
    read = [not any(isinstance(one, InputError) for one in pair) for pair in pairs]
    truth = data.labels[read] == positive
    exact, fast = (
        np.array([one.probabilities[positive] for one in column])
        for column in zip(
            *(pair for pair, used in zip(pairs, read, strict=True) if used), strict=True
        )
    )
    areas = [roc_auc_score(truth, scores) for scores in (exact, fast)]
    threshold = 0.5 if metadata.threshold is None else metadata.threshold
    changed = (exact >= threshold) != (fast >= threshold)
    far = np.abs(exact[changed] - threshold).max(initial=0)
    print(f"{len(truth)} images: AUC {areas[0]:.4f} in float32, {areas[1]:.4f} in bfloat16")
    print(f"largest difference of a probability: {np.abs(exact - fast).max():.4f}")
    print(f"decisions that differ: {changed.sum()}, at most {far:.4f} from the threshold")


if __name__ == "__main__":
    main()
