"""Autoencoder: a network learns to reproduce pictures through a narrow code, and so what matters in them.

The encoder turns a picture into a few numbers, the code; the decoder makes the picture again. With what passes through
so narrow a place pictures can be cleaned of noise, compared, found again and told apart; --evaluate measures each.
Half of the code also learns what of a picture stays the same when it is turned, slanted, scaled and shifted, and so
what the picture shows: --contrast 0 leaves that out.

Papers: Hinton and Salakhutdinov, "Reducing the Dimensionality of Data with Neural Networks", 2006; Vincent et al.,
"Extracting and Composing Robust Features with Denoising Autoencoders", 2008; Salakhutdinov and Hinton, "Semantic
Hashing", 2009; for the contrast Chen et al., "A Simple Framework for Contrastive Learning of Visual Representations",
2020 (arXiv:2002.05709). What differs from them, and why, stands in docs/autoencoder.md.

    python autoencoder.py                               train on MNIST: 32 numbers for a picture
    python autoencoder.py --kind denoising              learn to clean noisy pictures
    python autoencoder.py --code binary                 learn codes of 32 bits
    python autoencoder.py --reconstruct a.png b.png     your own pictures, in and out
    python autoencoder.py --nearest a.png               the training pictures with the nearest codes
    python autoencoder.py --evaluate                    what the newest run's codes are good for, in numbers
"""

import dataclasses
import time
from pathlib import Path
from typing import Annotated, Literal

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from common import cli, datasets, devices, files, latent_space, pictures, runs, stored, yardsticks

GRID_COLUMNS = 10
DEFAULT_STEPS = 8_000
NEAREST = 10
TEMPERATURE = 0.2  # of the contrastive loss; with 0.1 and 0.5 a linear classifier does worse (docs/autoencoder.md)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(cli.PictureConfig):
    """Settings of autoencoder.py; where ours differ, the help gives the papers'."""

    data: Annotated[str, cli.OfData] = "auto"
    """auto (MNIST, or the small digits in the box when it cannot be had), mnist, digits, cifar10, or a folder."""
    image_size: cli.Positive = 28
    """Side of the square images in pixels; a multiple of 4 for --network conv."""
    kind: Literal["plain", "denoising"] = "plain"
    """Learn to reproduce the picture itself, or the clean picture behind a noisy one (Vincent et al. 2008)."""
    noise: Literal["gaussian", "masking", "salt_and_pepper"] = "gaussian"
    """With --kind denoising: normal noise is added, pixels are set to 0, or pixels are set to 0 or 1."""
    noise_level: Annotated[float, cli.Between(0.0, 2.0)] = 0.5
    """Standard deviation of gaussian noise, with pixels of 0 to 1; the share of pixels that the others hit."""
    network: Literal["conv", "dense"] = "conv"
    """Convolutions, or dense layers as in the papers."""
    code: Literal["real", "binary"] = "real"
    """A code of real numbers, or of bits (Salakhutdinov and Hinton 2009)."""
    code_size: cli.Positive = 32
    """Numbers, or bits, in a code; the papers have 30 for MNIST, and 32 bits, for example, for texts."""
    code_noise: Annotated[float, cli.Between(0.0, 10.0)] = 0.1
    """Noise on the code in training, against its own standard deviation of 1."""
    contrast: Annotated[float, cli.Between(0.0, 1e6)] = 10.0
    """Weight of the contrastive loss on half of the code; the papers have none: 0."""
    width: cli.Positive = 16
    """Channels of the first convolution, twice as many in the second; --network dense has 32 times as many units."""
    epochs: Annotated[cli.Count, cli.OfTraining] = 0
    """Passes over the data; 0 for as many as make 8,000 steps: 18 over MNIST."""
    batch_size: cli.Positive = 128
    """Images in a step."""
    learning_rate: Annotated[float, cli.Between(1e-7, 1.0)] = 2e-3
    """Adam's first step size; it falls along a cosine to a hundredth of it at step 8,000."""
    reconstruct: Annotated[tuple[str, ...], cli.MayChange] = ()
    """Picture files: send them through a trained run, and tell the odd ones."""
    as_they_are: Annotated[bool, cli.MayChange] = False
    """With --reconstruct and a denoising run: add no noise, as the pictures are noisy themselves."""
    nearest: Annotated[cli.Named, cli.MayChange] = ""
    """A picture file: find the training pictures with the nearest codes."""
    evaluate: Annotated[bool, cli.MayChange] = False
    """Measure on the test images what a trained run's codes are good for."""

    @property
    def uses_trained_run(self) -> bool:
        """Whether this command makes something with a trained run instead of training one."""
        return super().uses_trained_run or bool(self.reconstruct or self.nearest or self.evaluate)

    @property
    def reads_data(self) -> bool:
        """Whether this command reads the data that a run is trained on."""
        return super().reads_data or self.evaluate or bool(self.nearest)


def build_encoder(config: Config, channels: int) -> keras.Model:
    """Map images (batch, image_size, image_size, channels) in [0, 1] to codes (batch, code_size), before any rounding.

    Each number of a code has mean 0 and standard deviation 1 over the batch.
    """
    images = keras.Input((config.image_size, config.image_size, channels))
    if config.network == "conv":
        x = activation(layers.Conv2D(config.width, 4, strides=2, padding="same")(images))  # MNIST: (14, 14, 16)
        x = activation(layers.Conv2D(2 * config.width, 4, strides=2, padding="same")(x))  # MNIST: (7, 7, 32)
        x = layers.Flatten()(x)
        x = activation(layers.Dense(16 * config.width)(x))
    else:
        x = layers.Flatten()(images)
        for _ in range(2):
            x = activation(layers.Dense(32 * config.width)(x))
    x = layers.Dense(config.code_size, use_bias=False, dtype="float32")(x)
    codes = layers.BatchNormalization(
        momentum=0.97, epsilon=1e-5, center=False, scale=False, synchronized=True, dtype="float32"
    )(x)
    return keras.Model(images, codes, name="encoder")


def build_decoder(config: Config, channels: int) -> keras.Model:
    """Map codes (batch, code_size) to images (batch, image_size, image_size, channels) in [0, 1]."""
    size = config.image_size
    codes = keras.Input((config.code_size,))
    if config.network == "conv":
        if size % 4:
            raise cli.UserError(f"--image_size {size}: must be a multiple of 4 for --network conv")
        x = activation(layers.Dense(16 * config.width)(codes))
        x = activation(layers.Dense(size // 4 * size // 4 * 2 * config.width)(x))
        x = layers.Reshape((size // 4, size // 4, 2 * config.width))(x)  # MNIST: (7, 7, 32)
        x = activation(layers.Conv2DTranspose(config.width, 4, strides=2, padding="same")(x))  # MNIST: (14, 14, 16)
        x = layers.Conv2DTranspose(channels, 4, strides=2, padding="same", activation="sigmoid", dtype="float32")(x)
        return keras.Model(codes, x, name="decoder")
    x = codes
    for _ in range(2):
        x = activation(layers.Dense(32 * config.width)(x))
    x = layers.Dense(size * size * channels, activation="sigmoid", dtype="float32")(x)
    return keras.Model(codes, layers.Reshape((size, size, channels))(x), name="decoder")


def activation(x):
    """Swish (Ramachandran et al. 2017, arXiv:1710.05941); the papers have logistic units throughout."""
    return layers.Activation("swish")(x)


def corrupt(images, config: Config, step, stream: int = 0):
    """Return images (batch, height, width, channels) in [0, 1] with the noise of a training step; not clipped.

    stream: another for each use in a step; the one after it is used, too.
    """
    shape = tuple(images.shape)
    if config.noise == "gaussian":
        return images + config.noise_level * devices.normal(shape, config.seed, step, stream)
    hit = devices.uniform(shape, config.seed, step, stream) < config.noise_level
    if config.noise == "masking":
        return tf.where(hit, 0.0, images)
    return tf.where(hit, tf.round(devices.uniform(shape, config.seed, step, stream + 1)), images)


def seen(images, config: Config, step=0, stream: int = 0):
    """Return what the encoder gets to see of images: with the noise of a step, or as they are."""
    return corrupt(images, config, step, stream) if config.kind == "denoising" else images


def distort(images, config: Config, step):
    """Return images (batch, height, width, channels) turned, slanted, scaled and shifted, each in its own way.

    By up to 25 degrees; 0.4 of the height; a factor of 1.28 in height and in width; and a tenth of each.
    """
    height, width = images.shape[1:3]
    random = 2.0 * devices.uniform((images.shape[0], 6), config.seed, step, stream=3) - 1.0
    angle, slant, *scales_and_shifts = tf.unstack(random * [np.radians(25), 0.4, 0.25, 0.25, 0.1, 0.1], axis=-1)
    x_scale, y_scale = (tf.exp(it) for it in scales_and_shifts[:2])
    sine, cosine = tf.sin(angle), tf.cos(angle)
    # Where in the image each pixel of the result lies: x' = a x + b y + c, y' = d x + e y + f, around the centre.
    a, b = x_scale * cosine, x_scale * (slant * cosine - sine)
    d, e = y_scale * sine, y_scale * (slant * sine + cosine)
    x, y = (width - 1) / 2, (height - 1) / 2
    c, f = (it * size for it, size in zip(scales_and_shifts[2:], (width, height), strict=True))
    zero = tf.zeros_like(angle)
    transform = tf.stack([a, b, x - a * x - b * y + c, d, e, y - d * x - e * y + f, zero, zero], axis=-1)
    return keras.ops.image.affine_transform(images, transform, data_format="channels_last")


def to_bits(codes):
    """Round codes to bits, written as -1 and 1. In training the gradient passes as if nothing were rounded.

    Bengio et al. 2013 (arXiv:1308.3432), section 4: the straight-through estimator.
    """
    return codes + tf.stop_gradient(tf.where(codes > 0, 1.0, -1.0) - codes)


def bottleneck(codes, config: Config, step):
    """Turn codes (batch, code_size) into what the decoder sees of them in training: with noise, perhaps rounded."""
    codes += config.code_noise * devices.normal(tuple(codes.shape), config.seed, step, stream=2)
    return to_bits(codes) if config.code == "binary" else codes


def reconstruction_loss(images, reconstructions):
    """Squared error, summed over the pixels of an image: its mean over the batch."""
    return tf.nn.compute_average_loss(tf.reduce_sum((images - reconstructions) ** 2, axis=(1, 2, 3)))


def contrastive_loss(codes, others):
    """Tell each code's own counterpart from those of all other images: the mean cross-entropy, in nats.

    codes, others: of the images and of the same images distorted, (batch, code_size). Only the first half of each
    counts, and of that the direction (Chen et al. 2020, equation 1, there with the other images of both kinds).
    """
    half = (codes.shape[-1] + 1) // 2
    codes, others = (tf.math.l2_normalize(it[:, :half], axis=-1) for it in (codes, others))
    losses = 0.0
    for these, those in ((codes, others), (others, codes)):
        those = devices.whole_batch(those)
        own = devices.part_of_batch(tf.range(those.shape[0]))
        similarities = tf.matmul(these, those, transpose_b=True) / TEMPERATURE  # (batch, whole batch)
        losses += 0.5 * tf.nn.sparse_softmax_cross_entropy_with_logits(own, similarities)
    return tf.nn.compute_average_loss(losses)


def build(config: Config, channels: int) -> dict:
    """Return all that is trained and saved, by name: the networks and the optimizer."""
    encoder, decoder = build_encoder(config, channels), build_decoder(config, channels)
    optimizer = keras.optimizers.Adam(
        keras.optimizers.schedules.CosineDecay(config.learning_rate, DEFAULT_STEPS, alpha=0.01)
    )
    optimizer.build(encoder.trainable_variables + decoder.trainable_variables)
    return {"encoder": encoder, "decoder": decoder, "optimizer": optimizer}


def make_train_step(encoder, decoder, optimizer, config: Config):
    """Return the step, which updates both networks once and returns the losses.

    Its arguments: pixels, uint8 (batch, image_size, image_size, channels); the step's number.
    """
    variables = encoder.trainable_variables + decoder.trainable_variables

    def train_step(pixels, step):
        images = pictures.to_unit(pixels)
        shown = seen(images, config, step)
        if config.contrast:
            shown = tf.concat([shown, seen(distort(images, config, step), config, step, stream=4)], axis=0)
        with tf.GradientTape() as tape:
            codes, *others = tf.split(encoder(shown, training=True), shown.shape[0] // images.shape[0])
            outputs = decoder(bottleneck(codes, config, step), training=True)
            losses = {"reconstruction_loss": reconstruction_loss(images, outputs)}
            loss = losses["reconstruction_loss"]
            if config.contrast:
                losses["contrastive_loss"] = contrastive_loss(codes, *others)
                loss += config.contrast * losses["contrastive_loss"]
        optimizer.apply(tape.gradient(loss, variables), variables)
        return losses

    return train_step


def encode(encoder, images) -> np.ndarray:
    """Return the codes before any rounding, float32 (N, code_size), of images (N, height, width, channels)."""
    return devices.in_batches(encoder, images)


def decode(decoder, codes, config: Config) -> np.ndarray:
    """Return the images, float32 (N, height, width, channels) in [0, 1], of codes (N, code_size), rounded if binary."""
    return devices.in_batches(decoder, to_bits(codes) if config.code == "binary" else codes)


def squared_errors(images, reconstructions) -> np.ndarray:
    """Return each image's squared error, summed over its pixels: float32 (N,)."""
    return np.sum((np.asarray(images) - reconstructions) ** 2, axis=(1, 2, 3))


def train(config: Config) -> dict[str, float]:
    """Train a run, from its start or from where it was interrupted, and return its last row of metrics."""
    if config.kind == "plain" and (config.noise != "gaussian" or config.noise_level != Config.noise_level):
        raise cli.UserError(f"--noise {config.noise} --noise_level {config.noise_level}: need --kind denoising")
    if config.jit == "on" and config.contrast:
        raise cli.UserError("--jit on: XLA does not know the distortions of --contrast; add --contrast 0")
    if config.noise != "gaussian" and config.noise_level > 1:
        raise cli.UserError(
            f"--noise_level {config.noise_level}: with --noise {config.noise} it is a share of the pixels"
        )
    if config.kind == "denoising" and config.noise_level == 0:
        raise cli.UserError("--noise_level 0: leaves nothing to clean; without --kind denoising there is no noise")
    device = devices.setup(config)
    data = datasets.load(config.data, config.image_size, channels=config.channels)

    with device.strategy.scope():
        networks = build(config, data.channels)
    encoder, decoder = networks["encoder"], networks["decoder"]
    train_step = device.compile(make_train_step(**networks, config=config))
    chosen = np.random.default_rng(config.seed).choice(len(data.images), 4 * GRID_COLUMNS)
    images = pictures.to_unit(data.images[chosen])  # the same for every grid of the run
    shown = seen(images, config)

    def grid():
        parts = [images, shown, decode(decoder, encode(encoder, shown), config)]
        if config.kind == "plain":
            del parts[1]
        return pictures.counterparts([pictures.from_unit(part) for part in parts], GRID_COLUMNS)

    with runs.Run(config, device, data, DEFAULT_STEPS, **networks) as run:
        (run.folder / "codes.npz").unlink(missing_ok=True)  # of a run that is trained further: from other weights
        for epoch in run.epochs():
            for pixels, _ in run.batches(epoch):
                if run.show_is_due:
                    run.show(grid())
                run.log(train_step(pixels, run.step))
        run.finish(grid(), encoder=encoder, decoder=decoder)
        write_codes(run.folder / "codes.npz", encoder, decoder, data, config)
    return run.metrics


def write_codes(path: Path, encoder, decoder, data: datasets.Images, config: Config) -> None:
    """Write the names, labels, codes and errors of all training pictures, and the mixture that --sample draws from.

    Bits are packed, eight to a byte.
    """
    codes, errors = [], []
    for step, pixels in enumerate(cli.progress(np.array_split(data.images, -(-len(data.images) // 1000)), "coding")):
        images = pictures.to_unit(pixels)
        codes.append(encode(encoder, images))
        of_seen = encode(encoder, seen(images, config, step)) if config.kind == "denoising" else codes[-1]
        errors.append(squared_errors(images, decode(decoder, of_seen, config)))
    codes = np.concatenate(codes)
    with files.whole(path) as file:
        np.savez(
            file,
            codes=np.packbits(codes > 0, axis=-1) if config.code == "binary" else codes,
            names=np.array(data.files or [f"{data.name} {number:05d}" for number in range(len(codes))]),
            labels=data.labels,
            errors=np.concatenate(errors),
            **latent_space.fit_mixture(codes, config.seed),
        )


def code_distances(stored_codes, code, config: Config) -> np.ndarray:
    """Return how far a code (code_size,), before rounding, is from each of those that `write_codes` keeps: (N,).

    Bits: how many differ (Hamming distance). Real numbers: Euclidean.
    """
    if config.code == "binary":
        different = np.bitwise_count(stored_codes ^ np.packbits(code > 0))
        return different.sum(axis=-1, dtype=np.uint16)  # small integers are sorted fastest
    return np.linalg.norm(stored_codes - code, axis=-1)


def generate(config: Config) -> None:
    """Make with the run in `config.run` what the command line asks for, into its folder generated/."""
    devices.setup(config)
    run = stored.StoredRun(config.run)
    encoder, decoder = build_encoder(config, run.channels), build_decoder(config, run.channels)
    run.restore(encoder=encoder, decoder=decoder)
    codes = run.arrays("codes.npz")
    mixture = {name: codes[name] for name in ("weights", "means", "covariances")}
    if config.sample:
        drawn = latent_space.draw_from_mixture(**mixture, count=config.sample, seed=config.seed)
        run.save_samples(pictures.from_unit(decode(decoder, drawn, config)))
    if config.interpolate:
        stations = latent_space.draw_from_mixture(**mixture, count=4 * 16, seed=config.seed).reshape(4, 16, -1)
        walk = latent_space.round_trip(stations, latent_space.straight_walk)
        run.save_walk(np.stack([pictures.from_unit(decode(decoder, step, config)) for step in walk]))
    if config.reconstruct:
        reconstruct(config, encoder, decoder, run, codes["errors"])
    if config.nearest:
        find_nearest(config, encoder, run, codes)
    if config.evaluate:
        evaluate(config, encoder, decoder, run, codes["codes"])
    print(f"written to {run.generated}")


def reconstruct(config: Config, encoder, decoder, run: stored.StoredRun, training_errors) -> None:
    """Send the user's pictures through the networks; show and tell their errors, the largest first."""
    images = pictures.to_unit(datasets.read_pictures(config.reconstruct, config.image_size, run.channels))
    shown = images if config.as_they_are else seen(images, config)
    outputs = decode(decoder, encode(encoder, shown), config)
    columns = {"input": images, "noisy": shown, "output": outputs}
    if shown is images:
        del columns["noisy"]
    columns = {name: pictures.from_unit(column) for name, column in columns.items()}
    # Of pictures that are noisy already, what was taken away is no error, and tells nothing of how odd they are.
    comparable = None if config.as_they_are and config.kind == "denoising" else training_errors
    run.save_reconstructions(config.reconstruct, columns, squared_errors(images, outputs), comparable)


def find_nearest(config: Config, encoder, run: stored.StoredRun, codes: dict[str, np.ndarray]) -> None:
    """Show and tell the training pictures whose codes are nearest to that of the user's picture."""
    query = datasets.read_pictures([config.nearest], config.image_size, run.channels)
    code = encode(encoder, pictures.to_unit(query))[0]
    start = time.perf_counter()
    distances = code_distances(codes["codes"], code, config)
    nearest = np.argsort(distances, kind="stable")[:NEAREST]
    milliseconds = 1000 * (time.perf_counter() - start)
    names = codes["names"][nearest].tolist()
    if len(run.class_names):
        names = [
            f"{name} ({run.class_names[label]})" for name, label in zip(names, codes["labels"][nearest], strict=True)
        ]
    what = "bits that differ" if config.code == "binary" else "Euclidean distance"
    print(f"{what} among {len(distances):,} codes, found in {milliseconds:.1f} ms:")
    for name, distance in zip(names, distances[nearest], strict=True):
        print(f"  {distance:6.3g}   {name}")
    data = datasets.load(config.data, config.image_size, channels=config.channels)
    run.check_data(data)
    found = np.concatenate([query, data.images[nearest]])
    pictures.save_png(run.generated / "nearest.png", pictures.grid(found, len(found)))


def compressed(config: Config, decoder, training_codes, test_codes, images) -> list[dict]:
    """Round each number of the codes to steps, and return the bits that an image takes then, and its PSNR."""
    curve = []
    for step in (2.0, 1.0, 0.5, 0.25) if config.code == "real" else (2.0,):  # bits are -1 and 1
        rounded, training = (np.floor(codes / step).astype(int) for codes in (test_codes, training_codes))
        outputs = decode(decoder, ((rounded + 0.5) * step).astype(np.float32), config)
        bits = yardsticks.coded_bits(training, rounded)
        curve.append({"step": step, "bits": bits, "psnr": yardsticks.psnr(images, outputs)})
    return curve


def denoised(config: Config, encoder, decoder, images) -> dict[str, float]:
    """Return the PSNR of noisy images, of what the run makes of them, and of what median filters do."""
    noisy = corrupt(tf.constant(images), config, step=0).numpy()
    outputs = decode(decoder, encode(encoder, noisy), config)
    found = {"noisy": yardsticks.psnr(images, noisy), "this run": yardsticks.psnr(images, outputs)}
    for size in cli.progress((3, 5, 7), "median filters"):
        found[f"median of {size}x{size}"] = yardsticks.psnr(images, yardsticks.median_filtered(noisy, size))
    return found


def evaluate(config: Config, encoder, decoder, run: stored.StoredRun, training_codes) -> None:
    """Print what the codes are good for, on the test images, and write it as evaluation.json."""
    from sklearn.decomposition import PCA  # takes a second to import

    test, train = (datasets.load(config.data, config.image_size, split, run.channels) for split in ("test", "train"))
    run.check_data(train)
    images = test.images / np.float32(255)
    codes = encode(encoder, images)
    if config.code == "binary":
        training_codes = 2.0 * np.unpackbits(training_codes, axis=-1, count=config.code_size) - 1.0
        codes = to_bits(codes).numpy()
    pixels = [part.images.reshape(len(part.images), -1) / np.float32(255) for part in (train, test)]
    pca = PCA(min(config.code_size, *pixels[0].shape), random_state=config.seed).fit(pixels[0])
    features = {
        "this run": [training_codes, codes],
        "PCA": [pca.transform(part) for part in pixels],
        "pixels": pixels,
    }
    outputs = {"this run": decode(decoder, codes, config)}
    outputs["PCA"] = pca.inverse_transform(features["PCA"][1]).reshape(images.shape)
    result = {"squared_error": {name: float(squared_errors(images, it).mean()) for name, it in outputs.items()}}
    if config.kind == "denoising":
        result["denoised_psnr"] = denoised(config, encoder, decoder, images)
    if train.class_names:
        result["linear_accuracy"] = {
            name: yardsticks.linear_accuracy(known, train.labels, tested, test.labels)
            for name, (known, tested) in cli.progress(features.items(), "linear classifiers", len(features))
        }
    result["code"] = compressed(config, decoder, training_codes, codes, images)
    result["jpeg"] = yardsticks.jpeg_curve(test.images)
    files.write_json(run.generated / "evaluation.json", {"test_images": len(images), **result})
    size = f"{config.code_size} {'numbers' if config.code == 'real' else 'bits, PCA: as many numbers'}"
    titles = {
        "squared_error": f"squared error, summed over an image, with {size} ({test.name})",
        "denoised_psnr": f"PSNR in dB, of images with {config.noise} noise of {config.noise_level}",
        "linear_accuracy": "share of the images that a linear classifier gets right",
    }
    yardsticks.tell(result, titles)


@cli.one_line_errors
def main(argv=None):
    """Run the command line `argv`, by default the process's own."""
    config = stored.configure(Config, argv, __doc__)
    if config.as_they_are and not config.reconstruct:
        raise cli.UserError("--as_they_are: says how --reconstruct takes pictures; give both")
    if config.uses_trained_run:
        generate(config)
    else:
        train(config)


if __name__ == "__main__":
    main()
