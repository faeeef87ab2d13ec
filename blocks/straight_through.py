"""Rounding through which gradients can pass."""

import tensorflow as tf


def straight_through_sign(values):
    """Round values to -1 or 1 (0 to -1); the gradient passes as if they had not been rounded.

    The straight-through estimator (Bengio et al. 2013, arXiv:1308.3432). The results may miss -1 and 1 by float32's
    rounding error.
    """
    return values + tf.stop_gradient(tf.where(values > 0, 1.0, -1.0) - values)
