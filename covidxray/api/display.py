"""How results show themselves in a notebook: pieces of HTML that hold their pictures."""

from collections.abc import Iterable, Mapping
from html import escape

import numpy as np

from covidxray import DISCLAIMER, DRAWINGS
from covidxray.errors import printable
from covidxray.evaluation.intervals import Estimate
from covidxray.report import plots
from covidxray.report.evidence import Groups, short
from covidxray.report.picture import Picture


def table(rows: Iterable[tuple[str, ...]], header: tuple[str, ...]) -> str:
    """A table whose first column names its rows; all text is escaped."""
    return _table(((name, *map(escape, cells)) for name, *cells in rows), header)


def _table(rows: Iterable[tuple[str, ...]], header: tuple[str, ...]) -> str:
    """A table whose cells are HTML; the names of its rows and columns are escaped."""
    head = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in header)
    body = ""
    for name, *cells in rows:
        columns = "".join(f"<td>{cell}</td>" for cell in cells)
        body += f'<tr><th scope="row">{escape(name)}</th>{columns}</tr>'
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def estimates(groups: Groups) -> str:
    """A table of scores with their 95 % intervals."""
    rows = ((name, short(one)) for scores in groups.values() for name, one in scores.items())
    return table(rows, ("measure", "value (95 % interval)"))


def bars(scores: Mapping[str, Estimate], header: tuple[str, str]) -> str:
    """A table of scores with a bar from 0 to 1 that shows the value and its 95 % interval.

    The look of the bar is for a style sheet: `.bar`, in it `i` the interval and `b` the value.
    """
    rows = []
    for name, one in scores.items():
        count = "" if one.total is None else f"{one.count} of {one.total}: "
        reach = f"left:{100 * one.low:.1f}%;right:{100 - 100 * one.high:.1f}%"
        marks = f'<i style="{reach}"></i><b style="left:{100 * one.value:.1f}%"></b>'
        bar = f'<span class="bar" aria-hidden="true">{marks}</span>'
        rows.append((name, f"{count}{one.short}{bar}"))
    return _table(rows, header)


def picture(drawn: Picture) -> str:
    """A drawn picture with its description."""
    address = plots.data_address("svg+xml", drawn.svg)
    return f'<img src="{address}" alt="{escape(drawn.alt)}" style="max-width:100%">'


def photograph(image: np.ndarray, alt: str) -> str:
    """An image, uint8 RGB (H, W, 3), with its description."""
    return f'<img src="{plots.jpeg_address(image)}" alt="{escape(alt)}">'


def pictures(*shown: tuple[np.ndarray, str, str]) -> str:
    """Images, uint8 RGB (H, W, 3), each with its description and its caption."""
    figures = (
        f"<figure><figcaption>{escape(caption)}</figcaption>{photograph(image, alt)}</figure>"
        for image, alt, caption in shown
    )
    return f'<div class="pictures">{"".join(figures)}</div>'


def warning(text: str) -> str:
    """A line that says what is wrong."""
    return f'<p class="warning">{escape(printable(text))}</p>'


def page(*parts: str, synthetic: bool) -> str:
    """Parts of HTML one below the other, the disclaimer, and whether images are drawings."""
    note = f"{DISCLAIMER} {DRAWINGS}" if synthetic else DISCLAIMER
    return f"<div>{''.join(parts)}<p><strong>{note}</strong></p></div>"
