"""A variational autoencoder whose log-likelihood and posterior are known: its decoder is linear, with normal noise."""

import numpy as np
import tensorflow as tf
from scipy import stats

import vae

SCALE = 0.5  # of the noise
# Two latents with orthogonal weights for four pixels, so that the posterior's covariance is diagonal.
WEIGHTS = np.array([[0.4, 0.4, -0.2, -0.2], [0.1, 0.1, 0.2, 0.2]], np.float32)
CONFIG = vae.Config(
    network="dense", latent_dim=2, image_size=2, likelihood="gaussian", prior="normal", precision="float32"
)
PIXELS = np.random.default_rng(0).integers(0, 256, (5, 2, 2, 1), np.uint8)
IMAGES = PIXELS.astype(np.float32) / 255
NO_CLASSES = np.zeros(5, np.int32)


def networks(offset=0.0) -> vae.Networks:
    """With the exact posterior or, with an offset, one whose means are off by it and whose scales are too large."""
    variance = 1 / (1 + (WEIGHTS**2).sum(axis=1) / SCALE**2)

    def encoder(inputs):
        mean = (tf.reshape(inputs[0], (-1, 4)) - 0.5) @ WEIGHTS.T / SCALE**2 * variance + offset
        log_scale = tf.zeros_like(mean) + 0.5 * np.log(variance).astype(np.float32) + offset
        return tf.concat([mean, log_scale], axis=-1)

    def decoder(latents):
        mean = tf.reshape(latents @ WEIGHTS + 0.5, (-1, 2, 2, 1))
        return tf.concat([mean, tf.fill(mean.shape, np.float32(np.log(SCALE)))], axis=-1)

    def prior(inputs):
        return inputs[0], tf.zeros(len(inputs[0]))

    return vae.Networks(encoder, decoder, prior, inverse_prior=lambda inputs: inputs[0])


def networks_with(posterior) -> vae.Networks:
    """With the mean and log scale of one posterior, (1, 4), for all images, or of one for each, (images, 4)."""
    return networks()._replace(encoder=lambda inputs: tf.broadcast_to(posterior, (len(inputs[0]), 4)))


def bound_terms(of: vae.Networks, noise, images=IMAGES, closed_form=False):
    return vae.bound_terms(of, images, tf.zeros((len(images), 0)), noise, CONFIG, closed_form)


def log_likelihood() -> np.ndarray:
    covariance = WEIGHTS.T @ WEIGHTS + SCALE**2 * np.eye(4)
    return stats.multivariate_normal(np.full(4, 0.5), covariance).logpdf(PIXELS.reshape(-1, 4) / 255)
