"""Random distortions of images."""

import keras
import numpy as np
import tensorflow as tf

# The largest distortions, in either direction:
ROTATION = np.radians(25)
SHEAR = 0.4  # sideways, as a fraction of the height
LOG_SCALE = 0.25  # width and height by separate factors from 1/1.28 to 1.28; 0.25 is the logarithm of 1.28
SHIFT = 0.1  # as a fraction of width and of height


def random_affine(images, uniform):
    """Return images rotated, sheared, scaled and shifted, each by its own random numbers; uncovered edges are black.

    Affine distortions as in Simard et al. 2003 ("Best Practices for Convolutional Neural Networks Applied to Visual
    Document Analysis", section 2); the limits are ours.

    images: float32 (batch, height, width, channels). uniform: random numbers in [0, 1), (batch, 6), for the angle, the
    shear, the scales of width and height, and the shifts along them; 0.5 in all six leaves the image unchanged.
    """
    height, width = images.shape[1:3]
    limits = [ROTATION, SHEAR, LOG_SCALE, LOG_SCALE, SHIFT, SHIFT]
    angle, shear, log_x_scale, log_y_scale, x_shift, y_shift = tf.unstack((2.0 * uniform - 1.0) * limits, axis=-1)
    x_scale, y_scale = tf.exp(log_x_scale), tf.exp(log_y_scale)
    sine, cosine = tf.sin(angle), tf.cos(angle)
    # Pixel (x, y) of the result is taken from (a x + b y + c, d x + e y + f) of the image, relative to its centre.
    a, b, c = x_scale * cosine, x_scale * (shear * cosine - sine), x_shift * width
    d, e, f = y_scale * sine, y_scale * (shear * sine + cosine), y_shift * height
    center_x, center_y = (width - 1) / 2, (height - 1) / 2
    x_offset = center_x - a * center_x - b * center_y + c  # relative to the corner, as Keras counts
    y_offset = center_y - d * center_x - e * center_y + f
    zero = tf.zeros_like(angle)
    transform = tf.stack([a, b, x_offset, d, e, y_offset, zero, zero], axis=-1)
    return keras.ops.image.affine_transform(images, transform, data_format="channels_last")
