"""Draw frontal chest radiographs in which the outlines of lungs and opacities are known exactly.

Attenuations along the beam are summed (air 0, soft tissue about 1, bone on top), and the sum passes
through the S-shaped response of film. Nothing is copied from a patient. Healthy and diseased images
differ only in their opacities.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from covidxray.data.manifest import ManifestRow
from covidxray.demo.anatomy import CANVAS, SIDES, Anatomy, Pen, both_sides, curve, ellipse

DEMO_SEVERITY = (0.25, 0.7)  # range: hard to classify for VGG16, and harder from a thumbnail


@dataclass(frozen=True)
class Phantom:
    """An image, uint8 (H, W), and the true outlines in it: `lungs` and `lesions`, bool (H, W)."""

    image: np.ndarray
    lungs: np.ndarray
    lesions: np.ndarray


def _texture(rng, *cells):
    """Smooth noise, standard deviation about 1, float32 (CANVAS, CANVAS): one octave per count."""
    octaves = [rng.standard_normal((n, n)).astype(np.float32) for n in cells]
    layers = [cv2.resize(o, (CANVAS, CANVAS), interpolation=cv2.INTER_CUBIC) for o in octaves]
    return sum(layers) / (0.75 * len(cells) ** 0.5)


def _opacities(rng, pen, anatomy, lungs, height, severity):
    """Opacity from 0 to 1, float32: patches in both lungs, first in their outer and lower zones."""
    relief, fine = 0.8 * _texture(rng, 6, 11, 20), _texture(rng, 40, 80)
    y, x = np.mgrid[:CANVAS, :CANVAS].astype(np.float32) / pen.scale
    relief += 2 * np.abs(x - pen.centre[0] / pen.scale) / anatomy.width + 1.5 * y / height
    total = 0
    for lung, share in zip(lungs, rng.uniform(0.6, 1.4, 2), strict=True):
        level = np.quantile(relief[lung > 0.5], 1 - min(0.95, severity * share))
        total += lung * np.clip(relief - level, 0, 1) * (0.3 + 0.5 * severity)
    return np.clip((severity > 0) * total * (1 + 0.35 * fine), 0, 1).astype(np.float32)


def _tissue(rng, pen, anatomy, height, lung):
    """Attenuation of everything but the air in the lungs, float32 (CANVAS, CANVAS)."""
    shoulder, side = anatomy.shoulders, anatomy.width + anatomy.wall
    neck = [(0.10, -0.5), (0.11, -0.19), (0.20, -0.11), (shoulder - 0.06, -0.05)]
    flank = [(shoulder + 0.05, 0.05), (side + 0.04, 0.20), (side, 0.34), (side + 0.01, 1.3)]
    right, left = both_sides(curve(neck + flank))
    arms = both_sides([(shoulder - 0.02, 0.05), (shoulder + 0.05, 0.4), (shoulder + 0.08, 1.2)])
    torso = pen.fill([[*right, *left[::-1]]])
    pen.stroke(torso, arms, 0.12)
    depth = cv2.distanceTransform(torso, cv2.DIST_L2, 3) / pen.scale
    tissue = 1 - np.exp(-depth / (0.02 + 0.3 * anatomy.wall))
    gas = ellipse(0.45 * side, height, *rng.uniform(0.02, 0.07, 2))
    haze = both_sides(ellipse(0.25, 0.72 * height, 0.15, 0.2))
    nipples = both_sides(ellipse(0.22, 0.72 * height, 0.01, 0.01))
    heart = ellipse(0.03, 0.75 * height, 0.16 * anatomy.heart, 0.25 * height)
    mediastinum = [(-0.06, -0.4), (0.06, -0.4), (0.08, 1.3), (-0.08, 1.3)]
    abdomen = [(-1, 0.9 * height), (1, 0.92 * height), (1, 2), (-1, 2)]
    hila = both_sides(ellipse(0.2 * anatomy.width, 0.47 * height, 0.03, 0.07))
    organs = [  # polygons, attenuation, blur, mask
        *(([zone], rng.uniform(0, 0.4), 0.1, lung) for zone in haze),
        (nipples, 0.1 * (rng.random() < 0.3), 0.006, 1),
        ([heart], 0.22, 0.06, 1),
        ([mediastinum], 0.25, 0.05, 1),
        ([ellipse(-0.004, 0.0, 0.02, 0.36 * height)], -0.2, 0.01, 1),  # trachea
        ([abdomen], 0.3, 0.08, 1),
        ([gas], -0.5 * (rng.random() < 0.5), 0.01, 1 - lung),  # in the stomach
        (hila, 0.25, 0.03, lung),
    ]
    for polygons, attenuation, blur, mask in organs:
        k = 2 * int(blur * CANVAS) + 1
        tissue += np.float32(attenuation / 255) * mask * cv2.stackBlur(pen.fill(polygons), (k, k))
    for layer, factor in zip(anatomy.draw_bones(pen, height), (1.0, 0.55, 1.3), strict=True):
        tissue += np.float32(anatomy.bone / 255 * factor) * cv2.GaussianBlur(layer, (0, 0), 1.4)
    vessels = cv2.GaussianBlur(anatomy.draw_vessels(pen, height), (0, 0), 0.8)
    return tissue + 0.14 / 255 * lung * vessels


def _overlay(rng, pen):
    """Electrodes with wires, and a side letter, each in some of the images: a uint8 layer."""
    layer = pen.fill([])
    for x, y in rng.uniform((-0.3, 0.0), (0.3, 0.5), (rng.choice([0, 0, 3]), 2)):
        pen.fill([ellipse(x, y, 0.013, 0.013)], layer, 200)
        bends = np.sort(rng.uniform((x - 0.05, y + 0.1), (x + 0.1, y + 0.4), (2, 2)), axis=0)
        pen.stroke(layer, [curve([(x, y), *bends, (x + 0.1, 0.9)])], 0.006, 130)
    side, x, y = rng.choice([-1, 0, 1]), rng.uniform(0.36, 0.45), rng.uniform(0.08, 0.25)
    at = int(CANVAS * (0.47 + side * x)), int(CANVAS * y)
    cv2.putText(layer, ("", "L", "R")[side], at, cv2.FONT_HERSHEY_SIMPLEX, 1, 230, 3, cv2.LINE_AA)
    return layer


def draw_phantom(
    rng: np.random.Generator,
    anatomy: Anatomy | None = None,
    *,
    size: int = 256,
    severity: float = 0.0,
) -> Phantom:
    """Draw an image of a patient, who is drawn from `rng` first if `anatomy` is None.

    From one state of `rng`, another `severity` (0 healthy, 1 worst) or `size` (in pixels) changes
    nothing else in the image, but another size has other noise. Raises ValueError if one of them is
    out of range.
    """
    if not (0 <= severity <= 1 and size >= 64):
        raise ValueError(f"severity must lie in [0, 1], size be 64 or more: {severity}, {size}")
    anatomy = anatomy or Anatomy(rng)
    pen = Pen(rng)
    height = anatomy.height * rng.uniform(0.9, 1.04)  # how deep the breath is
    outlines = [anatomy.lung_outline(side, height * rng.uniform(0.98, 1.02)) for side in SIDES]
    lungs = [pen.fill([border]) / np.float32(255) for border in outlines]
    lung = lungs[0] + lungs[1]
    lesion = _opacities(rng, pen, anatomy, lungs, height, severity)
    edge = cv2.distanceTransform((lung > 0.5).astype(np.uint8), cv2.DIST_L2, 3) / pen.scale
    air = lung * (1 - np.exp(-edge / 0.03)) * (0.95 - anatomy.density - rng.uniform(-0.08, 0.08))
    for amount, *cells in ((0.1, 2, 4), (0.04, 6, 12, 24), (rng.uniform(0.01, 0.03), 60, 120)):
        air *= 1 + amount * _texture(rng, *cells)
    dose = _tissue(rng, pen, anatomy, height, lung) - air * (1 - lesion)
    dose += 0.5 / 255 * _overlay(rng, pen)
    layers = cv2.merge([expose(rng, dose), lung, lesion])
    layers = cv2.resize(layers, (size, size), interpolation=cv2.INTER_AREA)
    image, lung, lesion = np.moveaxis(layers, -1, 0)
    image += rng.uniform(1, 4) * rng.standard_normal(image.shape)
    return Phantom(image.clip(0, 255).astype(np.uint8), lung > 0.5, (lung > 0.5) & (lesion > 0.08))


def expose(rng, attenuation):
    """The image of summed attenuations, from 0 to 255."""
    # Detectors sharpen to a varying degree, and every exposure has its own window.
    attenuation += rng.uniform(0, 0.6) * (attenuation - cv2.stackBlur(attenuation, (25, 25)))
    centre = rng.uniform(0.6, 0.9)
    image = 255 / (1 + np.exp(rng.uniform(2.8, 4.5) * (centre - attenuation)))
    top, low, left, right = (CANVAS * rng.uniform(-0.1, 0.05, 4)).clip(0).astype(int)  # collimation
    image[:top], image[CANVAS - low :], image[:, :left], image[:, CANVAS - right :] = 8, 8, 8, 8
    return image


def encode_jpeg(image: np.ndarray, quality: int = 90) -> bytes:
    """The content of a JPEG file of a uint8 image."""
    return cv2.imencode(".jpg", image, (cv2.IMWRITE_JPEG_QUALITY, quality))[1].tobytes()


def draw_class(
    rng: np.random.Generator, n: int, size: int, *, diseased: bool
) -> list[tuple[ManifestRow, bytes]]:
    """Draw `n` images, `size` pixels wide: their manifest rows and the content of their JPEG files.

    Every fifth patient has two images.
    """
    name, finding = ("covid", "COVID-19") if diseased else ("normal", "No Finding")
    visits = [(i, visit) for i in range(n) for visit in range(2 if i % 5 == 0 else 1)]
    drawn = []
    for patient, visit in visits[:n]:
        if visit == 0:
            anatomy = Anatomy(rng)
        severity = rng.uniform(*DEMO_SEVERITY) if diseased else 0.0
        phantom = draw_phantom(rng, anatomy, size=size, severity=severity)
        row = ManifestRow(
            filename=f"drawn-{name}-{patient:02d}-{visit}.jpg",
            source="covidxray-phantom",
            source_id=f"{name}/{patient}/{visit}",
            patient_id=f"{name}-{patient:02d}",
            view="PA",
            finding=f"{finding} (drawn)",
            license="MIT",
            synthetic="yes",
        )
        drawn.append((row, encode_jpeg(phantom.image)))
    return drawn
