"""Chest X-ray classification on frozen VGG16 features, with numbers that can be believed."""

__version__ = "0.2.0.dev0"

DISCLAIMER = "For learning and research only: this is not a medical device."
DRAWINGS = "These images are drawings: the numbers say nothing about COVID-19."
