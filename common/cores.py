"""The cores of the CPU: how many of them one operation uses, and parts of a batch that are computed at the same time.

The operations of a small network are so short that two of them, on a core each, take less time than one after the other
on both cores.
"""

import contextlib
import os
from collections.abc import Callable

import tensorflow as tf

SMALLEST_PART = 32  # examples; a smaller part of a batch does not pay for a core of its own


def count() -> int:
    """Return the number of processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def divide(operations: float) -> None:
    """Divide the cores among this number of operations that run at the same time; does nothing with a GPU.

    Must be called before anything is computed; later it has no effect.
    """
    if not tf.config.list_physical_devices("GPU"):
        with contextlib.suppress(RuntimeError):
            tf.config.threading.set_intra_op_parallelism_threads(max(1, count() // operations))


def threads_of_operation() -> int:
    """Return the number of cores that one operation may use."""
    return tf.config.threading.get_intra_op_parallelism_threads() or count()


def part_sizes(batch_size: int | None, smallest: int = SMALLEST_PART) -> list[int] | int:
    """Return the sizes of the parts of a batch, as `tf.split` takes them; 1 means a single part.

    There are as many parts as the machine can compute at the same time, given how many cores each operation uses, but
    none has fewer than `smallest` examples. batch_size: None if it is unknown when the graph is built.
    """
    parts = min(count() // threads_of_operation(), batch_size // smallest) if batch_size else 1
    return [(batch_size + index) // parts for index in range(parts)] if parts > 1 else 1


def side_by_side(function: Callable, *batches):
    """Return `function(*batches)`, computed for parts of the batch at the same time, and their results joined again.

    function: takes tensors and returns one or a tuple of them, all with the batch as first axis; what it returns for an
    example must not depend on the others.
    """
    sizes = part_sizes(batches[0].shape[0])
    if sizes == 1:
        return function(*batches)
    results = [function(*parts) for parts in zip(*(tf.split(batch, sizes) for batch in batches), strict=True)]
    return tf.nest.map_structure(lambda *parts: tf.concat(parts, axis=0), *results)
