"""Variational autoencoder: two networks learn a distribution over images, which can be sampled and evaluated.

The decoder maps random numbers, the latents z, to a distribution p(x|z) over images x. The encoder maps an image to a
distribution q(z|x) over the latents that may have produced it. The prior p(z) is the distribution of the latents before
any image is known. Training maximises a lower bound of log p(x), an image's log-likelihood (equation 3 of the paper):

    E[log p(x|z)]           the mean over latents drawn from q(z|x): how well they explain the image
    - KL(q(z|x) || p(z))    minus the Kullback-Leibler divergence: how far q(z|x) is from the prior

Paper: Kingma and Welling, "Auto-Encoding Variational Bayes", 2014 (arXiv:1312.6114). docs/vae.md lists what differs
from it, and why. --bound iwae is from Burda et al. 2016 (arXiv:1509.00519).

    python vae.py                                   train on MNIST: first digits within a minute, 42 minutes on one core
    python vae.py --evaluate                        the log-likelihood of the test images beside published figures
    python vae.py --latent_dim 2 --prior normal     two latents; --interpolate then draws a map of them
    python vae.py --conditional                     with classes; --classify then predicts them by likelihood
"""

import dataclasses
from typing import Annotated, Literal, NamedTuple

import common.environment  # noqa: F401 - first: it sets what TensorFlow reads at its import

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from blocks import binarization
from blocks.adam import Adam
from blocks.averaging import update_average
from blocks.classes import append_one_hot
from blocks.flows import affine_coupling_flow
from blocks.likelihoods import discretized_logistic, log_normal
from blocks.residual import residual_block
from blocks.schedules import cosine_by_progress, linear_warmup
from common import cli, datasets, devices, flags, generated, image_files, latent_space, pictures, runs, saved_runs
from common.cores import side_by_side
from common.errors import UserError
from evaluation import collapse, importance_sampling

GRID_COLUMNS = 10
DEFAULT_STEPS = 40_000
RATE_WARMUP = 500  # steps over which Adam's step size rises; at once, the first steps would throw the latents far out
COUPLINGS = 4  # layers of the flow that is the learned prior
CLASSIFY_SAMPLES = 50  # samples of the latents for each image and class
POSTERIOR_COLLAPSE = "posterior collapse; a longer --warmup_steps or a --beta below 1 may help"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(cli.PictureConfig):
    """Settings of vae.py; where ours differ, the help gives the paper's."""

    data: Annotated[str, flags.NamesData] = "auto"
    """auto (MNIST, or the bundled small digits if it is unavailable), mnist, digits, cifar10, or a folder."""
    image_size: Annotated[flags.Positive, flags.MultipleOf(4, "network=conv")] = 28
    """Side of the square images in pixels; a multiple of 4 for --network conv."""
    network: Literal["conv", "dense"] = "conv"
    """Convolutions, or two dense layers of 200 units (Burda et al. 2016); the paper has one of 500."""
    latent_dim: flags.Positive = 32
    """Latents per image; two, best with --prior normal, can be drawn as a map."""
    prior: Literal["flow", "normal"] = "flow"
    """Distribution of the latents: a learned normalizing flow, or the paper's standard normal one."""
    likelihood: Literal["bernoulli", "gaussian", "discretized_logistic"] = "bernoulli"
    """Distribution of a pixel: black or white, a density over grey values, or 256 grey values."""
    binarization: Annotated[Literal["dynamic", "static", "threshold"], flags.Needs("likelihood=bernoulli")] = "dynamic"
    """How grey pixels become black or white: sampled anew at each step, sampled once, or thresholded at 0.5."""
    bound: Annotated[Literal["elbo", "iwae"], flags.TrainingOnly, flags.Needs("importance_samples")] = "elbo"
    """The objective: the paper's lower bound, or the importance-weighted one (Burda et al. 2016)."""
    importance_samples: Annotated[flags.Positive, flags.AtMost(10_000), flags.TrainingOnly] = 1
    """Samples of the latents per image in training."""
    beta: Annotated[float, flags.Between(0.0, 1000.0)] = 1.0
    """Weight of the KL divergence (Higgins et al. 2017); the paper's is 1. Below 1 the objective is no lower bound."""
    warmup_steps: flags.Count = 2_000
    """Steps over which the weight of the KL divergence grows from 0 to --beta; the paper has no warm-up."""
    conditional: bool = False
    """Give the networks the class of each image, so that it can be chosen when sampling."""
    label: Annotated[str, flags.Changeable, flags.Needs("sample", "interpolate", "between")] = ""
    """The class to draw, or that of the pictures of --between, from a run trained with --conditional."""
    epochs: Annotated[flags.Count, flags.TrainingOnly] = 0
    """Passes over the data; 0 for 40,000 steps, 86 epochs of MNIST."""
    batch_size: flags.Positive = 128
    """Images per step; the paper's 100."""
    learning_rate: Annotated[float, flags.Between(1e-7, 1.0), flags.TrainingOnly] = 2e-3
    """Adam's largest step size: rises over 500 steps, falls along a cosine to 0 at the end; the paper has Adagrad."""
    average_decay: Annotated[float, flags.Between(0.0, 0.99999)] = 0.999
    """Decay of the moving average of the weights, which is sampled and evaluated; 0 uses the last, as the paper."""
    between: Annotated[tuple[str, ...], flags.Exactly(2), flags.UsesRun()] = ()
    """Walk from one picture file to another through the latents of a trained run."""
    evaluate: Annotated[bool, flags.UsesRun(reads_data=True)] = False
    """Estimate the log-likelihood of the test images under a trained run; draw reconstructions and latents."""
    evaluation_samples: Annotated[flags.Positive, flags.Changeable, flags.Needs("evaluate")] = 5_000
    """Samples of the latents per image in the evaluation; published figures use 5,000."""
    classify: Annotated[bool, flags.UsesRun(reads_data=True), flags.Needs("conditional")] = False
    """Classify each test image as the class under which it has the highest likelihood, for a run with --conditional."""


def build_encoder(config: Config, channels: int, classes: int) -> keras.Model:
    """Map images (batch, image_size, image_size, channels) in [0, 1] and one-hot classes (batch, classes) to q(z|x).

    q(z|x) is normal; the output holds its means and its log scales, log standard deviations: (batch, 2 latent_dim).
    """
    size = config.image_size
    images, one_hot = keras.Input((size, size, channels)), keras.Input((classes,))
    if config.network == "conv":
        x = images * 2.0 - 1.0
        x = activation(layers.Conv2D(32, 5, strides=2, padding="same")(x))  # MNIST: (14, 14, 32)
        x = layers.Conv2D(48, 3, strides=2, padding="same")(x)  # MNIST: (7, 7, 48)
        x = activation(residual_block(x, activation))
        x = keras.ops.concatenate([layers.Flatten()(x), one_hot], axis=-1)
        x = activation(layers.Dense(256)(x))
    else:
        x = keras.ops.concatenate([layers.Flatten()(images), one_hot], axis=-1)  # pixels of -1 would saturate tanh
        for _ in range(2):
            x = layers.Dense(200, activation="tanh")(x)
    parameters = layers.Dense(2 * config.latent_dim, dtype="float32")(x)
    return keras.Model([images, one_hot], parameters, name="encoder")


def build_decoder(config: Config, channels: int, classes: int) -> keras.Model:
    """Map latents and one-hot classes, (batch, latent_dim + classes), to the parameters of p(x|z).

    bernoulli: logits (batch, image_size, image_size, channels); the others: means, then log scales, twice the channels.
    """
    size = config.image_size
    output_channels = channels * (1 if config.likelihood == "bernoulli" else 2)
    latents = keras.Input((config.latent_dim + classes,))
    if config.network == "conv":
        x = activation(layers.Dense(256)(latents))
        x = layers.Dense(size // 4 * size // 4 * 32)(x)
        x = layers.Reshape((size // 4, size // 4, 32))(x)  # MNIST: (7, 7, 32)
        x = activation(residual_block(x, activation))
        x = activation(layers.Conv2DTranspose(32, 4, strides=2, padding="same")(x))  # MNIST: (14, 14, 32)
        x = layers.Conv2D(4 * output_channels, 3, padding="same", dtype="float32")(x)
        # The channels at each position become 2x2 pixels (Shi et al. 2016, arXiv:1609.05158).
        x = keras.ops.reshape(x, (-1, size // 2, size // 2, 2, 2, output_channels))
        x = keras.ops.transpose(x, (0, 1, 3, 2, 4, 5))
    else:
        x = latents
        for _ in range(2):
            x = layers.Dense(200, activation="tanh")(x)
        x = layers.Dense(size * size * output_channels, dtype="float32")(x)
    parameters = keras.ops.reshape(x, (-1, size, size, output_channels))
    return keras.Model(latents, parameters, name="decoder")


def activation(x):
    """SiLU, x sigmoid(x); the paper has tanh."""
    return layers.Activation("silu")(x)


class Networks(NamedTuple):
    """The networks of a variational autoencoder, which are trained, averaged and saved together.

    prior: maps latents to base variables, whose distribution is standard normal, and to the map's log Jacobian
    determinant. With the paper's prior the map changes nothing. inverse_prior: its inverse, with the same weights.
    """

    encoder: keras.Model
    decoder: keras.Model
    prior: keras.Model
    inverse_prior: keras.Model

    @property
    def variables(self) -> list:
        """All variables, each once."""
        return self.encoder.variables + self.decoder.variables + self.prior.variables

    @property
    def trainable_variables(self) -> list:
        """The variables that the optimizer updates."""
        return self.encoder.trainable_variables + self.decoder.trainable_variables + self.prior.trainable_variables


def build_networks(config: Config, channels: int, classes: int) -> Networks:
    """Return the networks for images of 1 or 3 channels. classes: their number, 0 without --conditional."""
    if config.prior == "flow" and config.latent_dim == 1:
        raise UserError("--latent_dim 1: --prior flow needs at least 2; use --prior normal")
    encoder, decoder = build_encoder(config, channels, classes), build_decoder(config, channels, classes)
    couplings = COUPLINGS if config.prior == "flow" else 0
    return Networks(encoder, decoder, *affine_coupling_flow(config.latent_dim, classes, couplings, name="prior"))


def kl_divergence(mean, log_scale):
    """Return the KL divergence of normal distributions from the standard normal one: (batch,), in nats of 1.44 bits.

    Kingma and Welling, appendix B, negated. mean, log_scale: (batch, latent_dim); the scale is the standard deviation.
    """
    return 0.5 * tf.reduce_sum(mean**2 + tf.exp(2.0 * log_scale) - 1.0 - 2.0 * log_scale, axis=-1)


def log_likelihood(images, parameters, likelihood: str):
    """Return log p(x|z) in nats, summed over pixels (Kingma and Welling, appendix C): (...).

    images: (..., height, width, channels) in [0, 1]; for bernoulli 0 or 1. parameters: the decoder's output, whose
    leading axes may broadcast. With gaussian the result is the logarithm of a density, and may be positive.
    Raises InvalidArgumentError for images outside [0, 1]: in [-1, 1] the wrong result would look plausible.
    """
    low, high, pixel_axes = tf.reduce_min(images), tf.reduce_max(images), (-3, -2, -1)
    tf.debugging.Assert((low >= 0.0) & (high <= 1.0), ["images must lie in [0, 1], not in", low, high])
    if likelihood == "bernoulli":  # the cross-entropy of the logits, negated
        return tf.reduce_sum(images * parameters - tf.nn.softplus(parameters), axis=pixel_axes)
    mean, log_scale = tf.split(parameters, 2, axis=-1)
    log_scale = tf.maximum(log_scale, np.log(1.0 / 256.0))  # no finer than the grey values
    if likelihood == "discretized_logistic":
        return tf.reduce_sum(discretized_logistic(images, mean, log_scale), axis=pixel_axes)
    error = (images - mean) * tf.exp(-log_scale)
    return -tf.reduce_sum(0.5 * (error**2 + np.log(2.0 * np.pi)) + log_scale, axis=pixel_axes)


def bound_terms(networks: Networks, images, one_hot, noise, config: Config, closed_form=False):
    """Return log p(x|z) and the KL divergence of q(z|x) from p(z), for samples z of q(z|x): (batch, samples) in nats.

    images: (batch, image_size, image_size, channels) in [0, 1]. one_hot: (batch, classes). noise: standard normal,
    (batch, samples, latent_dim). closed_form: return the exact divergence, which is known for the paper's prior
    (Kingma and Welling, equation 7), instead of each sample's estimate, log q(z|x) - log p(z) (equation 6).
    """
    samples = noise.shape[1]
    mean, log_scale = tf.split(networks.encoder([images, one_hot]), 2, axis=-1)
    latents = mean[:, None] + tf.exp(log_scale)[:, None] * noise  # the reparameterisation trick: section 2.4
    latents = tf.reshape(latents, (-1, config.latent_dim))  # (batch * samples, latent_dim)
    one_hot = tf.repeat(one_hot, samples, axis=0)
    parameters = networks.decoder(tf.concat([latents, one_hot], axis=-1))
    parameters = tf.reshape(parameters, (-1, samples, *parameters.shape[1:]))
    reconstruction = log_likelihood(images[:, None], parameters, config.likelihood)
    if closed_form:
        return reconstruction, tf.repeat(kl_divergence(mean, log_scale)[:, None], samples, axis=1)
    base, log_determinant = networks.prior([latents, one_hot])
    log_prior = tf.reshape(log_normal(base) + log_determinant, (-1, samples))  # change of variables, z to base
    log_posterior = log_normal(noise) - tf.reduce_sum(log_scale, axis=-1, keepdims=True)  # likewise, z to noise
    return reconstruction, log_posterior - log_prior


def lower_bound(log_weights, bound: str):
    """Estimate a lower bound of log p(x), (batch,), from log p(x, z) - log q(z|x) of samples z, (batch, samples)."""
    if bound == "elbo":
        return tf.reduce_mean(log_weights, axis=-1)  # Kingma and Welling, equation 3
    return tf.reduce_logsumexp(log_weights, axis=-1) - np.log(log_weights.shape[-1])  # Burda et al. 2016, equation 8


def build(config: Config, channels: int, classes: int) -> dict:
    """Return what is trained and saved, by name: the networks, their averages and the optimizer."""
    networks, averaged_networks = (build_networks(config, channels, classes) for _ in range(2))
    for average, variable in zip(averaged_networks.variables, networks.variables, strict=True):
        average.assign(variable)
    optimizer = Adam(config.learning_rate)
    optimizer.build(networks.trainable_variables)
    return {"networks": networks, "averaged_networks": averaged_networks, "optimizer": optimizer}


def make_train_step(networks: Networks, averaged_networks: Networks, optimizer, config: Config, classes, first_step=0):
    """Return the training step: it updates the networks once and returns the negative bound and its two terms.

    Its arguments: pixels, uint8 (batch, image_size, image_size, channels); labels, int32 (batch,); the step's number;
    the fraction of the training that is over, float64. first_step: the one at which the step size begins to rise.
    """

    def terms(*parts):
        return bound_terms(networks, *parts, config, closed_form=config.bound == "elbo" and config.prior == "normal")

    def train_step(pixels, labels, step, progress):
        images, one_hot = pictures.to_unit(pixels), tf.one_hot(labels, classes)
        if config.likelihood == "bernoulli":
            uniform = devices.uniform(tuple(pixels.shape), config.seed, step, stream=1)
            images = binarization.dynamic(images, uniform)  # leaves black and white as they are
        noise = devices.normal((pixels.shape[0], config.importance_samples, config.latent_dim), config.seed, step)
        kl_weight = config.beta * linear_warmup(step, config.warmup_steps)  # the paper's is 1
        with tf.GradientTape() as tape:
            reconstruction, divergence = side_by_side(terms, images, one_hot, noise)
            loss = tf.nn.compute_average_loss(-lower_bound(reconstruction - kl_weight * divergence, config.bound))
        rate = cosine_by_progress(config.learning_rate, step - first_step, RATE_WARMUP, progress)
        optimizer.learning_rate.assign(rate)
        optimizer.apply(tape.gradient(loss, networks.trainable_variables), networks.trainable_variables)
        update_average(averaged_networks.variables, networks.variables, config.average_decay, step)
        return {
            "negative_bound": loss,
            "reconstruction_error": tf.nn.compute_average_loss(-tf.reduce_mean(reconstruction, axis=-1)),
            "kl_divergence": tf.nn.compute_average_loss(tf.reduce_mean(divergence, axis=-1)),
        }

    return train_step


def build_generator(networks: Networks, config: Config) -> keras.Model:
    """Map base variables and one-hot classes, (batch, latent_dim + classes), to the means of p(x|z), in [0, 1]."""
    inputs = keras.Input(networks.decoder.input_shape[1:])
    base, one_hot = inputs[:, : config.latent_dim], inputs[:, config.latent_dim :]
    latents = networks.inverse_prior([base, one_hot])
    parameters = networks.decoder(keras.ops.concatenate([latents, one_hot], axis=-1))
    if config.likelihood == "bernoulli":
        images = keras.ops.sigmoid(parameters)
    else:
        images = keras.ops.clip(parameters[..., : parameters.shape[-1] // 2], 0.0, 1.0)
    return keras.Model(inputs, images, name="generator")


def sample(generator, base) -> np.ndarray:
    """Generate images, uint8 (N, image_size, image_size, channels), from base variables (N, latent_dim + classes)."""
    return pictures.from_unit(devices.predict(generator, base))


def encode(networks: Networks, pixels, labels, classes: int) -> np.ndarray:
    """Map images, uint8 (N, …), with labels (N,) to the base variables of their mean latents, (N, latent_dim)."""

    def network(rows, training):
        one_hot = tf.one_hot(labels[rows], classes)
        mean, _ = tf.split(networks.encoder([pictures.to_unit(pixels[rows]), one_hot]), 2, axis=-1)
        return networks.prior([mean, one_hot])[0]

    return devices.predict(network, np.arange(len(pixels)))


def load(config: Config, split: str = "train", channels: int = 0) -> datasets.Images:
    """Return the data; for bernoulli in black and white, unless the training step binarizes them."""
    data = datasets.load(config.data, config.image_size, split, channels or config.channels)
    if config.likelihood != "bernoulli" or (config.binarization == "dynamic" and split in ("train", "fit")):
        return data
    return dataclasses.replace(data, images=binarization.fixed(data.images, config.binarization))


def train(config: Config) -> dict[str, float]:
    """Train a run, from its start or from where it was interrupted, and return its last row of metrics."""
    data = load(config)
    device = devices.setup(config, side_by_side=2)  # two parts of a batch
    classes = data.class_count(config)
    with device.scope():
        state = build(config, data.channels, classes)
    averaged_networks = state["averaged_networks"]
    generator = build_generator(averaged_networks, config)
    train_step = device.compile(make_train_step(**state, config=config, classes=classes))
    grid_labels = np.repeat(np.arange(classes or GRID_COLUMNS), GRID_COLUMNS)
    base = latent_space.draw(len(grid_labels), config.latent_dim, config.seed)  # the same in every grid of the run
    base = append_one_hot(base, grid_labels, classes)

    def grid():
        images = sample(generator, base)
        labels = (grid_labels, data.labels) if classes else None
        run.warn(collapse.signs_of_failure(images, data.images, run.metrics, labels, None, POSTERIOR_COLLAPSE))
        return pictures.grid(images, GRID_COLUMNS, data.class_names if config.conditional else ())

    with runs.Run(config, device, data, DEFAULT_STEPS, **state) as run:
        for epoch in run.epochs():
            for pixels, labels, step in run.batches(epoch):
                if run.show_is_due:
                    run.show(grid())
                run.log(train_step(pixels, labels, step, run.progress))
        run.finish(grid(), encoder=averaged_networks.encoder, prior=averaged_networks.prior, generator=generator)
    return run.metrics


def generate(config: Config) -> None:
    """Use the trained run `config.run` as the command line requests; the files go to its folder generated/ or --to."""
    devices.setup(dataclasses.replace(config, precision="float32"))  # log-likelihoods are sums over many pixels
    run = saved_runs.SavedRun(config.run, config.to)
    classes = run.class_count(config)
    networks = build_networks(config, run.channels, classes)
    run.restore(averaged_networks=networks)
    generator = build_generator(networks, config)

    def generate_images(base, labels):
        return sample(generator, append_one_hot(base, labels, classes))

    if config.sample:
        generated.samples(run, config, generate_images)
    if config.interpolate:
        generated.walk(run, config, generate_images)
        generated.latent_map(run, config, generate_images)
    if config.between:
        walk_between(run, config, networks, generate_images)
    if config.evaluate or config.classify:
        evaluate(run, config, networks, generate_images)
    run.report()


def walk_between(run: saved_runs.SavedRun, config: Config, networks: Networks, generate_images) -> None:
    """Walk from one picture of --between to the other, through their base variables."""
    if config.conditional and not config.label:
        raise UserError("--between: the run is conditional; name the class of the pictures with --label")
    given = image_files.read_pictures(config.between, config.image_size, run.channels)
    if config.likelihood == "bernoulli":
        given = binarization.fixed(given, config.binarization)
    labels = run.labels(config, len(given))
    base = encode(networks, given, labels, run.class_count(config))
    generated.between(run, given, base, labels[0], generate_images)


def evaluate(run: saved_runs.SavedRun, config: Config, networks: Networks, generate_images) -> None:
    """Estimate the log-likelihood of the test images (--evaluate), and classify them by it (--classify)."""
    classes = run.class_count(config)
    test, training = (load(config, split, run.channels) for split in ("test", "train"))  # a folder has no test images
    run.check_data(training)

    def terms(pixels, labels, noise):
        return bound_terms(networks, pictures.to_unit(pixels), tf.one_hot(labels, classes), noise, config)

    if config.evaluate:
        base = encode(networks, test.images, test.labels, classes)
        generated.encoded(run, test, base, generate_images)
        setting = {name: getattr(config, name) for name in ("likelihood", "binarization", "conditional")}
        samples = config.evaluation_samples
        run.write("evaluation.json", importance_sampling.evaluate, test, base, terms, samples, config.seed, **setting)
    if config.classify:
        sampling = config.latent_dim, CLASSIFY_SAMPLES, config.seed
        run.write("classification.json", importance_sampling.classify, training.labels, test, terms, *sampling)


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
