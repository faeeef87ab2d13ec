"""The peers that our scripts are compared with: TensorFlow's tutorials, PyTorch's LSTM, and plain Keras layers.

The tutorials are rebuilt from their descriptions: https://www.tensorflow.org/tutorials/generative (dcgan, cvae,
deepdream) and https://www.tensorflow.org/text/tutorials/text_generation. They compute in float32. A network is returned
with its optimizer, by name; the `make_..._step` beside it takes the same names.
"""

import io
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from benchmarks import results
from common import cli, devices, pictures

GAN_BATCH, GAN_LATENTS = 256, 100
WIDE_RATE = 2e-4  # the DCGAN paper's, for CIFAR-10
VAE_BATCH = 32
GRU_BATCH, GRU_WINDOW, GRU_UNITS = 64, 100, 1024


def dcgan() -> dict:
    """Return the networks and optimizers of the tutorial's DCGAN, for MNIST."""
    _start()
    generator = _dcgan_generator(start=7, strides=(1, 2), kernel=5, channels=1)
    discriminator = _dcgan_discriminator((28, 28, 1), widths=(64, 128), kernel=5)
    return _gan(generator, discriminator, keras.optimizers.Adam(1e-4), keras.optimizers.Adam(1e-4))


def wide_dcgan(learning_rate: float = WIDE_RATE, seed: int = 0) -> dict:
    """Return the same for CIFAR-10, widened as the tutorial's readers do.

    It starts from 4x4x256, has kernels of 4x4, one more layer in the discriminator, and the DCGAN paper's Adam.
    """
    _start(seed)
    generator = _dcgan_generator(start=4, strides=(2, 2), kernel=4, channels=3)
    discriminator = _dcgan_discriminator((32, 32, 3), widths=(64, 128, 256), kernel=4)
    return _gan(generator, discriminator, *(keras.optimizers.Adam(learning_rate, beta_1=0.5) for _ in range(2)))


def make_gan_step(generator, discriminator, generator_optimizer, discriminator_optimizer, seed: int = 0) -> Callable:
    """Return the tutorial's step: it takes images and the number of the step, and ignores labels and progress."""
    cross_entropy = keras.losses.BinaryCrossentropy(from_logits=True)

    @tf.function
    def step(pixels, labels, number, progress):
        images = pictures.to_signed(pixels)
        latents = devices.normal((pixels.shape[0], GAN_LATENTS), seed, number)
        with tf.GradientTape() as generator_tape, tf.GradientTape() as discriminator_tape:
            fakes = generator(latents, training=True)
            real, fake = discriminator(images, training=True), discriminator(fakes, training=True)
            generator_loss = cross_entropy(tf.ones_like(fake), fake)
            discriminator_loss = cross_entropy(tf.ones_like(real), real) + cross_entropy(tf.zeros_like(fake), fake)
        for network, tape, loss, optimizer in (
            (generator, generator_tape, generator_loss, generator_optimizer),
            (discriminator, discriminator_tape, discriminator_loss, discriminator_optimizer),
        ):
            optimizer.apply(tape.gradient(loss, network.trainable_variables), network.trainable_variables)
        return {"generator_loss": generator_loss, "discriminator_loss": discriminator_loss}

    return step


def vae(latent_dim: int = 2) -> dict:
    """Return the networks and the optimizer of the tutorial's convolutional variational autoencoder, for MNIST.

    The encoder gives the mean and the log variance, (batch, 2 * latent_dim), the decoder logits.
    """
    _start()
    encoder = keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Conv2D(32, 3, strides=2, activation="relu"),
            layers.Conv2D(64, 3, strides=2, activation="relu"),
            layers.Flatten(),
            layers.Dense(2 * latent_dim),
        ]
    )
    decoder = keras.Sequential(
        [
            keras.Input((latent_dim,)),
            layers.Dense(7 * 7 * 32, activation="relu"),
            layers.Reshape((7, 7, 32)),
            layers.Conv2DTranspose(64, 3, strides=2, padding="same", activation="relu"),
            layers.Conv2DTranspose(32, 3, strides=2, padding="same", activation="relu"),
            layers.Conv2DTranspose(1, 3, padding="same"),
        ]
    )
    optimizer = keras.optimizers.Adam(1e-4)
    optimizer.build(encoder.trainable_variables + decoder.trainable_variables)
    return {"encoder": encoder, "decoder": decoder, "optimizer": optimizer}


def make_vae_step(encoder, decoder, optimizer) -> Callable:
    """Return the tutorial's step: it takes binarized images and the step's number, and ignores labels and progress."""
    variables = encoder.trainable_variables + decoder.trainable_variables

    def log_normal(values, mean, log_variance):
        return -0.5 * tf.reduce_sum(
            (values - mean) ** 2 * tf.exp(-log_variance) + log_variance + np.log(2 * np.pi), axis=-1
        )

    @tf.function
    def step(pixels, labels, number, progress):
        images = pictures.to_unit(pixels)
        with tf.GradientTape() as tape:
            mean, log_variance = tf.split(encoder(images, training=True), 2, axis=-1)
            noise = devices.normal((pixels.shape[0], mean.shape[-1]), 0, number)
            latents = mean + tf.exp(0.5 * log_variance) * noise
            losses = tf.nn.sigmoid_cross_entropy_with_logits(images, decoder(latents, training=True))
            divergence = log_normal(latents, mean, log_variance) - log_normal(latents, 0.0, 0.0)
            loss = tf.reduce_mean(tf.reduce_sum(losses, axis=(1, 2, 3)) + divergence)
        optimizer.apply(tape.gradient(loss, variables), variables)
        return {"loss": loss}

    return step


def gru(characters: int, seed: int = 0) -> dict:
    """Return the network and the optimizer of the tutorial on text: one GRU of 1,024.

    The network maps numbers (batch, time) and a state (batch, 1024) to logits (batch, time, characters) and the state.
    """
    _start(seed)
    numbers, state = keras.Input((None,), dtype="int32"), keras.Input((GRU_UNITS,))
    x = layers.Embedding(characters, 256)(numbers)
    x, after = layers.GRU(GRU_UNITS, return_sequences=True, return_state=True)(x, initial_state=state)
    network = keras.Model([numbers, state], [layers.Dense(characters)(x), after])
    optimizer = keras.optimizers.Adam()
    optimizer.build(network.trainable_variables)
    return {"network": network, "optimizer": optimizer}


def make_gru_step(network, optimizer) -> Callable:
    """Return the tutorial's step: it takes windows, int32 (64, 101), and reads each from a state of zeros."""

    def logits_of(numbers):
        return network([numbers, tf.zeros((GRU_BATCH, GRU_UNITS))], training=True)[0]

    return _make_text_step(logits_of, network, optimizer)


def gru_windows(text: np.ndarray, seed: int = 0) -> Callable[[int], np.ndarray]:
    """Return a function that maps the number of a step to its windows; each epoch has a random order of its own."""
    windows = np.lib.stride_tricks.sliding_window_view(text, GRU_WINDOW + 1)[::GRU_WINDOW]

    def windows_of(step: int) -> np.ndarray:
        epoch, batch = divmod(step, len(windows) // GRU_BATCH)
        order = np.random.default_rng([seed, epoch]).permutation(len(windows))
        return windows[np.sort(order[batch * GRU_BATCH : (batch + 1) * GRU_BATCH])].astype(np.int32)

    return windows_of


def make_keras_step(
    recurrent_layer: type, windows: np.ndarray, characters: int, embedding: int, width: int
) -> Callable:
    """Return a training step, without arguments, for two layers such as `keras.layers.LSTM`, always on `windows`.

    windows: int32 (batch, time + 1).
    """
    numbers = keras.Input((windows.shape[1] - 1,), len(windows), dtype="int32")
    x = layers.Embedding(characters, embedding)(numbers)
    for _ in range(2):
        x = recurrent_layer(width, return_sequences=True)(x)
    network = keras.Model(numbers, layers.Dense(characters)(x))
    optimizer = keras.optimizers.Adam(1e-3)
    optimizer.build(network.trainable_variables)
    step = _make_text_step(lambda inputs: network(inputs, training=True), network, optimizer)
    windows = tf.constant(windows)
    return lambda: step(windows).numpy()


class PyTorchLSTM:
    """PyTorch's nn.LSTM between an embedding and a dense layer, trained by Adam."""

    def __init__(self, characters, embedding: int, width: int, depth: int, rate: float, dropout=0.0, seed=0):
        """rate: Adam's step size. Raises UserError if PyTorch is not installed."""
        self._torch = torch = results.needed("torch")
        torch.manual_seed(seed)
        self._embedding = torch.nn.Embedding(characters, embedding)
        self._lstm = torch.nn.LSTM(embedding, width, depth, batch_first=True, dropout=dropout)
        self._output = torch.nn.Linear(width, characters)
        self._network = torch.nn.ModuleList([self._embedding, self._lstm, self._output])
        self._optimizer = torch.optim.Adam(self._network.parameters(), rate)
        self._states = None

    def train(self, windows: np.ndarray, carried: np.ndarray | None = None, clip: float = 0.0, bfloat16: bool = False):
        """Train once on windows (batch, window + 1), and return the loss in nats a character.

        carried: float32 (batch,), 1 for the rows whose state continues from the last step; all start at 0 by default.
        clip: the largest norm of the gradient; 0 for no limit. bfloat16: multiply in bfloat16, by autocast.
        """
        torch = self._torch
        self._network.train()
        self._optimizer.zero_grad()
        states = None
        if carried is not None and self._states:
            states = [state * torch.from_numpy(carried)[:, None] for state in self._states]
        with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            losses, self._states = self._losses(windows, states)
        loss = losses.mean()
        loss.backward()
        if clip:
            torch.nn.utils.clip_grad_norm_(self._network.parameters(), clip)
        self._optimizer.step()
        return loss.item()

    def read(self, numbers: np.ndarray, title: str = "") -> tuple[np.ndarray, list]:
        """Return -log p in nats of all characters but the first, (rows, time - 1), and the states after them.

        title: of a progress bar, which this does not show.
        """
        self._network.eval()
        with self._torch.no_grad():
            losses, states = self._losses(numbers)
        return losses.reshape(len(numbers), -1).numpy(), states

    def dump(self) -> dict[str, np.ndarray]:
        """Return all that training needs to resume, as an array of bytes."""
        content = {"network": self._network.state_dict(), "optimizer": self._optimizer.state_dict()}
        buffer = io.BytesIO()
        self._torch.save({**content, "states": self._states}, buffer)
        return {"more_pytorch": np.frombuffer(buffer.getvalue(), np.uint8)}

    def load(self, arrays: dict[str, np.ndarray]) -> None:
        """Restore what `dump` returned."""
        content = self._torch.load(io.BytesIO(arrays["more_pytorch"].tobytes()), weights_only=True)
        self._network.load_state_dict(content["network"])
        self._optimizer.load_state_dict(content["optimizer"])
        self._states = content["states"]

    def _losses(self, windows: np.ndarray, states: list | None = None) -> tuple:
        windows = self._torch.from_numpy(np.ascontiguousarray(windows)).long()
        outputs, states = self._lstm(self._embedding(windows[:, :-1]), states)
        logits = self._output(outputs).float().flatten(0, 1)
        losses = self._torch.nn.functional.cross_entropy(logits, windows[:, 1:].flatten(), reduction="none")
        return losses, [state.detach() for state in states]


def make_dream_gradient(model: keras.Model) -> Callable:
    """Return a function that maps an image (height, width, 3) to the gradient of the Deep Dream tutorial's objective.

    The objective is the sum of the mean activations of the model's outputs.
    """

    def gradient_at(image):
        with tf.GradientTape() as tape:
            tape.watch(image)
            activations = keras.tree.flatten(model(image[None]))
            loss = tf.add_n([tf.reduce_mean(activation) for activation in activations])
        return tape.gradient(loss, image)

    return gradient_at


def dream_update(image, gradient):
    """Return the image after a step of 0.01 along its gradient, which is divided by its standard deviation."""
    return tf.clip_by_value(image + 0.01 * gradient / (tf.math.reduce_std(gradient) + 1e-8), -1.0, 1.0)


def dream(image: np.ndarray, model: keras.Model, steps: int) -> np.ndarray:
    """Return the tutorial's dream: five octaves, each 1.3 times as large as the one before, randomly rolled tiles.

    The last octave has the image's size; the tutorial's has 1.3^2 times that, and the picture is then reduced.
    """
    gradient_at = make_dream_gradient(model)

    @tf.function(input_signature=[tf.TensorSpec((None, None, 3)), tf.TensorSpec((2,), tf.int32)])
    def step(image, shift):
        rolled = tf.roll(image, shift, axis=(0, 1))
        # Below 1024 pixels the tutorial computes only the first tile; which part that is, the random roll decides.
        part = gradient_at(rolled[:512, :512])
        missing = tf.shape(image) - tf.shape(part)
        gradient = tf.pad(part, tf.stack([tf.zeros_like(missing), missing], axis=-1))
        return dream_update(image, tf.roll(gradient, -shift, axis=(0, 1)))

    random, dreamt = np.random.default_rng(0), tf.constant(image)
    for octave in range(-4, 1):
        size = tf.cast(tf.constant(image.shape[:2], tf.float32) * 1.3**octave, tf.int32)
        dreamt = tf.image.resize(dreamt, size)
        for _ in cli.progress(range(steps), f"tutorial, octave {octave + 5} of 5"):
            dreamt = step(dreamt, random.integers(-512, 513, 2).astype(np.int32))
    return dreamt.numpy()


def _start(seed: int = 0) -> None:
    """Set the tutorials' precision, and the seed of the initial weights."""
    keras.config.set_dtype_policy("float32")
    keras.utils.set_random_seed(seed)


def _dcgan_generator(start: int, strides: tuple[int, int], kernel: int, channels: int) -> keras.Model:
    generator = keras.Sequential([keras.Input((GAN_LATENTS,)), layers.Dense(start**2 * 256, use_bias=False)])
    generator.add(layers.BatchNormalization())
    generator.add(layers.LeakyReLU())
    generator.add(layers.Reshape((start, start, 256)))
    for width, stride in zip((128, 64), strides, strict=True):
        generator.add(layers.Conv2DTranspose(width, kernel, strides=stride, padding="same", use_bias=False))
        generator.add(layers.BatchNormalization())
        generator.add(layers.LeakyReLU())
    last = {"strides": 2, "padding": "same", "use_bias": False, "activation": "tanh"}
    generator.add(layers.Conv2DTranspose(channels, kernel, **last))
    return generator


def _dcgan_discriminator(shape: tuple[int, int, int], widths: tuple[int, ...], kernel: int) -> keras.Model:
    discriminator = keras.Sequential([keras.Input(shape)])
    for width in widths:
        discriminator.add(layers.Conv2D(width, kernel, strides=2, padding="same"))
        discriminator.add(layers.LeakyReLU())
        discriminator.add(layers.Dropout(0.3))
    discriminator.add(layers.Flatten())
    discriminator.add(layers.Dense(1))
    return discriminator


def _gan(generator, discriminator, generator_optimizer, discriminator_optimizer) -> dict:
    """Return a GAN's networks and optimizers, which are built here, by name."""
    generator_optimizer.build(generator.trainable_variables)
    discriminator_optimizer.build(discriminator.trainable_variables)
    return {
        "generator": generator,
        "discriminator": discriminator,
        "generator_optimizer": generator_optimizer,
        "discriminator_optimizer": discriminator_optimizer,
    }


def _make_text_step(logits_of: Callable, network: keras.Model, optimizer) -> Callable:
    """Return a training step for windows, int32 (batch, time + 1), that returns the loss in nats a character."""

    @tf.function
    def step(windows):
        with tf.GradientTape() as tape:
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(windows[:, 1:], logits_of(windows[:, :-1]))
            loss = tf.reduce_mean(losses)
        optimizer.apply(tape.gradient(loss, network.trainable_variables), network.trainable_variables)
        return loss

    return step
