"""Chest X-ray classification on frozen VGG16 features, with numbers that can be believed.

`train`, `evaluate` and `load_predictor` do what the scripts do. They are imported when they are
first used, because Keras is slow to import.
"""

from importlib import import_module
from typing import Any

__version__ = "0.2.0.dev0"

DISCLAIMER = "For learning and research only: this is not a medical device."
DRAWINGS = "These images are drawings: the numbers say nothing about COVID-19."

_FUNCTIONS = {"train": "training", "evaluate": "external", "load_predictor": "prediction"}


def __getattr__(name: str) -> Any:
    if name not in _FUNCTIONS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    with import_module("covidxray.process").quiet_backend():
        return getattr(import_module(f"covidxray.api.{_FUNCTIONS[name]}"), name)


def __dir__() -> list[str]:
    return [*globals(), *_FUNCTIONS]
