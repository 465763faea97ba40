"""What a report's page consists of, read back from its HTML."""

import base64
import io
import re
from html.parser import HTMLParser

import numpy as np
from PIL import Image


class Page(HTMLParser):
    """The elements of a page with their attributes, its text, and its tables.

    Attributes:
        elements: tag and attributes of each element, in order.
        text: everything between the tags.
        tables: caption -> rows, each a list of the texts of its cells, the head's row included.
    """

    def __init__(self, html):
        super().__init__()
        self.elements, self.text, self.tables = [], "", {}
        self._inside, self._caption = None, ""
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag == "caption":
            self._inside, self._caption = "caption", ""
        elif tag == "tr":
            self.tables[self._caption].append([])
        elif tag in ("th", "td"):
            self._inside = "cell"
            self.tables[self._caption][-1].append("")

    def handle_endtag(self, tag):
        if tag == "caption":
            self.tables[self._caption] = []
        if tag in ("caption", "th", "td"):
            self._inside = None

    def handle_data(self, data):
        self.text += data
        if self._inside == "caption":
            self._caption += data
        elif self._inside == "cell":
            self.tables[self._caption][-1][-1] += data

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]

    def table(self, start):
        """The rows of the one table whose caption begins with `start`."""
        (rows,) = (rows for caption, rows in self.tables.items() if caption.startswith(start))
        return rows

    def described(self, start):
        """The descriptions of the pictures that begin with `start`, in order."""
        return [image["alt"] for image in self.all("img") if image["alt"].startswith(start)]

    def cases(self):
        """Of each case its name, its description, and its two pictures, (H, W, 3) uint8 RGB."""
        images = self.all("img")
        firsts = [i for i, image in enumerate(images) if image["alt"].startswith("X-ray ")]
        return [
            (
                re.match("X-ray (.*?): truth ", images[i]["alt"]).group(1),
                images[i]["alt"],
                decode(images[i]["src"]),
                decode(images[i + 1]["src"]),
            )
            for i in firsts
        ]


def decode(address):
    """The picture in a data: address, (H, W, 3) uint8 RGB."""
    content = base64.b64decode(address.split(",")[1])
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))


def areas(alt):
    """Name -> area, two digits, that the description of ROC curves tells."""
    return {name: float(area) for name, area in re.findall(r"(?:\. )([^:]*): area ([\d.]+);", alt)}


def bins(alt, name):
    """(mean probability, share of positives, images) of each bin of one calibration curve, as its
    description tells them."""
    text = re.search(rf"(?:\. ){re.escape(name)}: (.*?)\.(?: |$)", alt.removesuffix(".") + ".")
    triples = re.findall(r"([\d.]+) predicted and ([\d.]+) found in ([\d.]*\d)", text.group(1))
    return [tuple(map(float, triple)) for triple in triples]
