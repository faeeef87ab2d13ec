"""Batches gathered in a GPU's memory, if the data set fits into it: the host then sends nothing but indices."""

import numpy as np
import tensorflow as tf

from common import gpus

MOST_BYTES = 1 << 30  # of an array that is kept there; MNIST's images take 47 million, CIFAR-10's 154 million
LARGEST_PART = 0.25  # of the free memory; the networks need the rest


class Gatherer:
    """Does the same as `operator.getitem`, for arrays that do not change, from copies on the device."""

    def __init__(self):
        self._copies: dict[int, tf.Variable | None] = {}  # by the identity of the array

    def __call__(self, array: np.ndarray, indices: np.ndarray):
        """Return the rows at `indices`, of any shape: a tensor on the device, or an array if the memory may not do."""
        if id(array) not in self._copies:
            self._copies[id(array)] = _copy_on_device(array)
        copy = self._copies[id(array)]
        return array[indices] if copy is None else tf.gather(copy, indices)


def _copy_on_device(array: np.ndarray) -> tf.Variable | None:
    """Return a copy of an array in the GPU's memory; None if too little of it is free."""
    if array.nbytes > min(MOST_BYTES, LARGEST_PART * gpus.free_memory()):
        return None
    try:
        return tf.Variable(array, trainable=False)  # a GPU gathers bytes from variables only
    except (tf.errors.ResourceExhaustedError, tf.errors.InternalError):  # another program was faster
        return None
