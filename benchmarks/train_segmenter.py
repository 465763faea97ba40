"""Train the lung segmenter of the package on drawings; no X-ray is read.

    PYTHONPATH=. python benchmarks/train_segmenter.py

The script writes covidxray/model/lungs.npz. The drawings are distorted more than X-rays differ:
zoomed, squeezed, rotated, cropped, with other responses of film and detector, bowel gas, haze,
letters and arrows.
"""

import argparse

import cv2
import keras
import numpy as np
from tqdm import tqdm

from covidxray.data import SIZE
from covidxray.demo.phantom import draw_phantom
from covidxray.files import atomic_write
from covidxray.model import lungs
from covidxray.model.lungs import GRID, WIDTH, Segmenter
from covidxray.model.recipes import RECIPES
from covidxray.model.vgg16 import build_backbone, forward, resolve_precision
from covidxray.model.weights import load_weights

DROPOUT, L2, RATE, BATCH, EPOCHS = 0.2, 1e-4, 2e-3, 32, 20


def draw(n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Draw and distort n radiographs.

    Returns:
        The drawings, uint8 (n, 224, 224, 3), and the fraction of each cell that is lung, float32
        (n, 28, 28).
    """
    images, masks = [], []
    for _ in tqdm(range(n), desc="drawing"):
        severity = rng.uniform(0, 1) if rng.random() < 0.65 else 0.0
        drawn = draw_phantom(rng, size=SIZE, severity=severity)
        image, mask = distort(rng, drawn.image, drawn.lungs)
        images.append(np.repeat(image[..., None], 3, axis=2))
        masks.append(shares(mask))
    return np.array(images), np.array(masks)


def shares(mask: np.ndarray) -> np.ndarray:
    """Fraction of each cell (28, 28) that a mask, bool (224, 224), covers."""
    return cv2.resize(mask.astype(np.float32), (GRID, GRID), interpolation=cv2.INTER_AREA)


def distort(
    rng: np.random.Generator, image: np.ndarray, lungs: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """A distorted copy of a drawing, uint8 (224, 224), and of its lungs, bool (224, 224)."""
    image = image.astype(np.float32)
    if rng.random() < 0.6:  # gas in the bowel, and other dark or bright spots outside the lungs
        spots = np.zeros_like(image)
        for _ in range(rng.integers(1, 9)):
            centre = rng.uniform((0, 0.55), (1, 1)) if rng.random() < 0.7 else rng.uniform(0, 1, 2)
            axes = rng.integers(3, 26, 2).tolist()
            at = (centre * SIZE).astype(int).tolist()
            cv2.ellipse(spots, at, axes, rng.uniform(0, 180), 0, 360, rng.uniform(-90, 50), -1)
        image += cv2.GaussianBlur(spots, (0, 0), rng.uniform(1, 5)) * ~lungs
    if rng.random() < 0.3:  # the middle of the chest is often grey in children
        image -= rng.uniform(0, 70) * cv2.GaussianBlur((~lungs).astype(np.float32), (0, 0), 6)
    zoom, squeeze = np.exp(rng.uniform(-0.2, 0.35)), np.exp(rng.uniform(-0.22, 0.22))
    turn, shear = np.deg2rad(rng.normal(0, 5)), rng.normal(0, 0.05)
    matrix = np.array([[zoom * squeeze, shear], [0, zoom / squeeze]])
    matrix @= [[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]
    centre = np.full(2, SIZE / 2)
    shift = centre - matrix @ centre + rng.uniform(-0.07, 0.07, 2) * SIZE
    matrix = np.column_stack([matrix, shift])
    ground = float(rng.choice([0, 8, 0, image.mean()]))
    image = cv2.warpAffine(image, matrix, (SIZE, SIZE), borderValue=ground)
    mask = cv2.warpAffine(lungs.astype(np.float32), matrix, (SIZE, SIZE)) > 0.5
    if rng.random() < 0.3:  # air next to the body
        for x in rng.choice([0, SIZE], rng.integers(1, 3)):
            corner = np.int32(
                [(x, 0), (abs(x - rng.integers(20, 70)), 0), (x, rng.integers(30, 224))]
            )
            air = cv2.fillPoly(np.zeros_like(image), [corner], 1.0)
            image *= 1 - cv2.GaussianBlur(air, (0, 0), rng.uniform(1, 6)) * ~mask
    if rng.random() < 0.5:  # edges of the collimator
        top, low, left, right = (rng.uniform(-0.1, 0.08, 4) * SIZE).clip(0).astype(int)
        edge = float(rng.choice([0, 0, 255]))
        image[:top], image[SIZE - low :] = edge, edge
        image[:, :left], image[:, SIZE - right :] = edge, edge
    image = image.clip(0, 255)
    if rng.random() < 0.5:
        image = 255 * (image / 255) ** np.exp(rng.uniform(-0.8, 0.8))
    if rng.random() < 0.35:
        tiles = int(rng.integers(2, 9))
        equalise = cv2.createCLAHE(rng.uniform(1, 5), (tiles, tiles))
        image = equalise.apply(image.astype(np.uint8)).astype(np.float32)
    low, high = rng.uniform(0, 80), rng.uniform(140, 255)
    image = low + image * (high - low) / 255
    if rng.random() < 0.4:
        haze = rng.standard_normal((4, 4)).astype(np.float32) * rng.uniform(5, 30)
        image += cv2.resize(haze, (SIZE, SIZE), interpolation=cv2.INTER_CUBIC)
    if rng.random() < 0.5:
        image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.4, 2))
    image = image.clip(0, 255).astype(np.uint8)
    for _ in range(rng.choice([0, 0, 1, 3])):  # marks that journals print on X-rays
        at = rng.uniform(0.1, 0.9, 2) * SIZE
        start, end = at.astype(int).tolist(), (at + rng.uniform(-25, 25, 2)).astype(int).tolist()
        value, mark = float(rng.choice([0, 255])), rng.integers(3)
        if mark == 0:
            cv2.arrowedLine(image, start, end, value, 2, tipLength=0.4)
        elif mark == 1:
            cv2.rectangle(image, start, end, value, 1)
        else:
            letter = "ABCDLR12"[rng.integers(8)]
            cv2.putText(image, letter, start, cv2.FONT_HERSHEY_SIMPLEX, 0.9, value, 2)
    noise = rng.uniform(0, 6) * rng.standard_normal(image.shape)
    return (image + noise).clip(0, 255).astype(np.uint8), mask


def maps_of(images: np.ndarray) -> np.ndarray:
    """Input of the segmenter, float16 (n, 28, 28, 896), from images, uint8 (n, 224, 224, 3)."""
    backbone = build_backbone(load_weights(), RECIPES["portable"], resolve_precision("auto"))
    model = keras.Model(backbone.input, lungs.lung_maps(backbone))
    maps = np.empty((len(images), *model.output_shape[1:]), np.float16)
    outputs = forward(model, tqdm(images, desc="VGG16"), lambda image: [image])
    for row, (_, (found,)) in zip(maps, outputs, strict=True):
        row[:] = found[0]
    return maps


def untrained(maps: np.ndarray) -> Segmenter:
    """A segmenter with random weights that standardises like these maps (n, 28, 28, 896)."""
    some = maps[:: max(1, len(maps) // 200)].astype(np.float32)
    scale = some.std(axis=(0, 1, 2))
    depths = (1, maps.shape[-1], WIDTH), (5, WIDTH + 3, WIDTH), (5, WIDTH, WIDTH), (5, WIDTH, 1)
    start = keras.initializers.GlorotUniform
    kernels = tuple(np.asarray(start(i)((k, k, m, n))) for i, (k, m, n) in enumerate(depths))
    biases = tuple(np.zeros(n, np.float32) for _, _, n in depths)
    scale = np.maximum(scale, 0.05 * np.median(scale))
    return Segmenter(some.mean(axis=(0, 1, 2)), scale, kernels, biases)


class Shuffled(keras.utils.PyDataset):
    """Batches of maps and masks, in another order in every epoch.

    Each batch is converted to float32 on its own: all maps in float32 would not fit in memory.
    """

    def __init__(self, maps: np.ndarray, masks: np.ndarray, rng: np.random.Generator):
        super().__init__()
        self.maps, self.masks, self.rng = maps, masks, rng
        self.on_epoch_end()

    def __len__(self) -> int:
        return -(-len(self.maps) // BATCH)

    def __getitem__(self, k: int) -> tuple[np.ndarray, np.ndarray]:
        part = self.order[k * BATCH : (k + 1) * BATCH]
        return self.maps[part].astype(np.float32), self.masks[part]

    def on_epoch_end(self) -> None:
        """Draw the order of the next epoch."""
        self.order = self.rng.permutation(len(self.maps))


def fit(maps: np.ndarray, masks: np.ndarray, start: Segmenter, epochs: int, seed: int) -> Segmenter:
    """Train a segmenter on maps (n, 28, 28, 896) and the fractions of lung in each cell."""
    keras.utils.set_random_seed(seed)
    inputs = keras.Input(maps.shape[1:])
    model = keras.Model(inputs, lungs.build_head(inputs, start, DROPOUT))
    convolutions = [model.get_layer(f"lung_conv{i}") for i in range(len(start.kernels))]
    for layer in convolutions:
        layer.kernel_regularizer = keras.regularizers.L2(L2)
    batches = Shuffled(maps, masks, np.random.default_rng(seed))
    rate = keras.optimizers.schedules.CosineDecay(RATE, epochs * len(batches))
    loss = keras.losses.BinaryCrossentropy(from_logits=True)
    model.compile(optimizer=keras.optimizers.Adam(rate), loss=loss)
    model.fit(batches, epochs=epochs, shuffle=False, verbose=0)
    kernels, biases = zip(*(layer.get_weights() for layer in convolutions), strict=True)
    return Segmenter(start.mean, start.scale, kernels, biases)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sample", default=1600, type=int, help="number of drawings")
    parser.add_argument("--seed", default=7, type=int)
    args = parser.parse_args()
    images, masks = draw(args.sample, np.random.default_rng(args.seed))
    maps = maps_of(images)
    segmenter = fit(maps, masks, untrained(maps), EPOCHS, args.seed)
    with atomic_write(lungs.FILE) as part:
        # Half precision halves the file and changes no mask.
        np.savez_compressed(
            part, **{k: v.astype(np.float16) for k, v in segmenter.to_arrays().items()}
        )


if __name__ == "__main__":
    main()
