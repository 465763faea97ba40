"""Run the tutorial's own recipe of March 2020, to compare its time with `train_covid19.py`.

    PYTHONPATH=. /usr/bin/time -v python benchmarks/tutorial_recipe.py --dataset dataset

Every image passes through VGG16 in every epoch. Pixels are only divided by 255, pooling keeps the
upper left part of the map, and the split is by image. The weights come from this project's cache.
"""

import argparse
import time
from pathlib import Path

import cv2
import keras
import numpy as np
from imutils import paths
from keras.src.legacy.preprocessing.image import ImageDataGenerator
from sklearn.metrics import classification_report, confusion_matrix
from sklearn.model_selection import train_test_split

from covidxray.model.weights import load_weights

LEARNING_RATE, EPOCHS, BATCH = 1e-3, 25, 8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-d", "--dataset", required=True)
    args = parser.parse_args()
    began = time.perf_counter()
    files = sorted(paths.list_images(args.dataset))
    images = [cv2.cvtColor(cv2.imread(file), cv2.COLOR_BGR2RGB) for file in files]
    data = np.array([cv2.resize(image, (224, 224)) for image in images]) / 255.0
    names, labels = np.unique([Path(file).parent.name for file in files], return_inverse=True)
    train_x, test_x, train_y, test_y = train_test_split(
        data, np.eye(len(names))[labels], test_size=0.20, stratify=labels, random_state=42
    )
    augment = ImageDataGenerator(rotation_range=15, fill_mode="nearest")
    base = keras.applications.VGG16(weights=None, include_top=False, input_shape=(224, 224, 3))
    weights = load_weights()
    layers = [layer for layer in base.layers if "conv" in layer.name]
    for layer, kernel, bias in zip(layers, weights.kernels, weights.biases, strict=True):
        layer.set_weights([kernel, bias])
    base.trainable = False
    x = keras.layers.AveragePooling2D(pool_size=(4, 4))(base.output)
    x = keras.layers.Dense(64, activation="relu")(keras.layers.Flatten()(x))
    x = keras.layers.Dense(len(names), activation="softmax")(keras.layers.Dropout(0.5)(x))
    model = keras.Model(base.input, x)
    model.compile(
        loss="binary_crossentropy",
        optimizer=keras.optimizers.Adam(LEARNING_RATE),
        metrics=["accuracy"],
    )
    model.fit(
        augment.flow(train_x, train_y, batch_size=BATCH),
        steps_per_epoch=len(train_x) // BATCH,
        validation_data=(test_x, test_y),
        epochs=EPOCHS,
        verbose=2,
    )
    predicted = model.predict(test_x, batch_size=BATCH, verbose=0).argmax(axis=1)
    print(classification_report(test_y.argmax(axis=1), predicted, target_names=names))
    print(confusion_matrix(test_y.argmax(axis=1), predicted))
    print(f"{time.perf_counter() - began:.1f} s after the imports")


if __name__ == "__main__":
    main()
