"""A small network with random weights, batch normalisation and a branch, for tests that need any trained network."""

import keras
import numpy as np
from keras import layers


def build() -> keras.Model:
    keras.utils.set_random_seed(0)
    images = keras.Input((None, None, 3))
    x = layers.Conv2D(6, 3, padding="same", use_bias=False, name="edges")(images)
    x = layers.BatchNormalization(scale=False, name="normalized")(x)
    x = layers.Activation("swish", name="soft_edges")(x)
    x = layers.AveragePooling2D(2, name="pool")(x)
    y = layers.Conv2D(8, 3, padding="same", name="corners")(x)
    y = layers.BatchNormalization(name="normalized_corners")(y)
    x = layers.Concatenate(name="mixed0")([x, layers.Activation("relu", name="sharp_corners")(y)])
    x = layers.Conv2D(5, 3, name="mixed1", activation="tanh")(x)
    model = keras.Model(images, layers.Dense(3, name="logits")(layers.GlobalAveragePooling2D()(x)))
    random = np.random.default_rng(0)
    for variable in model.variables:  # statistics like those after training
        if "moving" in variable.path or "beta" in variable.path or "gamma" in variable.path:
            variable.assign(random.uniform(0.2, 1.5, variable.shape))
    return model
