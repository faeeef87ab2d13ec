"""How fast does dcgan_mnist.py train? Images a second, beside the same network trained in the plainest way.

Plain means float32, without XLA, one tf.function a step. Both run in this process, in turns of a few seconds, so that a
noisy machine slows both; quote the ratio rather than the rates. Then the script is run as a user would, which shows its
peak memory and how soon there is a picture. Writes outputs/benchmarks/speed.json and after_60_seconds.png.

    python -m benchmarks.speed
"""

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
from benchmarks import race, results, workers
from common import checkpoints, cli, devices

NAME = "speed"


def section(result: dict) -> list[str]:
    """Return the lines of docs/results.md."""
    ratio, rates = result["ratio"], result["images_per_second"]
    lines = results.opening(
        "Speed of dcgan_mnist.py",
        "benchmarks.speed",
        "The same network and batch, trained in turns in one process; medians.",
    )
    rows = [("dcgan_mnist.py", f"{rates['ours']:,.0f}", result["ours"])]
    rows.append(("plain steps in float32", f"{rates['plain']:,.0f}", result["plain"]))
    lines += results.table(("", "images a second", "device"), rows)
    text = f"Ratio: {ratio['median']:.2f} (median; {ratio['min']:.2f} to {ratio['max']:.2f} over the turns). "
    text += f"Peak memory of the script's process: {result['peak_megabytes']:,.0f} MB. Its first grid was on disk "
    text += f"{result['first_grid_seconds']:.1f} s after the command's start. After 60 s the newest grid was that of "
    text += f"step {result['steps_after_60_seconds']}:"
    return [*lines, "", *results.paragraph(text), "", "![after 60 seconds](after_60_seconds.png)"]


def training(config: dcgan_mnist.Config, pixels, labels):
    """Return what trains in turns, as `workers.timed` does, always on the same batch, and the device's description."""
    device = devices.setup(config, side_by_side=2)  # as the script does
    networks = dcgan_mnist.build(config, 1, 0)
    step = race.one_step(device, dcgan_mnist.make_train_step(**networks, config=config, classes=0))
    number = tf.Variable(0)

    def train():
        losses = step(pixels, labels, number)
        number.assign_add(1)
        return losses["generator_loss"].numpy()  # wait for the step to end

    return workers.timed(train), device.description


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
        results.FOLDER.mkdir(parents=True, exist_ok=True)
        shutil.copy(newest, results.FOLDER / "after_60_seconds.png")
        if process.wait() != 0:
            raise SystemExit("dcgan_mnist.py failed")
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / (1024**2 if sys.platform == "darwin" else 1024)
    steps = checkpoints.step_of(newest)
    return {"first_grid_seconds": first_grid, "steps_after_60_seconds": steps, "peak_megabytes": peak}


@cli.one_line_errors
def main(argv=None):
    """Measure, print and write the result."""
    parser = results.parser(__doc__)
    parser.add_argument("--rounds", type=int, default=7, help="turns of each (%(default)s)")
    parser.add_argument("--seconds", type=float, default=4, help="of a turn (%(default)s)")
    arguments = parser.parse_args(argv)
    config = dcgan_mnist.Config()
    plain = dataclasses.replace(config, precision="float32", jit="off", strategy="one_device")
    random = np.random.default_rng(0)
    pixels = tf.constant(random.integers(0, 256, (config.batch_size, 28, 28, 1), np.uint8))
    labels = tf.zeros(config.batch_size, tf.int32)
    (train, description), (train_plainly, plain_description) = (training(it, pixels, labels) for it in (config, plain))
    turns = [[turn(arguments.seconds)[0] for turn in (train, train_plainly)] for _ in range(arguments.rounds)]
    rates = config.batch_size / np.array(turns)  # (rounds, 2)
    ratios = rates[:, 0] / rates[:, 1]
    result = {
        "ours": description,
        "plain": plain_description,
        "batch_size": config.batch_size,
        "images_per_second": {"ours": np.median(rates[:, 0]), "plain": np.median(rates[:, 1])},
        "ratio": {"min": ratios.min(), "median": np.median(ratios), "max": ratios.max()},
        **run_as_user(),
    }
    results.publish(NAME, result, section)


if __name__ == "__main__":
    main()
