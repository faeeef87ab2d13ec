"""dcgan_mnist.py against the DCGAN of TensorFlow's tutorial: Fréchet distance over minutes of training.

Both train on MNIST in one process, in turns of a few seconds, each on a clock of its own, so that a noisy machine is
noisy for both. Ours is the default command's network and settings; the tutorial's is built here from its description
(https://www.tensorflow.org/tutorials/generative/dcgan), in float32, one plain step a batch.

Writes outputs/benchmarks/compare_dcgan.json and .png.

    python -m benchmarks.compare_dcgan
"""

import argparse
from types import ModuleType

import keras
import numpy as np
import tensorflow as tf
from keras import layers

import dcgan_mnist
from benchmarks import quality, race
from benchmarks.race import Contender
from common import cli, datasets, devices, latent_space, pictures, runs

# Where the tutorial's samples first look like rough digits; how soon ours are as good is what we want to know.
MILESTONE_IMAGES = 409_600
BATCH_SIZE, LATENT_DIM = 256, 100  # the tutorial's


def ours(script: ModuleType, data: datasets.Images, config, name: str, folder: str, **ends) -> Contender:
    """Return a script's network, dcgan_mnist's or gan_cifar10's, without classes; `ends` as for a Contender."""
    device = devices.setup(config)
    state = script.build(config, data.channels, classes=0)
    step = device.compile(script.make_train_step(**state, config=config, classes=0))
    sample = sampler(state["averaged_generator"], config.latent_dim)
    return Contender(name, folder, data, config.batch_size, step, sample, state, **ends)


def tutorial(data: datasets.Images, until: int) -> Contender:
    """Return the tutorial's two networks and its step: Adam with 1e-4, batches of 256, float32."""
    keras.config.set_dtype_policy("float32")
    keras.utils.set_random_seed(0)
    generator = keras.Sequential(
        [
            keras.Input((LATENT_DIM,)),
            layers.Dense(7 * 7 * 256, use_bias=False),
            layers.BatchNormalization(),
            layers.LeakyReLU(),
            layers.Reshape((7, 7, 256)),
            layers.Conv2DTranspose(128, 5, strides=1, padding="same", use_bias=False),
            layers.BatchNormalization(),
            layers.LeakyReLU(),
            layers.Conv2DTranspose(64, 5, strides=2, padding="same", use_bias=False),
            layers.BatchNormalization(),
            layers.LeakyReLU(),
            layers.Conv2DTranspose(1, 5, strides=2, padding="same", use_bias=False, activation="tanh"),
        ]
    )
    discriminator = keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Conv2D(64, 5, strides=2, padding="same"),
            layers.LeakyReLU(),
            layers.Dropout(0.3),
            layers.Conv2D(128, 5, strides=2, padding="same"),
            layers.LeakyReLU(),
            layers.Dropout(0.3),
            layers.Flatten(),
            layers.Dense(1),
        ]
    )
    optimizers = [keras.optimizers.Adam(1e-4), keras.optimizers.Adam(1e-4)]
    return plain(data, "compare_dcgan", generator, discriminator, *optimizers, until=until, stops=(MILESTONE_IMAGES,))


def plain(
    data: datasets.Images,
    folder: str,
    generator: keras.Model,
    discriminator: keras.Model,
    generator_optimizer,
    discriminator_optimizer,
    **ends,
) -> Contender:
    """Return networks trained as the tutorial does it: one plain step a batch of 256; `ends` as for a Contender."""
    generator_optimizer.build(generator.trainable_variables)
    discriminator_optimizer.build(discriminator.trainable_variables)
    cross_entropy = keras.losses.BinaryCrossentropy(from_logits=True)

    @tf.function
    def step(pixels, labels, number):
        images = pictures.to_signed(pixels)
        latents = devices.normal((BATCH_SIZE, LATENT_DIM), 0, number)
        with tf.GradientTape() as generator_tape, tf.GradientTape() as discriminator_tape:
            fakes = generator(latents, training=True)
            real, fake = discriminator(images, training=True), discriminator(fakes, training=True)
            generator_loss = cross_entropy(tf.ones_like(fake), fake)
            discriminator_loss = cross_entropy(tf.ones_like(real), real) + cross_entropy(tf.zeros_like(fake), fake)
        for network, tape, loss, optimizer in (
            (generator, generator_tape, generator_loss, generator_optimizer),
            (discriminator, discriminator_tape, discriminator_loss, discriminator_optimizer),
        ):
            optimizer.apply(tape.gradient(loss, network.trainable_variables), network.trainable_variables)
        return {"generator_loss": generator_loss, "discriminator_loss": discriminator_loss}

    saved = {
        "generator": generator,
        "discriminator": discriminator,
        "generator_optimizer": generator_optimizer,
        "discriminator_optimizer": discriminator_optimizer,
    }
    return Contender("tutorial", folder, data, BATCH_SIZE, step, sampler(generator, LATENT_DIM), saved, **ends)


def sampler(generator, latent_dim: int):
    """Return a function that makes so many images with a DCGAN's generator, always from the same latents."""

    def sample(count: int) -> np.ndarray:
        latents = latent_space.draw(count, latent_dim, seed=1)
        return pictures.from_signed(devices.in_batches(generator, latents))

    return sample


@cli.one_line_errors
def main(argv=None):
    """Train both, ours as long as the default command does, the tutorial's until it has seen so many images."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--images",
        type=int,
        default=MILESTONE_IMAGES,
        help="that the tutorial's network sees (%(default)s; its 50 epochs are 3000000)",
    )
    images = parser.parse_args(argv).images
    judge = quality.Judge()
    data = datasets.load("mnist", 28)
    config = dcgan_mnist.Config()
    epochs = runs.epochs_of(config, data.steps(config), dcgan_mnist.DEFAULT_STEPS)
    until = epochs * data.steps(config) * config.batch_size  # as the default command
    contenders = [ours(dcgan_mnist, data, config, "ours", "compare_dcgan", until=until), tutorial(data, images)]
    quality.write_json("compare_dcgan", race.race(contenders, judge))
    race.draw(contenders, judge.floor, quality.FOLDER / "compare_dcgan.png")
    print(f"written to {quality.FOLDER / 'compare_dcgan.json'} and .png")


if __name__ == "__main__":
    main()
