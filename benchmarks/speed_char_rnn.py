"""How fast does char_rnn.py train and write? Characters a second, beside Keras's and PyTorch's LSTM.

The same network (an embedding of 64, two layers, a dense layer), batch and optimizer (Adam), in turns of a few seconds,
so that a noisy machine is noisy for all; quote ratios rather than rates. Each has a process of its own, in which ours
computes parts of a batch side by side, and the others do what TensorFlow and PyTorch do by themselves. Where the
processor cannot, PyTorch has no LSTM in bfloat16, which the table then says.

Needs PyTorch: pip install -r benchmarks/requirements.txt. Writes outputs/benchmarks/speed_char_rnn_<width>.json.

    python -m benchmarks.speed_char_rnn
    python -m benchmarks.speed_char_rnn --width 512 --batch_size 32 --window 32
"""

import argparse
import functools
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf
from keras import layers

import char_rnn
from benchmarks import quality, workers
from common import cli, devices, recurrence, text

CHARACTERS, EMBEDDING = 66, 64


def keras_step(lstm: type, windows: np.ndarray, width: int) -> Callable[[], float]:
    """Return a function that trains one step with a layer."""
    numbers = keras.Input((windows.shape[1] - 1,), len(windows), dtype="int32")
    x = layers.Embedding(CHARACTERS, EMBEDDING)(numbers)
    for _ in range(2):
        x = lstm(width, return_sequences=True)(x)
    network = keras.Model(numbers, layers.Dense(CHARACTERS)(x))
    optimizer = keras.optimizers.Adam(1e-3)
    optimizer.build(network.trainable_variables)

    @tf.function
    def step(windows):
        with tf.GradientTape() as tape:
            loss = char_rnn.mean_loss(network(windows[:, :-1], training=True), windows[:, 1:])
        optimizer.apply(tape.gradient(loss, network.trainable_variables), network.trainable_variables)
        return loss

    windows = tf.constant(windows)
    return lambda: float(step(windows))


def pytorch_step(kind: str, windows: np.ndarray, width: int) -> Callable[[], float]:
    """Return a function that trains one step with PyTorch, in float32 or, by its autocast, in bfloat16."""
    torch = quality.needed("torch")

    embedding, output = torch.nn.Embedding(CHARACTERS, EMBEDDING), torch.nn.Linear(width, CHARACTERS)
    lstm = torch.nn.LSTM(EMBEDDING, width, 2, batch_first=True)
    optimizer = torch.optim.Adam(torch.nn.ModuleList([embedding, lstm, output]).parameters(), 1e-3)
    windows = torch.from_numpy(windows).long()

    def step() -> float:
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=kind == "bfloat16"):
            logits = output(lstm(embedding(windows[:, :-1]))[0])
        loss = torch.nn.functional.cross_entropy(logits.float().flatten(0, 1), windows[:, 1:].flatten())
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def writer() -> Callable[[], list]:
    """Return a function that writes 500 characters with the default network."""
    devices.limit_threads(1)  # as the script does
    config = char_rnn.Config()
    alphabet = text.Alphabet("".join(map(chr, range(32, 32 + CHARACTERS - 1))) + text.UNKNOWN)
    network = char_rnn.build_network(config, CHARACTERS)
    read, write = char_rnn.make_reader(network, config), char_rnn.make_writer(network, config, alphabet)
    return lambda: list(char_rnn.sample(read, write, config, alphabet, 500))


def ours(windows: np.ndarray, width: int) -> Callable[[], float]:
    """Return a function that trains one step with our layer, on threads as the script has them."""
    recurrence.share_cores(len(windows))
    return keras_step(recurrence.LSTM, windows, width)


CONTENDERS = {
    "ours": ours,
    "Keras": functools.partial(keras_step, layers.LSTM),
    "PyTorch, float32": functools.partial(pytorch_step, "float32"),
    "PyTorch, bfloat16": functools.partial(pytorch_step, "bfloat16"),
    "writing": lambda windows, width: writer(),
}


def prepared(name: str, width: int, batch_size: int, window: int) -> Callable:
    """Build a contender; return what takes its turns."""
    windows = np.random.default_rng(0).integers(0, CHARACTERS, (batch_size, window + 1)).astype(np.int32)
    return workers.timed(CONTENDERS[name](windows, width))


@cli.one_line_errors
def main(argv=None):
    """Measure, print a table, and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7, help="turns of each (%(default)s)")
    parser.add_argument("--seconds", type=float, default=4, help="of a turn (%(default)s)")
    parser.add_argument("--width", type=int, default=256, help="of each layer (%(default)s)")
    parser.add_argument("--batch_size", type=int, default=64, help="windows trained on at once (%(default)s)")
    parser.add_argument("--window", type=int, default=100, help="characters of a window (%(default)s)")
    parser.add_argument("--work", choices=list(CONTENDERS), help=argparse.SUPPRESS)
    arguments = parser.parse_args(argv)
    shape = {name: getattr(arguments, name) for name in ("width", "batch_size", "window")}
    if arguments.work:
        workers.work(lambda: prepared(arguments.work, **shape))
        return
    command = ["-m", "benchmarks.speed_char_rnn", *(f"--{name}={value}" for name, value in shape.items())]
    crew = {name: workers.Worker(name, command) for name in CONTENDERS}
    failures = {name: worker.failure for name, worker in crew.items() if worker.failure}
    rates = {name: [] for name in crew if name not in failures}
    for _ in cli.progress(range(arguments.rounds), "taking turns"):
        for name, of_turns in rates.items():
            seconds, _ = crew[name].turn(arguments.seconds)
            of_turns.append((500 if name == "writing" else arguments.batch_size * arguments.window) / seconds)
    for worker in crew.values():
        worker.end()
    writing = rates.pop("writing")
    ratios = {
        name: list(np.quantile(np.array(rates["ours"]) / np.array(rates[name]), (0.0, 0.5, 1.0)))
        for name in rates
        if name != "ours"
    }
    medians = {name: float(np.median(values)) for name, values in rates.items()}
    for name, median in medians.items():
        compared = f"   ours is {ratios[name][1]:.2f} times as fast" if name in ratios else ""
        print(f"{name:20}{median:10,.0f} characters/s{compared}")
    for name, reason in failures.items():
        print(f"{name:20}cannot: {reason}")
    print(f"{'writing':20}{np.median(writing):10,.0f} characters/s")
    result = {"training": medians, "ratios": ratios, "failures": failures, "writing": float(np.median(writing))}
    quality.write_json(f"speed_char_rnn_{arguments.width}", {**shape, **result})


if __name__ == "__main__":
    main()
