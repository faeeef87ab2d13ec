"""dcgan_mnist.py against the DCGAN of TensorFlow's tutorial: Fréchet distance over minutes of training.

Both train on MNIST in one process, in turns of a few seconds, each on a clock of its own, so that a noisy machine is
noisy for both. Ours is the default command's network and settings; the tutorial's is built here from its description
(https://www.tensorflow.org/tutorials/generative/dcgan), in float32, one plain step a batch.

Writes outputs/benchmarks/compare_dcgan.json and .png. It may be interrupted, and goes on where it was.

    python -m benchmarks.compare_dcgan
"""

import argparse
import json
import time
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from keras import layers
from matplotlib.figure import Figure

import dcgan_mnist
from benchmarks import quality
from common import checkpoints, cli, datasets, devices, files, pictures

TURN_SECONDS = 5.0
# Where the tutorial's samples first look like rough digits; how soon ours are as good is what we want to know.
MILESTONE_IMAGES = 409_600
SHOWN = 10  # images in the plot for each contender and time
SHOWN_AT = (30, 60, 120, 300, 600, 1800, 3600)


class Contender:
    """A network in training, with its clock."""

    def __init__(self, name: str, data: datasets.Images, batch_size: int, latent_dim: int, step, generator, saved):
        """step: trains on uint8 images and a step's number. saved: what its checkpoint holds."""
        self.name, self.data, self.batch_size, self.latent_dim = name, data, batch_size, latent_dim
        self._step, self._generator = step, generator
        self.steps = tf.Variable(0, dtype=tf.int64)
        self._saved = {**saved, "steps": self.steps}
        self._folder = quality.FOLDER / "compare_dcgan" / name
        self._folder.mkdir(parents=True, exist_ok=True)
        kept = checkpoints.restore(self._folder, self._saved)
        self.seconds = float(kept["seconds"]) if kept else 0.0
        self.processor_seconds = float(kept["processor_seconds"]) if kept else 0.0
        self.points = json.loads(str(kept["points"])) if kept else []
        self.shown = (
            {int(seconds): images for seconds, images in zip(kept["shown_at"], kept["shown"], strict=True)}
            if kept
            else {}
        )

    @property
    def images(self) -> int:
        """Real images seen so far."""
        return int(self.steps.numpy()) * self.batch_size

    def train(self, seconds: float, until_images: int) -> None:
        """Train for some seconds of its clock, or until it has seen so many images."""
        per_epoch = len(self.data.images) // self.batch_size
        started, before = time.monotonic(), self.seconds
        processor_started = time.process_time()
        while self.seconds - before < seconds and self.images < until_images:
            epoch, batch = divmod(int(self.steps.numpy()), per_epoch)
            if batch == 0 or not hasattr(self, "_order"):
                self._order = np.random.default_rng([0, epoch]).permutation(len(self.data.images))
            chosen = self._order[batch * self.batch_size : (batch + 1) * self.batch_size]
            losses = self._step(tf.constant(self.data.images[chosen]), self.steps)
            losses["discriminator_loss"].numpy()  # wait for the step to end
            self.steps.assign_add(1)
            self.seconds = before + time.monotonic() - started
        self.processor_seconds += time.process_time() - processor_started

    def measure(self, judge: quality.Judge) -> None:
        """Note the distance of 10,000 images, and keep some for the plot."""
        latents = np.random.default_rng(1).standard_normal((10_000, self.latent_dim), np.float32)
        images = dcgan_mnist.sample(self._generator, latents)
        point = {"contender": self.name, "seconds": round(self.seconds, 2), "images": self.images}
        point |= {"processor_seconds": round(self.processor_seconds, 2), **judge.measure(images)}
        self.points.append(point)
        print(
            f"{self.name:9} {point['seconds']:8.1f} s  {point['images']:9,} images  "
            f"distance {point['frechet_distance']:8.2f}  entropy {point['class_entropy']:.3f}",
            flush=True,
        )
        for second in SHOWN_AT:
            if self.seconds >= second and second not in self.shown:
                self.shown[second] = images[:SHOWN]
        checkpoints.save(
            self._folder,
            int(self.steps.numpy()),
            self._saved,
            seconds=np.array(self.seconds),
            processor_seconds=np.array(self.processor_seconds),
            points=np.array(json.dumps(self.points)),
            shown_at=np.array(list(self.shown)),
            shown=np.array(list(self.shown.values())),
        )


def ours(data: datasets.Images, config: dcgan_mnist.Config, name: str = "ours") -> Contender:
    """Return dcgan_mnist.py with the given settings."""
    device = devices.setup(config)
    state = dcgan_mnist.build(config, data.channels, classes=0)
    train_step = device.compile(dcgan_mnist.make_train_step(**state, config=config, classes=0))
    labels = tf.zeros(config.batch_size, tf.int32)
    return Contender(
        name,
        data,
        config.batch_size,
        config.latent_dim,
        lambda pixels, step: train_step(pixels, labels, step),
        state["averaged_generator"],
        state,
    )


def tutorial(data: datasets.Images) -> Contender:
    """Return the tutorial's two networks and its step: Adam with 1e-4, batches of 256, float32."""
    keras.config.set_dtype_policy("float32")
    keras.utils.set_random_seed(0)
    batch_size, latent_dim = 256, 100
    generator = keras.Sequential(
        [
            keras.Input((latent_dim,)),
            layers.Dense(7 * 7 * 256, use_bias=False),
            layers.BatchNormalization(),
            layers.LeakyReLU(),
            layers.Reshape((7, 7, 256)),
            layers.Conv2DTranspose(128, 5, strides=1, padding="same", use_bias=False),
            layers.BatchNormalization(),
            layers.LeakyReLU(),
            layers.Conv2DTranspose(64, 5, strides=2, padding="same", use_bias=False),
            layers.BatchNormalization(),
            layers.LeakyReLU(),
            layers.Conv2DTranspose(1, 5, strides=2, padding="same", use_bias=False, activation="tanh"),
        ]
    )
    discriminator = keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Conv2D(64, 5, strides=2, padding="same"),
            layers.LeakyReLU(),
            layers.Dropout(0.3),
            layers.Conv2D(128, 5, strides=2, padding="same"),
            layers.LeakyReLU(),
            layers.Dropout(0.3),
            layers.Flatten(),
            layers.Dense(1),
        ]
    )
    optimizers = [keras.optimizers.Adam(1e-4), keras.optimizers.Adam(1e-4)]
    optimizers[0].build(generator.trainable_variables)
    optimizers[1].build(discriminator.trainable_variables)
    cross_entropy = keras.losses.BinaryCrossentropy(from_logits=True)

    @tf.function
    def step(pixels, number):
        images = pictures.to_signed(pixels)
        latents = devices.normal((batch_size, latent_dim), 0, number)
        with tf.GradientTape() as generator_tape, tf.GradientTape() as discriminator_tape:
            fakes = generator(latents, training=True)
            real, fake = discriminator(images, training=True), discriminator(fakes, training=True)
            generator_loss = cross_entropy(tf.ones_like(fake), fake)
            discriminator_loss = cross_entropy(tf.ones_like(real), real) + cross_entropy(tf.zeros_like(fake), fake)
        for network, tape, loss, optimizer in (
            (generator, generator_tape, generator_loss, optimizers[0]),
            (discriminator, discriminator_tape, discriminator_loss, optimizers[1]),
        ):
            optimizer.apply(tape.gradient(loss, network.trainable_variables), network.trainable_variables)
        return {"generator_loss": generator_loss, "discriminator_loss": discriminator_loss}

    saved = {
        "generator": generator,
        "discriminator": discriminator,
        "generator_optimizer": optimizers[0],
        "discriminator_optimizer": optimizers[1],
    }
    return Contender("tutorial", data, batch_size, latent_dim, step, generator, saved)


def draw(contenders: list[Contender], floor: float, path: Path) -> None:
    """Draw the distances over minutes, and images of both at equal minutes."""
    times = [second for second in SHOWN_AT if any(second in contender.shown for contender in contenders)]
    figure = Figure(figsize=(10, 4 + 0.5 * len(times)), layout="constrained")
    upper, lower = figure.subfigures(2, 1, height_ratios=[4, 0.55 * len(times)])
    axes = upper.subplots()
    for contender in contenders:
        points = [point for point in contender.points if point["seconds"] > 0]
        minutes = [point["seconds"] / 60 for point in points]
        axes.loglog(minutes, [point["frechet_distance"] for point in points], ".-", label=contender.name)
    axes.axhline(floor, color="grey", linestyle=":", label="real training images")
    axes.set(xlabel="minutes of training", ylabel="Fréchet distance")
    axes.grid(alpha=0.3, which="both")
    axes.legend()
    cells = lower.subplots(len(times), len(contenders), squeeze=False)
    for row, second in zip(cells, times, strict=True):
        for cell, contender in zip(row, contenders, strict=True):
            cell.axis("off")
            if second in contender.shown:
                cell.set_title(f"{contender.name}, {second / 60:g} min", fontsize=8, loc="left", pad=2)
                cell.imshow(np.hstack(contender.shown[second][..., 0]), cmap="gray", aspect="equal")
    with files.whole(path) as file:
        figure.savefig(file, format="png", dpi=120)


@cli.one_line_errors
def main(argv=None):
    """Train both, ours as long as the default command does, the tutorial's until it has seen so many images."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--images",
        type=int,
        default=MILESTONE_IMAGES,
        help="that the tutorial's network sees (%(default)s; its 50 epochs are 3000000)",
    )
    tutorial_images = parser.parse_args(argv).images
    judge = quality.Judge()
    data = datasets.load("mnist", 28)
    config = dcgan_mnist.Config()
    contenders = [ours(data, config), tutorial(data)]
    images_per_epoch = len(data.images) // config.batch_size * config.batch_size
    epochs = -(-dcgan_mnist.DEFAULT_STEPS * config.batch_size // images_per_epoch)  # the default command's
    until_images = [epochs * images_per_epoch, tutorial_images]
    print(f"training images against test images: {judge.floor:.3f}", flush=True)

    while any(contender.images < until for contender, until in zip(contenders, until_images, strict=True)):
        for contender, until in zip(contenders, until_images, strict=True):
            if contender.images >= until:
                continue
            before_milestone = contender.images < MILESTONE_IMAGES and contender.name == "tutorial"
            contender.train(TURN_SECONDS, min(until, MILESTONE_IMAGES) if before_milestone else until)
            last = contender.points[-1]["seconds"] if contender.points else 0.0
            # Ever more rarely, as a plot over the logarithm of time needs it.
            if (
                contender.seconds >= last + min(max(0.4 * last, TURN_SECONDS), 600.0)
                or contender.images == MILESTONE_IMAGES
                or contender.images >= until
            ):
                contender.measure(judge)
    result = {"floor": judge.floor, "points": [point for contender in contenders for point in contender.points]}
    quality.write_json("compare_dcgan", result)
    draw(contenders, judge.floor, quality.FOLDER / "compare_dcgan.png")
    print(f"written to {quality.FOLDER / 'compare_dcgan.json'} and .png")


if __name__ == "__main__":
    main()
