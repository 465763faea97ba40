"""Draw the demo set: chest radiographs of invented patients, so that a fresh clone can be tried."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from covidxray import cli
from covidxray.process import run_script

if TYPE_CHECKING:
    import numpy as np

    from covidxray.data.manifest import ManifestRow


def make_parser() -> argparse.ArgumentParser:
    parser = cli.make_parser(__doc__)
    add = parser.add_argument
    add("-o", "--output", default="dataset", type=Path, help="folder for covid/ and normal/")
    add("-s", "--sample", default=25, type=cli.number(int, at_least=2), help="images per class")
    add("--size", default=256, type=cli.number(int, at_least=64), help="width in pixels")
    add("--seed", default=42, type=cli.number(int, at_least=0), help="seed of the drawings")
    return parser


def main() -> None:
    args = make_parser().parse_args()

    import numpy as np

    from covidxray.data.class_folder import check_replaceable, fill_folder

    classes = ("covid", "normal")
    for name in classes:
        check_replaceable(args.output / name)
    streams = np.random.default_rng(args.seed).spawn(len(classes))
    for name, rng in zip(classes, streams, strict=True):
        drawn = draw_class(rng, args.sample, args.size, diseased=name == "covid")
        fill_folder(args.output / name, drawn)
        patients = len({row.patient_id for row, _ in drawn})
        print(f"{args.output / name}: {len(drawn)} drawings of {patients} invented patients")


def draw_class(
    rng: "np.random.Generator", n: int, size: int, *, diseased: bool
) -> list[tuple["ManifestRow", bytes]]:
    """Draw `n` images, `size` pixels wide, with their manifest rows; every fifth patient has two.

    Each image is the content of a JPEG file.
    """
    from covidxray.data.manifest import ManifestRow
    from covidxray.demo.phantom import DEMO_SEVERITY, Anatomy, draw_phantom, encode_jpeg

    drawn: list[tuple[ManifestRow, bytes]] = []
    name = "covid" if diseased else "normal"
    patient = 0
    while len(drawn) < n:
        anatomy = Anatomy.draw(rng)
        for visit in range(min(2 if patient % 5 == 0 else 1, n - len(drawn))):
            severity = rng.uniform(*DEMO_SEVERITY) if diseased else 0.0
            phantom = draw_phantom(rng, anatomy, size=size, severity=severity)
            row = ManifestRow(
                filename=f"drawn-{name}-{patient:02d}-{visit}.jpg",
                source="covidxray-phantom",
                source_id=f"{name}/{patient}/{visit}",
                patient_id=f"{name}-{patient:02d}",
                view="PA",
                finding="COVID-19 (drawn)" if diseased else "No Finding (drawn)",
                license="MIT",
                synthetic="yes",
            )
            drawn.append((row, encode_jpeg(phantom.image)))
        patient += 1
    return drawn


if __name__ == "__main__":
    run_script(main)
