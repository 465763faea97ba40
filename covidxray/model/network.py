"""The frozen part of a model: VGG16 by a recipe, and the lung segmenter on its maps."""

from dataclasses import dataclass
from functools import cached_property

import keras

from covidxray.model.arrays import Weights
from covidxray.model.lungs import Segmenter, build_region_model, load_segmenter
from covidxray.model.recipes import RECIPES, Recipe
from covidxray.model.vgg16 import build_backbone, resolve_precision


@dataclass(frozen=True)
class Network:
    """A frozen network and what it was built from."""

    recipe: Recipe
    weights: Weights
    precision: str  # of the backbone, "float32" or "bfloat16"
    # RGB from 0 to 255 (n, 224, 224, 3) -> features (n, 512) of the whole picture, for the saved
    # model.
    backbone: keras.Model
    segmenter: Segmenter

    @cached_property
    def region_model(self) -> keras.Model:
        """The features of each region and the lungs (`lungs.build_region_model`); once built,
        and traced, it serves the whole run."""
        return build_region_model(self.backbone, self.recipe, self.segmenter)


def build_network(recipe_name: str, weights: Weights, precision: str) -> Network:
    """Build the network of a recipe; precision "auto" is what this CPU computes natively."""
    recipe, resolved = RECIPES[recipe_name], resolve_precision(precision)
    backbone = build_backbone(weights, recipe, resolved)
    return Network(recipe, weights, resolved, backbone, load_segmenter())
