"""A guide: a picture towards whose features the dream is steered.

Mordvintsev, Olah and Tyka 2015, the notebook github.com/google/deepdream, section "Controlling dreams".
"""

import numpy as np
import tensorflow as tf

from blocks.feature_extraction import FeatureExtractor, mismatch_as_user_error
from common import photographs
from common.errors import UserError

LONGER_SIDE = 256  # pixels of the guide, at most
MOST_FEATURES = 1000  # of the guide in each layer: every position of the picture is compared with all of them


def guide_features(guide: photographs.Photograph, features: FeatureExtractor, channels: list[int]) -> list:
    """Return the guide's features (N, channels) in each layer: at 1,000 random positions, or at all if fewer.

    channels: those to keep; empty for all. Raises UserError if the network cannot process the guide at its size.
    """
    image = photographs.working_copy(guide, LONGER_SIDE)
    if not features.accepts(*image.shape[:2]):
        raise UserError(f"--guide {guide.name}: too small for these layers")
    with mismatch_as_user_error(*image.shape[:2], f"crop --guide {guide.name} to another shape"):
        activations = features(tf.constant(image[None]))
    if channels:
        activations = [tf.gather(activation, channels, axis=-1) for activation in activations]
    positions = [activation.numpy().reshape(-1, activation.shape[-1]) for activation in activations]
    random = np.random.default_rng(0)
    return [tf.constant(random.permutation(it)[:MOST_FEATURES]) for it in positions]


def agreement(activation, guide):
    """Return how well a picture agrees with its guide: the mean over positions of the largest dot product.

    The notebook has the sum, whose gradient at each position is the guide's best-matching feature.

    activation: (height, width, channels). guide: features (N, channels).
    """

    def best_match(row):
        return tf.argmax(row @ tf.transpose(guide), axis=-1)

    # Row by row: the products of all positions with all features would take gigabytes in the first layers.
    best = tf.map_fn(best_match, tf.stop_gradient(activation), tf.int64)
    return tf.reduce_mean(tf.reduce_sum(activation * tf.gather(guide, best), axis=-1))
