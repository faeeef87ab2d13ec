"""Noise on the images that a discriminator sees, so that it cannot separate real and generated ones at once."""

import tensorflow as tf

from common import devices


def instance_noise(shape: tuple[int, ...], deviation: float, fading_steps: int, seed: int, step, stream: int):
    """Draw noise for a step's images: its standard deviation falls linearly from `deviation` to 0 at `fading_steps`.

    Sønderby et al. 2017 (arXiv:1610.04490), section 3.2. shape: that of the images. seed, step, stream: as for
    `devices.normal`.
    """
    scale = deviation * tf.nn.relu(1.0 - tf.cast(step, tf.float32) / fading_steps)
    return scale * devices.normal(shape, seed, step, stream)
