"""Measure how the number of rotated copies of each training image changes the AUC.

    PYTHONPATH=. python benchmarks/views.py --covid covid-chestxray-dataset [--draws 40]

The task is COVID-19 against controls of the same repository, which is harder than the tutorial's.
In each of `--draws` draws, a random half of the patients trains and the other half is the test. The
default of `train_covid19.py --augment` comes from this table.
"""

import argparse
from pathlib import Path

import numpy as np

from covidxray.data import cohen
from covidxray.data.duplicates import merge_groups_with_copies
from covidxray.evaluation import intervals
from covidxray.evaluation.splits import holdout
from covidxray.model.features import draw_angles, extract
from covidxray.model.heads import fit_heads
from covidxray.model.labelled_features import LabelledFeatures
from covidxray.model.lungs import build_region_model, load_segmenter
from covidxray.model.recipes import RECIPES, HeadOptions
from covidxray.model.vgg16 import build_backbone, resolve_precision
from covidxray.model.weights import load_weights

VIEWS = (0, 1, 3, 6, 12, 25)


def images(root: Path) -> tuple[list[Path], np.ndarray, np.ndarray]:
    """Paths, labels (1 is COVID-19) and patient numbers of all PA images in the repository."""
    records = cohen.read_metadata(root / "metadata.csv")
    found = {}
    for label, chosen in (
        (1, cohen.select(records, "COVID-19", ["PA"])),
        (0, cohen.select_controls(records, "COVID-19", ["PA"])),
    ):
        for record in chosen:
            path = cohen.locate(root, record)
            if path.is_file():
                found.setdefault(path, (label, record.patient_id))
    labels = np.array([label for label, _ in found.values()])
    patients = np.unique([patient for _, patient in found.values()], return_inverse=True)[1]
    return list(found), labels, patients


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--covid", required=True, type=Path)
    parser.add_argument("--draws", default=40, type=int)
    parser.add_argument("--seed", default=42, type=int)
    args = parser.parse_args()
    paths, labels, groups = images(args.covid)
    view_rng, draw_rng = np.random.default_rng(args.seed).spawn(2)
    recipe = RECIPES["tutorial"]
    backbone = build_backbone(load_weights(), recipe, resolve_precision("auto"))
    angles = draw_angles(len(paths), max(VIEWS), 15, view_rng)
    features = extract(
        lambda: build_region_model(backbone, recipe, load_segmenter()), paths, angles
    )
    whole = features.regions["whole"].reshape(1 + max(VIEWS), len(paths), -1).swapaxes(0, 1)
    groups, _ = merge_groups_with_copies(groups, features.hashes)
    draws = []
    for _ in range(args.draws):
        train, test = holdout(labels, groups, 0.5, draw_rng)
        rare = np.bincount(labels[train]).min()  # the same number of each class
        kept = [draw_rng.permutation(train[labels[train] == c])[:rare] for c in (0, 1)]
        draws.append((np.concatenate(kept), test))
    print(f"{len(paths)} images ({labels.sum()} COVID-19), {args.draws} draws")
    print("views   AUC mean   standard error   difference to 0 views (standard error)")
    first = None
    for views in VIEWS:
        heads = fit_heads(
            LabelledFeatures.of(whole[:, : 1 + views], labels),
            [train for train, _ in draws],
            HeadOptions(),
            np.random.default_rng(args.seed),
        )
        areas = np.array(
            [
                intervals.auc(
                    labels[test] == 1,
                    heads.predict(whole[test, 0], f)[:, 1],
                    groups[test],
                ).value
                for f, (_, test) in enumerate(draws)
            ]
        )
        first = areas if first is None else first
        gain, root = areas - first, np.sqrt(len(areas))
        print(
            f"{views:5d}   {areas.mean():8.4f}   {areas.std(ddof=1) / root:14.4f}"
            f"   {gain.mean():+.4f} ({gain.std(ddof=1) / root:.4f})"
        )


if __name__ == "__main__":
    main()
