"""Draw the demo set: chest radiographs that no patient ever had, so that a fresh clone runs."""

import argparse
from pathlib import Path

from covidxray.cli import run  # first: quiet Ctrl-C

# isort: split
import numpy as np

from covidxray.manifest import Row, check_ours, fill_folder
from covidxray.options import make_parser, number
from covidxray.phantom import DEMO_SEVERITY, Anatomy, draw_phantom, encode_jpeg


def parse_arguments() -> argparse.Namespace:
    parser = make_parser(__doc__)
    add = parser.add_argument
    add("-o", "--output", default="dataset", type=Path, help="folder for covid/ and normal/")
    add("-s", "--sample", default=25, type=number(int, at_least=2), help="images per class")
    add("--size", default=256, type=number(int, at_least=64), help="side in pixels")
    add("--seed", default=42, type=number(int, at_least=0), help="of the drawings")
    return parser.parse_args()


def main() -> None:
    args = parse_arguments()
    for name in ("covid", "normal"):
        check_ours(args.output / name)
    streams = np.random.default_rng(args.seed).spawn(2)
    for name, rng in zip(("covid", "normal"), streams, strict=True):
        drawn = draw_class(rng, args.sample, args.size, diseased=name == "covid")
        fill_folder(args.output / name, drawn)
        patients = len({row.patient_id for row, _ in drawn})
        print(f"{args.output / name}: {len(drawn)} drawings of {patients} invented patients")


def draw_class(
    rng: np.random.Generator, n: int, size: int, *, diseased: bool
) -> list[tuple[Row, bytes]]:
    """`n` drawings with their manifest rows; every fifth patient has a second picture."""
    drawn: list[tuple[Row, bytes]] = []
    name = "covid" if diseased else "normal"
    patient = 0
    while len(drawn) < n:
        anatomy = Anatomy.draw(rng)
        for visit in range(min(2 if patient % 5 == 0 else 1, n - len(drawn))):
            severity = rng.uniform(*DEMO_SEVERITY) if diseased else 0.0
            picture = draw_phantom(rng, anatomy, size=size, severity=severity)
            row = Row(
                filename=f"drawn-{name}-{patient:02d}-{visit}.jpg",
                source="covidxray-phantom",
                source_id=f"{name}/{patient}/{visit}",
                patient_id=f"{name}-{patient:02d}",
                view="PA",
                finding="COVID-19 (drawn)" if diseased else "No Finding (drawn)",
                license="MIT",
                synthetic="yes",
            )
            drawn.append((row, encode_jpeg(picture.image)))
        patient += 1
    return drawn


if __name__ == "__main__":
    run(main)
