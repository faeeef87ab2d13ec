"""Variational autoencoder: a network learns where pictures come from, and how likely any picture is.

The decoder turns latents, random numbers with a known distribution, into pictures; the encoder tells for a picture
which latents it may have come from. Both are trained to raise a lower bound of the log-likelihood of the pictures:
how well they are reconstructed, less how much the encoder has to say about the latents.

Paper: Kingma and Welling, "Auto-Encoding Variational Bayes", 2014 (arXiv:1312.6114). What differs from it, and what
each difference bought, stands in docs/vae.md.

    python vae.py                                   train on MNIST
    python vae.py --evaluate                        the test images' log-likelihood, as published figures have it
    python vae.py --latent_dim 2 --prior normal     two latents; then --interpolate draws what lies where
    python vae.py --conditional                     with classes; then --classify tells them by their likelihood
"""

import dataclasses
import itertools
from typing import Annotated, Literal, NamedTuple

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from common import cli, datasets, devices, files, latent_space, pictures, runs, stored

GRID_COLUMNS = 10
DEFAULT_STEPS = 40_000
RATE_WARMUP = 500  # steps over which Adam's step size rises; at once, the first steps throw the latents far out
COUPLINGS = 4  # layers of the prior's flow
CLASSIFY_SAMPLES = 50  # of the latents, for each image and class
MOST_TRAVERSED = 64  # latents, a row of traversals.png each
DECODED_AT_ONCE = 5_000  # latents; more need more memory and are no faster

# Negative log-likelihood of MNIST's test images in nats, with one layer of latents and dynamic binarization; those of
# Burda et al. with 5,000 importance samples.
PUBLISHED_FIGURES = {
    "VAE, two dense layers of 200 (Burda et al. 2016, table 1)": 86.76,
    "IWAE, the same with 50 samples (Burda et al. 2016, table 1)": 84.78,
    "convolutional VAE (Kingma et al. 2016, table 1)": 81.08,
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(cli.PictureConfig):
    """Settings of vae.py; where ours differ, the help gives the paper's."""

    data: Annotated[str, cli.OfData] = "auto"
    """auto (MNIST, or the small digits in the box when it cannot be had), mnist, digits, cifar10, or a folder."""
    image_size: cli.Positive = 28
    """Side of the square images in pixels; a multiple of 4 for --network conv."""
    network: Literal["conv", "dense"] = "conv"
    """Convolutions, or two dense layers of 200 units (Burda et al. 2016); the paper has one of 500."""
    latent_dim: cli.Positive = 32
    """Numbers from which an image is made; 2, best with --prior normal, can be drawn as a map."""
    prior: Literal["flow", "normal"] = "flow"
    """Distribution of the latents: learned, a normal one bent by coupling layers, or the paper's normal one."""
    likelihood: Literal["bernoulli", "gaussian", "discretized_logistic"] = "bernoulli"
    """Distribution of a pixel: black or white, a density over grey values, or 256 grey values."""
    binarization: Literal["dynamic", "static", "threshold"] = "dynamic"
    """How grey becomes black or white for bernoulli: at random in each step, at random once, or from the middle on."""
    bound: Annotated[Literal["elbo", "iwae"], cli.OfTraining] = "elbo"
    """What is maximised: the paper's bound, or the importance-weighted one (Burda et al. 2016)."""
    importance_samples: Annotated[cli.Positive, cli.OfTraining] = 1
    """Samples of the latents for each image in training."""
    backward_samples: Annotated[cli.Count, cli.OfTraining] = 0
    """With --bound iwae: learn from so many of these samples, drawn by their weights, which is faster; 0 for all."""
    beta: Annotated[float, cli.Between(0.0, 1000.0)] = 1.0
    """Weight of the Kullback-Leibler divergence (Higgins et al. 2017); below 1 what is maximised is no bound."""
    warmup_steps: cli.Count = 2_000
    """Steps over which that weight grows from 0 to its value."""
    conditional: bool = False
    """Tell the networks the class of each image, so that it can be chosen when sampling, and found by --classify."""
    label: Annotated[str, cli.MayChange] = ""
    """With --sample, --interpolate or --between: the class to draw, for a run that was trained with --conditional."""
    epochs: Annotated[cli.Count, cli.OfTraining] = 0
    """Passes over the data; 0 for as many as make 40,000 steps: 86 over MNIST."""
    batch_size: cli.Positive = 128
    """Images in a step; the paper's 100."""
    learning_rate: Annotated[float, cli.Between(1e-7, 1.0), cli.OfTraining] = 2e-3
    """Adam's largest step size, after the first 500 steps; the paper has Adagrad."""
    decay_steps: Annotated[cli.Positive, cli.OfTraining] = 40_000
    """Steps over which the step size falls, along a cosine, to a hundredth."""
    decay_from: Annotated[cli.Count, cli.OfTraining] = 0
    """Step from which it rises and falls; with --resume a later one makes it do so again, as for another --bound."""
    average_decay: Annotated[float, cli.Between(0.0, 0.99999)] = 0.999
    """How slowly the averaged networks, which are the ones used, follow the trained ones; the paper has none: 0."""
    between: Annotated[tuple[str, ...], cli.MayChange] = ()
    """Two picture files: walk from one to the other through the latents of a trained run."""
    evaluate: Annotated[bool, cli.MayChange] = False
    """Measure a trained run on the test images: bounds of the log-likelihood, active units; and draw their latents."""
    evaluation_samples: Annotated[cli.Positive, cli.MayChange] = 5_000
    """Samples of the latents for each image with --evaluate; published figures have 5,000."""
    classify: Annotated[bool, cli.MayChange] = False
    """Tell the classes of the test images by a trained run: under which is the picture likeliest?"""

    @property
    def uses_trained_run(self) -> bool:
        """Whether this command makes something with a trained run instead of training one."""
        return super().uses_trained_run or bool(self.between) or self.evaluate or self.classify

    @property
    def reads_data(self) -> bool:
        """Whether this command reads the data that a run is trained on."""
        return super().reads_data or self.evaluate or self.classify


def build_encoder(config: Config, channels: int, classes: int) -> keras.Model:
    """Map images (batch, image_size, image_size, channels) in [0, 1] and one-hot classes to a normal distribution.

    Its mean and the logarithm of its standard deviation: (batch, 2 latent_dim).
    """
    size = config.image_size
    images, one_hot = keras.Input((size, size, channels)), keras.Input((classes,))
    if config.network == "conv":
        if size % 4:
            raise cli.UserError(f"--image_size {size}: must be a multiple of 4 for --network conv")
        x = images * 2.0 - 1.0
        x = activation(layers.Conv2D(32, 5, strides=2, padding="same")(x))  # MNIST: (14, 14, 32)
        x = layers.Conv2D(48, 3, strides=2, padding="same")(x)  # MNIST: (7, 7, 48)
        x = activation(residual(x))
        x = keras.ops.concatenate([layers.Flatten()(x), one_hot], axis=-1)
        x = activation(layers.Dense(256)(x))
    else:
        x = keras.ops.concatenate([layers.Flatten()(images), one_hot], axis=-1)  # from -1 on, tanh would be saturated
        for _ in range(2):
            x = layers.Dense(200, activation="tanh")(x)
    parameters = layers.Dense(2 * config.latent_dim, dtype="float32")(x)
    return keras.Model([images, one_hot], parameters, name="encoder")


def build_decoder(config: Config, channels: int, classes: int) -> keras.Model:
    """Map latents, with one-hot classes behind them, (batch, latent_dim + classes) to the parameters of each pixel.

    (batch, image_size, image_size, channels) for bernoulli: logits; for the others twice as many channels: means, and
    logarithms of scales.
    """
    size = config.image_size
    outputs = channels * (1 if config.likelihood == "bernoulli" else 2)
    latents = keras.Input((config.latent_dim + classes,))
    if config.network == "conv":
        x = activation(layers.Dense(256)(latents))
        x = layers.Dense(size // 4 * size // 4 * 32)(x)
        x = layers.Reshape((size // 4, size // 4, 32))(x)  # MNIST: (7, 7, 32)
        x = activation(residual(x))
        x = activation(layers.Conv2DTranspose(32, 4, strides=2, padding="same")(x))  # MNIST: (14, 14, 32)
        x = layers.Conv2D(4 * outputs, 3, padding="same", dtype="float32")(x)
        # Each place's channels are its 2x2 pixels (Shi et al. 2016, arXiv:1609.05158).
        x = keras.ops.reshape(x, (-1, size // 2, size // 2, 2, 2, outputs))
        x = keras.ops.transpose(x, (0, 1, 3, 2, 4, 5))
    else:
        x = latents
        for _ in range(2):
            x = layers.Dense(200, activation="tanh")(x)
        x = layers.Dense(size * size * outputs, dtype="float32")(x)
    parameters = keras.ops.reshape(x, (-1, size, size, outputs))
    return keras.Model(latents, parameters, name="decoder")


def build_prior(config: Config, classes: int) -> tuple[keras.Model, keras.Model]:
    """Return the map from latents to standard normal numbers, and its inverse; with --prior normal they change nothing.

    Each takes (batch, latent_dim) and one-hot classes; the first also returns the logarithm of its Jacobian
    determinant, (batch,), and so is a density. Affine coupling layers (Dinh et al. 2017, arXiv:1605.08803, equations
    6 to 8): half of the numbers tell how the other half is shifted and scaled, and then they change places.
    """
    dim, half = config.latent_dim, config.latent_dim // 2
    if config.prior == "flow" and not half:
        raise cli.UserError("--latent_dim 1: --prior flow needs at least 2; take --prior normal")

    def conditioner():
        kept, one_hot = keras.Input((half,)), keras.Input((classes,))
        x = keras.ops.concatenate([kept, one_hot], axis=-1)
        for _ in range(2):
            x = layers.Dense(128, activation="silu", dtype="float32")(x)
        x = layers.Dense(2 * (dim - half), kernel_initializer="zeros", dtype="float32")(x)  # so it begins as identity
        return keras.Model([kept, one_hot], [x[:, : dim - half], 2.0 * keras.ops.tanh(x[:, dim - half :])])

    conditioners = [conditioner() for _ in range(COUPLINGS if config.prior == "flow" else 0)]
    latents, one_hot = keras.Input((dim,)), keras.Input((classes,))
    x, log_determinant = latents, keras.ops.zeros_like(latents[:, 0])
    for condition in conditioners:
        kept, changed = x[:, :half], x[:, half:]
        shift, log_scale = condition([kept, one_hot])
        x = keras.ops.concatenate([(changed + shift) * keras.ops.exp(log_scale), kept], axis=-1)
        log_determinant += keras.ops.sum(log_scale, axis=-1)
    prior = keras.Model([latents, one_hot], [x, log_determinant], name="prior")

    normal = keras.Input((dim,))
    x = normal
    for condition in reversed(conditioners):
        changed, kept = x[:, : dim - half], x[:, dim - half :]
        shift, log_scale = condition([kept, one_hot])
        x = keras.ops.concatenate([kept, changed * keras.ops.exp(-log_scale) - shift], axis=-1)
    return prior, keras.Model([normal, one_hot], x, name="inverse_prior")


def residual(x):
    """Add to x what two 3x3 convolutions make of it; small at first, so that no normalisation is needed."""
    y = layers.Conv2D(x.shape[-1], 3, padding="same", kernel_initializer="he_normal")(activation(x))
    small = keras.initializers.VarianceScaling(0.1)
    return x + layers.Conv2D(x.shape[-1], 3, padding="same", kernel_initializer=small)(activation(y))


def activation(x):
    """SiLU, x sigmoid(x); the paper has tanh."""
    return layers.Activation("silu")(x)


class Networks(NamedTuple):
    """All networks of a variational autoencoder; they are trained, averaged and saved together."""

    encoder: keras.Model
    decoder: keras.Model
    prior: keras.Model
    inverse_prior: keras.Model  # has the prior's variables

    @property
    def variables(self) -> list:
        """All variables, each once."""
        return self.encoder.variables + self.decoder.variables + self.prior.variables

    @property
    def trainable_variables(self) -> list:
        """Those that the optimizer moves."""
        models = (self.encoder, self.decoder, self.prior)
        return [variable for model in models for variable in model.trainable_variables]


def log_normal(x):
    """Return the log density of x, (..., dimensions), under the standard normal distribution: (...)."""
    return -0.5 * tf.reduce_sum(x**2 + np.log(2.0 * np.pi), axis=-1)


def kl_divergence(mean, log_scale):
    """Return that of normal distributions, (batch, dimensions), from the standard one: (batch,).

    Kingma and Welling, appendix B; log_scale is the logarithm of the standard deviation.
    """
    return 0.5 * tf.reduce_sum(mean**2 + tf.exp(2.0 * log_scale) - 1.0 - 2.0 * log_scale, axis=-1)


def log_likelihood(images, parameters, likelihood: str):
    """Return the log-likelihood of images in nats, summed over pixels.

    images: (..., height, width, channels) in [0, 1], for bernoulli 0 or 1; for gaussian the result is the logarithm
    of a density. parameters: the decoder's, with the same leading axes, or such that they can be broadcast.
    Raises InvalidArgumentError for images outside that range, as those in [-1, 1] would be.
    """
    low, high, pixels = tf.reduce_min(images), tf.reduce_max(images), (-3, -2, -1)
    tf.debugging.Assert((low >= 0.0) & (high <= 1.0), ["images must lie in [0, 1], not in", low, high])
    if likelihood == "bernoulli":
        return tf.reduce_sum(images * parameters - tf.nn.softplus(parameters), axis=pixels)
    mean, log_scale = tf.split(parameters, 2, axis=-1)
    log_scale = tf.maximum(log_scale, np.log(1.0 / 256.0))  # no finer than the grey values themselves
    if likelihood == "gaussian":
        error = (images - mean) * tf.exp(-log_scale)
        return -tf.reduce_sum(0.5 * (error**2 + np.log(2.0 * np.pi)) + log_scale, axis=pixels)
    # The logistic distribution's share of the interval of width 1/255 around the grey value; to black belongs all
    # below, to white all above (Salimans et al. 2017, arXiv:1701.05517, equation 2).
    # log(s(upper) - s(lower)) = log s(upper) + log s(-lower) + log(1 - exp(lower - upper)), s being the sigmoid.
    upper, lower = ((images - mean + side) * tf.exp(-log_scale) for side in (0.5 / 255.0, -0.5 / 255.0))
    is_black, is_white = images < 0.5 / 255.0, images > 254.5 / 255.0
    log_upper = tf.where(is_white, 0.0, tf.math.log_sigmoid(upper))
    log_lower = tf.where(is_black, 0.0, tf.math.log_sigmoid(-lower))
    log_width = tf.math.log(-tf.math.expm1(-tf.exp(-log_scale) / 255.0))
    return tf.reduce_sum(log_upper + log_lower + tf.where(is_black | is_white, 0.0, log_width), axis=pixels)


def bound_terms(
    networks: Networks, images, one_hot, noise, config: Config, analytic=False, training=False, encoder_shares=None
):
    """Return log p(x|z) and log q(z|x) - log p(z) for samples of the latents z from q: both (batch, samples), in nats.

    images: (batch, image_size, image_size, channels) in [0, 1]. one_hot: their classes (batch, classes). noise:
    standard normal (batch, samples, latent_dim), from which z is made so that it can be differentiated by q's
    parameters (Kingma and Welling, section 2.4). analytic: the mean of the second term in place of the term, known
    for a normal prior. encoder_shares: (batch, samples) by which the encoder's gradient is multiplied, which then
    passes through z alone and not through the density q(z|x) as well; see draw_by_weight.
    """
    samples = noise.shape[1]
    mean, log_scale = tf.split(networks.encoder([images, one_hot], training=training), 2, axis=-1)
    latents = mean[:, None] + tf.exp(log_scale)[:, None] * noise
    if encoder_shares is not None:
        shares = encoder_shares[:, :, None]
        latents = shares * latents + tf.stop_gradient((1.0 - shares) * latents)
        mean, log_scale = tf.stop_gradient(mean), tf.stop_gradient(log_scale)
        noise = (latents - mean[:, None]) * tf.exp(-log_scale)[:, None]  # the same numbers, now with z's gradient
    latents = tf.reshape(latents, (-1, config.latent_dim))  # (batch * samples, latent_dim)
    one_hot = tf.repeat(one_hot, samples, axis=0)
    parameters = networks.decoder(tf.concat([latents, one_hot], axis=-1), training=training)
    parameters = tf.reshape(parameters, (-1, samples, *parameters.shape[1:]))
    reconstruction = log_likelihood(images[:, None], parameters, config.likelihood)
    if analytic:
        return reconstruction, tf.repeat(kl_divergence(mean, log_scale)[:, None], samples, axis=1)
    normal, log_determinant = networks.prior([latents, one_hot], training=training)
    log_prior = tf.reshape(log_normal(normal) + log_determinant, (-1, samples))
    log_posterior = log_normal(noise) - tf.reduce_sum(log_scale, axis=-1, keepdims=True)
    return reconstruction, log_posterior - log_prior


def lower_bound(log_weights, bound: str):
    """Return the bound of log p(x) that log p(x,z) - log q(z|x) of samples, (batch, samples), give: (batch,).

    elbo: their mean (Kingma and Welling, equation 2); iwae: the logarithm of the mean weight (Burda et al. 2016,
    arXiv:1509.00519, equation 8).
    """
    if bound == "elbo":
        return tf.reduce_mean(log_weights, axis=-1)
    return tf.reduce_logsumexp(log_weights, axis=-1) - np.log(log_weights.shape[-1])


def draw_by_weight(noise, log_weights, uniform, count: int):
    """Return `count` of each image's samples, (batch, count, latent_dim), and the shares of the weights they have.

    With the shares, (batch, count), as probabilities they are drawn. noise: (batch, samples, latent_dim); log_weights:
    (batch, samples). uniform: in [0, 1), (batch, 1); from it on, the draws stand at equal distances in the
    distribution function, and so vary less than independent ones.

    The gradient of the importance-weighted bound is the sum of the samples' gradients, each times its share (Burda et
    al. 2016, equation 14); so the mean gradient of the drawn ones estimates it, unbiased. By the encoder's parameters
    it is also the sum of those parts of their gradients that pass through z, each times its share squared (Tucker et
    al. 2019, arXiv:1810.04152): of the drawn ones, times its share. That varies less, as it goes to 0 where the
    encoder is right.
    """
    shares = tf.nn.softmax(log_weights)
    positions = (tf.range(count, dtype=tf.float32) + uniform) / count
    drawn = tf.searchsorted(tf.cumsum(shares, axis=-1), positions, side="right")
    drawn = tf.minimum(drawn, noise.shape[1] - 1)  # rounding may leave the distribution's last value below 1
    return tf.gather(noise, drawn, batch_dims=1), tf.gather(shares, drawn, batch_dims=1)


def build(config: Config, channels: int, classes: int) -> dict:
    """Return all that is trained and saved, by name: the networks, their average, and the optimizer."""
    networks, averaged_networks = (build_networks(config, channels, classes) for _ in range(2))
    for average, variable in zip(averaged_networks.variables, networks.variables, strict=True):
        average.assign(variable)
    schedule = keras.optimizers.schedules.CosineDecay(
        config.learning_rate / RATE_WARMUP,
        config.decay_steps,
        alpha=0.01,
        warmup_target=config.learning_rate,
        warmup_steps=RATE_WARMUP,
    )
    optimizer = keras.optimizers.Adam(lambda: schedule(keras.ops.maximum(optimizer.iterations - config.decay_from, 0)))
    optimizer.build(networks.trainable_variables)
    return {"networks": networks, "averaged_networks": averaged_networks, "optimizer": optimizer}


def build_networks(config: Config, channels: int, classes: int) -> Networks:
    """Return the three networks and the prior's inverse, for pictures of so many channels and classes."""
    encoder, decoder = build_encoder(config, channels, classes), build_decoder(config, channels, classes)
    return Networks(encoder, decoder, *build_prior(config, classes))


def build_generator(networks: Networks, config: Config) -> keras.Model:
    """Map standard normal numbers, with one-hot classes behind them, (batch, latent_dim + classes) to mean images.

    The images, (batch, image_size, image_size, channels), are in [0, 1].
    """
    inputs = keras.Input(networks.decoder.input_shape[1:])
    normal, one_hot = inputs[:, : config.latent_dim], inputs[:, config.latent_dim :]
    latents = networks.inverse_prior([normal, one_hot])
    parameters = networks.decoder(keras.ops.concatenate([latents, one_hot], axis=-1))
    if config.likelihood == "bernoulli":
        images = keras.ops.sigmoid(parameters)
    else:
        images = keras.ops.clip(parameters[..., : parameters.shape[-1] // 2], 0.0, 1.0)
    return keras.Model(inputs, images, name="generator")


def make_train_step(networks: Networks, averaged_networks: Networks, optimizer, config: Config, classes: int):
    """Return the step, which updates the networks once and returns what it minimised, and its two terms, in nats.

    Its arguments: pixels, uint8 (batch, image_size, image_size, channels); labels, int32 (batch,); the step's number.
    """
    analytic = config.bound == "elbo" and config.prior == "normal"

    def train_step(pixels, labels, step):
        images, batch_size = pictures.to_unit(pixels), pixels.shape[0]
        if config.likelihood == "bernoulli":  # at random if the data are grey, which they are with dynamic binarization
            uniform = devices.uniform(tuple(pixels.shape), config.seed, step, stream=1)
            images = tf.cast(uniform < images, tf.float32)
        noise = devices.normal((batch_size, config.importance_samples, config.latent_dim), config.seed, step)
        progress = tf.cast(step, tf.float32)
        weight = config.beta * tf.minimum(1.0, (1.0 + progress) / (1.0 + config.warmup_steps))

        one_hot = tf.one_hot(labels, classes)

        def terms(noise, bound, encoder_shares=None):
            reconstruction, divergence = bound_terms(
                networks, images, one_hot, noise, config, analytic, training=True, encoder_shares=encoder_shares
            )
            log_weights = reconstruction - weight * divergence
            loss = tf.nn.compute_average_loss(-lower_bound(log_weights, bound))
            return loss, reconstruction, divergence, log_weights

        bound, encoder_shares = config.bound, None
        if config.backward_samples:
            of_all = terms(noise, bound)
            uniform = devices.uniform((batch_size, 1), config.seed, step, stream=2)
            noise, shares = draw_by_weight(noise, of_all[-1], uniform, config.backward_samples)
            # What the shares replace is the gradient by way of q's density, which has the divergence's weight.
            bound, encoder_shares = "elbo", 1.0 - weight * (1.0 - shares)
        with tf.GradientTape() as tape:
            learned_from = terms(noise, bound, encoder_shares)
        gradients = tape.gradient(learned_from[0], networks.trainable_variables)
        loss, reconstruction, divergence, _ = of_all if config.backward_samples else learned_from
        optimizer.apply(gradients, networks.trainable_variables)

        # Exponential moving average of the weights; faster in the beginning, so that the first, useless steps are soon
        # forgotten.
        decay = tf.minimum(config.average_decay, (1.0 + progress) / (10.0 + progress))
        for average, variable in zip(averaged_networks.variables, networks.variables, strict=True):
            average.assign(decay * average + (1.0 - decay) * variable)
        return {
            "negative_bound": loss,
            "reconstruction_error": tf.nn.compute_average_loss(-tf.reduce_mean(reconstruction, axis=-1)),
            "kl_divergence": tf.nn.compute_average_loss(tf.reduce_mean(divergence, axis=-1)),
        }

    return train_step


def sample(generator, normal, labels, classes: int) -> np.ndarray:
    """Return the mean images, uint8 (N, image_size, image_size, channels), of normal numbers (N, latent_dim).

    labels: the images' classes (N,), or one for all; of no effect if classes is 0.
    """
    labels = np.broadcast_to(labels, len(normal))
    return pictures.from_unit(devices.in_batches(generator, tf.concat([normal, tf.one_hot(labels, classes)], axis=-1)))


def encode(networks: Networks, images, one_hot) -> np.ndarray:
    """Return the normal numbers, (N, latent_dim), to which the mean latents of images (N, …) in [0, 1] belong."""

    def network(rows, training):
        inputs = [tf.gather(images, rows), tf.gather(one_hot, rows)]
        mean, _ = tf.split(networks.encoder(inputs, training=training), 2, axis=-1)
        return networks.prior([mean, inputs[1]], training=training)[0]

    return devices.in_batches(network, np.arange(len(images)))


def load(config: Config, split: str = "train", channels: int = 0) -> datasets.Images:
    """Return the pictures as the networks are to see them: grey, or black and white once and for all.

    With dynamic binarization only the training pictures stay grey, until each step.
    """
    data = datasets.load(config.data, config.image_size, split, channels or config.channels)
    if config.likelihood != "bernoulli" or (config.binarization == "dynamic" and split == "train"):
        return data
    return datasets.binarize(data, at_random=config.binarization != "threshold")


def make_importance_weighted(networks: Networks, config: Config, classes: int, samples: int):
    """Return a function that measures images with `samples` latents each; memory does not grow with their number.

    Its arguments: uint8 (N, image_size, image_size, channels); labels (N,); what its progress bar says. It returns, in
    nats, float64 (N,): the two terms of the ELBO, log p(x|z) and the divergence, and the importance-weighted bound.
    """
    most = min(samples, 500)
    sizes = [min(most, samples - start) for start in range(0, samples, most)]
    rows = max(1, DECODED_AT_ONCE // most)

    @tf.function
    def terms(pixels, labels, number, samples):
        noise = devices.normal((pixels.shape[0], samples, config.latent_dim), config.seed, number)
        return bound_terms(networks, pictures.to_unit(pixels), tf.one_hot(labels, classes), noise, config)

    def importance_weighted(pixels, labels, title: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        numbers, figures = itertools.count(), []
        for start in cli.progress(range(0, len(pixels), rows), title):
            block = pixels[start : start + rows], labels[start : start + rows]
            parts = [terms(*block, tf.constant(next(numbers)), size) for size in sizes]
            parts = [np.concatenate(part, axis=1).astype(np.float64) for part in zip(*parts, strict=True)]
            reconstruction, divergence = parts  # (rows, samples)
            bound = np.logaddexp.reduce(reconstruction - divergence, axis=1) - np.log(samples)
            figures.append((reconstruction.mean(axis=1), divergence.mean(axis=1), bound))
        return tuple(np.concatenate(figure) for figure in zip(*figures, strict=True))

    return importance_weighted


def train(config: Config) -> dict[str, float]:
    """Train a run, from its start or from where it was interrupted, and return its last row of metrics."""
    if config.label:
        raise cli.UserError("--label: chooses what --sample, --interpolate or --between draws; give one of them, too")
    if config.bound == "iwae" and config.importance_samples == 1:
        raise cli.UserError("--bound iwae: is the ELBO with one sample; give --importance_samples 5, or 50")
    if config.backward_samples and (config.bound == "elbo" or config.backward_samples > config.importance_samples):
        raise cli.UserError(
            f"--backward_samples {config.backward_samples}: takes --bound iwae, and at least as many "
            "--importance_samples; 0 turns it off"
        )
    if config.likelihood != "bernoulli" and config.binarization != Config.binarization:
        raise cli.UserError(
            f"--binarization {config.binarization}: is for --likelihood bernoulli; the others take grey"
        )
    device = devices.setup(config)
    data = load(config)
    if config.conditional and not data.class_names:
        raise cli.UserError(f"--conditional: {data.name} has no classes; put each class into a folder of its own")
    classes = len(data.class_names) if config.conditional else 0

    with device.strategy.scope():
        state = build(config, data.channels, classes)
    averaged_networks = state["averaged_networks"]
    generator = build_generator(averaged_networks, config)
    train_step = device.compile(make_train_step(**state, config=config, classes=classes))
    row_names = data.class_names if config.conditional else ()
    grid_labels = np.repeat(np.arange(classes or GRID_COLUMNS), GRID_COLUMNS)
    normal = latent_space.draw(len(grid_labels), config.latent_dim, config.seed)  # the same for every grid of the run

    def grid():
        images = sample(generator, normal, grid_labels, classes)
        advice = "posterior collapse; a longer --warmup_steps or a --beta below 1 may help"
        run.look_for_trouble(images, grid_labels if classes else None, loss=None, alike=advice)
        return pictures.grid(images, GRID_COLUMNS, row_names)

    with runs.Run(config, device, data, DEFAULT_STEPS, **state) as run:
        for epoch in run.epochs():
            for pixels, labels in run.batches(epoch):
                if run.show_is_due:
                    run.show(grid())
                run.log(train_step(pixels, labels, run.step))
        run.finish(grid(), encoder=averaged_networks.encoder, prior=averaged_networks.prior, generator=generator)
    return run.metrics


def generate(config: Config) -> None:
    """Write what the command line asks of the run in `config.run` into its folder generated/."""
    if config.label and not (config.sample or config.interpolate or config.between):
        raise cli.UserError(f"--label {config.label}: --evaluate and --classify measure the images of all classes")
    # Log-likelihoods are sums over many pixels: always in float32.
    devices.setup(dataclasses.replace(config, precision="float32"))
    run = stored.StoredRun(config.run)
    classes = len(run.class_names) if config.conditional else 0
    networks = build_networks(config, run.channels, classes)
    run.restore(averaged_networks=networks)
    generator = build_generator(networks, config)
    if config.sample:
        labels = run.labels(config, config.sample)
        normal = latent_space.draw(config.sample, config.latent_dim, config.seed)
        run.save_samples(sample(generator, normal, labels, classes), labels if classes else None)
    if config.interpolate:
        walk = latent_space.round_trips(16, config.latent_dim, config.seed)  # (64, 16, latent_dim)
        labels = np.tile(run.labels(config, 16), len(walk))
        images = sample(generator, walk.reshape(-1, config.latent_dim), labels, classes)
        run.save_walk(images.reshape(*walk.shape[:2], *images.shape[1:]))
        draw_latents(config, generator, run, classes)
    if config.between:
        walk_between(config, networks, generator, run, classes)
    if config.evaluate:
        evaluate(config, networks, generator, run, classes)
    if config.classify:
        classify(config, networks, run)
    print(f"written to {run.generated}")


def draw_latents(config: Config, generator, run: stored.StoredRun, classes: int) -> None:
    """Draw what lies where: with two latents a map; with more, a row for each, the strongest first."""
    if config.latent_dim == 2:
        images = sample(generator, latent_space.plane(20), run.labels(config, 1), classes)
        pictures.save_png(run.generated / "map.png", pictures.grid(images, 20))
        return
    images = sample(generator, latent_space.axes(config.latent_dim, 11), run.labels(config, 1), classes)
    images = images.reshape(config.latent_dim, 11, *images.shape[1:])
    strongest = images.std(axis=1).mean(axis=(1, 2, 3)).argsort()[::-1][:MOST_TRAVERSED]
    sheet = pictures.grid(np.concatenate(images[strongest]), 11, tuple(map(str, strongest)))
    pictures.save_png(run.generated / "traversals.png", sheet)


def walk_between(config: Config, networks: Networks, generator, run: stored.StoredRun, classes: int) -> None:
    """Write the way between the two pictures of --between, through their latents, as between.png and between.gif."""
    if len(config.between) != 2:
        raise cli.UserError(f"--between: takes two picture files, not {len(config.between)}")
    if classes and not config.label:
        raise cli.UserError("--between: the run was trained with --conditional; tell the pictures' class with --label")
    given = datasets.read_pictures(config.between, config.image_size, run.channels)
    given = datasets.Images(given, run.labels(config, 2), run.class_names, "the given pictures")
    if config.likelihood == "bernoulli":
        given = datasets.binarize(given, at_random=config.binarization != "threshold")
    start, end = encode(networks, pictures.to_unit(given.images), tf.one_hot(given.labels, classes))
    walk = np.concatenate([latent_space.spherical_walk(start[None], end[None], 15)[:, 0], end[None]])
    images = sample(generator, walk, given.labels[:1], classes)
    sheet = np.concatenate([given.images[:1], images, given.images[1:]])
    pictures.save_png(run.generated / "between.png", pictures.grid(sheet, len(sheet)))
    pictures.save_gif(run.generated / "between.gif", [pictures.grid(it[None], 1) for it in [*images, *images[::-1]]])


def evaluate(config: Config, networks: Networks, generator, run: stored.StoredRun, classes: int) -> None:
    """Print the bounds on the test images beside published figures, and write them as evaluation.json.

    Beside it reconstructions of test images, below each its own, and the normal numbers of all, in colours of classes.
    """
    test = load(config, "test", run.channels)  # first: a folder, which may be large, has none
    run.check_data(load(config, channels=run.channels))
    normal = encode(networks, pictures.to_unit(test.images), tf.one_hot(test.labels, classes))
    shown = sample(generator, normal[:50], test.labels[:50], classes)
    pictures.save_png(run.generated / "reconstructions.png", pictures.counterparts([test.images[:50], shown], 10))
    pictures.save_scatter(run.generated / "latents.png", normal, test.labels, test.class_names)

    samples = config.evaluation_samples
    figures = make_importance_weighted(networks, config, classes, samples)(test.images, test.labels, "evaluating")
    reconstruction, divergence, bound = (figure.mean() for figure in figures)
    result = {
        "data": test.name,
        "test_images": len(test.images),
        "likelihood": config.likelihood,
        "binarization": config.binarization if config.likelihood == "bernoulli" else "none",
        "given_the_class": bool(classes),
        "elbo": reconstruction - divergence,
        "reconstruction": reconstruction,
        "kl_divergence": divergence,
        "importance_samples": samples,
        "importance_weighted_bound": bound,
        "standard_error": figures[2].std() / np.sqrt(len(test.images)),
        "active_units": int((normal.var(axis=0) > 0.01).sum()),  # Burda et al. 2016, section 5
    }
    files.write_json(run.generated / "evaluation.json", result)
    print(f"nats, {test.name}, binarization: {result['binarization']}")
    print(f"  ELBO {result['elbo']:.2f} = log p(x|z) {reconstruction:.2f} - divergence {divergence:.2f}")
    print(f"  {result['active_units']} of {config.latent_dim} latents are active")
    print(f"negative log-likelihood, at most (importance-weighted bound with {samples:,} samples):")
    print(f"  {'this run':60} {-bound:.2f} ± {result['standard_error']:.2f}")
    if classes:
        print("  (of images given their classes, which is up to log of the number of classes better than without)")
    elif result["binarization"] == "dynamic" and test.is_mnist:
        for name, figure in PUBLISHED_FIGURES.items():
            print(f"  {name:60} {figure:.2f}")


def classify(config: Config, networks: Networks, run: stored.StoredRun) -> None:
    """Print how often a test image is likeliest under its own class, and write and draw who is taken for whom.

    Bayes' rule: the class with the highest log p(x|class) + log p(class) is chosen, the first being the
    importance-weighted bound and the second the class's share of the training images.
    """
    if not config.conditional:
        raise cli.UserError(f"--classify: {run.folder} knows no classes; train a run with --conditional")
    test, training = (load(config, split, run.channels) for split in ("test", "train"))
    run.check_data(training)
    classes = len(run.class_names)
    importance_weighted = make_importance_weighted(networks, config, classes, CLASSIFY_SAMPLES)
    log_shares = np.log(np.bincount(training.labels, minlength=classes) / len(training.labels))
    scores = np.empty((len(test.labels), classes))
    for label, name in enumerate(run.class_names):
        _, _, bound = importance_weighted(test.images, np.full_like(test.labels, label), f"class {name}")
        scores[:, label] = bound + log_shares[label]
    found = scores.argmax(axis=-1)
    matrix = pictures.save_confusion(run.generated / "confusion.png", test.labels, found, run.class_names)
    accuracy = float((found == test.labels).mean())
    result = {"data": test.name, "accuracy": accuracy, "samples": CLASSIFY_SAMPLES, "confusion": matrix.tolist()}
    files.write_json(run.generated / "classification.json", result)
    print(f"{accuracy:.2%} of {test.name} are likeliest under their own class")


@cli.one_line_errors
def main(argv=None):
    """Run the command line `argv`, by default the process's own."""
    config = stored.configure(Config, argv, __doc__)
    if config.evaluation_samples != Config.evaluation_samples and not config.evaluate:
        raise cli.UserError(f"--evaluation_samples {config.evaluation_samples}: says how to --evaluate; give both")
    if config.uses_trained_run:
        generate(config)
    else:
        train(config)


if __name__ == "__main__":
    main()
