"""The table of predictions: as lines of text, as CSV that a spreadsheet may open, and as JSON."""

import csv
import io
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from covidxray.data.lung_masks import heat_in_centre, heat_in_mask
from covidxray.data.spreadsheet_cells import to_cell
from covidxray.errors import printable
from covidxray.evaluation.conformal import Reference
from covidxray.evaluation.recalibration import at_prevalence
from covidxray.files import atomic_writes
from covidxray.report.sentences import describe_reference
from covidxray.report.text import PROBABILITY, describe_threshold, wrap

if TYPE_CHECKING:
    from covidxray.model.model_file import ModelMetadata
    from covidxray.model.prediction import Prediction

Row = dict[str, str | float | None]


@dataclass(frozen=True)
class PredictionTable:
    """Lines of the table; `prevalence` and `reference` add a column each."""

    metadata: "ModelMetadata"
    prevalence: float | None = None
    reference: Reference | None = None

    def make_row(self, path: Path, prediction: "Prediction", heat_map: Path | None) -> Row:
        """The columns of the table for one image; `heat_map` is where its heat map was drawn.

        There is one column for the probability of each class; `probability` is that of the positive
        class, with a prevalence there is one more for it, and with a reference one for the p-value.
        The distance is from the training images, in units of the limit beyond which there is a
        warning. The shares of heat, from 0 to 1, are None where there is no heat.
        """
        name = printable(str(path))
        shares = heat_in_mask(prediction.heat, prediction.lungs), heat_in_centre(prediction.heat)
        in_lungs, in_centre = (None if math.isnan(share) else round(share, 4) for share in shares)
        columns = self._numbers(prediction.probabilities)
        return {
            "image": f"./{name}" if name[0] in "=+-@" else name,  # a spreadsheet would calculate it
            "class": self._class_of(prediction),
            "probability": round(columns[f"P({self.metadata.positive})"], 6),
            **{column: round(value, 6) for column, value in columns.items()},
            "distance": round(prediction.distance, 4),
            "warning": prediction.warning,
            "heat_in_lungs": in_lungs,
            "heat_in_centre": in_centre,
            "heat_map": str(heat_map) if heat_map else None,
        }

    def _class_of(self, prediction: "Prediction") -> str:
        """The predicted class; "" for an image that gets none."""
        return "" if prediction.label is None else self.metadata.classes[prediction.label]

    def _numbers(self, probabilities: np.ndarray) -> dict[str, float]:
        """Column -> probability; the positive class first, at a prevalence and the p-value last."""
        metadata = self.metadata
        positive = metadata.classes.index(metadata.positive)
        order = [positive, *(i for i in range(len(metadata.classes)) if i != positive)]
        columns = {f"P({metadata.classes[i]})": float(probabilities[i]) for i in order}
        if self.prevalence is not None:
            there = at_prevalence(probabilities, positive, self.prevalence)
            columns[f"at prevalence {self.prevalence:g}"] = float(there[positive])
        if self.reference:
            columns["p-value"] = float(self.reference.p_values(probabilities[[positive]])[0])
        return columns

    @property
    def header(self) -> str:
        """The names of the columns that `format` shows."""
        columns = self._numbers(np.ones(len(self.metadata.classes)))
        return printable(f"{'image':<30}{'class':<12}{'  '.join(columns)}")

    def format(self, path: Path, prediction: "Prediction") -> str:
        """A line of the table, and one for a warning; of a long path, its end."""
        name = printable(str(path))
        name = name if len(name) < 30 else f"...{name[-26:]}"
        columns = self._numbers(prediction.probabilities)
        cells = "  ".join(f"{value:>{len(column)}.3f}" for column, value in columns.items())
        line = f"{name:<30}{self._class_of(prediction):<12}{cells}"
        warning = f"\n    warning: {prediction.warning}" if prediction.warning else ""
        return printable(line) + warning

    @property
    def sentences(self) -> list[str]:
        """What class, probability and p-value mean."""
        rule = describe_threshold(self.metadata.positive, self.metadata.threshold)
        lines = [f"class: {printable(rule)}", PROBABILITY]
        if self.reference:
            lines.append(describe_reference(self.reference))
        return lines

    @property
    def footer(self) -> str:
        """The sentences below the table."""
        return wrap("\n".join(["", *self.sentences]))


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
