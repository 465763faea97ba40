"""The curves of an SVG that Matplotlib drew, read back as numbers in the units of its axes."""

import re

import numpy as np

GRID = "#b0b0b0"  # Matplotlib's own colour of grid lines
PATH = re.compile(r'<path d="([^"]*)"[^>]*style="fill: none;[^"]*stroke: (#\w+)')
LABELLED = re.compile(PATH.pattern + r".*?<!-- (.*?) -->", re.DOTALL)


def points(path):
    """The corners of a path, (N, 2)."""
    return np.array(re.findall(r"[ML] (\S+) (\S+)", path), float)


def unit(axis, column):
    """A function from places in the picture to an axis' unit, by its grid lines and their labels;
    an axis whose labels stand elsewhere gives the places themselves."""
    lines = [
        (points(path)[0, column], text) for path, c, text in LABELLED.findall(axis) if c == GRID
    ]
    if not lines:
        return lambda places: places
    places, texts = zip(*lines, strict=True)
    values = [float(text.replace("\N{MINUS SIGN}", "-")) for text in texts]
    slope, start = np.polyfit(places, values, 1)
    return lambda places: slope * places + start


def curves(svg):
    """Of each axes: name in the legend -> the curve of that colour, (N, 2)."""
    text = svg.decode()
    parts = re.split(r'<g id="axes_\d+">', text)[1:]
    legends = [legend for part in parts for legend in part.split('<g id="legend_')[1:]]
    names = {colour: name for legend in legends for _, colour, name in LABELLED.findall(legend)}
    found = []
    for part in parts:
        body = part.split('<g id="legend_')[0]
        _, across, upward = re.split(r'<g id="matplotlib\.axis_\d+">', body)
        to_x, to_y = unit(across, 0), unit(upward, 1)
        drawn = {}
        for path, colour in PATH.findall(upward):
            corners = points(path)
            if colour in names:
                curve = np.column_stack([to_x(corners[:, 0]), to_y(corners[:, 1])])
                drawn.setdefault(names[colour], []).append(curve)
        # An interval's bar has the colour of its curve and two corners.
        found.append({name: max(several, key=len) for name, several in drawn.items()})
    return found
