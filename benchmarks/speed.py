"""How fast does dcgan_mnist.py train? Images a second, beside the same network trained in the plainest way.

Plain means: float32, without XLA, one tf.function a step. Both run in this process, in turns of a few seconds, so that
a noisy machine is noisy for both; quote the ratio rather than the times. Then the script is run as its user would, to
see its peak memory and how soon there is a picture.

    python -m benchmarks.speed
"""

import argparse
import dataclasses
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import tensorflow as tf

import dcgan_mnist
from benchmarks import quality
from common import checkpoints, cli, devices


def stepper(config: dcgan_mnist.Config, pixels, labels):
    """Return a function that trains one step on the same batch, and the device's description."""
    device = devices.setup(config)
    networks = dcgan_mnist.build(config, 1, 0)
    step = device.compile(dcgan_mnist.make_train_step(**networks, config=config, classes=0))
    number = tf.Variable(0, dtype=tf.int64)

    def train():
        losses = step(pixels, labels, number)
        number.assign_add(1)
        return losses["generator_loss"].numpy()  # wait for the step to end

    train(), train()  # build and warm up while this precision is set
    return train, device.description


def images_per_second(train, batch_size: int, seconds: float) -> float:
    """Measure for about `seconds`."""
    steps, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        train()
        steps += 1
    return steps * batch_size / (time.perf_counter() - start)


def run_as_user() -> dict:
    """Run the script for a minute of training; return the seconds to its first grid and its peak memory.

    The newest grid 60 seconds after the command's start is kept as outputs/benchmarks/after_60_seconds.png.
    """
    import resource  # not on Windows

    with tempfile.TemporaryDirectory() as folder:
        start = time.monotonic()
        command = [sys.executable, "dcgan_mnist.py", "--minutes", "1", "--output_dir", folder, "--name", "run"]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        samples = Path(folder) / "dcgan_mnist" / "run" / "samples"
        while not list(samples.glob("step_*.png")) and process.poll() is None:
            time.sleep(0.05)
        first_grid = time.monotonic() - start
        time.sleep(max(60 - first_grid, 0))
        newest = max(samples.glob("step_*.png"))
        shutil.copy(newest, quality.FOLDER / "after_60_seconds.png")
        if process.wait() != 0:
            raise SystemExit("dcgan_mnist.py failed")
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / (1024**2 if sys.platform == "darwin" else 1024)
    steps = checkpoints.step_of(newest)
    return {"first_grid_seconds": first_grid, "steps_after_60_seconds": steps, "peak_megabytes": peak}


@cli.one_line_errors
def main(argv=None):
    """Measure, print a table, and write outputs/benchmarks/speed.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7, help="turns of each (%(default)s)")
    parser.add_argument("--seconds", type=float, default=4, help="of a turn (%(default)s)")
    arguments = parser.parse_args(argv)
    config = dcgan_mnist.Config()
    plain = dataclasses.replace(config, precision="float32", jit="off", strategy="one_device")
    generator = np.random.default_rng(0)
    pixels = tf.constant(generator.integers(0, 256, (config.batch_size, 28, 28, 1), np.uint8))
    labels = tf.zeros(config.batch_size, tf.int32)

    ours, description = stepper(config, pixels, labels)
    plainest, plain_description = stepper(plain, pixels, labels)
    rates = np.array(
        [
            [images_per_second(train, config.batch_size, arguments.seconds) for train in (ours, plainest)]
            for _ in range(arguments.rounds)
        ]
    )
    ratios = rates[:, 0] / rates[:, 1]
    result = {
        "ours": description,
        "plain": plain_description,
        "batch_size": config.batch_size,
        "images_per_second": {"ours": np.median(rates[:, 0]), "plain": np.median(rates[:, 1])},
        "ratio": {"min": ratios.min(), "median": np.median(ratios), "max": ratios.max()},
        **run_as_user(),
    }
    print(f"{'':6}{'images/s, median':>18}   device")
    for name in ("ours", "plain"):
        print(f"{name:6}{result['images_per_second'][name]:18,.0f}   {result[name]}")
    print("ratio of each round: " + ", ".join(f"{name} {value:.2f}" for name, value in result["ratio"].items()))
    print(f"first grid {result['first_grid_seconds']:.1f} s after the command's start")
    print(f"newest grid after 60 s: that of step {result['steps_after_60_seconds']}")
    print(f"peak memory of the script's process: {result['peak_megabytes']:,.0f} MB")
    quality.write_json("speed", result)


if __name__ == "__main__":
    main()
