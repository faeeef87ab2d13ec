"""A script in miniature, with which the tests exercise what all scripts share: it trains for less than a second.

Its network learns a mean picture for each class, and Dropout gives it a random state that a checkpoint must keep.
"""

import dataclasses
from typing import Annotated

import common.environment  # noqa: F401 - first: it sets what TensorFlow reads at its import

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from common import cli, datasets, devices, flags, generated, latent_space, pictures, runs, saved_runs

DEFAULT_STEPS = 100


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(cli.PictureConfig):
    """Settings of tiny_script.py."""

    data: Annotated[str, flags.NamesData] = "auto"
    """A data set or a folder of pictures."""
    image_size: flags.Positive = 8
    """Side of the images in pixels."""
    conditional: bool = False
    """Learn a mean picture for each class."""
    label: Annotated[str, flags.Changeable, flags.Needs("sample", "interpolate")] = ""
    """The class to draw."""
    epochs: Annotated[flags.Count, flags.TrainingOnly] = 0
    """Passes over the data; 0 for 100 steps."""
    batch_size: flags.Positive = 16
    """Images per step."""
    latent_dim: flags.Positive = 32
    """Latents per image."""
    dropout: Annotated[float, flags.Between(0.0, 0.9)] = 0.3
    """Fraction of the latents that are set to 0 in training."""
    learning_rate: Annotated[float, flags.Between(1e-7, 1.0)] = 1e-2
    """Step size."""


def build(config: Config, channels: int, classes: int) -> dict:
    """Return the network, from latents and one-hot classes to images in [0, 1], and its optimizer."""
    latents = keras.Input((config.latent_dim + classes,))
    x = layers.Dense(config.image_size**2 * channels)(layers.Dropout(config.dropout)(latents))
    network = keras.Model(latents, layers.Reshape((config.image_size, config.image_size, channels), dtype="float32")(x))
    optimizer = keras.optimizers.Adam(config.learning_rate)
    optimizer.build(network.trainable_variables)
    return {"network": network, "optimizer": optimizer}


def make_train_step(network, optimizer, config: Config, classes: int):
    """Return the training step, which returns two losses."""

    def train_step(pixels, labels, step):
        latents = devices.normal((pixels.shape[0], config.latent_dim), config.seed, step)
        with tf.GradientTape() as tape:
            images = network(tf.concat([latents, tf.one_hot(labels, classes)], axis=-1), training=True)
            errors = images - pictures.to_unit(pixels)
            loss = tf.nn.compute_average_loss(tf.reduce_mean(errors**2, axis=(1, 2, 3)))
        optimizer.apply(tape.gradient(loss, network.trainable_variables), network.trainable_variables)
        return {"loss": loss, "bias": tf.nn.compute_average_loss(tf.reduce_mean(errors, axis=(1, 2, 3)))}

    return train_step


def sample(network, latents: np.ndarray, labels: np.ndarray, classes: int) -> np.ndarray:
    """Return images of latents (N, latent_dim) and labels (N,)."""
    one_hot = np.eye(classes, dtype=np.float32)[labels] if classes else np.zeros((len(labels), 0), np.float32)
    return pictures.from_unit(devices.predict(network, np.concatenate([latents, one_hot], axis=-1)))


def train(config: Config) -> None:
    """Train a run, or continue one."""
    device = devices.setup(config)
    data = datasets.load(config.data, config.image_size, channels=config.channels)
    classes = data.class_count(config)
    with device.strategy.scope():
        networks = build(config, data.channels, classes)
    train_step = device.compile(make_train_step(**networks, config=config, classes=classes))
    latents = latent_space.draw(2, config.latent_dim, config.seed)

    def grid():
        return pictures.grid(sample(networks["network"], latents, np.zeros(2, int), classes), 2)

    with runs.Run(config, device, data, DEFAULT_STEPS, **networks) as run:
        for epoch in run.epochs():
            for pixels, labels, step in run.batches(epoch):
                if run.show_is_due:
                    run.show(grid())
                run.log(train_step(pixels, labels, step))
        run.finish(grid(), network=networks["network"])


def generate(config: Config) -> None:
    """Draw samples from a trained run."""
    devices.setup(config)
    run = saved_runs.SavedRun(config.run, config.to)
    classes = run.class_count(config)
    network = build(config, run.channels, classes)["network"]
    run.restore(network=network)
    generated.samples_and_walk(run, config, lambda latents, labels: sample(network, latents, labels, classes))


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
