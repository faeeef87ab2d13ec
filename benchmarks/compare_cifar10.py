"""gan_cifar10.py against the DCGAN of TensorFlow's tutorial, widened to CIFAR-10: Fréchet distance over minutes.

They train in one process, in turns of a few seconds, each on a clock of its own, so that a noisy machine is noisy for
all; or with --at_once in processes of their own, at the same time, each on its share of the cores. Ours is the default
command's network and settings, once for each number of minutes, as `--minutes` has it: its step size falls by the
clock. The tutorial's (https://www.tensorflow.org/tutorials/generative/dcgan) is widened as its readers do: from
4x4x256, kernels of 4x4, one more layer, and the step of the DCGAN paper.

Writes outputs/benchmarks/compare_cifar10.json and .png.

    python -m benchmarks.compare_cifar10 --minutes 10 60
    python -m benchmarks.compare_cifar10 --minutes 60 --at_once
"""

import argparse
import functools
import os
import subprocess
import sys

import keras
from keras import layers

import gan_cifar10
from benchmarks import compare_dcgan, quality, race
from common import cli, datasets


def ours(data: datasets.Images, minutes: float) -> race.Contender:
    """Return gan_cifar10.py's network, to be trained as with `--minutes`."""
    config = gan_cifar10.Config()
    contender = compare_dcgan.ours(
        gan_cifar10, data, config, f"ours, {minutes:g} minutes", "compare_cifar10", until_seconds=minutes * 60
    )
    step = contender.step

    def step_of_falling_size(pixels, labels, number):
        progress = min(contender.seconds / contender.until_seconds, 1.0)
        gan_cifar10.set_learning_rate(contender.saved, config, number, progress)
        return step(pixels, labels, number)

    contender.step = step_of_falling_size
    return contender


def tutorial(data: datasets.Images, seconds: float) -> race.Contender:
    """Return the tutorial's two networks, widened, to be trained for so many seconds."""
    keras.config.set_dtype_policy("float32")
    keras.utils.set_random_seed(0)
    generator = keras.Sequential(
        [
            keras.Input((compare_dcgan.LATENT_DIM,)),
            layers.Dense(4 * 4 * 256, use_bias=False),
            layers.BatchNormalization(),
            layers.LeakyReLU(),
            layers.Reshape((4, 4, 256)),
            layers.Conv2DTranspose(128, 4, strides=2, padding="same", use_bias=False),
            layers.BatchNormalization(),
            layers.LeakyReLU(),
            layers.Conv2DTranspose(64, 4, strides=2, padding="same", use_bias=False),
            layers.BatchNormalization(),
            layers.LeakyReLU(),
            layers.Conv2DTranspose(3, 4, strides=2, padding="same", use_bias=False, activation="tanh"),
        ]
    )
    discriminator = keras.Sequential([keras.Input((32, 32, 3))])
    for width in (64, 128, 256):
        discriminator.add(layers.Conv2D(width, 4, strides=2, padding="same"))
        discriminator.add(layers.LeakyReLU())
        discriminator.add(layers.Dropout(0.3))
    discriminator.add(layers.Flatten())
    discriminator.add(layers.Dense(1))
    optimizers = [keras.optimizers.Adam(2e-4, beta_1=0.5), keras.optimizers.Adam(2e-4, beta_1=0.5)]
    return compare_dcgan.plain(data, "compare_cifar10", generator, discriminator, *optimizers, until_seconds=seconds)


def train_at_once(contenders: int, arguments: list[str]) -> int:
    """Train each contender in a process of its own, to its end; return how many cores each had."""
    cores = sorted(os.sched_getaffinity(0))
    share = len(cores) // contenders
    if share == 0:
        raise cli.UserError(f"--at_once: needs a core for each of the {contenders} contenders")
    processes = []
    for number in range(contenders):
        own = ",".join(map(str, cores[number * share : (number + 1) * share]))
        command = [sys.executable, "-m", "benchmarks.compare_cifar10", *arguments, "--only", str(number)]
        processes.append(subprocess.Popen(["taskset", "-c", own, *command]))
    codes = [process.wait() for process in processes]
    if any(codes):
        raise SystemExit("a contender failed")
    return share


@cli.one_line_errors
def main(argv=None):
    """Train ours for each of the given minutes, and the tutorial's for the most of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, nargs="+", default=[10, 60], help="of training (10 60)")
    parser.add_argument("--at_once", action="store_true", help="at the same time, each on its share of the cores")
    parser.add_argument("--only", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args(argv)
    judge = quality.Judge("cifar10", 32)
    data = datasets.load("cifar10", 32)
    makers = [functools.partial(ours, data, minutes) for minutes in arguments.minutes]
    makers.append(functools.partial(tutorial, data, max(arguments.minutes) * 60))
    if arguments.only is not None:
        race.race([makers[arguments.only]()], judge)
        return
    how = {}
    if arguments.at_once:
        how["cores"] = train_at_once(len(makers), sys.argv[1:] if argv is None else argv)
    contenders = [make() for make in makers]
    quality.write_json("compare_cifar10", {**how, **race.race(contenders, judge)})
    race.draw(contenders, judge.floor, quality.FOLDER / "compare_cifar10.png")
    print(f"written to {quality.FOLDER / 'compare_cifar10.json'} and .png")


if __name__ == "__main__":
    main()
