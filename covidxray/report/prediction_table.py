"""The table of predictions: as lines of text, as CSV that a spreadsheet may open, and as JSON."""

import csv
import io
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from covidxray.data.lung_masks import heat_in_centre, heat_in_mask
from covidxray.data.spreadsheet_cells import to_cell
from covidxray.errors import printable
from covidxray.files import atomic_writes

if TYPE_CHECKING:
    from covidxray.model.model_file import ModelMetadata
    from covidxray.model.predictor import Prediction

COLUMNS = ["image", "class", "probability", "distance", "warning"]
COLUMNS += ["heat_in_lungs", "heat_in_centre", "heat_map"]
Row = dict[str, str | float | None]


def make_row(
    path: Path, prediction: "Prediction", metadata: "ModelMetadata", heat_map: Path | None
) -> Row:
    """The values of `COLUMNS` for one image; `heat_map` is where its heat map was drawn.

    The probability is that of the positive class. The distance is from the training images, in
    units of the limit beyond which there is a warning. The shares of heat, from 0 to 1, are None
    where there is no heat.
    """
    name = printable(str(path))
    shares = heat_in_mask(prediction.heat, prediction.lungs), heat_in_centre(prediction.heat)
    in_lungs, in_centre = (None if math.isnan(share) else round(share, 4) for share in shares)
    positive = metadata.classes.index(metadata.positive)
    return {
        "image": f"./{name}" if name[0] in "=+-@" else name,  # a spreadsheet would calculate it
        "class": metadata.classes[prediction.label],
        "probability": round(float(prediction.probabilities[positive]), 6),
        "distance": round(prediction.distance, 4),
        "warning": prediction.warning,
        "heat_in_lungs": in_lungs,
        "heat_in_centre": in_centre,
        "heat_map": str(heat_map) if heat_map else None,
    }


def format_prediction(path: Path, prediction: "Prediction", metadata: "ModelMetadata") -> str:
    """A line of the table of predictions; of a long path, its end."""
    name = printable(str(path))
    name = name if len(name) < 30 else f"...{name[-26:]}"
    probability = prediction.probabilities[metadata.classes.index(metadata.positive)]
    width = len(metadata.positive) + 3
    line = f"{name:<30}{metadata.classes[prediction.label]:<12}{probability:>{width}.3f}"
    return printable(f"{line}  {prediction.warning}".rstrip())


def write_prediction_tables(
    rows: Sequence[Row], csv_path: Path | None, json_path: Path | None
) -> None:
    """Write each table whose path is given; either all of them are written or none.

    Raises:
        InputError: a table cannot be written.
    """
    text = io.StringIO(newline="")
    table = csv.writer(text)
    table.writerow(COLUMNS)
    for row in rows:
        table.writerow(to_cell(c) if isinstance(c, str) else c for c in row.values())
    document = f"{json.dumps(rows, indent=1)}\n"
    with atomic_writes() as output:
        for path, content in ((csv_path, text.getvalue()), (json_path, document)):
            if path:
                with output(path) as temporary:
                    temporary.write_text(content, encoding="utf-8", newline="")
