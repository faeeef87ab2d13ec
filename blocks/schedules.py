"""Schedules: step sizes, and weights of loss terms, that change during training."""

import numpy as np
import tensorflow as tf


def cosine_by_progress(largest: float, step, warmup_steps: int, progress):
    """Return the step size of one step, counted from 0: a linear warm-up times a cosine that falls to 0.

    The cosine is that of Loshchilov and Hutter 2017 (arXiv:1608.03983), equation 5, without restarts.
    progress: the finished fraction of the training, float64, 0 to 1, which may be measured in minutes instead of steps.
    warmup_steps: 1 for none.
    """
    warmup = tf.minimum((step + 1) / warmup_steps, 1.0)
    return largest * warmup * 0.5 * (1.0 + tf.cos(np.pi * progress))


def linear_warmup(step, steps: int):
    """Return a weight that grows linearly over `steps` steps to 1, at which it stays: a float32 scalar in (0, 1].

    Sønderby et al. 2016 (arXiv:1602.02282), for the KL divergence of a VAE. step: from 0 on.
    """
    return tf.minimum(1.0, (1.0 + tf.cast(step, tf.float32)) / (1.0 + steps))
