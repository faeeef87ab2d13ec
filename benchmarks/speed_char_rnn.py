"""How fast does char_rnn.py train and write? Characters a second, beside Keras's and PyTorch's LSTM.

The same network (an embedding of 64, two layers of 256, a dense layer), batch and optimizer (Adam), all in this
process, in turns of a few seconds, so that a noisy machine is noisy for all; quote ratios rather than rates. Where the
processor cannot, PyTorch has no LSTM in bfloat16, which the table then says.

Needs PyTorch: pip install -r benchmarks/requirements.txt. Writes outputs/benchmarks/speed_char_rnn.json.

    python -m benchmarks.speed_char_rnn
"""

import argparse
import time
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf
from keras import layers

import char_rnn
from benchmarks import quality
from common import cli, recurrence, text

CHARACTERS, EMBEDDING, WIDTH, BATCH_SIZE, WINDOW = 66, 64, 256, 64, 100


def keras_step(lstm: type, windows: np.ndarray) -> Callable[[], float]:
    """Return a function that trains one step with a layer."""
    numbers = keras.Input((WINDOW,), BATCH_SIZE, dtype="int32")
    x = layers.Embedding(CHARACTERS, EMBEDDING)(numbers)
    for _ in range(2):
        x = lstm(WIDTH, return_sequences=True)(x)
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


def pytorch_step(kind: str, windows: np.ndarray) -> Callable[[], float]:
    """Return a function that trains one step with PyTorch, in float32 or, by its autocast, in bfloat16."""
    torch = quality.needed("torch")

    embedding, output = torch.nn.Embedding(CHARACTERS, EMBEDDING), torch.nn.Linear(WIDTH, CHARACTERS)
    lstm = torch.nn.LSTM(EMBEDDING, WIDTH, 2, batch_first=True)
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


def rate(step: Callable, seconds: float, characters: int) -> float:
    """Return characters a second over about so many seconds."""
    steps, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        step()
        steps += 1
    return steps * characters / (time.perf_counter() - start)


def writer() -> Callable[[], list]:
    """Return a function that writes 500 characters with the default network."""
    config = char_rnn.Config()
    alphabet = text.Alphabet("".join(map(chr, range(32, 32 + CHARACTERS - 1))) + text.UNKNOWN)
    network = char_rnn.build_network(config, CHARACTERS)
    read, write = char_rnn.make_reader(network, config), char_rnn.make_writer(network, config, alphabet)
    return lambda: list(char_rnn.sample(read, write, config, alphabet, 500))


@cli.one_line_errors
def main(argv=None):
    """Measure, print a table, and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7, help="turns of each (%(default)s)")
    parser.add_argument("--seconds", type=float, default=4, help="of a turn (%(default)s)")
    arguments = parser.parse_args(argv)
    windows = np.random.default_rng(0).integers(0, CHARACTERS, (BATCH_SIZE, WINDOW + 1)).astype(np.int32)
    steps = {
        "ours": keras_step(recurrence.LSTM, windows),
        "Keras": keras_step(layers.LSTM, windows),
        "PyTorch, float32": pytorch_step("float32", windows),
        "PyTorch, bfloat16": pytorch_step("bfloat16", windows),
    }
    failures = {}
    for name in list(steps):
        try:
            steps[name](), steps[name]()  # build and warm up
        except RuntimeError as error:
            failures[name] = str(error).splitlines()[0]
            del steps[name]
    rates = {name: [] for name in steps}
    for _ in range(arguments.rounds):
        for name, step in steps.items():
            rates[name].append(rate(step, arguments.seconds, BATCH_SIZE * WINDOW))
    write = writer()
    write()
    writing = [rate(write, arguments.seconds, 500) for _ in range(arguments.rounds)]
    ratios = {
        name: list(np.quantile(np.array(rates["ours"]) / np.array(rates[name]), (0.0, 0.5, 1.0)))
        for name in steps
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
    quality.write_json("speed_char_rnn", result)


if __name__ == "__main__":
    main()
