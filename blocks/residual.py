"""Residual connections, which let deep networks train."""

import keras
from keras import layers


def residual_block(x, activation):
    """Apply two 3x3 convolutions, each after `activation`, to x, (batch, height, width, channels), and add x.

    He et al. 2016 (arXiv:1603.05027), figure 4e, without normalisation. It is not needed, because the sum starts close
    to x (Zhang et al. 2019, arXiv:1901.09321, start it at x).
    """
    y = layers.Conv2D(x.shape[-1], 3, padding="same", kernel_initializer="he_normal")(activation(x))
    small = keras.initializers.VarianceScaling(0.1)
    return x + layers.Conv2D(x.shape[-1], 3, padding="same", kernel_initializer=small)(activation(y))
