"""The first generative adversarial network: two multilayer perceptrons, and one of them learns to draw digits.

The generator turns random numbers, the latents, into images; the discriminator sees real and generated images and
gives each a logit, high for real. Each is trained against the other. With flags for what was tried since: other losses,
and the tricks that are said to help; `python -m benchmarks.tricks_vanilla` measures what each does.

Paper: Goodfellow et al., "Generative Adversarial Nets", 2014 (arXiv:1406.2661). What differs from it, and why, stands
in docs/vanilla_gan.md.

    python vanilla_gan.py                               train on MNIST
    python vanilla_gan.py --generator transposed_conv   what convolution buys
    python vanilla_gan.py --loss wasserstein_gp         another loss
    python vanilla_gan.py --evaluate                    the paper's figure: log-likelihood under Parzen windows
"""

import dataclasses
from typing import Annotated, Literal

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from common import cli, datasets, devices, files, latent_space, pictures, runs, stored

GRID_COLUMNS = 10
DEFAULT_STEPS = 24_000
SIGMAS = np.geomspace(0.05, 0.8, 57).round(3)  # of the Parzen windows, to choose from
WASSERSTEIN_PENALTY = 10.0  # weight of the Wasserstein loss's gradient penalty (Gulrajani et al. 2017, equation 3)
PENALTY_EVERY = 4  # steps, of the other losses' penalty: lazy regularisation (Karras et al. 2020, arXiv:1912.04958)

# Table 1 of the paper: MNIST, mean log-likelihood and its standard error.
PAPER_FIGURES = {
    "adversarial nets (paper)": "225 ± 2",
    "deep belief network": "138 ± 2",
    "stacked CAE": "121 ± 1.6",
    "deep GSN": "214 ± 1.1",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(cli.PictureConfig):
    """Settings of vanilla_gan.py; where ours differ, the help gives the paper's."""

    data: Annotated[str, cli.OfData] = "auto"
    """auto (MNIST, or the small digits in the box when it cannot be had), mnist, digits, or a folder of pictures."""
    image_size: cli.Positive = 28
    """Side of the square images in pixels; a multiple of 4 for --generator transposed_conv."""
    generator: Literal["mlp", "transposed_conv"] = "mlp"
    """A multilayer perceptron, or a network with transposed convolutions, which the paper used on CIFAR-10."""
    loss: Literal["non_saturating", "minimax", "least_squares", "hinge", "wasserstein_gp"] = "non_saturating"
    """What the two networks play for; minimax is the paper's equation 1, non_saturating its remedy in section 3."""
    label_smoothing: Annotated[float, cli.Between(0.0, 0.5)] = 0.0
    """How much less than 1 the discriminator should be sure of real images: one-sided label smoothing."""
    instance_noise: Annotated[float, cli.Between(0.0, 2.0)] = 0.0
    """Standard deviation of noise on all images that the discriminator sees; it fades to none."""
    instance_noise_steps: cli.Positive = 10_000
    """Steps after which the instance noise is gone."""
    gradient_penalty: Annotated[float, cli.Between(0.0, 1000.0)] = 1.0
    """Weight of the penalty on the discriminator's gradient at real images (Mescheder et al. 2018: 10); not for --loss
    wasserstein_gp, which has its own."""
    latents: Literal["normal", "sphere", "uniform"] = "normal"
    """Where the latents come from: a normal distribution, a sphere, or the paper's cube."""
    latent_dim: cli.Positive = 32
    """Numbers from which an image is made; the paper's 100."""
    width: cli.Positive = 512
    """Units of each hidden layer; the paper's 1,200 in the generator, and 240 maxout units in the discriminator."""
    epochs: Annotated[cli.Count, cli.OfTraining] = 0
    """Passes over the data; 0 for as many as make 24,000 steps: 26 over MNIST."""
    batch_size: cli.Positive = 64
    """Images in a step; the paper's 100."""
    learning_rate: Annotated[float, cli.Between(1e-7, 1.0)] = 1e-3
    """Adam's step size for both networks; the paper trains with momentum."""
    average_decay: Annotated[float, cli.Between(0.0, 0.99999)] = 0.9997
    """How slowly the averaged generator, from which we sample, follows the trained one; the paper has none: 0."""
    evaluate: Annotated[bool, cli.MayChange] = False
    """Measure a trained run as the paper did: log-likelihood of the test images under Parzen windows."""

    @property
    def uses_trained_run(self) -> bool:
        """Whether this command makes something with a trained run instead of training one."""
        return super().uses_trained_run or self.evaluate

    @property
    def reads_data(self) -> bool:
        """Whether this command reads the data that a run is trained on."""
        return super().reads_data or self.evaluate


def build_generator(config: Config, channels: int) -> keras.Model:
    """Map latents (batch, latent_dim) to images (batch, image_size, image_size, channels) in [-1, 1]."""
    size = config.image_size
    latents = keras.Input((config.latent_dim,))
    if config.generator == "mlp":
        x = latents
        for _ in range(2):
            x = layers.Dense(config.width, use_bias=False)(x)
            x = activation(normalization(x))
        x = layers.Dense(size * size * channels, activation="tanh", dtype="float32")(x)
        images = layers.Reshape((size, size, channels), dtype="float32")(x)  # or it would round them
    else:
        if size % 4:
            raise cli.UserError(f"--image_size {size}: must be a multiple of 4 for --generator transposed_conv")
        x = layers.Dense(size // 4 * size // 4 * 64, use_bias=False)(latents)
        x = layers.Reshape((size // 4, size // 4, 64))(x)  # MNIST: (7, 7, 64)
        x = activation(normalization(x))
        x = layers.Conv2DTranspose(32, 4, strides=2, padding="same", use_bias=False)(x)  # MNIST: (14, 14, 32)
        x = activation(normalization(x))
        images = layers.Conv2DTranspose(channels, 4, strides=2, padding="same", activation="tanh", dtype="float32")(x)
    return keras.Model(latents, images, name="generator")


def build_discriminator(config: Config, channels: int) -> keras.Model:
    """Map images (batch, image_size, image_size, channels) in [-1, 1] to logits (batch,): a multilayer perceptron."""
    images = keras.Input((config.image_size, config.image_size, channels))
    x = layers.Flatten()(images)
    # Not normalised: images that are almost alike would look as different as any others, and many a seed ended with one
    # digit. A penalty, too, is on each image's own gradient (Gulrajani et al. 2017, section 4).
    for _ in range(2):
        x = activation(layers.Dense(config.width)(x))
    logits = layers.Reshape((), dtype="float32")(layers.Dense(1, dtype="float32")(x))
    return keras.Model(images, logits, name="discriminator")


def activation(x):
    """LeakyReLU in both networks; the paper has ReLU in the generator and maxout in the discriminator."""
    return layers.LeakyReLU(negative_slope=0.2)(x)


def normalization(x):
    """Batch normalisation over all replicas; its momentum suits runs of a few thousand steps."""
    return layers.BatchNormalization(momentum=0.9, synchronized=True)(x)


def generator_loss(loss: str, fake_logits):
    """What the generator minimises, given logits (batch,) of its images."""
    values = {
        "non_saturating": lambda: tf.nn.softplus(-fake_logits),  # -log D(G(z)) (Goodfellow et al. 2014, section 3)
        "minimax": lambda: -tf.nn.softplus(fake_logits),  # log(1 - D(G(z))) (their equation 1)
        "least_squares": lambda: 0.5 * (fake_logits - 1.0) ** 2,  # (Mao et al. 2017, equation 9)
        "hinge": lambda: -fake_logits,  # (Lim and Ye 2017, section 3)
        "wasserstein_gp": lambda: -fake_logits,  # (Gulrajani et al. 2017, algorithm 1)
    }
    return tf.nn.compute_average_loss(values[loss]())


def discriminator_loss(loss: str, real_logits, fake_logits, label_smoothing: float = 0.0):
    """What the discriminator minimises, given logits (batch,) of real and generated images.

    label_smoothing: real images' targets are so much less than 1 (Salimans et al. 2016, section 3.4).
    """
    values = {
        # -t log D(x) - (1 - t) log(1 - D(x)) - log(1 - D(G(z))), with t = 1 - label_smoothing
        "non_saturating": lambda: (
            tf.nn.softplus(-real_logits) + label_smoothing * real_logits + tf.nn.softplus(fake_logits)
        ),
        "least_squares": lambda: 0.5 * (real_logits - 1.0 + label_smoothing) ** 2 + 0.5 * fake_logits**2,
        "hinge": lambda: tf.nn.relu(1.0 - real_logits) + tf.nn.relu(1.0 + fake_logits),
        "wasserstein_gp": lambda: fake_logits - real_logits,
    }
    values["minimax"] = values["non_saturating"]
    return tf.nn.compute_average_loss(values[loss]())


def penalty_at_real(discriminator, real_images):
    """Return half the squared norm of the gradient of the logits at real images.

    R1 of Mescheder et al. 2018 (arXiv:1801.04406), equation 9.
    """
    with tf.GradientTape() as tape:
        tape.watch(real_images)
        logits = discriminator(real_images, training=True)
    gradients = tape.gradient(logits, real_images)
    return tf.nn.compute_average_loss(0.5 * tf.reduce_sum(gradients**2, axis=(1, 2, 3)))


def penalty_between(discriminator, real_images, fake_images, mix):
    """Return how far the gradient's norm is from 1, squared, between real and generated images.

    mix: (batch, 1, 1, 1) in [0, 1], where between the two. Gulrajani et al. 2017 (arXiv:1704.00028), equation 3.
    """
    between = mix * real_images + (1.0 - mix) * fake_images
    with tf.GradientTape() as tape:
        tape.watch(between)
        logits = discriminator(between, training=True)
    norms = tf.norm(tf.reshape(tape.gradient(logits, between), (between.shape[0], -1)), axis=-1)
    return tf.nn.compute_average_loss((norms - 1.0) ** 2)


def shape_latents(normal, latents: str):
    """Turn standard normal numbers (batch, latent_dim) into latents of the chosen distribution."""
    if latents == "sphere":  # of the radius that normal latents have on average
        return tf.nn.l2_normalize(normal, axis=-1) * normal.shape[-1] ** 0.5
    if latents == "uniform":  # the distribution function of the normal, stretched to [-1, 1]
        return tf.math.erf(normal / 2**0.5)
    return normal


def build(config: Config, channels: int) -> dict:
    """Return all that is trained and saved, by name: the networks, the averaged generator, and the optimizers."""
    generator, averaged_generator = (build_generator(config, channels) for _ in range(2))
    discriminator = build_discriminator(config, channels)
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
    }


def make_train_step(
    generator, averaged_generator, discriminator, generator_optimizer, discriminator_optimizer, config: Config
):
    """Return the step, which updates both networks once, from the same images, and returns their losses.

    Its arguments: pixels, uint8 (batch, image_size, image_size, channels); the step's number.
    """

    def train_step(pixels, step):
        real_images = pictures.to_signed(pixels)
        batch_size, images_shape = pixels.shape[0], tuple(pixels.shape)
        latents = devices.normal((batch_size, config.latent_dim), config.seed, step)
        latents = shape_latents(latents, config.latents)
        progress = tf.cast(step, tf.float32)

        with tf.GradientTape() as generator_tape, tf.GradientTape() as discriminator_tape:
            fake_images = generator(latents, training=True)
            shown_real, shown_fake = real_images, fake_images
            if config.instance_noise:  # Sønderby et al. 2017 (arXiv:1610.04490), section 3.2
                scale = config.instance_noise * tf.nn.relu(1.0 - progress / config.instance_noise_steps)
                shown_real += scale * devices.normal(images_shape, config.seed, step, stream=1)
                shown_fake += scale * devices.normal(images_shape, config.seed, step, stream=2)
            real_logits = discriminator(shown_real, training=True)
            fake_logits = discriminator(shown_fake, training=True)
            losses = {
                "generator_loss": generator_loss(config.loss, fake_logits),
                "discriminator_loss": discriminator_loss(config.loss, real_logits, fake_logits, config.label_smoothing),
            }
            discriminator_objective = losses["discriminator_loss"]
            if config.loss == "wasserstein_gp":
                mix = devices.uniform((batch_size, 1, 1, 1), config.seed, step, stream=3)
                losses["gradient_penalty"] = penalty_between(discriminator, shown_real, shown_fake, mix)
                discriminator_objective += WASSERSTEIN_PENALTY * losses["gradient_penalty"]
            elif config.gradient_penalty:
                losses["gradient_penalty"] = tf.cond(
                    step % PENALTY_EVERY == 0,
                    lambda: PENALTY_EVERY * penalty_at_real(discriminator, shown_real),
                    lambda: 0.0,
                )
                discriminator_objective += config.gradient_penalty * losses["gradient_penalty"]

        gradients = generator_tape.gradient(losses["generator_loss"], generator.trainable_variables)
        generator_optimizer.apply(gradients, generator.trainable_variables)
        gradients = discriminator_tape.gradient(discriminator_objective, discriminator.trainable_variables)
        discriminator_optimizer.apply(gradients, discriminator.trainable_variables)

        # Exponential moving average of the weights (Yazici et al. 2019, arXiv:1806.04498); faster in the beginning,
        # so that the first, useless steps are soon forgotten.
        decay = tf.minimum(config.average_decay, (1.0 + progress) / (10.0 + progress))
        for average, variable in zip(averaged_generator.variables, generator.variables, strict=True):
            average.assign(decay * average + (1.0 - decay) * variable)
        return losses

    return train_step


def sample(generator, normal, latents: str) -> np.ndarray:
    """Return the images, uint8 (N, image_size, image_size, channels), of standard normal numbers (N, latent_dim)."""
    return pictures.from_signed(devices.in_batches(generator, shape_latents(tf.constant(normal), latents)))


def parzen_log_likelihood(images, samples, sigmas, title: str) -> np.ndarray:
    """Return the log density of images under Gaussian Parzen windows around samples: float64 (len(sigmas), images).

    images: (M, pixels) and samples: (N, pixels), both in [0, 1]; sigmas: standard deviations of the windows. In nats.
    Goodfellow et al. 2014, section 5, after Breuleux et al. 2011.
    """
    samples = tf.constant(samples, tf.float64)
    sample_norms = tf.reduce_sum(samples**2, axis=-1)

    @tf.function
    def of_block(block):
        squares = tf.reduce_sum(block**2, axis=-1, keepdims=True) + sample_norms - 2.0 * block @ tf.transpose(samples)
        mean = [tf.reduce_logsumexp(-squares / (2.0 * sigma**2), axis=-1) for sigma in sigmas]
        return tf.stack(mean) - np.log(len(samples))

    blocks = np.array_split(images.astype(np.float64), -(-len(images) // 500))
    densities = [of_block(block).numpy() for block in cli.progress(blocks, title)]
    scale = images.shape[-1] * 0.5 * np.log(2.0 * np.pi * np.square(sigmas))  # of one window
    return np.concatenate(densities, axis=-1) - scale[:, None]


def train(config: Config) -> dict[str, float]:
    """Train a run, from its start or from where it was interrupted, and return its last row of metrics."""
    if config.label_smoothing and config.loss in ("hinge", "wasserstein_gp"):
        raise cli.UserError(f"--label_smoothing: --loss {config.loss} has no labels to smooth")
    device = devices.setup(config)
    data = datasets.load(config.data, config.image_size, channels=config.channels)

    with device.strategy.scope():
        networks = build(config, data.channels)
    averaged_generator, discriminator = networks["averaged_generator"], networks["discriminator"]
    train_step = device.compile(make_train_step(**networks, config=config))
    normal = latent_space.draw(GRID_COLUMNS**2, config.latent_dim, config.seed)  # the same for every grid of the run

    def grid():
        images = sample(averaged_generator, normal, config.latents)
        run.look_for_trouble(images, loss=None if config.loss == "wasserstein_gp" else "discriminator_loss")
        return pictures.grid(images, GRID_COLUMNS)

    with runs.Run(config, device, data, DEFAULT_STEPS, **networks) as run:
        for epoch in run.epochs():
            for pixels, _ in run.batches(epoch):
                if run.show_is_due:
                    run.show(grid())
                run.log(train_step(pixels, run.step))
        run.finish(grid(), generator=averaged_generator, discriminator=discriminator)
    return run.metrics


def generate(config: Config) -> None:
    """Write samples, a walk between latents, or the evaluation of the run in `config.run` into its generated/."""
    devices.setup(config)
    run = stored.StoredRun(config.run)
    generator = build_generator(config, run.channels)
    run.restore(averaged_generator=generator)
    if config.sample:
        normal = latent_space.draw(config.sample, config.latent_dim, config.seed)
        run.save_samples(sample(generator, normal, config.latents))
    if config.interpolate:
        walk = latent_space.round_trips(16, config.latent_dim, config.seed)
        run.save_walk(np.stack([sample(generator, normal, config.latents) for normal in walk]))
    if config.evaluate:
        evaluate(config, generator, run)
    print(f"written to {run.generated}")


def evaluation(samples: np.ndarray, test: datasets.Images) -> dict:
    """Return the mean log-likelihood of test images under Parzen windows around samples, uint8 as the images are.

    The windows' width, sigma, is found by cross-validation: for each half of the test images, it is that under which
    the other half is likeliest.
    """
    samples, tested = (images.reshape(len(images), -1) / 255.0 for images in (samples, test.images))
    densities = parzen_log_likelihood(tested, samples, SIGMAS, "measuring")  # (sigmas, images)
    halves = np.arange(len(tested)) % 2 == np.array([[0], [1]])
    best = [densities[:, ~half].mean(axis=-1).argmax() for half in halves]
    figures = np.where(halves[0], densities[best[0]], densities[best[1]])
    return {
        "test_images": len(figures),
        "samples": len(samples),
        "sigma": [round(float(SIGMAS[index]), 3) for index in best],
        "log_likelihood": float(figures.mean()),
        "standard_error": float(figures.std() / np.sqrt(len(figures))),
    }


def evaluate(config: Config, generator, run: stored.StoredRun) -> None:
    """Print the paper's figure beside its Table 1, and write it as evaluation.json."""
    training, test = (datasets.load(config.data, config.image_size, split, run.channels) for split in ("train", "test"))
    run.check_data(training)
    normal = latent_space.draw(10_000, config.latent_dim, config.seed)
    result = evaluation(sample(generator, normal, config.latents), test)
    files.write_json(run.generated / "evaluation.json", result)
    print("mean log-likelihood of the test images under Parzen windows around 10,000 samples, in nats:")
    print(f"  {'this run':25} {result['log_likelihood']:.1f} ± {result['standard_error']:.1f}  ({test.name})")
    if not set(SIGMAS[[0, -1]].round(3).tolist()).isdisjoint(result["sigma"]):
        print(f"  at least: wider or narrower windows than {SIGMAS[0]} to {SIGMAS[-1]} were not tried")
    if not test.is_mnist:
        print("  (not comparable with published figures, which are those of MNIST)")
        return
    for name, figure in PAPER_FIGURES.items():
        print(f"  {name:25} {figure}")
    print("A weak measure: in so many dimensions it rewards samples that lie between the images as much as good ones")
    print("(Theis et al. 2016, arXiv:1511.01844, where centroids of k-means reach 313, and true images 243).")


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
