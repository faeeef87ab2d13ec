"""Probabilities under the distributions of pixels and of latents."""

import numpy as np
import tensorflow as tf


def log_normal(x):
    """Return the log density of x, (..., dimensions), under the standard normal distribution: (...)."""
    return -0.5 * tf.reduce_sum(x**2 + np.log(2.0 * np.pi), axis=-1)


def discretized_logistic(images, mean, log_scale):
    """Return the log-probability of each pixel's grey value, one of 256, in nats, in the shape of `images`.

    The probability is the mass of a logistic distribution in the interval of width 1/255 around the grey value; the
    intervals of black and white extend to infinity. Salimans et al. 2017 (arXiv:1701.05517), equation 2, of whose
    mixture this is a single component.
    images: in [0, 1], multiples of 1/255. mean, log_scale: of the logistic distribution of each pixel.
    """
    # With the sigmoid s: log(s(upper) - s(lower)) = log s(upper) + log s(-lower) + log(1 - exp(lower - upper)).
    upper, lower = ((images - mean + side) * tf.exp(-log_scale) for side in (0.5 / 255.0, -0.5 / 255.0))
    is_black, is_white = images < 0.5 / 255.0, images > 254.5 / 255.0
    log_upper = tf.where(is_white, 0.0, tf.math.log_sigmoid(upper))
    log_lower = tf.where(is_black, 0.0, tf.math.log_sigmoid(-lower))
    log_width = tf.math.log(-tf.math.expm1(-tf.exp(-log_scale) / 255.0))
    return log_upper + log_lower + tf.where(is_black | is_white, 0.0, log_width)
