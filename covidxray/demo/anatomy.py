"""The shapes in a frontal chest radiograph, and how they differ between patients."""

from collections.abc import Iterable

import cv2
import numpy as np
from numpy.typing import ArrayLike

CANVAS = 512  # height and width while drawing, in pixels
SIDES = RIGHT, LEFT = -1, 1  # of the patient, and sign of x: as on film, right is on the left

# Points (x, y) on the borders of a lung: x from the midline in half chest widths, y down from the
# lung apex in lung heights. The medial border follows the right atrium on the right, and the left
# ventricle and the aortic knob on the left.
# fmt: off
LATERAL = [(0.20, 0.11), (0.26, 0.03), (0.39, 0.0), (0.57, 0.035), (0.76, 0.14), (0.89, 0.31),
           (0.96, 0.52), (1.0, 0.74), (1.01, 0.90), (0.99, 1.0)]
DOME = {RIGHT: [(0.99, 1.0), (0.92, 0.93), (0.74, 0.86), (0.53, 0.84), (0.34, 0.865)],
        LEFT: [(0.99, 1.0), (0.94, 0.94), (0.86, 0.90), (0.79, 0.88)]}
MEDIAL = {RIGHT: [(0.21, 0.92), (0.26, 0.81), (0.25, 0.69), (0.18, 0.54), (0.17, 0.36),
                  (0.16, 0.22)],
          LEFT: [(0.60, 0.93), (0.58, 0.86), (0.52, 0.74), (0.38, 0.61), (0.25, 0.51),
                 (0.20, 0.42), (0.25, 0.34), (0.24, 0.27), (0.16, 0.20)]}
# fmt: on


def curve(points: ArrayLike) -> np.ndarray:
    """Catmull-Rom spline through points (K, 2), as points (M, 2)."""
    points = np.asarray(points)
    p = np.vstack([points[0], points, points[-1]])
    a, b, c, d = p[:-3], p[1:-2], p[2:-1], p[3:]
    t = np.linspace(0, 1, 10)[:, None, None]
    q = b + t * ((c - a) + t * ((2 * a - 5 * b + 4 * c - d) + t * (3 * b - a - 3 * c + d))) / 2
    return q.transpose(1, 0, 2).reshape(-1, 2)


def ellipse(x: float, y: float, radius_x: float, radius_y: float) -> np.ndarray:
    """Points (48, 2) on an ellipse around (x, y)."""
    angle = np.linspace(0, 2 * np.pi, 48)
    return np.stack([x + radius_x * np.cos(angle), y + radius_y * np.sin(angle)], axis=1)


def both_sides(points: ArrayLike) -> np.ndarray:
    """Points (M, 2) on the right and on the left of the midline, (2, M, 2)."""
    return np.asarray(points) * [[(RIGHT, 1)], [(LEFT, 1)]]


class Pen:
    """Draws at patient coordinates (M, 2): x from the midline, y down from the apex of the lungs.

    A layer is uint8 (CANVAS, CANVAS). The pose of the patient in the image is random.
    """

    def __init__(self, rng: np.random.Generator) -> None:
        angle, self.scale = np.deg2rad(rng.normal(0, 2)), CANVAS * rng.uniform(0.92, 1.1)
        self.rotation = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
        self.centre = CANVAS * rng.uniform((0.46, 0.44), (0.54, 0.50))

    def pixels(self, points: ArrayLike) -> np.ndarray:
        """Points in sixteenths of a pixel (`shift=4` in OpenCV), int32."""
        at = (np.asarray(points) - (0, 0.3)) @ self.rotation * self.scale + self.centre
        return np.rint(at * 16).astype(np.int32)

    def fill(
        self, polygons: Iterable[ArrayLike], layer: np.ndarray | None = None, value: int = 255
    ) -> np.ndarray:
        """Fill polygons in a layer, by default an empty one, and return it."""
        layer = np.zeros((CANVAS, CANVAS), np.uint8) if layer is None else layer
        for polygon in polygons:
            cv2.fillPoly(layer, [self.pixels(polygon)], value, cv2.LINE_AA, 4)
        return layer

    def stroke(self, layer: np.ndarray, curves: ArrayLike, width: float, value: int = 255) -> None:
        """Draw curves, (K, M, 2), into a layer."""
        thickness = max(1, round(width * self.scale))
        cv2.polylines(layer, list(self.pixels(curves)), False, value, thickness, cv2.LINE_AA, 4)

    def bone(self, layer: np.ndarray, curves: ArrayLike, width: float) -> None:
        """Draw tubes: their cortex is brighter than their core."""
        self.stroke(layer, curves, width)
        self.stroke(layer, curves, 0.6 * width, 165)


class Anatomy:
    """What the images of a patient, who is drawn at random, have in common.

    Lengths are in heights of the image. The methods take the height of the lungs as well, which
    depends on the depth of the breath.
    """

    def __init__(self, rng: np.random.Generator) -> None:
        self.width = rng.uniform(0.32, 0.39)  # of half the chest, inside the ribs
        self.height = rng.uniform(0.54, 0.66)  # of the lungs, from apex to costophrenic angle
        self.heart = rng.uniform(0.85, 1.2)  # factor on its borders' distance from the midline
        self.dome = rng.uniform(0.0, 0.05)  # of the right diaphragm over the left, in lung heights
        self.shoulders = rng.uniform(0.42, 0.56)  # distance from the midline
        self.wall = rng.uniform(0.04, 0.12)  # thickness of the soft tissue outside the lungs
        self.density = rng.uniform(0.18, 0.42)  # attenuation of healthy lung
        self.ribs = int(rng.uniform(9, 12))  # number of pairs in the image
        self.rib_drop = rng.uniform(0.22, 0.36)  # from its back to its front, in lung heights
        self.bone = rng.uniform(0.09, 0.17)  # attenuation of a rib
        self.seed = int(rng.uniform(0, 2**32))  # of the vessels

    def lung_outline(self, side: int, height: float) -> np.ndarray:
        """The border of one lung, (M, 2). A deep breath lowers its base and narrows the heart."""
        medial = np.array(MEDIAL[side])
        medial[medial[:, 1] > 0.45, 0] *= min(1.15, self.heart * (0.6 / height) ** 0.5)
        parts = LATERAL, [*DOME[side], medial[0]], [*medial, LATERAL[0]]
        border = np.vstack([curve(part) for part in parts])
        if side == RIGHT:  # the liver lifts the base
            border[:, 1] -= self.dome * border[:, 1].clip(0, 1) ** 3
        return border * (side * self.width, height)

    def draw_bones(self, pen: Pen, height: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Layers of the back halves of the ribs; their front halves; spine, clavicles and arms."""
        back, front, rest = (pen.fill([]) for _ in range(3))
        for i in range(self.ribs):  # a rib is a tilted hoop
            top, drop = 0.95 * i / self.ribs - 0.06, self.rib_drop * (0.7 + 0.05 * i)
            reach = self.width * np.interp(top + drop / 2, *np.array(LATERAL[2:]).T[::-1]) + 0.012
            angle = np.pi * np.linspace(0.04, 0.8, 30)
            y = height * (top + drop * (1 - np.cos(angle)) / 2)
            hoop = both_sides(np.stack([reach * np.sin(angle) ** 0.85, y], 1))
            pen.bone(back, hoop[:, :19], 0.021)
            pen.bone(front, hoop[:, 18:], 0.024)
        for top in np.arange(-0.25, 0.95, 0.053):  # vertebrae
            edge = [(0.036, top), (0.03, top + 0.022), (0.037, top + 0.044)]
            right, left = both_sides(curve(edge))
            pen.fill([[*right, *left[::-1]]], rest, 90)
        x, top = self.shoulders, 0.12 * height
        clavicle = [(0.035, top), (0.11, top - 0.025), (0.23, top - 0.08), (x - 0.05, top - 0.11)]
        pen.bone(rest, both_sides(curve(clavicle)), 0.026)
        pen.bone(rest, both_sides([(x + 0.01, 0.05), (x + 0.05, 0.4), (x + 0.08, 1.2)]), 0.055)
        return back, front, rest

    def draw_vessels(self, pen: Pen, height: float) -> np.ndarray:
        """A layer of the pulmonary vessels: trees that fork and taper from the hila outwards."""
        rng, side = np.random.default_rng(self.seed), np.repeat(SIDES, 9)
        layer, degrees = pen.fill([]), np.tile(np.linspace(-78, 82, 9), 2)
        angle = np.deg2rad(degrees + rng.normal(0, 7, 18))
        tip = rng.normal((0.17 * self.width, 0.45 * height), 0.012, (18, 2))
        tip[:, 0] *= side
        for width in (0.012, 0.008, 0.006, 0.004, 0.003):
            bend = angle + rng.normal(0, 0.16, (6, len(angle))).cumsum(axis=0)
            steps = np.stack([side * np.cos(bend), np.sin(bend)], 2)
            steps *= rng.uniform(0.007, 0.013, (len(angle), 1))
            paths = np.vstack([tip[None], tip + steps.cumsum(axis=0)])
            pen.stroke(layer, paths.transpose(1, 0, 2), width, int(60 + 15000 * width))
            fork = rng.uniform(0.15, 0.6, (2, len(angle))) * [[1], [-1]]
            angle, side = (bend[-1] + fork).ravel(), np.tile(side, 2)
            tip = np.tile(paths[-1], (2, 1))
        return layer
