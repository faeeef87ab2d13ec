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
from typing import Annotated, Literal

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from common import cli, datasets, devices, pictures, runs

GRID_COLUMNS = 10
DEFAULT_STEPS = 11_000


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(cli.CommonConfig):
    """Settings of dcgan_mnist.py; where ours differ, the help gives the paper's."""

    data: str = "auto"
    """auto (MNIST, or the small digits in the box when it cannot be had), mnist, digits, or a folder of pictures."""
    image_size: cli.Positive = 28
    """Side of the square images in pixels: 4 to 7 times a power of two (28, 32, 48, 64, 96, 128 …)."""
    colors: Literal["auto", "grey", "rgb"] = "auto"
    """Channels of the images; auto is grey if all pictures are."""
    conditional: bool = False
    """Tell both networks the class of each image, so that it can be chosen when sampling."""
    label: Annotated[str, cli.MayChange] = ""
    """With --sample or --interpolate: the class to draw, for a run that was trained with --conditional."""
    interpolate: Annotated[bool, cli.MayChange] = False
    """Walk between latents of a trained run, as a grid and a GIF, instead of training."""
    epochs: Annotated[cli.Count, cli.MayChange] = 0
    """Passes over the data; 0 for as many as make 11,000 steps, which are 12 passes over MNIST."""
    batch_size: cli.Positive = 64
    """Images in a step; the paper's 128."""
    latent_dim: cli.Positive = 64
    """Numbers from which an image is made; the paper's 100."""
    width: cli.Positive = 32
    """Channels next to the image in both networks, doubled at each halving of the resolution; the paper's 64."""
    learning_rate: Annotated[float, cli.Between(1e-7, 1.0)] = 1e-3
    """Adam's step size for both networks; the paper's 2e-4."""
    average_decay: Annotated[float, cli.Between(0.0, 0.99999)] = 0.999
    """How slowly the averaged generator, from which we sample, follows the trained one; the paper has none: 0."""

    @property
    def uses_trained_run(self) -> bool:
        """Whether this command makes something with a trained run instead of training one."""
        return self.sample > 0 or self.interpolate


def build_generator(config: Config, channels: int, classes: int) -> keras.Model:
    """Map latents (batch, latent_dim + classes) to images (batch, image_size, image_size, channels) in [-1, 1].

    Section 3 of the paper: no pooling, no hidden dense layers, batch normalisation, tanh at the end.
    """
    size, doublings = start_size(config.image_size)
    latents = keras.Input((config.latent_dim + classes,))
    width = config.width * 2 ** (doublings - 1)
    x = layers.Dense(size * size * width, use_bias=False)(latents)
    x = layers.Reshape((size, size, width))(x)  # MNIST: (7, 7, 64)
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
    _, halvings = start_size(config.image_size)
    images = keras.Input((config.image_size, config.image_size, channels))
    x = activation(layers.Conv2D(config.width, 4, strides=2, padding="same")(images))  # MNIST: (14, 14, 32)
    for power in range(1, halvings):
        x = layers.Conv2D(config.width * 2**power, 4, strides=2, padding="same", use_bias=False)(x)
        x = activation(normalization(x))  # MNIST: (7, 7, 64)
    logits = layers.Dense(max(classes, 1), dtype="float32")(layers.Flatten()(x))
    return keras.Model(images, logits, name="discriminator")


def start_size(image_size: int) -> tuple[int, int]:
    """Return the resolution, 4 to 7, at which the generator starts, and how often it doubles to `image_size`."""
    size, doublings = image_size, 0
    while size > 7 and size % 2 == 0:
        size, doublings = size // 2, doublings + 1
    if not 4 <= size <= 7 or doublings == 0:
        good = [start * 2**power for power in range(1, 8) for start in (4, 5, 6, 7)]
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


def make_train_step(
    generator, discriminator, generator_optimizer, discriminator_optimizer, config: Config, classes: int
):
    """Return the step, which updates both networks once and returns their losses."""

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
        for name, tape, network, optimizer in (
            ("generator_loss", generator_tape, generator, generator_optimizer),
            ("discriminator_loss", discriminator_tape, discriminator, discriminator_optimizer),
        ):
            gradients = tape.gradient(losses[name], network.trainable_variables)
            optimizer.apply(gradients, network.trainable_variables)
        return losses

    return train_step


def make_average_step(averaged, generator, decay: float):
    """Return a function that moves the averaged generator a little towards the trained one.

    Exponential moving average of weights (Yazici et al. 2019), which starts faster so as to forget the first steps.
    """

    @tf.function
    def average_step(step):
        step = tf.cast(step, tf.float32)
        rate = 1.0 - tf.minimum(decay, (1.0 + step) / (10.0 + step))
        for mean, variable in zip(averaged.variables, generator.variables, strict=True):
            mean.assign_add(rate * (variable - mean))

    return average_step


def sample(generator, latents) -> np.ndarray:
    """Return the images, uint8 (N, image_size, image_size, channels), of latents (N, latent_dim + classes)."""
    batches = [generator(latents[start : start + 256], training=False) for start in range(0, len(latents), 256)]
    return pictures.from_signed(np.concatenate(batches))


def spherical_walk(start, end, count: int) -> np.ndarray:
    """Return `count` latents along the great circle from start to end, each (latent_dim,), start included, end not.

    A straight line would pass near zero, where no latent of training ever was (White 2016, arXiv:1609.04468).
    """
    cosine = np.dot(start, end) / (np.linalg.norm(start) * np.linalg.norm(end))
    angle = np.arccos(np.clip(cosine, -1.0, 1.0))
    steps = np.linspace(0.0, 1.0, count, endpoint=False)[:, None]
    return (np.sin((1.0 - steps) * angle) * start + np.sin(steps * angle) * end) / np.sin(angle)


def draw_latents(config: Config, labels, classes: int, seed: int) -> np.ndarray:
    """Draw standard normal latents, each with its label appended: (len(labels), latent_dim + classes)."""
    latents = np.random.default_rng(seed).standard_normal((len(labels), config.latent_dim), np.float32)
    return with_classes(latents, labels, classes).numpy()


def look_for_trouble(run: runs.Run, images: np.ndarray) -> None:
    """Tell the user, once each, of the two ways in which a GAN fails while its losses look harmless."""
    if run.metrics.get("discriminator_loss", 1.0) < 0.02:
        run.warn(
            "discriminator wins",
            "the discriminator's loss is near zero: it tells all images apart, and the generator learns nothing "
            "from it; a smaller --learning_rate or more pictures may help",
        )
    if run.metrics and images.std(axis=0).mean() < 2.0:
        run.warn(
            "mode collapse",
            "the samples are all alike: mode collapse; another --seed or a smaller --learning_rate may help",
        )


def train(config: Config) -> dict[str, float]:
    """Train a run, from its start or from where it was interrupted, and return its last row of metrics."""
    device = devices.setup(config)
    data = datasets.load(config.data, config.image_size, channels={"auto": 0, "grey": 1, "rgb": 3}[config.colors])
    if config.conditional and not data.class_names:
        raise cli.UserError(f"--conditional: {data.name} has no classes; put each class into a folder of its own")
    classes = len(data.class_names) if config.conditional else 0

    with device.strategy.scope():
        generator = build_generator(config, data.channels, classes)
        averaged_generator = build_generator(config, data.channels, classes)
        discriminator = build_discriminator(config, data.channels, classes)
        generator_optimizer = keras.optimizers.Adam(config.learning_rate, beta_1=0.5)
        discriminator_optimizer = keras.optimizers.Adam(config.learning_rate, beta_1=0.5)
        generator_optimizer.build(generator.trainable_variables)
        discriminator_optimizer.build(discriminator.trainable_variables)
        averaged_generator.set_weights(generator.get_weights())

    train_step = device.compile(
        make_train_step(generator, discriminator, generator_optimizer, discriminator_optimizer, config, classes)
    )
    average_step = make_average_step(averaged_generator, generator, config.average_decay)
    row_names = data.class_names if config.conditional else ()
    grid_labels = np.repeat(np.arange(classes or GRID_COLUMNS), GRID_COLUMNS)
    latents = draw_latents(config, grid_labels, classes, config.seed)  # the same for every grid of the run

    def grid():
        images = sample(averaged_generator, latents)
        look_for_trouble(run, images)
        return pictures.grid(images, GRID_COLUMNS, row_names)

    with runs.Run(
        config,
        device,
        data,
        default_steps=DEFAULT_STEPS,
        generator=generator,
        averaged_generator=averaged_generator,
        discriminator=discriminator,
        generator_optimizer=generator_optimizer,
        discriminator_optimizer=discriminator_optimizer,
    ) as run:
        for epoch in run.epochs():
            for pixels, labels in run.batches(epoch):
                if run.show_is_due:
                    run.show(grid())
                run.log(train_step(pixels, labels, run.step))
                average_step(run.step)
        run.finish(grid(), generator=averaged_generator, discriminator=discriminator)
    return run.metrics


def generate(config: Config) -> None:
    """Write samples, or a walk between latents, of the run in `config.run` into its folder generated/."""
    keras.utils.set_random_seed(config.seed)
    data = runs.data_of(config.run)
    class_names = data["class_names"] if config.conditional else []
    if config.label and config.label not in class_names:
        known = ", ".join(class_names) or "none, as it was trained without --conditional"
        raise cli.UserError(f"--label {config.label}: the run's classes are: {known}")
    chosen = [class_names.index(config.label)] if config.label else np.arange(max(len(class_names), 1))
    generator = build_generator(config, data["channels"], len(class_names))
    runs.restore(config.run, averaged_generator=generator)
    folder = runs.generated_folder(config.run)

    if config.sample:
        labels = np.resize(chosen, config.sample)
        images = sample(generator, draw_latents(config, labels, len(class_names), config.seed))
        pictures.save_png(folder / "grid.png", pictures.grid(images, int(np.ceil(np.sqrt(config.sample)))))
        runs.save_samples(folder, images, labels if class_names else None)
    if config.interpolate:
        walkers, stations, steps = 16, 4, 16
        labels = np.resize(chosen, walkers)
        latents = draw_latents(config, np.tile(labels, stations), len(class_names), config.seed)
        latents = latents[:, : config.latent_dim].reshape(stations, walkers, config.latent_dim)
        walks = [
            np.concatenate([spherical_walk(path[k], path[(k + 1) % stations], steps) for k in range(stations)])
            for path in latents.transpose(1, 0, 2)
        ]
        walks = np.stack(walks, axis=1).astype(np.float32)  # (stations * steps, walkers, latent_dim)
        frames = [sample(generator, with_classes(latents, labels, len(class_names)).numpy()) for latents in walks]
        pictures.save_gif(folder / "walk.gif", [pictures.grid(images, 4) for images in frames])
        first_walks = np.stack(frames[: steps + 1], axis=1)[:8]  # (8, steps + 1, height, width, channels)
        pictures.save_png(folder / "walk.png", pictures.grid(np.concatenate(first_walks), steps + 1))
    print(f"written to {folder}")


@cli.one_line_errors
def main(argv=None):
    """Run the command line `argv`, by default the process's own."""
    config = runs.configure(Config, argv, __doc__)
    if config.uses_trained_run:
        generate(config)
    else:
        train(config)


if __name__ == "__main__":
    main()
