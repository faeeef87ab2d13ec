"""How grey images become black and white; log-likelihoods are comparable only between images binarized alike."""

import numpy as np
import tensorflow as tf


def dynamic(images, uniform):
    """Draw each pixel, 0 or 1, with its grey value as the probability of white; training draws anew at each step.

    Burda et al. 2016 (arXiv:1509.00519), section 5.
    images: float in [0, 1]; pixels of 0 and 1 stay as they are. uniform: random numbers in [0, 1), of the same shape.
    """
    return tf.cast(uniform < images, tf.float32)


def fixed(pixels: np.ndarray, how: str) -> np.ndarray:
    """Return black and white images, uint8 as `pixels`, to evaluate on, or to train on the same images at all steps.

    how: "static", "threshold", or "dynamic", whose test images are binarized as for "static".
    """
    return threshold(pixels) if how == "threshold" else static(pixels)


def static(pixels: np.ndarray) -> np.ndarray:
    """Draw each pixel, 0 or 255, with grey value / 255 as the probability of white; the draw is always the same.

    Salakhutdinov and Murray 2008, "On the quantitative analysis of deep belief networks". Figures published for static
    binarization belong to their draw, which differs from this one. pixels: uint8, as is the result.
    """
    return _white_above(np.random.default_rng(0).integers(0, 255, pixels.shape, np.uint8), pixels)


def threshold(pixels: np.ndarray) -> np.ndarray:
    """Make pixels above 127 white, 255, and the others black, 0, as TensorFlow's tutorial does; uint8."""
    return _white_above(127, pixels)


def _white_above(levels, pixels: np.ndarray) -> np.ndarray:
    return np.where(pixels > levels, np.uint8(255), np.uint8(0))
