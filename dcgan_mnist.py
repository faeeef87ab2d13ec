"""DCGAN: two convolutional networks compete, and one of them learns to draw digits.

The generator maps random numbers, the latents, to images; the discriminator maps an image to a number, the logit, high
if it looks real. Each is trained against the other until the generator's images pass for real.

Paper: Radford, Metz and Chintala, "Unsupervised Representation Learning with Deep Convolutional Generative
Adversarial Networks", 2016 (arXiv:1511.06434). docs/dcgan_mnist.md lists what differs from it, and why.

    python dcgan_mnist.py                               train on MNIST: first digits within a minute, good ones in four
    python dcgan_mnist.py --data PATH --image_size 64   train on your own pictures
    python dcgan_mnist.py --sample 64                   new digits from the newest run
"""

import dataclasses
from typing import Annotated

import common.environment  # noqa: F401 - first: it sets what TensorFlow reads at its import

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from blocks.adam import Adam
from blocks.averaging import update_average
from blocks.classes import append_one_hot, own_class_logit
from blocks.gradient_penalties import LAZY_STEPS, lazily, r1_penalty
from blocks.image_sizes import start_size
from common import cli, datasets, devices, flags, generated, latent_space, pictures, runs, saved_runs
from evaluation import collapse

GRID_COLUMNS = 10
DEFAULT_STEPS = 15_000


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(cli.PictureConfig):
    """Settings of dcgan_mnist.py; where ours differ, the help gives the paper's."""

    data: Annotated[str, flags.NamesData] = "auto"
    """auto (MNIST, or the bundled small digits if it is unavailable), mnist, digits, or a folder of pictures."""
    image_size: flags.Positive = 28
    """Side of the square images in pixels: 4 to 7 times a power of two (28, 32, 48, 64, 96, 128 …)."""
    conditional: bool = False
    """Give both networks the class of each image, so that it can be chosen when sampling."""
    label: Annotated[str, flags.Changeable, flags.Needs("sample", "interpolate")] = ""
    """The class to draw, from a run trained with --conditional."""
    epochs: Annotated[flags.Count, flags.TrainingOnly] = 0
    """Passes over the data; 0 for 15,000 steps, 8 epochs of MNIST."""
    batch_size: flags.Positive = 32
    """Images per step; the paper's 128."""
    latent_dim: flags.Positive = 32
    """Latents per image; the paper's 100."""
    generator_width: flags.Positive = 32
    """Channels of the generator's last hidden layer, doubled at each lower resolution; the paper's 128."""
    discriminator_width: flags.Positive = 24
    """Channels of the discriminator's first layer, doubled at each lower resolution; the authors' code: 64."""
    learning_rate: Annotated[float, flags.Between(1e-7, 1.0)] = 2e-3
    """Adam's step size for the generator, a quarter of it for the discriminator; the paper's is 2e-4 for both."""
    gradient_penalty: Annotated[float, flags.Between(0.0, 1000.0)] = 0.1
    """Weight of R1, the gradient penalty at real images (Mescheder et al. 2018); the paper has none, 0."""
    average_decay: Annotated[float, flags.Between(0.0, 0.99999)] = 0.999
    """Decay of the moving average of the generator, which is sampled; 0 samples the last weights, as the paper."""


def build_generator(config: Config, channels: int, classes: int) -> keras.Model:
    """Map latents (batch, latent_dim + classes) to images (batch, image_size, image_size, channels) in [-1, 1].

    Section 3 of the paper: no pooling, no hidden dense layers, batch normalisation, tanh at the end.
    """
    size, doublings = start_size(config.image_size)  # MNIST: 7, 2
    width = config.generator_width * 2 ** (doublings - 1)
    latents = keras.Input((config.latent_dim + classes,))
    x = layers.Dense(size * size * width, use_bias=False)(latents)
    x = layers.Reshape((size, size, width))(x)  # MNIST: (7, 7, 64)
    x = activation(normalization(x))
    x = layers.Conv2DTranspose(width, 3, padding="same", use_bias=False)(x)  # first mixes neighbouring positions
    x = activation(normalization(x))
    for _ in range(doublings - 1):
        width //= 2
        x = layers.Conv2DTranspose(width, 4, strides=2, padding="same", use_bias=False)(x)  # MNIST: (14, 14, 32)
        x = activation(normalization(x))
    images = layers.Conv2DTranspose(channels, 4, strides=2, padding="same", activation="tanh", dtype="float32")(x)
    return keras.Model(latents, images, name="generator")


def build_discriminator(config: Config, channels: int, classes: int) -> keras.Model:
    """Map images (batch, image_size, image_size, channels) in [-1, 1] to logits: (batch, classes), at least one."""
    width = config.discriminator_width
    images = keras.Input((config.image_size, config.image_size, channels))
    x = layers.Conv2D(width, 4, strides=2, padding="same")(images)  # MNIST: (14, 14, 24)
    x = activation(x)
    while x.shape[1] > 4:
        width *= 2
        x = layers.Conv2D(width, 4, strides=2, padding="same", use_bias=False)(x)  # MNIST: (7, 7, 48), (4, 4, 96)
        x = activation(normalization(x))
    logits = layers.Dense(max(classes, 1), dtype="float32")(layers.Flatten()(x))
    return keras.Model(images, logits, name="discriminator")


def activation(x):
    """LeakyReLU in both networks; the paper has ReLU in the generator."""
    return layers.LeakyReLU(negative_slope=0.2)(x)


def normalization(x):
    """Batch normalisation over all devices; with Keras's momentum of 0.99 its statistics would lag too far."""
    return layers.BatchNormalization(momentum=0.9, synchronized=True)(x)


def generator_loss(fake_logits):
    """Return the non-saturating loss, the mean of -log D(G(z)) (Goodfellow et al. 2014, section 3).

    z: latents; G: the generator; D, the sigmoid of the logit: -log D = softplus(-logit), -log(1 - D) = softplus(logit).
    """
    return tf.nn.compute_average_loss(tf.nn.softplus(-fake_logits))


def discriminator_loss(real_logits, fake_logits):
    """Return the cross-entropy, the mean of -log D(x) - log(1 - D(G(z))): equation 1 of Goodfellow et al., negated."""
    return tf.nn.compute_average_loss(tf.nn.softplus(-real_logits) + tf.nn.softplus(fake_logits))


def build(config: Config, channels: int, classes: int) -> dict:
    """Return what is trained and saved, by name: the networks, the averaged generator and the optimizers."""
    generator, averaged_generator = (build_generator(config, channels, classes) for _ in range(2))
    discriminator = build_discriminator(config, channels, classes)
    averaged_generator.set_weights(generator.get_weights())
    generator_optimizer = Adam(config.learning_rate, beta_1=0.5, beta_2=0.99)
    discriminator_optimizer = Adam(config.learning_rate / 4, beta_1=0.5, beta_2=0.99)
    generator_optimizer.build(generator.trainable_variables)
    discriminator_optimizer.build(discriminator.trainable_variables)
    return {
        "generator": generator,
        "averaged_generator": averaged_generator,
        "discriminator": discriminator,
        "generator_optimizer": generator_optimizer,
        "discriminator_optimizer": discriminator_optimizer,
    }


def make_train_step(
    generator, averaged_generator, discriminator, generator_optimizer, discriminator_optimizer, config: Config, classes
):
    """Return the training step: it updates both networks once, from one batch of generated images.

    Its arguments: pixels, uint8 (batch, image_size, image_size, channels); labels, int32 (batch,); the step's number.
    """

    def train_step(pixels, labels, step):
        real_images = pictures.to_signed(pixels)
        latents = devices.normal((pixels.shape[0], config.latent_dim), config.seed, step)
        latents = append_one_hot(latents, labels, classes)

        def score(images):
            return own_class_logit(discriminator(images, training=True), labels)

        with tf.GradientTape() as generator_tape, tf.GradientTape() as discriminator_tape:
            fake_images = generator(latents, training=True)
            real_logits, fake_logits = score(real_images), score(fake_images)
            losses = {
                "generator_loss": generator_loss(fake_logits),
                "discriminator_loss": discriminator_loss(real_logits, fake_logits),
                "gradient_penalty": lazily(lambda: r1_penalty(score, real_images), step),
            }
            objective = losses["discriminator_loss"] + config.gradient_penalty * losses["gradient_penalty"]

        gradients = generator_tape.gradient(losses["generator_loss"], generator.trainable_variables)
        generator_optimizer.apply(gradients, generator.trainable_variables)
        gradients = discriminator_tape.gradient(objective, discriminator.trainable_variables)
        discriminator_optimizer.apply(gradients, discriminator.trainable_variables)
        update_average(averaged_generator.variables, generator.variables, config.average_decay, step)
        return losses

    return train_step


def sample(generator, latents) -> np.ndarray:
    """Generate images, uint8 (N, image_size, image_size, channels), from latents (N, latent_dim + classes)."""
    return pictures.from_signed(devices.predict(generator, latents))


def train(config: Config) -> dict[str, float]:
    """Train a run, from its start or from where it was interrupted, and return its last row of metrics."""
    start_size(config.image_size)  # raises an error now rather than after all pictures have been read
    data = datasets.load(config.data, config.image_size, channels=config.channels)
    data.warn_if_few()
    device = devices.setup(config, side_by_side=2)  # the passes through the discriminator
    classes = data.class_count(config)
    with device.scope():
        networks = build(config, data.channels, classes)
    averaged_generator, discriminator = networks["averaged_generator"], networks["discriminator"]
    train_step = device.compile(make_train_step(**networks, config=config, classes=classes))
    row_names = data.class_names if config.conditional else ()
    grid_labels = np.repeat(np.arange(classes or GRID_COLUMNS), GRID_COLUMNS)
    latents = latent_space.draw(len(grid_labels), config.latent_dim, config.seed)  # the same in every grid of the run
    latents = append_one_hot(latents, grid_labels, classes)

    def grid():
        images = sample(averaged_generator, latents)
        labels = (grid_labels, data.labels) if classes else None
        run.warn(collapse.signs_of_failure(images, data.images, run.metrics, labels))
        return pictures.grid(images, GRID_COLUMNS, row_names)

    with runs.Run(config, device, data, DEFAULT_STEPS, lazy={"gradient_penalty": LAZY_STEPS}, **networks) as run:
        for epoch in run.epochs():
            for pixels, labels, step in run.batches(epoch):
                if run.show_is_due:
                    run.show(grid())
                run.log(train_step(pixels, labels, step))
        run.finish(grid(), generator=averaged_generator, discriminator=discriminator)
    return run.metrics


def generate(config: Config) -> None:
    """Draw samples, or a walk between latents, from the trained run `config.run` into its folder generated/."""
    devices.setup(config)
    run = saved_runs.SavedRun(config.run, config.to)
    classes = run.class_count(config)
    generator = build_generator(config, run.channels, classes)
    run.restore(averaged_generator=generator)

    def generate_images(latents, labels):
        return sample(generator, append_one_hot(latents, labels, classes))

    generated.samples_and_walk(run, config, generate_images)


@cli.one_line_errors
def main(argv=None):
    """Run the command line `argv`, by default the process's own."""
    config = saved_runs.configure(Config, argv, __doc__)
    if config.uses_trained_run:
        generate(config)
    else:
        train(config)


if __name__ == "__main__":
    main()
