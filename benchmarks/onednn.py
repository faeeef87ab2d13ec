"""What does oneDNN gain on this processor? Milliseconds of each kind of operation and its gradients, with and without.

TensorFlow enables oneDNN by itself only where the processor has AVX-512's neural extensions; common/environment.py does
everywhere. Two processes, with and without it, take turns. The shapes are those of the scripts.

    python -m benchmarks.onednn
    python -m benchmarks.onednn --as_avx2     as a processor without AVX-512 would

Writes outputs/benchmarks/onednn.json, or onednn_avx2.json.
"""

import argparse
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from benchmarks import results, workers
from benchmarks.speed_since import AVX2
from common import cli, environment

NAME = "onednn"
CALLS = 20  # in one graph, so that the return to Python does not count
OPERATIONS = {  # a layer, and the shape of its inputs
    "convolution, 3 to 32 channels, 32x32": (lambda: convolution(32), (32, 32, 32, 3)),
    "convolution, 32 to 64 channels, 16x16": (lambda: convolution(64), (32, 16, 16, 32)),
    "convolution, 64 to 128 channels, 8x8": (lambda: convolution(128), (32, 8, 8, 64)),
    "transposed convolution, 128 to 128 channels, 4x4": (lambda: transposed_convolution(128), (32, 4, 4, 128)),
    "transposed convolution, 128 to 64 channels, 8x8": (lambda: transposed_convolution(64), (32, 8, 8, 128)),
    "transposed convolution, 64 to 3 channels, 16x16": (lambda: transposed_convolution(3), (32, 16, 16, 64)),
    "batch normalisation, 64 channels, 16x16": (layers.BatchNormalization, (32, 16, 16, 64)),
    "dense, 784 to 512 units": (lambda: layers.Dense(512), (64, 784)),
    "dense, 512 to 512 units": (lambda: layers.Dense(512), (64, 512)),
    "recurrent, 256 units, 32 steps": (lambda: layers.LSTM(256), (32, 32, 256)),
}


def convolution(channels: int) -> layers.Layer:
    """Return a convolution that halves the resolution, as in the discriminators."""
    return layers.Conv2D(channels, 4, strides=2, padding="same")


def transposed_convolution(channels: int) -> layers.Layer:
    """Return a convolution that doubles the resolution, as in the generators."""
    return layers.Conv2DTranspose(channels, 4, strides=2, padding="same")


def section(result: dict) -> list[str]:
    """Return the lines of docs/results.md."""
    words = ", on a processor without AVX-512" if result["as_avx2"] else ""
    lines = results.opening(
        "What oneDNN gains" + words,
        f"benchmarks.{NAME}" + (" --as_avx2" if result["as_avx2"] else ""),
        f"Milliseconds of an operation and its gradients in float32 on {results.counted(result['threads'], 'core')}, "
        f"with and without oneDNN, in {result['rounds']} turns; medians over the turns.",
    )
    columns = {"": "{operation}", "without": "{off:.2f}", "with": "{on:.2f}", "ratio": "{ratio:.2f}"}
    return lines + results.table_of(result["rows"], columns)


def gradients_of(layer: layers.Layer, shape: tuple[int, ...]) -> Callable[[], tf.Tensor]:
    """Return a function that calls a layer CALLS times and differentiates it by its inputs and weights."""
    layer.build(shape)
    inputs = tf.constant(np.random.default_rng(0).standard_normal(shape), tf.float32)

    def once(index, total):
        with tf.GradientTape() as tape:
            scaled = inputs * (1.0 + 1e-6 * total)  # the next call depends on this one
            tape.watch(scaled)
            loss = tf.reduce_sum(tf.sin(layer(scaled, training=True)))
        gradients = tape.gradient(loss, [scaled, *layer.trainable_variables])
        return index + 1, tf.add_n([tf.reduce_mean(gradient) for gradient in gradients])

    @tf.function(autograph=False)
    def calls():
        return tf.while_loop(lambda index, total: index < CALLS, once, (0, 0.0), parallel_iterations=1)[1]

    return lambda: calls().numpy()


def prepared(threads: int) -> Callable[[float], list[float]]:
    """Return a function that takes a turn; it returns the seconds of each operation."""
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    keras.utils.set_random_seed(0)
    turns = [workers.timed(gradients_of(make_layer(), shape)) for make_layer, shape in OPERATIONS.values()]
    return lambda seconds: [turn(seconds / len(turns))[0] / CALLS for turn in turns]


@cli.one_line_errors
def main(argv=None):
    """Measure, print and write the result."""
    parser = results.parser(__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="turns of each (%(default)s)")
    parser.add_argument("--seconds", type=float, default=5, help="of a turn (%(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="cores that an operation uses (%(default)s)")
    parser.add_argument("--as_avx2", action="store_true", help="limit oneDNN to AVX2")
    parser.add_argument("--work", choices=("off", "on"), help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.work:
        workers.work(lambda: prepared(options.threads))
        return
    command = ["-m", f"benchmarks.{NAME}", f"--threads={options.threads}"]
    limits = AVX2 if options.as_avx2 else {}
    switches = {"off": "0", "on": "1"}
    crew = [workers.Worker(name, command, {**limits, environment.ONEDNN: it}) for name, it in switches.items()]
    turns = []
    for _ in cli.progress(range(options.rounds), "taking turns"):
        turns.append([worker.turn(options.seconds) for worker in crew])
    for worker in crew:
        worker.end()
    turns = np.array(turns)  # (rounds, off and on, operations)
    off, on = 1000 * np.median(turns, axis=0)
    ratios = np.median(turns[:, 0] / turns[:, 1], axis=0)
    columns = zip(OPERATIONS, off.tolist(), on.tolist(), ratios.tolist(), strict=True)
    rows = [dict(zip(("operation", "off", "on", "ratio"), row, strict=True)) for row in columns]
    shown = {name: getattr(options, name) for name in ("rounds", "threads", "as_avx2")}
    results.publish(f"{NAME}_avx2" if options.as_avx2 else NAME, {**shown, "rows": rows}, section)


if __name__ == "__main__":
    main()
