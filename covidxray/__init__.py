"""Chest X-ray classification on frozen VGG16 features, with numbers that can be believed."""

__version__ = "0.1.0"
