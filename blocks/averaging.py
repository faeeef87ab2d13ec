"""Weight averaging: the average of many steps' weights gives steadier samples than the last step's."""

import tensorflow as tf


def update_average(averaged: list, trained: list, decay: float, step) -> None:
    """Move the averaged variables towards the trained ones: an exponential moving average over steps.

    Polyak and Juditsky 1992 average uniformly, Yazici et al. 2019 (arXiv:1806.04498) the weights of GANs exponentially.
    decay: the part of the average that a step keeps, in [0, 1); at the beginning at most (1 + step) / (10 + step), as
    in tf.train.ExponentialMovingAverage, so that the first, useless steps are soon forgotten. step: from 0 on.
    """
    step = tf.cast(step, tf.float32)
    decay = tf.minimum(decay, (1.0 + step) / (10.0 + step))
    for average, variable in zip(averaged, trained, strict=True):
        average.assign(decay * average + (1.0 - decay) * variable)
