"""How fast does char_rnn.py train and write? Characters a second, beside Keras's and PyTorch's LSTM.

All train the same network (an embedding of 64, two layers, a dense layer) with Adam on the same batch, in turns of a
few seconds, so that a noisy machine slows all; quote ratios rather than rates. Each has a process of its own, in which
ours computes parts of a batch side by side, and the others do what TensorFlow and PyTorch do by default. On some
processors PyTorch has no LSTM in bfloat16; the table then says so.

Needs PyTorch: pip install -r benchmarks/requirements.txt. Writes outputs/benchmarks/speed_char_rnn_<width>.json.

    python -m benchmarks.speed_char_rnn
    python -m benchmarks.speed_char_rnn --width 512 --batch_size 32 --window 32
"""

import argparse
import functools
from collections.abc import Callable

import numpy as np
from keras import layers

import char_rnn
from benchmarks import peers, results, workers
from blocks import lstm
from common import cli, cores, text

CHARACTERS, EMBEDDING = 66, 64
WRITTEN = 500  # characters at a time


def section(result: dict) -> list[str]:
    """Return the lines of docs/results.md."""
    flags = " ".join(f"--{name} {result[name]}" for name in ("width", "batch_size", "window"))
    lines = results.opening(
        f"Characters a second, two layers of {result['width']}",
        f"benchmarks.speed_char_rnn {flags}",
        f"Training on {result['batch_size']} windows of {result['window']} characters at a time, in turns, each "
        "network in a process of its own.",
    )
    rows = []
    for name, rate in result["training"].items():
        low, median, high = result["ratios"].get(name, (1, 1, 1))
        compared = f"{median:.2f} ({low:.2f} to {high:.2f})" if name in result["ratios"] else ""
        rows.append([name, f"{rate:,.0f}", compared])
    rows += [[name, "not on this processor", ""] for name in result["failures"]]
    lines += results.table(("", "characters a second, training", "ours is faster by (median; range over turns)"), rows)
    return [*lines, "", f"Writing, with the default network: {result['writing']:,.0f} characters a second."]


def ours(windows: np.ndarray, width: int) -> Callable[[], float]:
    """Return a function that trains one step with our layer, on threads as the script has them."""
    cores.divide(lstm.most_parts(len(windows)))
    return peers.make_keras_step(lstm.LSTM, windows, CHARACTERS, EMBEDDING, width)


def keras_lstm(windows: np.ndarray, width: int) -> Callable[[], float]:
    """Return a function that trains one step with Keras's layer."""
    return peers.make_keras_step(layers.LSTM, windows, CHARACTERS, EMBEDDING, width)


def pytorch_lstm(windows: np.ndarray, width: int, bfloat16: bool) -> Callable[[], float]:
    """Return a function that trains one step with PyTorch."""
    network = peers.PyTorchLSTM(CHARACTERS, EMBEDDING, width, depth=2, rate=1e-3)
    return lambda: network.train(windows, bfloat16=bfloat16)


def writer(windows: np.ndarray, width: int) -> Callable[[], list]:
    """Return a function that writes 500 characters with the default network."""
    cores.divide(cores.count())  # as the script does
    config = char_rnn.Config()
    alphabet = text.Alphabet("".join(map(chr, range(32, 32 + CHARACTERS - 1))) + text.UNKNOWN)
    network = char_rnn.build_network(config, CHARACTERS)
    read, write = char_rnn.make_reader(network, config), char_rnn.make_writer(network, config, alphabet)
    prime = alphabet.encode(alphabet.start)
    return lambda: list(char_rnn.sample(read, write, alphabet, prime, WRITTEN))


CONTENDERS = {
    "ours": ours,
    "Keras": keras_lstm,
    "PyTorch, float32": functools.partial(pytorch_lstm, bfloat16=False),
    "PyTorch, bfloat16": functools.partial(pytorch_lstm, bfloat16=True),
    "writing": writer,
}


def prepared(name: str, width: int, batch_size: int, window: int) -> Callable:
    """Build a contender; return what takes its turns."""
    windows = np.random.default_rng(0).integers(0, CHARACTERS, (batch_size, window + 1)).astype(np.int32)
    return workers.timed(CONTENDERS[name](windows, width))


def measure(shape: dict[str, int], rounds: int, seconds: float) -> dict:
    """Let all contenders take turns; return the median rates, and ours relative to each other one.

    shape: the width, the batch size and the window, by the names of their flags.
    """
    command = ["-m", "benchmarks.speed_char_rnn", *(f"--{name}={value}" for name, value in shape.items())]
    crew = {name: workers.Worker(name, command) for name in CONTENDERS}
    failures = {name: worker.failure for name, worker in crew.items() if worker.failure}
    rates = {name: [] for name in crew if name not in failures}
    for _ in cli.progress(range(rounds), "taking turns"):
        for name, own in rates.items():
            seconds_per_step, _ = crew[name].turn(seconds)
            own.append((WRITTEN if name == "writing" else shape["batch_size"] * shape["window"]) / seconds_per_step)
    for worker in crew.values():
        worker.end()
    writing = rates.pop("writing")
    medians = {name: float(np.median(values)) for name, values in rates.items()}
    ratios = {
        name: list(np.quantile(np.array(rates["ours"]) / np.array(rates[name]), (0.0, 0.5, 1.0)))
        for name in rates
        if name != "ours"
    }
    return {"training": medians, "ratios": ratios, "failures": failures, "writing": float(np.median(writing))}


@cli.one_line_errors
def main(argv=None):
    """Measure, print and write the result."""
    parser = results.parser(__doc__)
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
    result = measure(shape, arguments.rounds, arguments.seconds)
    for name, reason in result["failures"].items():
        print(f"{name}: {reason}")
    results.publish(f"speed_char_rnn_{arguments.width}", {**shape, **result}, section)


if __name__ == "__main__":
    main()
