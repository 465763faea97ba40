"""The table of predictions: as lines of text, as CSV that a spreadsheet may open, and as JSON."""

import csv
import io
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from covidxray.data.lung_masks import heat_in_centre, heat_in_mask
from covidxray.data.spreadsheet_cells import to_cell
from covidxray.errors import printable
from covidxray.evaluation.recalibration import at_prevalence
from covidxray.files import atomic_writes
from covidxray.report.text import PROBABILITY, describe_threshold, wrap

if TYPE_CHECKING:
    from covidxray.model.model_file import ModelMetadata
    from covidxray.model.predictor import Prediction

Row = dict[str, str | float | None]


def make_row(
    path: Path,
    prediction: "Prediction",
    metadata: "ModelMetadata",
    heat_map: Path | None,
    prevalence: float | None,
) -> Row:
    """The columns of the table for one image; `heat_map` is where its heat map was drawn.

    There is one column for the probability of each class; `probability` is that of the positive
    class, and with a prevalence there is one more for it. The distance is from the training images,
    in units of the limit beyond which there is a warning. The shares of heat, from 0 to 1, are None
    where there is no heat.
    """
    name = printable(str(path))
    shares = heat_in_mask(prediction.heat, prediction.lungs), heat_in_centre(prediction.heat)
    in_lungs, in_centre = (None if math.isnan(share) else round(share, 4) for share in shares)
    columns = _probabilities(prediction.probabilities, metadata, prevalence)
    return {
        "image": f"./{name}" if name[0] in "=+-@" else name,  # a spreadsheet would calculate it
        "class": metadata.classes[prediction.label],
        "probability": round(columns[f"P({metadata.positive})"], 6),
        **{column: round(value, 6) for column, value in columns.items()},
        "distance": round(prediction.distance, 4),
        "warning": prediction.warning,
        "heat_in_lungs": in_lungs,
        "heat_in_centre": in_centre,
        "heat_map": str(heat_map) if heat_map else None,
    }


def _probabilities(
    probabilities: np.ndarray, metadata: "ModelMetadata", prevalence: float | None
) -> dict[str, float]:
    """Column -> probability; the positive class first, at a prevalence last."""
    positive = metadata.classes.index(metadata.positive)
    order = [positive, *(i for i in range(len(metadata.classes)) if i != positive)]
    columns = {f"P({metadata.classes[i]})": float(probabilities[i]) for i in order}
    if prevalence is not None:
        there = at_prevalence(probabilities, positive, prevalence)
        columns[f"at prevalence {prevalence:g}"] = float(there[positive])
    return columns


def format_header(metadata: "ModelMetadata", prevalence: float | None) -> str:
    """The names of the columns that `format_prediction` shows."""
    columns = _probabilities(np.zeros(len(metadata.classes)) + 1, metadata, prevalence)
    return printable(f"{'image':<30}{'class':<12}{'  '.join(columns)}")


def format_prediction(
    path: Path, prediction: "Prediction", metadata: "ModelMetadata", prevalence: float | None
) -> str:
    """A line of the table of predictions, and one for a warning; of a long path, its end."""
    name = printable(str(path))
    name = name if len(name) < 30 else f"...{name[-26:]}"
    columns = _probabilities(prediction.probabilities, metadata, prevalence)
    cells = "  ".join(f"{value:>{len(column)}.3f}" for column, value in columns.items())
    line = f"{name:<30}{metadata.classes[prediction.label]:<12}{cells}"
    warning = f"\n    warning: {prediction.warning}" if prediction.warning else ""
    return printable(line) + warning


def format_footer(metadata: "ModelMetadata") -> str:
    """What class and probability mean, below the table."""
    rule = describe_threshold(metadata.positive, metadata.threshold)
    return wrap(f"\nclass: {printable(rule)}\n{PROBABILITY}")


def write_prediction_tables(
    rows: Sequence[Row], csv_path: Path | None, json_path: Path | None
) -> None:
    """Write each table whose path is given; either all of them are written or none.

    Raises:
        InputError: a table cannot be written.
    """
    text = io.StringIO(newline="")
    table = csv.writer(text)
    table.writerow(rows[0] if rows else ["image", "class"])
    for row in rows:
        table.writerow(to_cell(c) if isinstance(c, str) else c for c in row.values())
    document = f"{json.dumps(rows, indent=1)}\n"
    with atomic_writes() as output:
        for path, content in ((csv_path, text.getvalue()), (json_path, document)):
            if path:
                with output(path) as temporary:
                    temporary.write_text(content, encoding="utf-8", newline="")
