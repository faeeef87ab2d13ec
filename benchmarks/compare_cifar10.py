"""gan_cifar10.py against the DCGAN of TensorFlow's tutorial, widened to CIFAR-10: Fréchet distance over minutes.

They train in one process, in turns of a few seconds, each on a clock of its own, so that a noisy machine is noisy for
all. Ours is the default command's network and settings, once for each number of minutes, as `--minutes` has it: its
step size falls by the clock. The tutorial's (https://www.tensorflow.org/tutorials/generative/dcgan) is widened as its
readers do: from 4x4x256, kernels of 4x4, one more layer, and the step of the DCGAN paper.

Writes outputs/benchmarks/compare_cifar10.json and .png.

    python -m benchmarks.compare_cifar10 --minutes 10 60
"""

import argparse

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


@cli.one_line_errors
def main(argv=None):
    """Train ours for each of the given minutes, and the tutorial's for the most of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, nargs="+", default=[10, 60], help="of training (10 60)")
    minutes = parser.parse_args(argv).minutes
    judge = quality.Judge("cifar10", 32)
    data = datasets.load("cifar10", 32)
    contenders = [*(ours(data, each) for each in minutes), tutorial(data, max(minutes) * 60)]
    quality.write_json("compare_cifar10", race.race(contenders, judge))
    race.draw(contenders, judge.floor, quality.FOLDER / "compare_cifar10.png")
    print(f"written to {quality.FOLDER / 'compare_cifar10.json'} and .png")


if __name__ == "__main__":
    main()
