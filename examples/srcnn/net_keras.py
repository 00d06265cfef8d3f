"""The same network in Keras 3, on its torch back end."""

import os

os.environ["KERAS_BACKEND"] = "torch"

import keras
from keras import layers
from patches import EDGE


class Net:
    def __init__(self):
        keras.utils.set_random_seed(0)
        blurred = keras.Input((None, None, 1))
        learned = layers.Conv2D(32, 9, activation="relu")(blurred)
        learned = layers.Conv2D(16, 1, activation="relu")(learned)
        learned = layers.Conv2D(1, 5)(learned)
        self.model = keras.Model(blurred, learned + layers.Cropping2D(EDGE)(blurred))
        self.model.compile(keras.optimizers.Adam(1e-3), "mse")

    def step(self, inputs, labels):
        """One step of training on (n, 33, 33) and (n, 21, 21); the mean loss so far."""
        return float(self.model.train_on_batch(inputs[..., None], labels[..., None]))

    def predict(self, pictures):
        """(n, y, x) sharpened: ``EDGE`` smaller on each side."""
        return self.model.predict(pictures[..., None], verbose=0)[..., 0]
