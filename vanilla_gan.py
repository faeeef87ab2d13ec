"""The first GAN: two multilayer perceptrons compete, and one of them learns to draw digits.

The generator maps random numbers, the latents, to images; the discriminator maps an image, real or generated, to a
number, the logit: the higher, the more real the image looks. Each is trained against the other until the generator's
images pass for real. The paper's own losses come first; flags add other losses and tricks of later papers.

Paper: Goodfellow et al., "Generative Adversarial Nets", 2014 (arXiv:1406.2661). docs/vanilla_gan.md lists what differs
from it, and why, and what each loss and trick changes.

    python vanilla_gan.py                  train on MNIST: first digits within a minute, good ones in nine
    python vanilla_gan.py --loss minimax   the paper's equation 1; the default is its variant that learns faster
    python vanilla_gan.py --evaluate       the paper's measure, log-likelihood under Parzen windows, of the newest run
    python vanilla_gan.py --sample 64      new digits from the newest run
"""

import dataclasses
from typing import Annotated, Literal

import common.environment  # noqa: F401 - first: it sets what TensorFlow reads at its import

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from blocks.adam import Adam
from blocks.adversarial_losses import DISCRIMINATOR_LOSSES, GENERATOR_LOSSES
from blocks.averaging import update_average
from blocks.gradient_penalties import interpolated_penalty, lazily, r1_penalty
from blocks.instance_noise import instance_noise
from common import cli, datasets, devices, flags, generated, latent_space, pictures, runs, saved_runs
from evaluation import collapse, parzen

GRID_COLUMNS = 10
DEFAULT_STEPS = 24_000
WASSERSTEIN_PENALTY = 10.0  # weight of the Wasserstein loss's gradient penalty (Gulrajani et al. 2017, equation 3)
PENALTY_EVERY = 4  # steps between two penalties of the other losses


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(cli.PictureConfig):
    """Settings of vanilla_gan.py; where ours differ, the help gives the paper's."""

    data: Annotated[str, flags.NamesData] = "auto"
    """auto (MNIST, or the bundled small digits if it is unavailable), mnist, digits, or a folder of pictures."""
    image_size: Annotated[flags.Positive, flags.MultipleOf(4, "generator=transposed_conv")] = 28
    """Side of the square images in pixels; a multiple of 4 for --generator transposed_conv."""
    generator: Literal["mlp", "transposed_conv"] = "mlp"
    """A multilayer perceptron, or transposed convolutions, as in the paper on CIFAR-10."""
    loss: Literal["minimax", "non_saturating", "least_squares", "hinge", "wasserstein_gp"] = "non_saturating"
    """minimax is the paper's equation 1, non_saturating its variant in section 3; the others are by later authors."""
    label_smoothing: Annotated[
        float,
        flags.Between(0.0, 0.5),
        flags.Excludes("loss=hinge", "loss=wasserstein_gp", reason="that loss has no labels to smooth"),
    ] = 0.0
    """One-sided label smoothing: the discriminator's target for real images is 1 minus this."""
    instance_noise: Annotated[float, flags.Between(0.0, 2.0)] = 0.0
    """Standard deviation of noise on every image that the discriminator sees; it fades to 0."""
    instance_noise_steps: Annotated[flags.Positive, flags.Needs("instance_noise")] = 10_000
    """Steps until the instance noise has faded."""
    gradient_penalty: Annotated[float, flags.Between(0.0, 1000.0)] = 1.0
    """Weight of R1, the gradient penalty at real images (Mescheder et al. 2018: 10); wasserstein_gp has its own, 10."""
    latents: Literal["normal", "sphere", "uniform"] = "normal"
    """Distribution of the latents: normal, on a sphere, or uniform in a cube, as in the paper."""
    latent_dim: flags.Positive = 32
    """Latents per image; the authors' code has 100."""
    width: flags.Positive = 512
    """Units of each hidden layer of the perceptrons; the authors' code has 1,200, and 240 maxout units."""
    epochs: Annotated[flags.Count, flags.TrainingOnly] = 0
    """Passes over the data; 0 for 24,000 steps, 26 epochs of MNIST."""
    batch_size: flags.Positive = 64
    """Images per step; the authors' code has 100."""
    learning_rate: Annotated[float, flags.Between(1e-7, 1.0)] = 1e-3
    """Adam's step size for both networks; the paper trains with momentum."""
    average_decay: Annotated[float, flags.Between(0.0, 0.99999)] = 0.9997
    """Decay of the moving average of the generator, which is sampled; 0 samples the last weights, as the paper."""
    evaluate: Annotated[bool, flags.UsesRun(reads_data=True)] = False
    """Measure a trained run as the paper did: log-likelihood of the test images under Parzen windows."""


def build_generator(config: Config, channels: int) -> keras.Model:
    """Map latents (batch, latent_dim) to images (batch, image_size, image_size, channels) in [-1, 1]."""
    size, latents = config.image_size, keras.Input((config.latent_dim,))
    if config.generator == "mlp":
        x = latents
        for _ in range(2):
            x = layers.Dense(config.width, use_bias=False)(x)
            x = activation(normalization(x))
        x = layers.Dense(size * size * channels, activation="tanh", dtype="float32")(x)
        images = layers.Reshape((size, size, channels), dtype="float32")(x)  # the default may be bfloat16
    else:
        x = layers.Dense(size // 4 * size // 4 * 64, use_bias=False)(latents)
        x = layers.Reshape((size // 4, size // 4, 64))(x)  # MNIST: (7, 7, 64)
        x = activation(normalization(x))
        x = layers.Conv2DTranspose(32, 4, strides=2, padding="same", use_bias=False)(x)  # MNIST: (14, 14, 32)
        x = activation(normalization(x))
        images = layers.Conv2DTranspose(channels, 4, strides=2, padding="same", activation="tanh", dtype="float32")(x)
    return keras.Model(latents, images, name="generator")


def build_discriminator(config: Config, channels: int) -> keras.Model:
    """Map images (batch, image_size, image_size, channels) in [-1, 1] to logits (batch,).

    No batch normalisation: it would make each logit depend on the whole batch, but a gradient penalty needs the
    gradient of each image on its own (Gulrajani et al. 2017, section 4); and it hides mode collapse.
    """
    images = keras.Input((config.image_size, config.image_size, channels))
    x = layers.Flatten()(images)
    for _ in range(2):
        x = activation(layers.Dense(config.width)(x))
    logits = layers.Reshape((), dtype="float32")(layers.Dense(1, dtype="float32")(x))
    return keras.Model(images, logits, name="discriminator")


def activation(x):
    """LeakyReLU in both networks; the paper has ReLU in the generator and maxout in the discriminator."""
    return layers.LeakyReLU(negative_slope=0.2)(x)


def normalization(x):
    """Batch normalisation over all devices; with Keras's momentum of 0.99 its statistics would lag too far."""
    return layers.BatchNormalization(momentum=0.9, synchronized=True)(x)


def generator_loss(loss: str, fake_logits):
    """Return what the generator minimises, a scalar, given the logits (batch,) of its images.

    D(x), the sigmoid of the logit, is the probability that the discriminator gives to x being real; z are latents and
    G is the generator. So -log D = softplus(-logit) and -log(1 - D) = softplus(logit).
    """
    if loss == "minimax":  # log(1 - D(G(z))), equation 1
        values = -tf.nn.softplus(fake_logits)
    elif loss == "non_saturating":  # -log D(G(z)), section 3: its gradient does not vanish where D(G(z)) is near 0
        values = tf.nn.softplus(-fake_logits)
    else:
        values = GENERATOR_LOSSES[loss](fake_logits)
    return tf.nn.compute_average_loss(values)


def discriminator_loss(loss: str, real_logits, fake_logits, label_smoothing: float = 0.0):
    """Return what the discriminator minimises, a scalar, given the logits (batch,) of real and generated images.

    label_smoothing: with a target t = 1 - label_smoothing for real images, -log D(x) becomes
    -t log D(x) - (1 - t) log(1 - D(x)) (Salimans et al. 2016, arXiv:1606.03498, section 3.4).
    """
    if loss in ("minimax", "non_saturating"):  # -log D(x) - log(1 - D(G(z))), equation 1 negated
        values = tf.nn.softplus(-real_logits) + label_smoothing * real_logits + tf.nn.softplus(fake_logits)
    else:
        values = DISCRIMINATOR_LOSSES[loss](real_logits, fake_logits, label_smoothing)
    return tf.nn.compute_average_loss(values)


def discriminator_penalty(discriminator, real_images, fake_images, step, config: Config):
    """Return the gradient penalty, a scalar: R1 at real images; for wasserstein_gp, between real and generated ones."""

    def score(images):
        return discriminator(images, training=True)

    if config.loss == "wasserstein_gp":
        mix = devices.uniform((real_images.shape[0], 1, 1, 1), config.seed, step, stream=3)
        return interpolated_penalty(score, real_images, fake_images, mix)
    return lazily(lambda: r1_penalty(score, real_images), step, PENALTY_EVERY)


def shape_latents(normal_latents, distribution: str):
    """Map standard normal latents (batch, latent_dim) to latents of the distribution that `--latents` names."""
    if distribution == "sphere":  # its radius is about the norm of normal latents
        return tf.nn.l2_normalize(normal_latents, axis=-1) * normal_latents.shape[-1] ** 0.5
    if distribution == "uniform":  # the distribution function of the normal distribution, stretched to [-1, 1]
        return tf.math.erf(normal_latents / 2**0.5)
    return normal_latents


def build(config: Config, channels: int) -> dict:
    """Return what is trained and saved, by name: the networks, the averaged generator and the optimizers."""
    generator, averaged_generator = (build_generator(config, channels) for _ in range(2))
    discriminator = build_discriminator(config, channels)
    averaged_generator.set_weights(generator.get_weights())
    generator_optimizer, discriminator_optimizer = (
        Adam(config.learning_rate, beta_1=0.5, beta_2=0.99) for _ in range(2)
    )
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
    generator, averaged_generator, discriminator, generator_optimizer, discriminator_optimizer, config: Config
):
    """Return the training step: it updates both networks once, from one batch of generated images.

    Its arguments: pixels, uint8 (batch, image_size, image_size, channels); the step's number.
    """
    penalty_weight = WASSERSTEIN_PENALTY if config.loss == "wasserstein_gp" else config.gradient_penalty

    def noise(shape, step, stream):
        return instance_noise(shape, config.instance_noise, config.instance_noise_steps, config.seed, step, stream)

    def train_step(pixels, step):
        real_images = pictures.to_signed(pixels)
        latents = shape_latents(devices.normal((pixels.shape[0], config.latent_dim), config.seed, step), config.latents)

        with tf.GradientTape() as generator_tape, tf.GradientTape() as discriminator_tape:
            fake_images = generator(latents, training=True)
            if config.instance_noise:
                real_images += noise(tuple(pixels.shape), step, stream=1)
                fake_images += noise(tuple(pixels.shape), step, stream=2)
            real_logits = discriminator(real_images, training=True)
            fake_logits = discriminator(fake_images, training=True)
            losses = {
                "generator_loss": generator_loss(config.loss, fake_logits),
                "discriminator_loss": discriminator_loss(config.loss, real_logits, fake_logits, config.label_smoothing),
            }
            discriminator_objective = losses["discriminator_loss"]
            if penalty_weight:
                penalty = discriminator_penalty(discriminator, real_images, fake_images, step, config)
                losses["gradient_penalty"] = penalty
                discriminator_objective += penalty_weight * penalty

        gradients = generator_tape.gradient(losses["generator_loss"], generator.trainable_variables)
        generator_optimizer.apply(gradients, generator.trainable_variables)
        gradients = discriminator_tape.gradient(discriminator_objective, discriminator.trainable_variables)
        discriminator_optimizer.apply(gradients, discriminator.trainable_variables)
        update_average(averaged_generator.variables, generator.variables, config.average_decay, step)
        return losses

    return train_step


def sample(generator, normal_latents, distribution: str) -> np.ndarray:
    """Generate images, uint8 (N, image_size, image_size, channels), from standard normal latents (N, latent_dim)."""
    return pictures.from_signed(devices.predict(generator, shape_latents(tf.constant(normal_latents), distribution)))


def train(config: Config) -> dict[str, float]:
    """Train a run, from its start or from where it was interrupted, and return its last row of metrics."""
    data = datasets.load(config.data, config.image_size, channels=config.channels)
    data.warn_if_few()
    device = devices.setup(config, side_by_side=2)  # the passes through the discriminator
    with device.scope():
        networks = build(config, data.channels)
    averaged_generator, discriminator = networks["averaged_generator"], networks["discriminator"]
    train_step = device.compile(make_train_step(**networks, config=config))
    latents = latent_space.draw(GRID_COLUMNS**2, config.latent_dim, config.seed)  # the same in every grid of the run
    watched_loss = None if config.loss == "wasserstein_gp" else "discriminator_loss"  # near 0: it wins

    def grid():
        images = sample(averaged_generator, latents, config.latents)
        run.warn(collapse.signs_of_failure(images, data.images, run.metrics, loss=watched_loss))
        return pictures.grid(images, GRID_COLUMNS)

    lazy = {} if config.loss == "wasserstein_gp" else {"gradient_penalty": PENALTY_EVERY}
    with runs.Run(config, device, data, DEFAULT_STEPS, lazy=lazy, **networks) as run:
        for epoch in run.epochs():
            for pixels, _, step in run.batches(epoch):
                if run.show_is_due:
                    run.show(grid())
                run.log(train_step(pixels, step))
        run.finish(grid(), generator=averaged_generator, discriminator=discriminator)
    return run.metrics


def generate(config: Config) -> None:
    """Write samples, a walk between latents, or the evaluation of the run `config.run` into its folder generated/."""
    devices.setup(config)
    run = saved_runs.SavedRun(config.run, config.to)
    generator = build_generator(config, run.channels)
    run.restore(averaged_generator=generator)

    def generate_images(latents, labels=None):
        return sample(generator, latents, config.latents)

    if config.evaluate:
        splits = ("train", "validation", "test")
        training, *others = (datasets.load(config.data, config.image_size, it, run.channels) for it in splits)
        run.check_data(training)
        samples = generate_images(latent_space.draw(parzen.SAMPLES, config.latent_dim, config.seed))
        run.write("evaluation.json", parzen.evaluate, samples, *others)
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
