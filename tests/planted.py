"""Drawings of the demo set with a shortcut that is planted on purpose."""

from unittest.mock import patch

import cv2

from covidxray.demo import phantom

SHORTCUTS = ("marker", "border", "brightness", "jpeg")


def draw_phantom(rng, anatomy=None, *, shortcut=None, **options):
    """`phantom.draw_phantom` with a shortcut; "jpeg" is planted by `encode_jpeg`, not here."""
    expose = phantom.expose

    def expose_with_shortcut(rng, attenuation):
        image = expose(rng, attenuation + 0.35 * (shortcut == "brightness"))
        if shortcut == "marker":
            cv2.circle(image, (472, 40), 24, 250, -1, cv2.LINE_AA)
        if shortcut == "border":
            cv2.rectangle(image, (0, 0), (phantom.CANVAS - 1, phantom.CANVAS - 1), 235, 44)
        return image

    with patch.object(phantom, "expose", expose_with_shortcut):
        return phantom.draw_phantom(rng, anatomy, **options)


def encode_jpeg(image, *, shortcut=None):
    """`phantom.encode_jpeg`, of low quality if the shortcut is "jpeg"."""
    return phantom.encode_jpeg(image, quality=40 if shortcut == "jpeg" else 90)
