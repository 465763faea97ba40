"""Measure which images get the warning "unlike the training images".

    PYTHONPATH=. python benchmarks/unfamiliar.py --covid covid-chestxray-dataset \\
        --kaggle chest_xray --nih nih-normal

There are two training sets, each drawn `--draws` times: 25 covid + 25 Kaggle normals, and 100 covid
+ 50 controls + 50 Kaggle normals. The table shows the fraction of images with the warning among
those that are not in training. Brackets show the middle 95 % of draws. The photographs are those of
scikit-learn.
"""

import argparse

import numpy as np
from pool import add_sources, draw_patients, features, read_pool, spread
from sklearn.datasets import load_sample_images

from covidxray.model.outliers import fit_outlier_detector, non_radiograph_warning

SETS = {
    "25 + 25": (("covid", 25), ("normal", 25)),
    "100 + 100": (("covid", 100), ("control", 50), ("normal", 50)),
}
CT, LATERAL, AP = "CT slices", "lateral views", "AP views"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    add_sources(parser)
    args = parser.parse_args()
    pool = read_pool(args)
    vectors = features(args, pool, "clean")["block4_conv3", 3]
    tests = {
        "COVID-19 of other patients, same source": pool.of("covid"),
        "controls, same source": pool.of("control"),
        "Kaggle normals, same source": pool.of("normal"),
        "Kaggle pneumonia": pool.of("pneumonia"),
        "another hospital: NIH adults": pool.of("nih"),
    }
    other = pool.of("other")
    view = np.array([pool.rows[i].view for i in other])
    tests[CT] = pool.of("ct")
    tests[LATERAL] = other[view == "L"]
    tests[AP] = other[np.isin(view, ["AP", "AP Supine"])]
    print("| images | number | " + " | ".join(SETS) + " |")
    print("|" + " --- |" * 4)
    rates: dict[str, dict[str, list[float]]] = {name: {s: [] for s in SETS} for name in tests}
    for label, kinds in SETS.items():
        for draw in range(args.draws):
            rng = np.random.default_rng((args.seed, draw))
            train = np.concatenate([draw_patients(pool, kind, n, rng) for kind, n in kinds])
            familiar = fit_outlier_detector(vectors[train], pool.groups[train], rng)
            for name, indices in tests.items():
                unseen = indices[~np.isin(pool.groups[indices], pool.groups[train])]
                flagged = familiar.distance(vectors[unseen]) > familiar.limit
                rates[name][label].append(flagged.mean())
    for name, indices in tests.items():
        cells = [spread(rates[name][label]) for label in SETS]
        print(f"| {name} | {len(indices)} | " + " | ".join(cells) + " |")
    photographs = load_sample_images().images
    found = sum(bool(non_radiograph_warning(image)) for image in photographs)
    xrays = sum(bool(non_radiograph_warning(image)) for image in pool.pixels)
    print(f"\nin colour or blank: {found} of {len(photographs)} photographs, "
          f"{xrays} of {len(pool.pixels)} radiographs and CT slices")  # fmt: skip


if __name__ == "__main__":
    main()
