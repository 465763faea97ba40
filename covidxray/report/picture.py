"""A figure with a description in words, and files of it that carry both."""

from dataclasses import dataclass
from io import BytesIO
from xml.sax.saxutils import escape

import matplotlib
from matplotlib.figure import Figure

from covidxray.errors import printable

DPI = 200  # pixels per inch of a PNG file
BLUE, ORANGE = "#0072b2", "#d55e00"  # colours that the colour-blind can tell apart


@dataclass(frozen=True)
class Picture:
    """A figure, and a description of what it shows, with its numbers."""

    figure: Figure
    alt: str

    @property
    def svg(self) -> bytes:
        """An SVG file whose `title` and `desc` screen readers read."""
        svg = self._file("svg", Date=None)
        described = f"</title>\n <desc>{escape(printable(self.alt))}</desc>"
        svg = svg.replace(b"</title>", described.encode(), 1)
        return svg.replace(b"<svg ", b'<svg role="img" ', 1)

    @property
    def png(self) -> bytes:
        """A PNG file with the texts "Title" and "Description"."""
        return self._file("png", Description=printable(self.alt))

    def _file(self, kind: str, **metadata: str | None) -> bytes:
        file, metadata["Title"] = BytesIO(), printable(self.alt.partition(". ")[0])
        with matplotlib.rc_context({"svg.hashsalt": "covidxray"}):  # makes the bytes reproducible
            self.figure.savefig(file, format=kind, dpi=DPI, metadata=metadata)
        return file.getvalue()
