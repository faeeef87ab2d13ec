"""Autoencoder: two networks compress pictures to a short code and restore them, and so learn what matters in them.

The encoder maps a picture to a few numbers, the code; the decoder maps the code back to a picture. Both are trained
together so that the restored picture differs little from the original. A denoising autoencoder gets noisy pictures and
learns to return the clean ones. A binary code has bits in place of numbers, so that similar pictures are found fast.
A second loss, the contrastive one, trains half of the code to stay the same when a picture is rotated, sheared, scaled
or shifted, but to differ between pictures. This separates the classes without labels; --contrast 0 omits it.

Papers: Hinton and Salakhutdinov, "Reducing the Dimensionality of Data with Neural Networks", 2006; Vincent et al.,
"Extracting and Composing Robust Features with Denoising Autoencoders", 2008; Salakhutdinov and Hinton, "Semantic
Hashing", 2009; contrastive loss: Chen et al. 2020 (arXiv:2002.05709). docs/autoencoder.md lists what differs, and why.

    python autoencoder.py                               train on MNIST, 32 numbers a picture: 8 minutes on one core
    python autoencoder.py --kind denoising              learn to remove noise
    python autoencoder.py --code binary                 learn codes of 32 bits instead of 32 numbers
    python autoencoder.py --reconstruct a.png b.png     encode and decode your own pictures with the newest run
    python autoencoder.py --nearest a.png               the training pictures with the nearest codes
    python autoencoder.py --evaluate                    compare the newest run with PCA, filters and JPEG
"""

import dataclasses
import functools
from pathlib import Path
from typing import Annotated, Literal

import common.environment  # noqa: F401 - first: it sets what TensorFlow reads at its import

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from blocks.adam import Adam
from blocks.contrastive import nt_xent
from blocks.distortion import random_affine
from blocks.mixture import draw_from_mixture, fit_mixture
from blocks.schedules import cosine_by_progress
from blocks.straight_through import straight_through_sign
from common import cli, datasets, devices, files, flags, generated, image_files, pictures, runs, saved_runs
from common.cores import side_by_side
from common.latent_space import lerp
from evaluation.learned_codes import evaluate_codes, squared_errors

GRID_COLUMNS = 10
DEFAULT_STEPS = 8_000
TEMPERATURE = 0.2  # of the contrastive loss; with 0.1 and 0.5 a linear classifier does worse (docs/autoencoder.md)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(cli.PictureConfig):
    """Settings of autoencoder.py; where ours differ, the help gives the papers'."""

    data: Annotated[str, flags.NamesData] = "auto"
    """auto (MNIST, or the bundled small digits if it is unavailable), mnist, digits, cifar10, or a folder."""
    image_size: Annotated[flags.Positive, flags.MultipleOf(4, "network=conv")] = 28
    """Side of the square images in pixels; a multiple of 4 for --network conv."""
    network: Literal["conv", "dense"] = "conv"
    """Convolutions, or dense layers as in the papers."""
    width: flags.Positive = 16
    """Channels of the first convolution, doubled in the second; --network dense has 32 times as many units."""
    code_size: flags.Positive = 32
    """Numbers or bits in a code; the papers have 30 numbers for MNIST and, for example, 32 bits for texts."""
    code_noise: Annotated[float, flags.Between(0.0, 10.0)] = 0.1
    """Standard deviation of the noise added to the code in training; the code's own is 1."""
    kind: Literal["plain", "denoising"] = "plain"
    """Learn to return the picture itself, or the clean picture from a noisy one (Vincent et al. 2008)."""
    noise: Annotated[Literal["gaussian", "masking", "salt_and_pepper"], flags.Needs("kind=denoising")] = "gaussian"
    """Add normal noise, set random pixels to 0 (Vincent et al. 2008), or set random pixels to 0 or 1."""
    noise_level: Annotated[
        float, flags.Between(0.01, 2.0), flags.Needs("kind=denoising"), flags.Needs("noise=gaussian", above=1.0)
    ] = 0.5
    """Standard deviation of gaussian noise (pixels are in [0, 1]); fraction of pixels set by the other kinds."""
    code: Literal["real", "binary"] = "real"
    """Codes of real numbers, or of bits (Salakhutdinov and Hinton 2009)."""
    contrast: Annotated[
        float, flags.Between(0.0, 1e6), flags.Excludes("jit=on", reason="add --contrast 0 (XLA cannot distort images)")
    ] = 10.0
    """Weight of the contrastive loss on half of the code; the papers have no such loss (0)."""
    epochs: Annotated[flags.Count, flags.TrainingOnly] = 0
    """Passes over the data; 0 for 8,000 steps, 18 epochs of MNIST."""
    batch_size: flags.Positive = 128
    """Images per step."""
    learning_rate: Annotated[float, flags.Between(1e-7, 1.0)] = 2e-3
    """Adam's initial step size, which falls along a cosine to 0 at the end of the training."""
    reconstruct: Annotated[tuple[str, ...], flags.UsesRun()] = ()
    """Picture files: encode and decode them with a trained run, and mark those with unusually large errors."""
    as_they_are: Annotated[bool, flags.Changeable, flags.Needs("reconstruct")] = False
    """For a denoising run: add no noise to the pictures of --reconstruct, which are noisy already."""
    nearest: Annotated[flags.Named, flags.UsesRun(reads_data=True)] = ""
    """A picture file: find the training pictures with the nearest codes."""
    evaluate: Annotated[bool, flags.UsesRun(reads_data=True)] = False
    """Measure a trained run on the test images: reconstruction, denoising, classification, compression."""


def build_encoder(config: Config, channels: int) -> keras.Model:
    """Map images (batch, image_size, image_size, channels) in [0, 1] to codes (batch, code_size), before any rounding.

    In training, each number of a code has mean 0 and standard deviation 1 over the batch. The hidden units are swish
    (Ramachandran et al. 2017, arXiv:1710.05941); the papers' are logistic.
    """
    images = keras.Input((config.image_size, config.image_size, channels))
    if config.network == "conv":
        x = layers.Conv2D(config.width, 4, strides=2, padding="same", activation="swish")(images)  # MNIST: (14, 14, 16)
        x = layers.Conv2D(2 * config.width, 4, strides=2, padding="same", activation="swish")(x)  # MNIST: (7, 7, 32)
        x = layers.Flatten()(x)
        x = layers.Dense(16 * config.width, activation="swish")(x)
    else:
        x = layers.Flatten()(images)
        for _ in range(2):
            x = layers.Dense(32 * config.width, activation="swish")(x)
    x = layers.Dense(config.code_size, use_bias=False, dtype="float32")(x)
    codes = layers.BatchNormalization(
        momentum=0.97, epsilon=1e-5, center=False, scale=False, synchronized=True, dtype="float32"
    )(x)
    return keras.Model(images, codes, name="encoder")


def build_decoder(config: Config, channels: int) -> keras.Model:
    """Map codes (batch, code_size) to images (batch, image_size, image_size, channels) in [0, 1]."""
    size = config.image_size
    codes = x = keras.Input((config.code_size,))
    if config.network == "conv":
        x = layers.Dense(16 * config.width, activation="swish")(x)
        x = layers.Dense(size // 4 * size // 4 * 2 * config.width, activation="swish")(x)
        x = layers.Reshape((size // 4, size // 4, 2 * config.width))(x)  # MNIST: (7, 7, 32)
        x = layers.Conv2DTranspose(config.width, 4, strides=2, padding="same", activation="swish")(x)  # (14, 14, 16)
        x = layers.Conv2DTranspose(channels, 4, strides=2, padding="same", activation="sigmoid", dtype="float32")(x)
    else:
        for _ in range(2):
            x = layers.Dense(32 * config.width, activation="swish")(x)
        x = layers.Dense(size * size * channels, activation="sigmoid", dtype="float32")(x)
        x = layers.Reshape((size, size, channels), dtype="float32")(x)  # the default may be bfloat16
    return keras.Model(codes, x, name="decoder")


def reconstruction_loss(images, reconstructions):
    """Return the squared error, summed over the pixels of an image and averaged over the batch."""
    return tf.nn.compute_average_loss(tf.reduce_sum((images - reconstructions) ** 2, axis=(1, 2, 3)))


def encoder_input(images, config: Config, step=0, stream: int = 0):
    """Return the encoder's input: the images or, for a denoising autoencoder, noisy copies of them."""
    return add_noise(images, config, step, stream) if config.kind == "denoising" else images


def add_noise(images, config: Config, step, stream: int = 0):
    """Return noisy copies of images (batch, height, width, channels) in [0, 1], not clipped to that range.

    Masking: Vincent et al. 2008, section 2.3. stream: a different one for each use in a step; stream + 1 is used, too.
    """
    shape = tuple(images.shape)
    if config.noise == "gaussian":
        return images + config.noise_level * devices.normal(shape, config.seed, step, stream)
    is_hit = devices.uniform(shape, config.seed, step, stream) < config.noise_level
    if config.noise == "masking":
        return tf.where(is_hit, 0.0, images)
    return tf.where(is_hit, tf.round(devices.uniform(shape, config.seed, step, stream + 1)), images)


def bottleneck(codes, config: Config, step):
    """Return the decoder's input in training: codes (batch, code_size) with noise, then rounded if binary."""
    codes += config.code_noise * devices.normal(tuple(codes.shape), config.seed, step, stream=2)
    return straight_through_sign(codes) if config.code == "binary" else codes


def contrastive_loss(codes, distorted_codes):
    """Return the cross-entropy, in nats, of finding each image's distorted copy in the batch by half of the code."""
    half = (codes.shape[-1] + 1) // 2  # the other half may store what the distortions change
    return nt_xent(codes[:, :half], distorted_codes[:, :half], TEMPERATURE)


def build(config: Config, channels: int) -> dict:
    """Return what is trained and saved, by name: the networks and the optimizer."""
    encoder, decoder = build_encoder(config, channels), build_decoder(config, channels)
    optimizer = Adam(config.learning_rate)
    optimizer.build(encoder.trainable_variables + decoder.trainable_variables)
    return {"encoder": encoder, "decoder": decoder, "optimizer": optimizer}


def make_train_step(encoder, decoder, optimizer, config: Config):
    """Return the training step: it updates both networks once and returns the losses.

    Its arguments: pixels, uint8 (batch, image_size, image_size, channels); the step's number; the progress, 0 to 1.
    """
    variables = encoder.trainable_variables + decoder.trainable_variables
    standardize = encoder.layers[-1]  # needs the whole batch; the other layers compute parts of it side by side
    unstandardized = keras.Model(encoder.inputs, standardize.input)

    def train_step(pixels, step, progress):
        images = pictures.to_unit(pixels)
        inputs = encoder_input(images, config, step)
        if config.contrast:
            distorted = random_affine(images, devices.uniform((images.shape[0], 6), config.seed, step, stream=3))
            inputs = tf.concat([inputs, encoder_input(distorted, config, step, stream=4)], axis=0)

        with tf.GradientTape() as tape:
            codes = standardize(side_by_side(unstandardized, inputs), training=True)  # distorted ones, too
            if config.contrast:
                codes, distorted_codes = tf.split(codes, 2)
            outputs = side_by_side(decoder, bottleneck(codes, config, step))
            losses = {"reconstruction_loss": reconstruction_loss(images, outputs)}
            loss = losses["reconstruction_loss"]
            if config.contrast:
                losses["contrastive_loss"] = contrastive_loss(codes, distorted_codes)
                loss += config.contrast * losses["contrastive_loss"]

        optimizer.learning_rate.assign(cosine_by_progress(config.learning_rate, step, 1, progress))
        optimizer.apply(tape.gradient(loss, variables), variables)
        return losses

    return train_step


def decode(decoder, codes, config: Config) -> np.ndarray:
    """Round codes (N, code_size), if binary, and decode them: float32 (N, height, width, channels) in [0, 1]."""
    return devices.predict(decoder, straight_through_sign(codes) if config.code == "binary" else codes)


def train(config: Config) -> dict[str, float]:
    """Train a run, from its start or from where it was interrupted, and return its last row of metrics."""
    data = datasets.load(config.data, config.image_size, channels=config.channels)
    device = devices.setup(config, side_by_side=2)  # two parts of a batch
    with device.scope():
        networks = build(config, data.channels)
    encoder, decoder = networks["encoder"], networks["decoder"]
    train_step = device.compile(make_train_step(**networks, config=config))
    chosen = np.random.default_rng(config.seed).choice(len(data.images), 4 * GRID_COLUMNS)
    images = pictures.to_unit(data.images[chosen])  # the same in every grid of the run
    inputs = encoder_input(images, config)

    def grid():
        outputs = decode(decoder, devices.predict(encoder, inputs), config)
        rows = [images, inputs, outputs] if config.kind == "denoising" else [images, outputs]
        return pictures.counterparts([pictures.from_unit(row) for row in rows], GRID_COLUMNS)

    with runs.Run(config, device, data, DEFAULT_STEPS, **networks) as run:
        (run.folder / "codes.npz").unlink(missing_ok=True)  # out of date when a finished run is trained further
        for epoch in run.epochs():
            for pixels, _, step in run.batches(epoch):
                if run.show_is_due:
                    run.show(grid())
                run.log(train_step(pixels, step, run.progress))
        run.finish(grid(), encoder=encoder, decoder=decoder)
        write_codes(run.folder / "codes.npz", encoder, decoder, data, config)
    return run.metrics


def write_codes(path: Path, encoder, decoder, data: datasets.Images, config: Config) -> None:
    """Write each training picture's name, label, code (bits packed) and error, and the mixture for --sample."""
    codes, errors = [], []
    parts = np.array_split(data.images, -(-len(data.images) // 1000))  # of at most 1,000 pictures
    for part, pixels in enumerate(cli.progress(parts, "coding the pictures, for --sample and --nearest")):
        images = pictures.to_unit(pixels)
        codes.append(devices.predict(encoder, images))
        inputs = encoder_input(images, config, step=part)  # so that each part has its own noise
        input_codes = codes[-1] if inputs is images else devices.predict(encoder, inputs)
        errors.append(squared_errors(images, decode(decoder, input_codes, config)))
    codes = np.concatenate(codes)
    files.write_npz(
        path,
        codes=np.packbits(codes > 0, axis=-1) if config.code == "binary" else codes,
        names=np.array(data.files or [f"{data.name} {number:05d}" for number in range(len(codes))]),
        labels=data.labels,
        errors=np.concatenate(errors),
        **fit_mixture(codes, config.seed),
    )


def code_distances(saved_codes, code, config: Config) -> np.ndarray:
    """Return the distances (N,) of saved codes from a code (code_size,) before rounding: Hamming or Euclidean."""
    if config.code == "binary":
        different = np.bitwise_count(saved_codes ^ np.packbits(code > 0))  # bits that differ, in each byte
        return different.sum(axis=-1, dtype=np.uint16)  # small integers are sorted fastest
    return np.linalg.norm(saved_codes - code, axis=-1)


def generate(config: Config) -> None:
    """Write what the command line requests of the trained run `config.run` into its folder generated/."""
    devices.setup(config)
    run = saved_runs.SavedRun(config.run, config.to)
    encoder, decoder = build_encoder(config, run.channels), build_decoder(config, run.channels)
    run.restore(encoder=encoder, decoder=decoder)
    saved = run.arrays("codes.npz")

    def generate_images(codes, labels):
        return pictures.from_unit(decode(decoder, codes, config))

    draw_codes = functools.partial(draw_from_mixture, saved["weights"], saved["means"], saved["covariances"])
    if config.sample:
        generated.samples(run, config, generate_images, draw_codes)
    if config.interpolate:
        generated.walk(run, config, generate_images, draw_codes, lerp)
    if config.reconstruct:
        reconstruct(config, encoder, decoder, run, saved["errors"])
    if config.nearest:
        find_nearest(config, encoder, run, saved)
    if config.evaluate:
        evaluate(config, encoder, decoder, run, saved["codes"])
    run.report()


def reconstruct(config: Config, encoder, decoder, run: saved_runs.SavedRun, training_errors) -> None:
    """Encode and decode the user's pictures; show them and list their errors."""
    images = pictures.to_unit(image_files.read_pictures(config.reconstruct, config.image_size, run.channels))
    inputs = images if config.as_they_are else encoder_input(images, config)
    outputs = decode(decoder, devices.predict(encoder, inputs), config)
    noisy = {} if inputs is images else {"noisy": inputs}
    columns = {"input": images, **noisy, "output": outputs}
    columns = {name: pictures.from_unit(column) for name, column in columns.items()}
    if config.kind == "denoising" and config.as_they_are:
        training_errors = None  # not comparable: these errors are mostly the removed noise
    generated.reconstructions(run, config.reconstruct, columns, squared_errors(images, outputs), training_errors)


def find_nearest(config: Config, encoder, run: saved_runs.SavedRun, saved: dict[str, np.ndarray]) -> None:
    """Show and list the training pictures whose codes are nearest to that of the user's picture."""
    query = image_files.read_pictures([config.nearest], config.image_size, run.channels)
    code = devices.predict(encoder, pictures.to_unit(query))[0]
    data = datasets.load(config.data, config.image_size, channels=config.channels)
    run.check_data(data)
    find_distances = functools.partial(code_distances, saved["codes"], code, config)
    unit = "bits that differ" if config.code == "binary" else "Euclidean distance"
    generated.nearest(run, query, data.images, saved["names"], saved["labels"], find_distances, unit)


def evaluate(config: Config, encoder, decoder, run: saved_runs.SavedRun, training_codes) -> None:
    """Measure on the test images what the codes are good for; print the figures and write evaluation.json."""
    test, train = (datasets.load(config.data, config.image_size, split, run.channels) for split in ("test", "train"))
    run.check_data(train)
    if config.code == "binary":  # packed bits to -1 and 1
        training_codes = 2.0 * np.unpackbits(training_codes, axis=-1, count=config.code_size) - 1.0
    encode = functools.partial(devices.predict, encoder)
    decode_codes = functools.partial(decode, decoder, config=config)
    corrupt = (lambda images, draw: add_noise(images, config, step=draw)) if config.kind == "denoising" else None
    measure = functools.partial(evaluate_codes, is_binary=config.code == "binary", seed=config.seed)
    run.write("evaluation.json", measure, train, test, training_codes, encode, decode_codes, corrupt)


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
