"""A learning rate for the discriminator that falls while it wins, so that the generator keeps learning from it."""

import tensorflow as tf


def gap_aware_factor(recent_loss, ideal_loss: float, balance: float):
    """Return a factor, 0 to 1, for the discriminator's learning rate: the further its loss has fallen, the smaller.

    After Hazimeh and Ponomareva 2023 (arXiv:2302.00089): the loss of a discriminator that cannot tell real from
    generated images is known, so the gap to it measures how far the discriminator wins. Their factor falls
    exponentially with the gap, and exceeds 1 above the ideal loss; ours is the square of a ratio, and at most 1.

    recent_loss: the discriminator's mean loss over the last steps. ideal_loss: the loss of one that guesses. balance:
    the fraction of `ideal_loss` below which the factor falls; with 0 the factor is always 1.
    """
    if not balance:
        return 1.0
    return tf.minimum(1.0, recent_loss / (balance * ideal_loss)) ** 2
