"""A colour GAN that is worth looking at on a laptop: small photographs of animals and vehicles that nobody took.

The generator turns random numbers, the latents, into images; the discriminator sees real and generated images and
gives each a logit, high for real. Each is trained against the other until the generator's images pass.

Papers: Radford, Metz and Chintala 2016 (DCGAN, arXiv:1511.06434); Miyato et al. 2018 (spectral normalisation and its
residual networks, arXiv:1802.05957); Miyato and Koyama 2018 (classes, arXiv:1802.05637); Zhao et al. 2020
(differentiable augmentation, arXiv:2006.10738). What differs from them, and why, stands in docs/gan_cifar10.md.

    python gan_cifar10.py                                      train on CIFAR-10
    python gan_cifar10.py --conditional                        with classes; then --sample 100 --label frog
    python gan_cifar10.py --data PATH --image_size 64 --flip   train on your own pictures
"""

import dataclasses
import math
from typing import Annotated, Literal

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from common import cli, datasets, devices, latent_space, pictures, runs, stored

GRID_COLUMNS = 10
DEFAULT_STEPS = 30_000
CONDITIONAL_STEPS = 10_000  # with many more a class becomes a single image (docs/gan_cifar10.md)
LARGE_STEPS = 15_000  # after three times as many of this size the generator goes round in circles
FEW_PICTURES = 1_000
PENALTY_EVERY = 16  # steps: lazy regularisation (Karras et al. 2020, arXiv:1912.04958, section 3.1)
GUESSING = {"non_saturating": 2 * math.log(2), "hinge": 2.0}  # what a discriminator loses that cannot tell


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(cli.PictureConfig):
    """Settings of gan_cifar10.py."""

    data: Annotated[str, cli.OfData] = "auto"
    """auto (CIFAR-10, or patches of two photographs when it cannot be had), cifar10, patches, or a folder."""
    image_size: cli.Positive = 32
    """Side of the square images in pixels: 4, 5, 6 or 7 times 4, 8, 16 … (32, 48, 64, 96, 128)."""
    architecture: Literal["dcgan", "resnet"] = "dcgan"
    """Plain convolutions, or the slower residual blocks of Miyato et al."""
    loss: Literal["non_saturating", "hinge"] = "non_saturating"
    """What the two networks play for."""
    normalization: Literal["batch", "spectral", "none"] = "batch"
    """In the discriminator: batch normalisation, spectral normalisation, or none (with --gradient_penalty)."""
    dropout: Annotated[float, cli.Between(0.0, 0.9)] = 0.3
    """Share of its values that the discriminator leaves out of each layer but the first, so that it does not win."""
    gradient_penalty: Annotated[float, cli.Between(0.0, 1000.0)] = 0.0
    """Weight of the penalty on the discriminator's gradient at real images (Mescheder et al. 2018: 10)."""
    balance: Annotated[float, cli.Between(0.0, 1.0)] = 0.75
    """Share of what guessing loses below which the discriminator's steps shrink, lest it win; 0 for none."""
    flip: bool = False
    """Mirror half of the real images, where left and right make no difference: doubles a small collection."""
    augment: bool = False
    """Shift, recolour and cut all images that the discriminator sees: for fewer than some thousand pictures."""
    conditional: bool = False
    """Tell both networks the class of each image, so that it can be chosen when sampling."""
    label: Annotated[str, cli.MayChange] = ""
    """With --sample or --interpolate: the class to draw, for a run that was trained with --conditional."""
    epochs: Annotated[cli.Count, cli.OfTraining] = 0
    """Passes over the data; 0 for as many as make 30,000 steps: 20 over CIFAR-10; with --conditional 10,000: 7."""
    batch_size: cli.Positive = 32
    """Images in a step; DCGAN's 128, Miyato et al.'s 64."""
    latent_dim: cli.Positive = 64
    """Numbers from which an image is made."""
    generator_width: cli.Positive = 64
    """Channels of the generator's last hidden layer, twice as many at lower resolutions."""
    discriminator_width: cli.Positive = 32
    """Channels of the discriminator's first layer; twice, then four times as many at lower resolutions."""
    learning_rate: Annotated[float, cli.Between(1e-7, 1.0)] = 6e-4
    """Adam's step size for both networks; DCGAN and Miyato et al. take 2e-4."""
    schedule: Literal["falling", "constant"] = "falling"
    """How the step size falls: as 1 / step after 15,000 steps, and to zero in the training's second half; or never."""
    average_decay: Annotated[float, cli.Between(0.0, 0.99999)] = 0.999
    """How slowly the averaged generator, from which we sample, follows the trained one; 0 for no average."""


def build_generator(config: Config, channels: int, classes: int) -> keras.Model:
    """Map latents (batch, latent_dim + classes) to images (batch, image_size, image_size, channels) in [-1, 1]."""
    size, doublings = start_size(config.image_size)
    widest = 2 * config.generator_width
    widths = [widest] * (doublings - 1) + [config.generator_width]  # by resolution, from the lowest; CIFAR-10: 4, 8, 16
    latents = keras.Input((config.latent_dim + classes,))
    one_hot = latents[:, config.latent_dim :] if classes else None
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


def upsampling_block(x, one_hot, width: int):
    """Double the resolution of (batch, height, width, channels) by a residual block (Miyato et al., figure 8)."""
    y = layers.UpSampling2D()(activation(batch_normalization(x, one_hot)))
    y = layers.Conv2D(width, 3, padding="same", use_bias=False)(y)
    y = layers.Conv2D(width, 3, padding="same")(activation(batch_normalization(y, one_hot)))
    shortcut = x if x.shape[-1] == width else layers.Conv2D(width, 1)(x)
    return y + layers.UpSampling2D()(shortcut)


def build_discriminator(config: Config, channels: int, classes: int) -> keras.Model:
    """Map images (batch, image_size, image_size, channels) in [-1, 1] to logits (batch, 1 + classes).

    The first is for all images; what the others add to it says whether this is a real image of that class.
    """

    def constrained(layer):
        # In float32: in mixed precision the layer would round the weights that the optimizer changes.
        return layers.SpectralNormalization(layer, dtype="float32") if config.normalization == "spectral" else layer

    def normalized(x):
        return batch_normalization(x) if config.normalization == "batch" else x

    def downsampling_block(x, width: int):
        """Halve the resolution by a residual block."""
        y = constrained(layers.Conv2D(width, 3, padding="same"))(activation(normalized(x)))
        y = constrained(layers.Conv2D(width, 3, padding="same"))(activation(normalized(y)))
        shortcut = constrained(layers.Conv2D(width, 1))(x)
        return layers.AveragePooling2D(2)(y + shortcut)

    width, widest = config.discriminator_width, 4 * config.discriminator_width
    images = keras.Input((config.image_size, config.image_size, channels))
    x = constrained(layers.Conv2D(width, 4, strides=2, padding="same"))(images)  # CIFAR-10: (16, 16, 32)
    x = activation(x) if config.architecture == "dcgan" else x
    while x.shape[1] > 7:
        width = min(2 * width, widest)  # (8, 8, 64), (4, 4, 128)
        if config.architecture == "dcgan":
            x = constrained(layers.Conv2D(width, 4, strides=2, padding="same"))(x)
            x = activation(normalized(x))
        else:
            x = downsampling_block(x, width)
        x = layers.Dropout(config.dropout)(x)
    x = activation(x) if config.architecture == "resnet" else x
    logits = constrained(layers.Dense(1 + classes, dtype="float32"))(layers.Flatten()(x))
    return keras.Model(images, logits, name="discriminator")


def start_size(image_size: int) -> tuple[int, int]:
    """Return the resolution, 4 to 7, at which the generator starts, and how often it doubles to `image_size`."""
    size, doublings = image_size, 0
    while size > 7 and size % 2 == 0:
        size, doublings = size // 2, doublings + 1
    if not 4 <= size <= 7 or doublings < 2:
        raise cli.UserError(f"--image_size {image_size}: must be 4, 5, 6 or 7 times 4, 8, 16 …: 32, 48, 64, 96 or 128")
    return size, doublings


def activation(x):
    """LeakyReLU in both networks; DCGAN has ReLU in the generator, as have Miyato et al. in both."""
    return layers.LeakyReLU(negative_slope=0.2)(x)


def batch_normalization(x, one_hot=None):
    """Batch normalisation over all replicas; its momentum suits runs of a few thousand steps.

    With classes, one-hot (batch, classes), each adds to the scale and to the offset (Miyato and Koyama 2018,
    arXiv:1802.05637, after Dumoulin et al. 2017, arXiv:1610.07629, equation 5).
    """
    x = layers.BatchNormalization(momentum=0.9, synchronized=True)(x)
    if one_hot is None:
        return x
    one_hot = layers.Reshape((1, 1, one_hot.shape[-1]))(one_hot)  # the same at every place
    scale, offset = (layers.Dense(x.shape[-1], use_bias=False, kernel_initializer="zeros")(one_hot) for _ in range(2))
    return x * (1.0 + scale) + offset


def generator_loss(loss: str, fake_logits):
    """What the generator minimises, given logits (batch,) of its images."""
    values = {
        "non_saturating": lambda: tf.nn.softplus(-fake_logits),  # -log D(G(z)) (Goodfellow et al. 2014, section 3)
        "hinge": lambda: -fake_logits,  # (Miyato et al. 2018, equation 17)
    }
    return tf.nn.compute_average_loss(values[loss]())


def discriminator_loss(loss: str, real_logits, fake_logits):
    """What the discriminator minimises, given logits (batch,) of real and generated images."""
    values = {
        # -log D(x) - log(1 - D(G(z))) (Goodfellow et al. 2014, equation 1)
        "non_saturating": lambda: tf.nn.softplus(-real_logits) + tf.nn.softplus(fake_logits),
        "hinge": lambda: tf.nn.relu(1.0 - real_logits) + tf.nn.relu(1.0 + fake_logits),  # (Miyato et al., equation 16)
    }
    return tf.nn.compute_average_loss(values[loss]())


def classification_loss(class_logits, labels):
    """Return the cross-entropy of real images' classes in nats, given logits (batch, classes).

    What each class adds to the logit of all tells classes apart, too (Odena et al. 2017, arXiv:1610.09585, equation 3).
    """
    return tf.nn.compute_average_loss(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, class_logits))


def gradient_penalty(score, real_images):
    """Return half the squared norm of the gradient of `score`, images to logits, at real images.

    R1 of Mescheder et al. 2018 (arXiv:1801.04406), equation 9.
    """
    with tf.GradientTape() as tape:
        tape.watch(real_images)
        logits = score(real_images)
    squares = tape.gradient(logits, real_images) ** 2
    return tf.nn.compute_average_loss(0.5 * tf.reduce_sum(squares, axis=(1, 2, 3)))


def mirror(images, chance):
    """Mirror, left to right, the images whose chance, uniform (batch, 1, 1, 1), is below a half."""
    return tf.where(chance < 0.5, images[:, :, ::-1], images)


def augment(images, color, place):
    """Recolour, shift and cut images (batch, size, size, channels) in [-1, 1] so that gradients pass through.

    color: uniform (batch, 3, 1, 1, 1); place: uniform (batch, 4). Zhao et al. 2020, section 3.2, with their ranges:
    brightness, saturation and contrast; an eighth of the size up, down, left or right; half of the size cut out.
    """
    size = images.shape[1]
    images += color[:, 0] - 0.5
    grey = tf.reduce_mean(images, axis=-1, keepdims=True)
    images = grey + 2.0 * color[:, 1] * (images - grey)
    mean = tf.reduce_mean(images, axis=(1, 2, 3), keepdims=True)
    images = mean + (0.5 + color[:, 2]) * (images - mean)

    most = size // 8
    shifts = tf.cast(place[:, :2] * (2 * most + 1), tf.int32)  # 0 to 2 * most
    places = shifts[:, :, None] + tf.range(size)  # (batch, 2, size): the rows and columns that are seen
    images = tf.pad(images, [[0, 0], [most, most], [most, most], [0, 0]])
    images = tf.gather(images, places[:, 0], axis=1, batch_dims=1)
    images = tf.gather(images, places[:, 1], axis=2, batch_dims=1)

    middle = place[:, 2:, None] * size  # (batch, 2, 1), of a square with half the size
    inside = tf.abs(tf.range(size, dtype=tf.float32) + 0.5 - middle) < size / 4  # (batch, 2, size)
    cut = inside[:, 0, :, None] & inside[:, 1, None, :]
    return tf.where(cut[..., None], 0.0, images)


def with_classes(latents, labels, classes: int):
    """Append the labels, one-hot, to the latents: (batch, latent_dim + classes)."""
    return tf.concat([latents, tf.one_hot(labels, classes)], axis=-1)


def of_class(logits, labels):
    """Return each image's logit (batch,), given logits (batch, 1 + classes): what all share, and its class's."""
    return logits[:, 0] + tf.reduce_sum(logits[:, 1:] * tf.one_hot(labels, logits.shape[-1] - 1), axis=-1)


def learning_rate(config: Config, step: int, progress: float) -> float:
    """Return the step size of the coming step; progress: how much of the training is over, from 0 to 1."""
    if config.schedule == "constant":
        return config.learning_rate
    return config.learning_rate * min(1.0, LARGE_STEPS / max(step, 1)) * min(1.0, 2.0 * (1.0 - progress))


def restraint(config: Config, recent_loss):
    """Return what the discriminator's step size is multiplied by, from 1 to 0, given its loss over the last steps.

    Where it wins, the generator learns nothing from it; and as it is known what guessing loses, its loss tells by how
    much it wins. After Hazimeh and Ponomareva 2023 (arXiv:2302.00089), with another curve: a square, as far as the loss
    is below `config.balance` times that of guessing.
    """
    if not config.balance:
        return 1.0
    return tf.minimum(1.0, recent_loss / (config.balance * GUESSING[config.loss])) ** 2


def build(config: Config, channels: int, classes: int) -> dict:
    """Return all that is trained and saved, by name: the networks, the averaged generator, the optimizers, and the
    discriminator's loss over the last steps."""
    generator, averaged_generator = (build_generator(config, channels, classes) for _ in range(2))
    discriminator = build_discriminator(config, channels, classes)
    averaged_generator.set_weights(generator.get_weights())
    generator_optimizer, discriminator_optimizer = (
        keras.optimizers.Adam(config.learning_rate, beta_1=0.5, beta_2=0.99) for _ in range(2)
    )
    generator_optimizer.build(generator.trainable_variables)
    discriminator_optimizer.build(discriminator.trainable_variables)
    return {
        "generator": generator,
        "averaged_generator": averaged_generator,
        "discriminator": discriminator,
        "generator_optimizer": generator_optimizer,
        "discriminator_optimizer": discriminator_optimizer,
        "recent_loss": tf.Variable(
            GUESSING[config.loss], trainable=False, aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA
        ),
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
    """Return the step, which updates both networks once, from the same images, and returns their losses.

    Its arguments: pixels, uint8 (batch, image_size, image_size, channels); labels, int32 (batch,); the step's number.
    """

    def train_step(pixels, labels, step):
        batch_size = pixels.shape[0]
        real_images = pictures.to_signed(pixels)
        if config.flip:
            real_images = mirror(real_images, devices.uniform((batch_size, 1, 1, 1), config.seed, step, stream=1))
        latents = devices.normal((batch_size, config.latent_dim), config.seed, step)
        latents = with_classes(latents, labels, classes)

        def score(images, stream):  # logits of each image's own class (batch,), and of all classes (batch, classes)
            if config.augment:
                color = devices.uniform((batch_size, 3, 1, 1, 1), config.seed, step, stream)
                place = devices.uniform((batch_size, 4), config.seed, step, stream + 1)
                images = augment(images, color, place)
            logits = discriminator(images, training=True)
            return of_class(logits, labels), logits[:, 1:]

        with tf.GradientTape() as generator_tape, tf.GradientTape() as discriminator_tape:
            fake_images = generator(latents, training=True)
            (real_logits, class_logits), (fake_logits, _) = score(real_images, 2), score(fake_images, 4)
            losses = {
                "generator_loss": generator_loss(config.loss, fake_logits),
                "discriminator_loss": discriminator_loss(config.loss, real_logits, fake_logits),
            }
            discriminator_objective = losses["discriminator_loss"]
            if classes:
                losses["classification_loss"] = classification_loss(class_logits, labels)
                discriminator_objective += losses["classification_loss"]
            if config.gradient_penalty:
                penalty = tf.cond(
                    step % PENALTY_EVERY == 0,
                    lambda: PENALTY_EVERY * gradient_penalty(lambda images: score(images, 6)[0], real_images),
                    lambda: 0.0,
                )
                losses["gradient_penalty"] = penalty
                discriminator_objective += config.gradient_penalty * penalty

        gradients = generator_tape.gradient(losses["generator_loss"], generator.trainable_variables)
        generator_optimizer.apply(gradients, generator.trainable_variables)
        # Over about the last 50 steps.
        recent_loss.assign(0.98 * recent_loss + 0.02 * devices.whole_sum(losses["discriminator_loss"]))
        rate = generator_optimizer.learning_rate * restraint(config, recent_loss)
        discriminator_optimizer.learning_rate.assign(rate)
        gradients = discriminator_tape.gradient(discriminator_objective, discriminator.trainable_variables)
        discriminator_optimizer.apply(gradients, discriminator.trainable_variables)

        # Exponential moving average of the weights (Yazici et al. 2019, arXiv:1806.04498); faster in the beginning,
        # so that the first, useless steps are soon forgotten.
        step = tf.cast(step, tf.float32)
        decay = tf.minimum(config.average_decay, (1.0 + step) / (10.0 + step))
        for average, variable in zip(averaged_generator.variables, generator.variables, strict=True):
            average.assign(decay * average + (1.0 - decay) * variable)
        return losses

    return train_step


def set_learning_rate(networks: dict, config: Config, step, progress: float) -> None:
    """Give the generator's optimizer its step size; the discriminator's is made from it in each step."""
    rate = learning_rate(config, int(step.numpy()), progress)
    networks["generator_optimizer"].learning_rate.assign(rate)


def sample(generator, latents) -> np.ndarray:
    """Return the images, uint8 (N, image_size, image_size, channels), of latents (N, latent_dim + classes)."""
    return pictures.from_signed(devices.in_batches(generator, latents))


def train(config: Config) -> dict[str, float]:
    """Train a run, from its start or from where it was interrupted, and return its last row of metrics."""
    if config.label:
        raise cli.UserError("--label: chooses what --sample or --interpolate draws; give one of them, too")
    if config.gradient_penalty and config.normalization == "batch":
        raise cli.UserError(
            "--gradient_penalty: is on each image's own gradient, which --normalization batch mixes with the others'; "
            "take --normalization spectral or none"
        )
    device = devices.setup(config)
    start_size(config.image_size)  # tells now if it does not work, before pictures are read
    data = datasets.load(config.data, config.image_size, channels=config.channels, full="cifar10")
    if config.conditional and not data.class_names:
        raise cli.UserError(f"--conditional: {data.name} has no classes; put each class into a folder of its own")
    if len(data.images) < FEW_PICTURES:
        print(
            f"{len(data.images)} pictures are few: below {FEW_PICTURES:,} the discriminator learns them by heart, and "
            "samples stop improving; --augment and --flip put that off"
        )
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

    with runs.Run(config, device, data, CONDITIONAL_STEPS if classes else DEFAULT_STEPS, **networks) as run:
        for epoch in run.epochs():
            for pixels, labels in run.batches(epoch):
                if run.show_is_due:
                    run.show(grid())
                set_learning_rate(networks, config, run.step, run.progress)
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
