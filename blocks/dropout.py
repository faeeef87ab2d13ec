"""Dropout (Srivastava et al. 2014) whose masks are functions of the seed and the step.

Keras's layer counts its calls, so that each of several devices draws the same mask for its own part of the batch. Here
a device takes its part of the mask of the whole batch, and what is drawn depends on no earlier step.
"""

import contextlib
import itertools
import threading
from collections.abc import Iterator

import keras
import tensorflow as tf

from common import devices

_step = threading.local()  # what the masks are drawn from: each device's step is traced in a thread of its own


class Dropout(keras.layers.Dropout):
    """`keras.layers.Dropout`, for use within `masks_of`; its count of calls is kept, but not used."""

    def call(self, inputs, training=False):
        """Return the inputs, in training with some of them set to 0, and the others enlarged."""
        if not training or not self.rate:
            return inputs
        shape = zip(self.noise_shape or [None] * len(inputs.shape), inputs.shape, strict=True)
        uniform = devices.uniform(tuple(own or size for own, size in shape), *next(_step.draws))
        kept = inputs * tf.cast(1.0 / (1.0 - self.rate), inputs.dtype)
        return tf.where(uniform < self.rate, tf.zeros((), inputs.dtype), kept)


@contextlib.contextmanager
def masks_of(seed: int, step, stream: int) -> Iterator[None]:
    """Let the layers that are called in the block draw masks: `devices.uniform` from this stream and those after it."""
    _step.draws = ((seed, step, stream + layer) for layer in itertools.count())
    try:
        yield
    finally:
        del _step.draws


def as_keras(network: keras.Model) -> keras.Model:
    """Return a copy of a network that has Keras's own Dropout, for a file that any Keras program can load."""

    def copy(layer):
        kind = keras.layers.Dropout if isinstance(layer, Dropout) else type(layer)
        return kind.from_config(layer.get_config())

    plain = keras.models.clone_model(network, clone_function=copy)
    plain.set_weights(network.get_weights())
    return plain
