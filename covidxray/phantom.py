"""Drawn frontal chest radiographs whose truth is known: where the lungs and the opacities are.

A picture adds up what X-rays meet (air 0, soft tissue about 1, bone on top) and passes the sum
through a film's S-shaped response. Nothing is copied from a patient. Healthy and diseased pictures
differ in nothing else than opacities, or in a shortcut that is planted on purpose.
"""

from dataclasses import dataclass, fields
from typing import Annotated

import cv2
import numpy as np

SHORTCUTS = ("marker", "border", "brightness", "jpeg")
DEMO_SEVERITY = (0.25, 0.7)  # uniform; tuned so that VGG16 finds it hard, and a thumbnail harder
CANVAS = 512  # every picture is drawn at this side and then resized: the size changes no shape

# Borders of a lung: outwards from the midline in half chest widths, down from the apex in lung
# heights. Side -1 is the patient's right, on the left as on film; its medial border follows the
# right atrium, that of side 1 the left ventricle and the aortic knob.
LATERAL = ((0.20, 0.11), (0.26, 0.03), (0.39, 0.0), (0.57, 0.035), (0.76, 0.14), (0.89, 0.31))
LATERAL += ((0.96, 0.52), (1.0, 0.74), (1.01, 0.90), (0.99, 1.0))
DOME = {-1: ((0.99, 1.0), (0.92, 0.93), (0.74, 0.86), (0.53, 0.84), (0.34, 0.865))}
DOME[1] = ((0.99, 1.0), (0.94, 0.94), (0.86, 0.90), (0.79, 0.88))
MEDIAL = {-1: ((0.21, 0.92), (0.26, 0.81), (0.25, 0.69), (0.18, 0.54), (0.17, 0.36), (0.16, 0.22))}
MEDIAL[1] = ((0.60, 0.93), (0.58, 0.86), (0.52, 0.74), (0.38, 0.61), (0.25, 0.51), (0.20, 0.42))
MEDIAL[1] += ((0.25, 0.34), (0.24, 0.27), (0.16, 0.20))


@dataclass(frozen=True)
class Anatomy:
    """What stays with a patient between pictures, and its range; lengths in picture sides."""

    width: Annotated[float, 0.32, 0.39]  # half the chest, inside the ribs
    height: Annotated[float, 0.54, 0.66]  # of the lungs, apex to costophrenic angle
    heart: Annotated[float, 0.85, 1.2]  # factor on the heart's reach to either side
    dome: Annotated[float, 0.0, 0.05]  # the right diaphragm's lead on the left, in lung heights
    shoulders: Annotated[float, 0.42, 0.56]  # from the midline
    wall: Annotated[float, 0.04, 0.12]  # soft tissue outside the lungs
    density: Annotated[float, 0.18, 0.42]  # of healthy lung, soft tissue being 1
    ribs: Annotated[float, 9, 12]  # pairs in the picture, rounded down
    rib_drop: Annotated[float, 0.22, 0.36]  # from a rib's back to its front, in lung heights
    bone: Annotated[float, 0.09, 0.17]  # attenuation of a rib
    seed: Annotated[float, 0, 2**32]  # for the vessels, rounded down

    @classmethod
    def draw(cls, rng: np.random.Generator) -> "Anatomy":
        """Draw one patient from a `numpy.random.Generator`."""
        return cls(*(rng.uniform(*f.type.__metadata__) for f in fields(cls)))


@dataclass(frozen=True)
class Phantom:
    """A picture, uint8 (H, W), and its truth: `lungs` and `lesions`, bool (H, W)."""

    image: np.ndarray
    lungs: np.ndarray
    lesions: np.ndarray


class _Pen:
    """Draws in patient coordinates (x from the midline, y from the lung apex) on the canvas."""

    def __init__(self, rng):
        angle, self.scale = np.deg2rad(rng.normal(0, 2)), CANVAS * rng.uniform(0.92, 1.1)
        self.turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
        self.centre = CANVAS * rng.uniform((0.46, 0.44), (0.54, 0.50))

    def pixels(self, points):
        at = (np.asarray(points) - (0, 0.3)) @ self.turn * self.scale + self.centre
        return np.rint(at * 16).astype(np.int32)  # cv2's fixed point: shift=4

    def fill(self, polygons, layer=None, value=255):
        layer = np.zeros((CANVAS, CANVAS), np.uint8) if layer is None else layer
        for polygon in polygons:
            cv2.fillPoly(layer, [self.pixels(polygon)], value, cv2.LINE_AA, 4)
        return layer

    def stroke(self, layer, curves, width, value=255):
        curves, thick = list(self.pixels(curves)), max(1, round(width * self.scale))
        cv2.polylines(layer, curves, False, value, thick, cv2.LINE_AA, 4)

    def bone(self, layer, curves, width):
        self.stroke(layer, curves, width)  # a tube's cortex, seen edge on, outshines its core
        self.stroke(layer, curves, 0.6 * width, 165)


def _curve(points):
    """Catmull-Rom spline through (K, 2) points, as (M, 2) points."""
    p = np.vstack([points[0], points, points[-1]])
    a, b, c, d = p[:-3], p[1:-2], p[2:-1], p[3:]
    t = np.linspace(0, 1, 10)[:, None, None]
    q = b + t * ((c - a) + t * ((2 * a - 5 * b + 4 * c - d) + t * (3 * b - a - 3 * c + d))) / 2
    return q.transpose(1, 0, 2).reshape(-1, 2)


def _ellipse(x, y, rx, ry):
    t = np.linspace(0, 2 * np.pi, 48)
    return np.stack([x + rx * np.cos(t), y + ry * np.sin(t)], axis=1)


def _both(points):
    """Points (M, 2) on the patient's right and on the left, (2, M, 2)."""
    return np.asarray(points) * [[(-1, 1)], [(1, 1)]]


def _texture(rng, *cells):
    """Smooth noise, standard deviation about 1: float32 (CANVAS, CANVAS), one octave a count."""
    octaves = [rng.standard_normal((n, n)).astype(np.float32) for n in cells]
    layers = [cv2.resize(o, (CANVAS, CANVAS), interpolation=cv2.INTER_CUBIC) for o in octaves]
    return sum(layers) / (0.75 * len(cells) ** 0.5)


def _outline(a, side, height):
    """One lung's border as (M, 2); a deep breath lowers its base and narrows the heart."""
    medial = np.array(MEDIAL[side])
    medial[medial[:, 1] > 0.45, 0] *= min(1.15, a.heart * (0.6 / height) ** 0.5)
    border = np.vstack([*map(_curve, (LATERAL, [*DOME[side], medial[0]], [*medial, LATERAL[0]]))])
    border[:, 1] -= (side < 0) * a.dome * border[:, 1].clip(0, 1) ** 3  # the liver lifts the base
    return border * (side * a.width, height)


def _bones(pen, a, height):
    """Layers, uint8: the back halves of the ribs, the front halves, the girdle and spine."""
    back, front, rest = (pen.fill([]) for _ in range(3))
    for i in range(int(a.ribs)):  # a rib is a tilted hoop
        top, drop = 0.95 * i / int(a.ribs) - 0.06, a.rib_drop * (0.7 + 0.05 * i)
        reach = a.width * np.interp(top + drop / 2, *np.array(LATERAL[2:]).T[::-1]) + 0.012
        angle = np.pi * np.linspace(0.04, 0.8, 30)
        y = height * (top + drop * (1 - np.cos(angle)) / 2)
        hoop = _both(np.stack([reach * np.sin(angle) ** 0.85, y], 1))
        pen.bone(back, hoop[:, :19], 0.021)
        pen.bone(front, hoop[:, 18:], 0.024)
    for y in np.arange(-0.25, 0.95, 0.053):  # vertebrae
        right, left = _both(_curve([(0.036, y), (0.03, y + 0.022), (0.037, y + 0.044)]))
        pen.fill([[*right, *left[::-1]]], rest, 90)
    s, y = a.shoulders, 0.12 * height
    clavicle = [(0.035, y), (0.11, y - 0.025), (0.23, y - 0.08), (s - 0.05, y - 0.11)]
    pen.bone(rest, _both(_curve(clavicle)), 0.026)
    pen.bone(rest, _both([(s + 0.01, 0.05), (s + 0.05, 0.4), (s + 0.08, 1.2)]), 0.055)
    return back, front, rest


def _vessels(pen, a, height):
    """Pulmonary vessels: trees that fork and taper from the hila outwards, uint8 layer."""
    rng, layer, side = np.random.default_rng(int(a.seed)), pen.fill([]), np.repeat([-1, 1], 9)
    angle = np.deg2rad(np.tile(np.linspace(-78, 82, 9), 2) + rng.normal(0, 7, 18))
    tip = rng.normal((0.17 * a.width, 0.45 * height), 0.012, (18, 2)) * np.stack([side, side**2], 1)
    for width in (0.012, 0.008, 0.006, 0.004, 0.003):
        bend = angle + rng.normal(0, 0.16, (6, len(angle))).cumsum(axis=0)
        moves = np.stack([side * np.cos(bend), np.sin(bend)], 2)
        moves *= rng.uniform(0.007, 0.013, (len(angle), 1))
        paths = np.vstack([tip[None], tip + moves.cumsum(axis=0)])
        pen.stroke(layer, paths.transpose(1, 0, 2), width, int(60 + 15000 * width))
        fork = rng.uniform(0.15, 0.6, (2, len(angle))) * [[1], [-1]]
        angle, tip, side = (bend[-1] + fork).ravel(), np.tile(paths[-1], (2, 1)), np.tile(side, 2)
    return layer


def _opacities(rng, pen, a, lungs, height, severity):
    """Opacity from 0 to 1, float32: patchy, in both lungs, outer and lower zones first."""
    relief, fine = 0.8 * _texture(rng, 6, 11, 20), _texture(rng, 40, 80)
    y, x = np.mgrid[:CANVAS, :CANVAS].astype(np.float32) / pen.scale
    relief += 2 * np.abs(x - pen.centre[0] / pen.scale) / a.width + 1.5 * y / height
    total = 0
    for lung, share in zip(lungs, rng.uniform(0.6, 1.4, 2), strict=True):
        level = np.quantile(relief[lung > 0.5], 1 - min(0.95, severity * share))
        total += lung * np.clip(relief - level, 0, 1) * (0.3 + 0.5 * severity)
    return np.clip((severity > 0) * total * (1 + 0.35 * fine), 0, 1).astype(np.float32)


def _tissue(rng, pen, a, height, lung):
    """What the rays meet but the lungs' air, float32 (CANVAS, CANVAS)."""
    s, w, h = a.shoulders, a.width + a.wall, height
    half = [(0.10, -0.5), (0.11, -0.19), (0.20, -0.11), (s - 0.06, -0.05), (s + 0.05, 0.05)]
    right, left = _both(_curve([*half, (w + 0.04, 0.20), (w, 0.34), (w + 0.01, 1.3)]))
    torso = pen.fill([[*right, *left[::-1]]])
    pen.stroke(torso, _both([(s - 0.02, 0.05), (s + 0.05, 0.4), (s + 0.08, 1.2)]), 0.12)
    depth = cv2.distanceTransform(torso, cv2.DIST_L2, 3) / pen.scale
    tissue = 1 - np.exp(-depth / (0.02 + 0.3 * a.wall))
    bubble = _ellipse(0.45 * w, h, *rng.uniform(0.02, 0.07, 2))
    haze = _both(_ellipse(0.25, 0.72 * h, 0.15, 0.2))
    organs = [  # polygons, weight, blur, where
        *(([zone], rng.uniform(0, 0.4), 0.1, lung) for zone in haze),
        (_both(_ellipse(0.22, 0.72 * h, 0.01, 0.01)), 0.1 * (rng.random() < 0.3), 0.006, 1),
        ([_ellipse(0.03, 0.75 * h, 0.16 * a.heart, 0.25 * h)], 0.22, 0.06, 1),
        ([[(-0.06, -0.4), (0.06, -0.4), (0.08, 1.3), (-0.08, 1.3)]], 0.25, 0.05, 1),
        ([_ellipse(-0.004, 0.0, 0.02, 0.36 * h)], -0.2, 0.01, 1),  # trachea
        ([[(-1, 0.9 * h), (1, 0.92 * h), (1, 2), (-1, 2)]], 0.3, 0.08, 1),  # abdomen
        ([bubble], -0.5 * (rng.random() < 0.5), 0.01, 1 - lung),  # air in the stomach
        (_both(_ellipse(0.2 * a.width, 0.47 * h, 0.03, 0.07)), 0.25, 0.03, lung),  # hila
    ]
    for polygons, weight, blur, where in organs:
        k = 2 * int(blur * CANVAS) + 1
        tissue += np.float32(weight / 255) * where * cv2.stackBlur(pen.fill(polygons), (k, k))
    for layer, weight in zip(_bones(pen, a, h), (1.0, 0.55, 1.3), strict=True):
        tissue += np.float32(a.bone / 255 * weight) * cv2.GaussianBlur(layer, (0, 0), 1.4)
    return tissue + 0.14 / 255 * lung * cv2.GaussianBlur(_vessels(pen, a, h), (0, 0), 0.8)


def _overlay(rng, pen):
    """Electrodes with their wires, and a side letter, each in some pictures: uint8 layer."""
    layer = pen.fill([])
    for x, y in rng.uniform((-0.3, 0.0), (0.3, 0.5), (rng.choice([0, 0, 3]), 2)):
        pen.fill([_ellipse(x, y, 0.013, 0.013)], layer, 200)
        bends = np.sort(rng.uniform((x - 0.05, y + 0.1), (x + 0.1, y + 0.4), (2, 2)), axis=0)
        pen.stroke(layer, [_curve([(x, y), *bends, (x + 0.1, 0.9)])], 0.006, 130)
    side, out, down = rng.choice([-1, 0, 1]), rng.uniform(0.36, 0.45), rng.uniform(0.08, 0.25)
    at = int(CANVAS * (0.47 + side * out)), int(CANVAS * down)
    cv2.putText(layer, ("", "L", "R")[side], at, cv2.FONT_HERSHEY_SIMPLEX, 1, 230, 3, cv2.LINE_AA)
    return layer


def _check(shortcut):
    if shortcut not in (None, *SHORTCUTS):
        raise ValueError(f"shortcut must be None or one of {', '.join(SHORTCUTS)}: {shortcut!r}")


def draw_phantom(
    rng: np.random.Generator,
    anatomy: Anatomy | None = None,
    *,
    size: int = 256,
    severity: float = 0.0,
    shortcut: str | None = None,
) -> Phantom:
    """Draw a `Phantom` of `anatomy`, or else of a patient drawn from `rng` first.

    From one state of `rng`, another severity (0 healthy, 1 worst), size (in
    pixels) or shortcut gives the same picture but for that, and for the noise at another size.
    "jpeg" is planted by `encode_jpeg`, not here. ValueError if an argument is out of range.
    """
    _check(shortcut)
    if not (0 <= severity <= 1 and size >= 64):
        raise ValueError(f"severity must lie in [0, 1], size be 64 or more: {severity}, {size}")
    a, pen = anatomy or Anatomy.draw(rng), _Pen(rng)
    height = a.height * rng.uniform(0.9, 1.04)  # how deep the breath is
    outlines = [_outline(a, side, height * rng.uniform(0.98, 1.02)) for side in (-1, 1)]
    lungs = [pen.fill([border]) / np.float32(255) for border in outlines]
    lung = sum(lungs)
    lesion = _opacities(rng, pen, a, lungs, height, severity)
    edge = cv2.distanceTransform((lung > 0.5).astype(np.uint8), cv2.DIST_L2, 3) / pen.scale
    air = lung * (1 - np.exp(-edge / 0.03)) * (0.95 - a.density - rng.uniform(-0.08, 0.08))
    for amount, *cells in ((0.1, 2, 4), (0.04, 6, 12, 24), (rng.uniform(0.01, 0.03), 60, 120)):
        air *= 1 + amount * _texture(rng, *cells)
    dose = _tissue(rng, pen, a, height, lung) - air * (1 - lesion)
    dose += 0.5 / 255 * _overlay(rng, pen)
    # Detectors sharpen, more or less, and each exposure has its own window.
    dose += rng.uniform(0, 0.6) * (dose - cv2.stackBlur(dose, (25, 25)))
    centre = rng.uniform(0.6, 0.9) - 0.35 * (shortcut == "brightness")
    image = 255 / (1 + np.exp(rng.uniform(2.8, 4.5) * (centre - dose)))
    top, low, left, right = (CANVAS * rng.uniform(-0.1, 0.05, 4)).clip(0).astype(int)  # collimation
    image[:top], image[CANVAS - low :], image[:, :left], image[:, CANVAS - right :] = 8, 8, 8, 8
    if shortcut == "marker":
        cv2.circle(image, (472, 40), 24, 250, -1, cv2.LINE_AA)
    if shortcut == "border":
        cv2.rectangle(image, (0, 0), (CANVAS - 1, CANVAS - 1), 235, 44)
    layers = cv2.merge([image, lung, lesion])
    image, lung, lesion = cv2.split(cv2.resize(layers, (size, size), interpolation=cv2.INTER_AREA))
    image += rng.uniform(1, 4) * rng.standard_normal(image.shape)
    return Phantom(image.clip(0, 255).astype(np.uint8), lung > 0.5, (lung > 0.5) & (lesion > 0.08))


def encode_jpeg(image: np.ndarray, *, shortcut: str | None = None) -> bytes:
    """A uint8 image as the bytes of a JPEG file; of low quality if `shortcut` is "jpeg"."""
    _check(shortcut)
    options = cv2.IMWRITE_JPEG_QUALITY, 40 if shortcut == "jpeg" else 90
    return cv2.imencode(".jpg", image, options)[1].tobytes()
