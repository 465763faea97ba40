"""Image statistics and manifest rows as tables of numbers, from which baselines predict a label."""

import re
from collections.abc import Sequence

import numpy as np

from covidxray.data.image_file import Facts
from covidxray.data.image_statistics import ImageStatistics
from covidxray.data.manifest import ManifestRow

AGE = re.compile(r"(\d+(?:\.\d+)?) *[yY]?")


def feature_tables(
    image_statistics: Sequence[ImageStatistics], rows: Sequence[ManifestRow]
) -> dict[str, np.ndarray]:
    """Standardised features of N images for the baselines, one table for each kind of statistics.

    Returns:
        float32 (N, features) for each of frame, histogram, file, thumbnail and manifest, in this
        order. A kind in which no two images differ is left out.
    """
    kinds = {
        "frame": np.array([statistics.frame for statistics in image_statistics]),
        "histogram": np.array([statistics.histogram for statistics in image_statistics]),
        "file": _table([statistics.file for statistics in image_statistics]),
        "thumbnail": np.array([statistics.thumbnail for statistics in image_statistics]),
        "manifest": _table([_manifest_facts(row) for row in rows]),
    }
    standard = {name: _standardise(values) for name, values in kinds.items()}
    return {name: values for name, values in standard.items() if values.shape[1]}


def _manifest_facts(row: ManifestRow) -> Facts:
    """Facts of a manifest row, without the finding; "" for what the row does not tell."""
    age = AGE.fullmatch(row.age.strip())
    facts: Facts = {name: getattr(row, name).strip().lower() for name in ("source", "view", "sex")}
    return {**facts, "age": float(age[1]) if age else ""}


def _table(facts: Sequence[Facts]) -> np.ndarray:
    """Facts as (N, columns): of each key, one for its numbers, and one for each of its texts.

    Where the fact is a text, the column of numbers has their mean.
    """
    columns = []
    for key in facts[0]:
        values = [fact[key] for fact in facts]
        numbers = np.array([np.nan if isinstance(v, str) else v for v in values])
        if not np.isnan(numbers).all():
            columns.append(np.where(np.isnan(numbers), np.nanmean(numbers), numbers))
        for text in sorted({v for v in values if isinstance(v, str)}):
            columns.append(np.array([v == text for v in values], float))
    return np.stack(columns, axis=1)


def _standardise(values: np.ndarray) -> np.ndarray:
    values = values[:, values.std(axis=0) > 1e-6].astype(np.float64)
    return ((values - values.mean(axis=0)) / values.std(axis=0)).astype(np.float32)
