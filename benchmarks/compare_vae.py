"""vae.py against the convolutional VAE of TensorFlow's tutorial, at the tutorial's own setting: test ELBO over minutes.

Both train on MNIST, black from a threshold on, with two latents, in one process, in turns of a few seconds, each on a
clock of its own, so that a noisy machine is noisy for both. Ours is the default network otherwise; the tutorial's is
built here from its description (https://www.tensorflow.org/tutorials/generative/cvae): two convolutions of 32 and 64,
a normal prior, batches of 32, Adam with 1e-4. Measured is the ELBO of the test images with one sample of the latents
each, as the tutorial measures itself.

Writes outputs/benchmarks/compare_vae.json and .png.

    python -m benchmarks.compare_vae
"""

import argparse
from pathlib import Path

import keras
import tensorflow as tf
from keras import layers
from matplotlib.figure import Figure

import vae
from benchmarks import quality, race
from benchmarks.race import Contender
from common import cli, datasets, devices, files, latent_space

# The tutorial's setting, as far as it can be told on our command line.
SHARED = {"data": "mnist", "latent_dim": 2, "binarization": "threshold", "prior": "normal", "precision": "float32"}
OURS = vae.Config(**SHARED, decay_steps=8_000)  # about as many as it has in ten minutes
TUTORIAL = vae.Config(**SHARED, batch_size=32)


def elbo(test: datasets.Images, networks: vae.Networks, config: vae.Config) -> float:
    """Return the mean ELBO of the test images, in nats."""
    measure = vae.make_importance_weighted(networks, config, classes=0, samples=1)
    reconstruction, divergence, _ = measure(test.images, test.labels, "measuring")
    return float((reconstruction - divergence).mean())


def sampler(networks: vae.Networks, config: vae.Config):
    """Return a function that makes so many images, always from the same latents."""
    generator = vae.build_generator(networks, config)
    return lambda count: vae.sample(generator, latent_space.draw(count, config.latent_dim, seed=1), 0, classes=0)


def contender(name: str, data, test, config: vae.Config, step, networks: vae.Networks, saved, **ends) -> Contender:
    """Return a contender that notes the ELBO of `test`, too."""

    def test_elbo() -> dict[str, float]:
        return {"test_elbo": elbo(test, networks, config)}

    sample = sampler(networks, config)
    return Contender(name, "compare_vae", data, config.batch_size, step, sample, saved, test_elbo, **ends)


def ours(data: datasets.Images, test: datasets.Images, **ends) -> Contender:
    """Return vae.py's contender, of which the averaged networks are measured; `ends` as for a Contender."""
    device = devices.setup(OURS)
    state = vae.build(OURS, data.channels, classes=0)
    step = device.compile(vae.make_train_step(**state, config=OURS, classes=0))
    return contender("ours", data, test, OURS, step, state["averaged_networks"], state, **ends)


def tutorial(data: datasets.Images, test: datasets.Images, **ends) -> Contender:
    """Return the tutorial's contender, in float32; `ends` as for a Contender."""
    keras.config.set_dtype_policy("float32")
    keras.utils.set_random_seed(0)
    encoder = keras.Sequential(
        [
            layers.Conv2D(32, 3, strides=2, activation="relu"),
            layers.Conv2D(64, 3, strides=2, activation="relu"),
            layers.Flatten(),
            layers.Dense(2 * TUTORIAL.latent_dim),
        ]
    )
    images, one_hot = keras.Input((28, 28, 1)), keras.Input((0,))
    mean, log_variance = keras.ops.split(encoder(images), 2, axis=-1)
    encoder = keras.Model([images, one_hot], keras.ops.concatenate([mean, log_variance / 2.0], axis=-1))
    decoder = keras.Sequential(
        [
            keras.Input((TUTORIAL.latent_dim,)),
            layers.Dense(7 * 7 * 32, activation="relu"),
            layers.Reshape((7, 7, 32)),
            layers.Conv2DTranspose(64, 3, strides=2, padding="same", activation="relu"),
            layers.Conv2DTranspose(32, 3, strides=2, padding="same", activation="relu"),
            layers.Conv2DTranspose(1, 3, padding="same"),
        ]
    )
    networks = vae.Networks(encoder, decoder, *vae.build_prior(TUTORIAL, 0))
    optimizer = keras.optimizers.Adam(1e-4)
    optimizer.build(networks.trainable_variables)

    @tf.function
    def step(pixels, labels, number):
        noise = devices.normal((pixels.shape[0], 1, TUTORIAL.latent_dim), 0, number)
        one_hot = tf.zeros((pixels.shape[0], 0))
        with tf.GradientTape() as tape:  # the tutorial, too, samples the divergence
            terms = vae.bound_terms(networks, tf.cast(pixels, tf.float32) / 255.0, one_hot, noise, TUTORIAL)
            loss = -tf.reduce_mean(terms[0] - terms[1])
        optimizer.apply(tape.gradient(loss, networks.trainable_variables), networks.trainable_variables)
        return {"loss": loss}

    saved = {"networks": networks, "optimizer": optimizer}
    return contender("tutorial", data, test, TUTORIAL, step, networks, saved, **ends)


def draw(points: list[dict], path: Path) -> None:
    """Draw the test ELBO over the minutes."""
    figure = Figure(figsize=(8, 4), layout="constrained")
    axes = figure.subplots()
    for name in ("ours", "tutorial"):
        mine = [point for point in points if point["contender"] == name]
        axes.semilogx([p["seconds"] / 60 for p in mine], [p["test_elbo"] for p in mine], ".-", label=name)
    axes.set(xlabel="minutes of training", ylabel="test ELBO, nats")
    axes.grid(alpha=0.3, which="both")
    axes.legend()
    with files.whole(path) as file:
        figure.savefig(file, format="png", dpi=120)


@cli.one_line_errors
def main(argv=None):
    """Train both for so many minutes each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0, help="of training for each (%(default)s)")
    seconds = 60 * parser.parse_args(argv).minutes
    data, test = (vae.load(OURS, split) for split in ("train", "test"))
    rivals = [contestant(data, test, until_seconds=seconds) for contestant in (ours, tutorial)]
    result = race.race(rivals, quality.Judge())
    quality.write_json("compare_vae", {"minutes": seconds / 60, **result})
    draw(result["points"], quality.FOLDER / "compare_vae.png")
    print(f"written to {quality.FOLDER / 'compare_vae.json'} and .png")


if __name__ == "__main__":
    main()
