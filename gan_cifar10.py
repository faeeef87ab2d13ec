"""A colour GAN: two networks compete, and one of them learns to make small photographs of animals and vehicles.

The generator maps random numbers, the latents, to images; the discriminator maps an image to a number, the logit, high
if it looks real. Each is trained against the other until the generator's images pass for real.

Papers: Radford, Metz and Chintala 2016 (DCGAN, arXiv:1511.06434); Miyato et al. 2018 (spectral normalisation, hinge
loss and residual networks, arXiv:1802.05957). docs/gan_cifar10.md lists what differs from them, and why.

    python gan_cifar10.py                                      train on CIFAR-10: half an hour on a laptop's CPU
    python gan_cifar10.py --conditional                        with classes: 10 to 20 minutes, clearer pictures
    python gan_cifar10.py --sample 100 --label frog            new frogs, from a run with classes
    python gan_cifar10.py --data PATH --image_size 64 --flip   train on your own pictures
"""

import dataclasses
import math
from typing import Annotated, Literal

import common.environment  # noqa: F401 - first: it sets what TensorFlow reads at its import

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from blocks.adam import Adam
from blocks.augmentation import augment, mirror
from blocks.averaging import update_average
from blocks.classes import append_one_hot, class_scale_and_offset, classification_loss, projection_logit
from blocks.dropout import Dropout, as_keras, masks_of
from blocks.gap_aware import gap_aware_factor
from blocks.gradient_penalties import LAZY_STEPS, lazily, r1_penalty
from blocks.image_sizes import start_size
from common import cli, datasets, devices, flags, generated, latent_space, pictures, runs, saved_runs
from evaluation import collapse

GRID_COLUMNS = 10
DEFAULT_STEPS = 30_000
CONDITIONAL_STEPS = 10_000  # with many more, all images of a class become the same (docs/gan_cifar10.md)
FULL_RATE_STEPS = 15_000  # after three times as many at the full rate, the generator cycles instead of improving
IDEAL_LOSS = {"non_saturating": 2 * math.log(2), "hinge": 2.0}  # of a discriminator that guesses: its logits are 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(cli.PictureConfig):
    """Settings of gan_cifar10.py; where ours differ, the help gives the papers'."""

    data: Annotated[str, flags.NamesData] = "auto"
    """auto (CIFAR-10, or patches of bundled photographs if unavailable), cifar10, patches, or a folder."""
    image_size: flags.Positive = 32
    """Side of the square images in pixels: 4 to 7 times 4, 8, 16 … (32, 48, 64, 96, 128 among them)."""
    architecture: Literal["dcgan", "resnet"] = "dcgan"
    """Plain convolutions as in DCGAN, or the slower residual blocks of Miyato et al."""
    loss: Literal["non_saturating", "hinge"] = "non_saturating"
    """Loss of both networks: DCGAN's, or that of Miyato et al."""
    normalization: Literal["batch", "spectral", "none"] = "batch"
    """Discriminator: batch normalisation as in DCGAN, spectral normalisation as in Miyato et al., or none."""
    dropout: Annotated[float, flags.Between(0.0, 0.9)] = 0.3
    """Fraction of activations set to 0 at random in the discriminator, except in its first layer; the papers' 0."""
    gradient_penalty: Annotated[
        float,
        flags.Between(0.0, 1000.0),
        flags.Excludes("normalization=batch", reason="it mixes the images' gradients; use spectral or none"),
    ] = 0.0
    """Weight of the penalty on the discriminator's gradient at real images; Mescheder et al. 2018 use 10."""
    balance: Annotated[float, flags.Between(0.0, 1.0)] = 0.75
    """Slow the discriminator down when its loss falls below this fraction of a guessing one's; 0 never does."""
    flip: bool = False
    """Mirror half of the real images at random; doubles a small collection in which left and right are alike."""
    augment: bool = False
    """Recolour, shift and cut all images the discriminator sees; for fewer than a few thousand pictures."""
    conditional: bool = False
    """Give both networks the class of each image, so that it can be chosen when sampling."""
    label: Annotated[str, flags.Changeable, flags.Needs("sample", "interpolate")] = ""
    """The class to draw, from a run trained with --conditional."""
    epochs: Annotated[flags.Count, flags.TrainingOnly] = 0
    """Passes over the data; 0 for 30,000 steps, 20 epochs of CIFAR-10 (with --conditional 10,000, 7 epochs)."""
    batch_size: flags.Positive = 32
    """Images per step; DCGAN's 128, Miyato et al.'s 64."""
    latent_dim: flags.Positive = 64
    """Latents per image; DCGAN's 100."""
    generator_width: flags.Positive = 64
    """Channels of the generator's last hidden layer, twice as many in those before; DCGAN's 128."""
    discriminator_width: flags.Positive = 32
    """Channels of the discriminator's first layer, doubled in each of the next two; DCGAN's 64."""
    learning_rate: Annotated[float, flags.Between(1e-7, 1.0)] = 6e-4
    """Adam's step size for both networks; the papers' 2e-4."""
    schedule: Literal["falling", "constant"] = "falling"
    """Learning rate: falling as 1 / step from step 15,000 and to 0 over the second half, or DCGAN's, constant."""
    average_decay: Annotated[float, flags.Between(0.0, 0.99999)] = 0.999
    """Decay of the moving average of the generator, which is sampled; 0 samples the last weights, as the papers."""


def build_generator(config: Config, channels: int, classes: int) -> keras.Model:
    """Map latents (batch, latent_dim + classes) to images (batch, image_size, image_size, channels) in [-1, 1]."""
    size, doublings = start_size(config.image_size, least_doublings=2)
    widest = 2 * config.generator_width
    widths = [widest] * (doublings - 1) + [config.generator_width]  # at each resolution; CIFAR-10: 4, 8, 16
    latents = keras.Input((config.latent_dim + classes,))
    one_hot = latents[:, config.latent_dim :] if classes else None  # the class, appended to the latents
    x = layers.Dense(size * size * widths[0], use_bias=False)(latents)
    x = layers.Reshape((size, size, widths[0]))(x)  # CIFAR-10: (4, 4, 128)
    if config.architecture == "dcgan":
        x = activation(batch_normalization(x, one_hot))
        for width in widths[1:]:
            x = layers.Conv2DTranspose(width, 4, strides=2, padding="same", use_bias=False)(x)
            x = activation(batch_normalization(x, one_hot))  # (8, 8, 128), (16, 16, 64)
        images = layers.Conv2DTranspose(channels, 4, strides=2, padding="same", activation="tanh", dtype="float32")(x)
    else:
        for width in widths:
            x = upsampling_block(x, one_hot, width)  # (8, 8, 128), (16, 16, 128), (32, 32, 64)
        x = activation(batch_normalization(x, one_hot))
        images = layers.Conv2D(channels, 3, padding="same", activation="tanh", dtype="float32")(x)
    return keras.Model(latents, images, name="generator")


def build_discriminator(config: Config, channels: int, classes: int) -> keras.Model:
    """Map images (batch, image_size, image_size, channels) in [-1, 1] to logits (batch, 1 + classes).

    All classes share the first; adding the logit of a class gives the one that is high for real images of that class.
    """
    width, widest = config.discriminator_width, 4 * config.discriminator_width
    images = keras.Input((config.image_size, config.image_size, channels))
    x = constrained(layers.Conv2D(width, 4, strides=2, padding="same"), config)(images)  # CIFAR-10: (16, 16, 32)
    x = activation(x) if config.architecture == "dcgan" else x
    while x.shape[1] > 7:
        width = min(2 * width, widest)  # (8, 8, 64), (4, 4, 128)
        if config.architecture == "dcgan":
            x = constrained(layers.Conv2D(width, 4, strides=2, padding="same"), config)(x)
            x = activation(normalized(x, config))
        else:
            x = downsampling_block(x, width, config)
        x = Dropout(config.dropout)(x)
    x = activation(x) if config.architecture == "resnet" else x
    logits = constrained(layers.Dense(1 + classes, dtype="float32"), config)(layers.Flatten()(x))
    return keras.Model(images, logits, name="discriminator")


def upsampling_block(x, one_hot, width: int):
    """Double the resolution of (batch, height, width, channels) with a residual block (Miyato et al., figure 8)."""
    y = layers.UpSampling2D()(activation(batch_normalization(x, one_hot)))
    y = layers.Conv2D(width, 3, padding="same", use_bias=False)(y)
    y = layers.Conv2D(width, 3, padding="same")(activation(batch_normalization(y, one_hot)))
    shortcut = x if x.shape[-1] == width else layers.Conv2D(width, 1)(x)
    return y + layers.UpSampling2D()(shortcut)


def downsampling_block(x, width: int, config: Config):
    """Halve the resolution of (batch, height, width, channels) with a residual block (Miyato et al., figure 8)."""
    y = constrained(layers.Conv2D(width, 3, padding="same"), config)(activation(normalized(x, config)))
    y = constrained(layers.Conv2D(width, 3, padding="same"), config)(activation(normalized(y, config)))
    shortcut = constrained(layers.Conv2D(width, 1), config)(x)
    return layers.AveragePooling2D(2)(y + shortcut)


def constrained(layer, config: Config):
    """With `--normalization spectral`, constrain a layer to a spectral norm of 1 (Miyato et al., section 2.1)."""
    # In float32, because in mixed precision the wrapper would round the weights that the optimizer updates.
    return layers.SpectralNormalization(layer, dtype="float32") if config.normalization == "spectral" else layer


def normalized(x, config: Config):
    """With `--normalization batch`, apply batch normalisation in the discriminator."""
    return batch_normalization(x) if config.normalization == "batch" else x


def activation(x):
    """LeakyReLU in both networks; DCGAN has ReLU in the generator, the residual networks of Miyato et al. in both."""
    return layers.LeakyReLU(negative_slope=0.2)(x)


def batch_normalization(x, one_hot=None):
    """Batch normalisation over all devices; class-conditional if one_hot, (batch, classes), is given."""
    x = layers.BatchNormalization(momentum=0.9, synchronized=True)(x)  # with 0.99 its statistics lag too far
    return x if one_hot is None else class_scale_and_offset(x, one_hot)


def generator_loss(loss: str, fake_logits):
    """Return the generator's loss, a scalar, given the logits (batch,) of its images."""
    # z: latents; D: the sigmoid of the logit, so that -log D = softplus(-logit) and -log(1 - D) = softplus(logit).
    if loss == "non_saturating":  # -log D(G(z)) (Goodfellow et al. 2014, section 3)
        return tf.nn.compute_average_loss(tf.nn.softplus(-fake_logits))
    return tf.nn.compute_average_loss(-fake_logits)  # hinge: here D is the logit (Miyato et al. 2018, equation 17)


def discriminator_loss(loss: str, real_logits, fake_logits):
    """Return the discriminator's loss, a scalar, given the logits (batch,) of real and of generated images."""
    if loss == "non_saturating":  # -log D(x) - log(1 - D(G(z))) (Goodfellow et al. 2014, equation 1, negated)
        return tf.nn.compute_average_loss(tf.nn.softplus(-real_logits) + tf.nn.softplus(fake_logits))
    # hinge (Miyato et al. 2018, equation 16, negated)
    return tf.nn.compute_average_loss(tf.nn.relu(1.0 - real_logits) + tf.nn.relu(1.0 + fake_logits))


def learning_rate(config: Config, step, progress):
    """Return the learning rate of a step; progress: the finished fraction of the training, float64, 0 to 1."""
    if config.schedule == "constant":
        return config.learning_rate
    fall = tf.minimum(FULL_RATE_STEPS / tf.maximum(step, 1), 1.0)
    return config.learning_rate * fall * tf.minimum(2.0 * (1.0 - progress), 1.0)


def build(config: Config, channels: int, classes: int) -> dict:
    """Return what is trained and saved, by name: networks, averaged generator, optimizers, recent loss."""
    generator, averaged_generator = (build_generator(config, channels, classes) for _ in range(2))
    discriminator = build_discriminator(config, channels, classes)
    averaged_generator.set_weights(generator.get_weights())
    generator_optimizer = Adam(config.learning_rate, beta_1=0.5, beta_2=0.99)
    discriminator_optimizer = Adam(config.learning_rate, beta_1=0.5, beta_2=0.99)
    generator_optimizer.build(generator.trainable_variables)
    discriminator_optimizer.build(discriminator.trainable_variables)
    aggregation = tf.VariableAggregation.ONLY_FIRST_REPLICA  # of the discriminator's recent loss
    return {
        "generator": generator,
        "averaged_generator": averaged_generator,
        "discriminator": discriminator,
        "generator_optimizer": generator_optimizer,
        "discriminator_optimizer": discriminator_optimizer,
        "recent_loss": tf.Variable(IDEAL_LOSS[config.loss], trainable=False, aggregation=aggregation),
    }


def make_train_step(
    generator,
    averaged_generator,
    discriminator,
    generator_optimizer,
    discriminator_optimizer,
    recent_loss,
    config: Config,
    classes: int,
):
    """Return the training step: it updates both networks once, from one batch of generated images, and returns losses.

    Its arguments: pixels, uint8 (batch, image_size, image_size, channels); labels, int32 (batch,); the step's number;
    the fraction of the training that is over, float64.
    """

    def train_step(pixels, labels, step, progress):
        batch_size = pixels.shape[0]
        real_images = pictures.to_signed(pixels)
        if config.flip:
            real_images = mirror(real_images, devices.uniform((batch_size, 1, 1, 1), config.seed, step, stream=1))
        latents = devices.normal((batch_size, config.latent_dim), config.seed, step)
        latents = append_one_hot(latents, labels, classes)

        def score(images, stream):  # logits for each image's own class, (batch,), and for all classes
            if config.augment:
                color = devices.uniform((batch_size, 3, 1, 1, 1), config.seed, step, stream)
                place = devices.uniform((batch_size, 4), config.seed, step, stream + 1)
                images = augment(images, color, place)
            with masks_of(config.seed, step, stream=10 * stream):
                logits = discriminator(images, training=True)
            return projection_logit(logits, labels), logits[:, 1:]

        with tf.GradientTape() as generator_tape, tf.GradientTape() as discriminator_tape:
            fake_images = generator(latents, training=True)
            real_logits, class_logits = score(real_images, stream=2)
            fake_logits, _ = score(fake_images, stream=4)
            losses = {
                "generator_loss": generator_loss(config.loss, fake_logits),
                "discriminator_loss": discriminator_loss(config.loss, real_logits, fake_logits),
            }
            discriminator_objective = losses["discriminator_loss"]
            if classes:
                losses["classification_loss"] = classification_loss(class_logits, labels)
                discriminator_objective += losses["classification_loss"]
            if config.gradient_penalty:
                penalty = lazily(lambda: r1_penalty(lambda images: score(images, stream=6)[0], real_images), step)
                losses["gradient_penalty"] = penalty
                discriminator_objective += config.gradient_penalty * penalty

        generator_optimizer.learning_rate.assign(learning_rate(config, step, progress))
        gradients = generator_tape.gradient(losses["generator_loss"], generator.trainable_variables)
        generator_optimizer.apply(gradients, generator.trainable_variables)
        # The mean over about the last 50 steps and over all devices.
        recent_loss.assign(0.98 * recent_loss + 0.02 * devices.all_reduce(losses["discriminator_loss"]))
        factor = gap_aware_factor(recent_loss, IDEAL_LOSS[config.loss], config.balance)
        discriminator_optimizer.learning_rate.assign(generator_optimizer.learning_rate * factor)
        gradients = discriminator_tape.gradient(discriminator_objective, discriminator.trainable_variables)
        discriminator_optimizer.apply(gradients, discriminator.trainable_variables)
        update_average(averaged_generator.variables, generator.variables, config.average_decay, step)
        return losses

    return train_step


def sample(generator, latents) -> np.ndarray:
    """Generate images, uint8 (N, image_size, image_size, channels), from latents (N, latent_dim + classes)."""
    return pictures.from_signed(devices.predict(generator, latents))


def train(config: Config) -> dict[str, float]:
    """Train a run, from its start or from where it was interrupted, and return its last row of metrics."""
    start_size(config.image_size, least_doublings=2)  # raises an error now rather than after all pictures are read
    data = datasets.load(config.data, config.image_size, channels=config.channels, full="cifar10")
    device = devices.setup(config, side_by_side=2)  # the passes through the discriminator
    classes = data.class_count(config)  # 0 without --conditional
    data.warn_if_few([flag for flag in ("augment", "flip") if not getattr(config, flag)])
    with device.scope():
        networks = build(config, data.channels, classes)
    averaged_generator, discriminator = networks["averaged_generator"], networks["discriminator"]
    train_step = device.compile(make_train_step(**networks, config=config, classes=classes))
    grid_labels = np.repeat(np.arange(classes or GRID_COLUMNS), GRID_COLUMNS)
    latents = latent_space.draw(len(grid_labels), config.latent_dim, config.seed)  # the same in every grid of the run
    latents = append_one_hot(latents, grid_labels, classes)

    def grid():
        images = sample(averaged_generator, latents)
        labels = (grid_labels, data.labels) if classes else None
        run.warn(collapse.signs_of_failure(images, data.images, run.metrics, labels))
        return pictures.grid(images, GRID_COLUMNS, data.class_names if classes else ())

    default_steps, lazy = CONDITIONAL_STEPS if classes else DEFAULT_STEPS, {"gradient_penalty": LAZY_STEPS}
    with runs.Run(config, device, data, default_steps, lazy=lazy, **networks) as run:
        for epoch in run.epochs():
            for pixels, labels, step in run.batches(epoch):
                if run.show_is_due:
                    run.show(grid())
                run.log(train_step(pixels, labels, step, run.progress))
        run.finish(grid(), generator=averaged_generator, discriminator=as_keras(discriminator))
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
