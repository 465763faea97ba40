"""Recipes: which features of VGG16 are used, and how a head is trained on them."""

from dataclasses import dataclass

FEATURES = 512  # maps of the blocks that recipes use
REGIONS = ("whole", "lungs", "outside")  # parts of the maps that are pooled; see `lungs`


@dataclass(frozen=True)
class HeadOptions:
    """How a head is built and trained; the defaults are those of the tutorial."""

    units: int = 64  # width of the hidden layer; 0 leaves out that layer and the dropout
    dropout: float = 0.5  # fraction of the hidden units that are dropped in training
    l2: float = 0.0  # penalty per squared weight, of a head without a hidden layer
    epochs: int = 25  # passes over the training images
    batch_size: int = 8  # images per step
    learning_rate: float = 1e-3  # of Adam; of a head that is solved, the first step's size

    @property
    def solved(self) -> bool:
        """Whether the head is a penalised logistic regression, which `head_solver` solves."""
        return not self.units and self.l2 > 0


@dataclass(frozen=True)
class Recipe:
    """Which features of VGG16 are used, and which head is trained on them."""

    block: int  # last block that is computed, 1 to 5
    pooled: bool  # whether the max pooling of that block is computed too
    power: int  # exponent of the mean that pools the maps (`generalised_mean`)
    head: HeadOptions


RECIPES = {
    # Of all recipes tried, this one had the highest AUC and the fewest false alarms on images from
    # other hospitals (docs/measurements.md).
    "portable": Recipe(
        block=4,
        pooled=False,
        power=3,
        head=HeadOptions(units=0, dropout=0.0, l2=10.0, learning_rate=0.1),
    ),
    # The tutorial's head, on the mean of the whole map. The tutorial's `AveragePooling2D((4, 4))`
    # keeps only one cell of the 7 x 7 map, the upper left.
    "tutorial": Recipe(block=5, pooled=True, power=1, head=HeadOptions()),
}
