"""DCGAN: two convolutional networks play against each other, and one of them learns to draw digits.

The generator turns random numbers, the latents, into images; the discriminator sees real and generated images and
gives each a logit, high for real. Each is trained against the other until the generator's images pass.

Paper: Radford, Metz and Chintala, "Unsupervised Representation Learning with Deep Convolutional Generative
Adversarial Networks", 2016 (arXiv:1511.06434). What differs from it, and what each difference bought, stands in
docs/dcgan_mnist.md.

    python dcgan_mnist.py                               train on MNIST
    python dcgan_mnist.py --data PATH --image_size 64   train on your own pictures
    python dcgan_mnist.py --sample 64                   new digits from the newest run
"""

import dataclasses
from typing import Annotated

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from common import cli, datasets, devices, latent_space, pictures, runs, stored

GRID_COLUMNS = 10
DEFAULT_STEPS = 15_000


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(cli.PictureConfig):
    """Settings of dcgan_mnist.py; where ours differ, the help gives the paper's."""

    data: Annotated[str, cli.OfData] = "auto"
    """auto (MNIST, or the small digits in the box when it cannot be had), mnist, digits, or a folder of pictures."""
    image_size: cli.Positive = 28
    """Side of the square images in pixels: 4 to 7 times a power of two (28, 32, 48, 64, 96, 128 …)."""
    conditional: bool = False
    """Tell both networks the class of each image, so that it can be chosen when sampling."""
    label: Annotated[str, cli.MayChange] = ""
    """With --sample or --interpolate: the class to draw, for a run that was trained with --conditional."""
    epochs: Annotated[cli.Count, cli.OfTraining] = 0
    """Passes over the data; 0 for as many as make 15,000 steps: 8 over MNIST."""
    batch_size: cli.Positive = 32
    """Images in a step; the paper's 128."""
    latent_dim: cli.Positive = 32
    """Numbers from which an image is made; the paper's 100."""
    generator_width: cli.Positive = 32
    """Channels of the generator's last hidden layer, twice as many at each lower resolution; the paper's 128."""
    discriminator_width: cli.Positive = 24
    """Channels of the discriminator's first layer, twice as many at each lower resolution; the paper's 64."""
    learning_rate: Annotated[float, cli.Between(1e-7, 1.0)] = 2e-3
    """Adam's step size for the generator; the discriminator takes a quarter of it. The paper's is 2e-4 for both."""
    average_decay: Annotated[float, cli.Between(0.0, 0.99999)] = 0.999
    """How slowly the averaged generator, from which we sample, follows the trained one; the paper has none: 0."""


def build_generator(config: Config, channels: int, classes: int) -> keras.Model:
    """Map latents (batch, latent_dim + classes) to images (batch, image_size, image_size, channels) in [-1, 1].

    Section 3 of the paper: no pooling, no hidden dense layers, batch normalisation, tanh at the end.
    """
    size, doublings = start_size(config.image_size)
    width = config.generator_width * 2 ** (doublings - 1)
    latents = keras.Input((config.latent_dim + classes,))
    x = layers.Dense(size * size * width, use_bias=False)(latents)
    x = layers.Reshape((size, size, width))(x)  # MNIST: (7, 7, 64)
    x = activation(normalization(x))
    x = layers.Conv2DTranspose(width, 3, padding="same", use_bias=False)(x)  # where each pixel first sees others
    x = activation(normalization(x))
    for _ in range(doublings - 1):
        width //= 2
        x = layers.Conv2DTranspose(width, 4, strides=2, padding="same", use_bias=False)(x)  # MNIST: (14, 14, 32)
        x = activation(normalization(x))
    images = layers.Conv2DTranspose(channels, 4, strides=2, padding="same", activation="tanh", dtype="float32")(x)
    return keras.Model(latents, images, name="generator")


def build_discriminator(config: Config, channels: int, classes: int) -> keras.Model:
    """Map images (batch, image_size, image_size, channels) in [-1, 1] to logits (batch, max(classes, 1)).

    With classes, each has its logit: whether this is a real image of that class.
    """
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


def start_size(image_size: int) -> tuple[int, int]:
    """Return the resolution, 4 to 7, at which the generator starts, and how often it doubles to `image_size`."""
    size, doublings = image_size, 0
    while size > 7 and size % 2 == 0:
        size, doublings = size // 2, doublings + 1
    if not 4 <= size <= 7 or doublings == 0:
        good = [start * 2**power for power in range(1, image_size.bit_length() + 1) for start in (4, 5, 6, 7)]
        raise cli.UserError(
            f"--image_size {image_size}: the nearest that works is {min(good, key=lambda it: abs(it - image_size))}"
        )
    return size, doublings


def activation(x):
    """LeakyReLU in both networks; the paper has ReLU in the generator."""
    return layers.LeakyReLU(negative_slope=0.2)(x)


def normalization(x):
    """Batch normalisation over all replicas; its momentum suits runs of a few thousand steps."""
    return layers.BatchNormalization(momentum=0.9, synchronized=True)(x)


def generator_loss(fake_logits):
    """Non-saturating loss: the mean of -log D(G(z)) (Goodfellow et al. 2014, section 3)."""
    return tf.nn.compute_average_loss(tf.nn.softplus(-fake_logits))


def discriminator_loss(real_logits, fake_logits):
    """Cross-entropy: the mean of -log D(x) - log(1 - D(G(z))) (Goodfellow et al. 2014, equation 1)."""
    return tf.nn.compute_average_loss(tf.nn.softplus(-real_logits) + tf.nn.softplus(fake_logits))


def with_classes(latents, labels, classes: int):
    """Append the labels, one-hot, to the latents: (batch, latent_dim + classes)."""
    return tf.concat([latents, tf.one_hot(labels, classes)], axis=-1)


def of_class(logits, labels):
    """Choose each image's logit for its own class: (batch,). Without classes there is but one."""
    if logits.shape[-1] == 1:
        return logits[:, 0]
    return tf.reduce_sum(logits * tf.one_hot(labels, logits.shape[-1]), axis=-1)


def build(config: Config, channels: int, classes: int) -> dict:
    """Return all that is trained and saved, by name: the networks, the averaged generator, and the optimizers."""
    generator, averaged_generator = (build_generator(config, channels, classes) for _ in range(2))
    discriminator = build_discriminator(config, channels, classes)
    averaged_generator.set_weights(generator.get_weights())
    generator_optimizer = keras.optimizers.Adam(config.learning_rate, beta_1=0.5, beta_2=0.99)
    discriminator_optimizer = keras.optimizers.Adam(config.learning_rate / 4, beta_1=0.5, beta_2=0.99)
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
    """Return the step, which updates both networks once, from the same images, and returns their losses.

    Its arguments: pixels, uint8 (batch, image_size, image_size, channels); labels, int32 (batch,); the step's number.
    """

    def train_step(pixels, labels, step):
        real_images = pictures.to_signed(pixels)
        latents = devices.normal((pixels.shape[0], config.latent_dim), config.seed, step)
        latents = with_classes(latents, labels, classes)

        with tf.GradientTape() as generator_tape, tf.GradientTape() as discriminator_tape:
            fake_images = generator(latents, training=True)
            real_logits = of_class(discriminator(real_images, training=True), labels)
            fake_logits = of_class(discriminator(fake_images, training=True), labels)
            losses = {
                "generator_loss": generator_loss(fake_logits),
                "discriminator_loss": discriminator_loss(real_logits, fake_logits),
            }

        gradients = generator_tape.gradient(losses["generator_loss"], generator.trainable_variables)
        generator_optimizer.apply(gradients, generator.trainable_variables)
        gradients = discriminator_tape.gradient(losses["discriminator_loss"], discriminator.trainable_variables)
        discriminator_optimizer.apply(gradients, discriminator.trainable_variables)

        # Exponential moving average of the weights (Yazici et al. 2019, arXiv:1806.04498); faster in the beginning,
        # so that the first, useless steps are soon forgotten.
        step = tf.cast(step, tf.float32)
        decay = tf.minimum(config.average_decay, (1.0 + step) / (10.0 + step))
        for average, variable in zip(averaged_generator.variables, generator.variables, strict=True):
            average.assign(decay * average + (1.0 - decay) * variable)
        return losses

    return train_step


def sample(generator, latents) -> np.ndarray:
    """Return the images, uint8 (N, image_size, image_size, channels), of latents (N, latent_dim + classes)."""
    return pictures.from_signed(devices.in_batches(generator, latents))


def train(config: Config) -> dict[str, float]:
    """Train a run, from its start or from where it was interrupted, and return its last row of metrics."""
    if config.label:
        raise cli.UserError("--label: chooses what --sample or --interpolate draws; give one of them, too")
    device = devices.setup(config)
    start_size(config.image_size)  # tells now if it does not work, before pictures are read
    data = datasets.load(config.data, config.image_size, channels=config.channels)
    if config.conditional and not data.class_names:
        raise cli.UserError(f"--conditional: {data.name} has no classes; put each class into a folder of its own")
    classes = len(data.class_names) if config.conditional else 0

    with device.strategy.scope():
        networks = build(config, data.channels, classes)
    averaged_generator, discriminator = networks["averaged_generator"], networks["discriminator"]
    train_step = device.compile(make_train_step(**networks, config=config, classes=classes))
    row_names = data.class_names if config.conditional else ()
    grid_labels = np.repeat(np.arange(classes or GRID_COLUMNS), GRID_COLUMNS)
    latents = latent_space.draw(len(grid_labels), config.latent_dim, config.seed)  # the same for every grid of the run
    latents = with_classes(latents, grid_labels, classes)

    def grid():
        images = sample(averaged_generator, latents)
        run.look_for_trouble(images, grid_labels if classes else None)
        return pictures.grid(images, GRID_COLUMNS, row_names)

    with runs.Run(config, device, data, DEFAULT_STEPS, **networks) as run:
        for epoch in run.epochs():
            for pixels, labels in run.batches(epoch):
                if run.show_is_due:
                    run.show(grid())
                run.log(train_step(pixels, labels, run.step))
        run.finish(grid(), generator=averaged_generator, discriminator=discriminator)
    return run.metrics


def generate(config: Config) -> None:
    """Write samples, or a walk between latents, of the run in `config.run` into its folder generated/."""
    devices.setup(config)
    run = stored.StoredRun(config.run)
    classes = len(run.class_names) if config.conditional else 0
    labels = run.labels(config, config.sample)
    generator = build_generator(config, run.channels, classes)
    run.restore(averaged_generator=generator)
    if config.sample:
        noise = latent_space.draw(config.sample, config.latent_dim, config.seed)
        run.save_samples(sample(generator, with_classes(noise, labels, classes)), labels if classes else None)
    if config.interpolate:
        walkers = run.labels(config, 16)
        walk = latent_space.round_trips(16, config.latent_dim, config.seed)
        run.save_walk(np.stack([sample(generator, with_classes(noise, walkers, classes)) for noise in walk]))
    print(f"written to {run.generated}")


@cli.one_line_errors
def main(argv=None):
    """Run the command line `argv`, by default the process's own."""
    config = stored.configure(Config, argv, __doc__)
    if config.uses_trained_run:
        generate(config)
    else:
        train(config)


if __name__ == "__main__":
    main()
