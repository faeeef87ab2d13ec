"""Train the bundled network of deep_dream.py: pretrained/dream_network.keras.

It classifies CIFAR-10, and is built for dreaming rather than for accuracy: smooth activations (swish) and average
pooling give every pixel a gradient, noise on the pictures makes the network rely on more than the finest structures,
and the last layer gives each position its own logits, so that `--layers classes --channels 5` dreams of dogs.

Training is SGD with momentum, label smoothing, and a learning rate that rises and falls once. If it is interrupted, it
resumes from its last checkpoint in outputs/pretrained/. In the file, batch normalisation is folded into the
convolutions, and the weights are rounded to float16 and compressed.

    python -m pretrained.train_dream_network
"""

import argparse
import zipfile
from pathlib import Path

import common.environment  # noqa: F401 - first: it sets what TensorFlow reads at its import

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from blocks.feature_extraction import any_size_model
from common import checkpoints, cli, datasets, files, pictures, trained_networks
from common.errors import UserError

WIDTHS = ((24,), (48, 48), (96, 128), (192, 224))  # of the layers; pooling halves the resolution between groups
BATCH_SIZE = 128
PEAK_LEARNING_RATE = 0.2  # reached after a fifth of the steps
WEIGHT_DECAY = 5e-4
MOST_NOISE = 0.15  # largest standard deviation of the noise, which is drawn for each picture; pixels are in [-1, 1]
CHECKPOINT_EVERY = 100  # steps
CHECKPOINTS = Path("outputs/pretrained")


def build(classes: int) -> keras.Model:
    """Map images (batch, height, width, 3) in [-1, 1] to logits (batch, classes)."""
    images = keras.Input((None, None, 3))
    x, number = images, 0
    for stage, widths in enumerate(WIDTHS):
        if stage:
            x = layers.AveragePooling2D(2, name=f"pool{stage}")(x)  # CIFAR-10: 16, 8, 4
        for width in widths:
            number += 1
            y = layers.Conv2D(width, 3, padding="same", use_bias=False, name=f"convolution{number}")(x)
            y = layers.BatchNormalization(momentum=0.95, name=f"normalization{number}")(y)
            y = layers.Activation("swish", name=f"block{number}")(y)
            x = layers.Add(name=f"sum{number}")([x, y]) if x.shape[-1] == width else y
    x = layers.Conv2D(classes, 1, name="classes")(x)
    return keras.Model(images, layers.GlobalAveragePooling2D()(x))


def augment(pixels, seed):
    """Shift, mirror and tint uint8 pixels (batch, 32, 32, 3), and add noise. Returns float32, roughly in [-1, 1]."""
    images = tf.pad(pictures.to_signed(pixels), [[0, 0], [4, 4], [4, 4], [0, 0]], "REFLECT")
    count, size = pixels.shape[:2]

    def draw(stream, shape, low, high):
        seeds = tf.random.experimental.stateless_fold_in(seed, stream)
        return tf.random.stateless_uniform((count, *shape), seeds, low, high)

    offsets = tf.cast(draw(0, (2,), 0.0, 9.0), tf.int32)
    images = tf.gather(images, offsets[:, :1] + tf.range(size), axis=1, batch_dims=1)
    images = tf.gather(images, offsets[:, 1:] + tf.range(size), axis=2, batch_dims=1)
    images = tf.where(draw(1, (1, 1, 1), 0.0, 1.0) < 0.5, images[:, :, ::-1], images)
    images = images * draw(2, (1, 1, 1), 0.8, 1.2) + draw(3, (1, 1, 3), -0.1, 0.1)
    noise = tf.random.stateless_normal(images.shape, tf.random.experimental.stateless_fold_in(seed, 4))
    return images + draw(5, (1, 1, 1), 0.0, MOST_NOISE) * noise


def make_train_step(model, optimizer, steps: int, classes: int):
    """Return the step, which updates the model once and returns its loss."""
    cross_entropy = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.1)

    @tf.function
    def train_step(pixels, labels, step):
        progress = tf.cast(step, tf.float32) / steps
        optimizer.learning_rate.assign(PEAK_LEARNING_RATE * tf.minimum(progress / 0.2, (1.0 - progress) / 0.8))
        images = augment(pixels, tf.stack([0, tf.cast(step, tf.int32)]))
        with tf.GradientTape() as tape:
            loss = cross_entropy(tf.one_hot(labels, classes), model(images, training=True))
        gradients = tape.gradient(loss, model.trainable_variables)
        decayed = [g + WEIGHT_DECAY * v for g, v in zip(gradients, model.trainable_variables, strict=True)]
        optimizer.apply(decayed, model.trainable_variables)
        return loss

    return train_step


def accuracy(network, data: datasets.Images) -> float:
    """Return the fraction of pictures whose class has the highest mean logit over all positions."""
    correct = 0
    for start in range(0, len(data.images), 500):
        logits = keras.tree.flatten(network(pictures.to_signed(data.images[start : start + 500]), training=False))[0]
        classes = np.mean(logits, axis=(1, 2)).argmax(axis=-1)
        correct += int((classes == data.labels[start : start + 500]).sum())
    return correct / len(data.images)


def save_small(path: Path, model: keras.Model) -> None:
    """Write the model as a Keras file of half the size: weights rounded to float16 precision, and compressed."""
    model.set_weights([weight.astype(np.float16).astype(np.float32) for weight in model.get_weights()])
    checkpoints.save_model(path, model)
    with zipfile.ZipFile(path) as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
    with files.atomic_write(path) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, content in contents.items():
            archive.writestr(name, content)


def train(data: datasets.Images, epochs: int) -> keras.Model:
    """Train the network, or resume its training, and return it."""
    keras.utils.set_random_seed(0)
    classes = len(data.class_names)
    model = build(classes)
    optimizer = keras.optimizers.SGD(PEAK_LEARNING_RATE, momentum=0.9, nesterov=True)
    optimizer.build(model.trainable_variables)
    step = tf.Variable(0, dtype=tf.int64, trainable=False)
    saved = {"model": model, "optimizer": optimizer, "step": step}
    folder = CHECKPOINTS / f"dream_network_{epochs}"
    folder.mkdir(parents=True, exist_ok=True)
    checkpoints.restore(folder, saved)

    steps_per_epoch = len(data.images) // BATCH_SIZE
    steps = epochs * steps_per_epoch
    train_step = make_train_step(model, optimizer, steps, classes)
    while int(step) < steps:
        epoch, batch = divmod(int(step), steps_per_epoch)
        order = np.random.default_rng([0, epoch]).permutation(len(data.images))
        chosen = order[batch * BATCH_SIZE : (batch + 1) * BATCH_SIZE]
        loss = train_step(tf.constant(data.images[chosen]), tf.constant(data.labels[chosen]), step)
        step.assign_add(1)
        if int(step) % CHECKPOINT_EVERY == 0:
            checkpoints.save(folder, int(step), saved)
            print(f"step {int(step)} of {steps}: loss {float(loss):.3f}", flush=True)
    return model


@cli.one_line_errors
def main(argv=None):
    """Train the network, write it, and print its accuracy."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=10, help="passes over the training pictures (%(default)s)")
    parser.add_argument("--output", type=Path, default=trained_networks.BUNDLED, help="the file to write (%(default)s)")
    arguments = parser.parse_args(argv)
    if arguments.epochs < 1:
        raise UserError(f"--epochs {arguments.epochs}: must be at least 1")
    training, test = (datasets.load("cifar10", 32, split) for split in ("train", "test"))
    network = any_size_model(train(training, arguments.epochs), ["classes"])
    save_small(arguments.output, network)
    size = arguments.output.stat().st_size / 1e6
    print(f"{arguments.output}: {network.count_params():,} weights, {size:.2f} MB")
    print(f"{accuracy(network, test):.2%} of the test pictures classified correctly")


if __name__ == "__main__":
    main()
