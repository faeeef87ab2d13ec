"""How good are generated images? Fréchet distance, and which classes they show.

The distance (Heusel et al. 2017, equation 6) is taken in the features of a small classifier, which is trained here on
the same data, once, and kept in outputs/benchmarks/. So it compares runs of this project with each other and not with
published figures, which are mostly in features of another network. Beside it stands the distance of real training
images from the same test images: the best that a generator could hope for.

For colour images it is also taken in the pooled features of InceptionV3 where get_ckpt.py has fetched it. That is
Keras's network, trained anew for it, and Keras's way to enlarge images: not comparable with published FID either.

    python dcgan_mnist.py --sample 10000
    python -m benchmarks.quality --samples outputs/dcgan_mnist/latest/generated/samples.npz
"""

import argparse
import importlib
import platform
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from common import checkpoints, cli, datasets, devices, files, networks, published

FOLDER = Path("outputs/benchmarks")
LEAST = 200  # images: from fewer a covariance of 128 features cannot be told
EPOCHS = {1: 5, 3: 12}  # of training the classifier, for grey and for colour


class Judge:
    """Measures images against the test split of a dataset.

    data: as in `datasets.load`. count: how many real images, of either split, are compared. test: its test split, if it
    is in memory already.
    """

    def __init__(
        self, data: str = "mnist", image_size: int = 28, count: int = 10_000, test: datasets.Images | None = None
    ):
        train, test = datasets.load(data, image_size), test or datasets.load(data, image_size, "test")
        classifier, self.accuracy = trained_classifier(train, test)
        self._network = keras.Model(classifier.inputs, [classifier.get_layer("features").output, *classifier.outputs])
        self._real = self._statistics(test.images[:count])[:2]
        self.test, self.class_names, self.training_images = test, test.class_names, train.images
        self.real_count = min(count, len(test.images))
        self.floor = self.measure(train.images[:count])["frechet_distance"]

    def measure(self, images: np.ndarray, labels: np.ndarray | None = None) -> dict:
        """Judge uint8 images (N, height, width, channels), and whether they show the classes `labels`, if given.

        Returns their Fréchet distance, the shares of the classes that the classifier sees in them, and the entropy of
        these shares in nats: log(classes) if all are equally frequent, 0 if there is but one.
        """
        mean, covariance, classes = self._statistics(images)
        agreement = {} if labels is None else {"label_agreement": float((classes == labels).mean())}
        shares = np.bincount(classes, minlength=len(self.class_names)) / len(classes)
        return {
            "frechet_distance": frechet_distance(mean, covariance, *self._real),
            "class_entropy": float(sum(share * np.log(1 / share) for share in shares if share)),
            "class_shares": shares.round(4).tolist(),
            **agreement,
        }

    def _statistics(self, images: np.ndarray) -> tuple:
        features, logits = self._network.predict(images, batch_size=500, verbose=0)
        features = features.astype(np.float64)
        return features.mean(axis=0), np.cov(features, rowvar=False), logits.argmax(axis=-1)


def frechet_distance(mean, covariance, other_mean, other_covariance) -> float:
    """Distance of two Gaussians: |m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)) (Heusel et al. 2017, equation 6)."""
    values, vectors = np.linalg.eigh(covariance)
    root = (vectors * np.sqrt(values.clip(0))) @ vectors.T
    # The trace of (C1 C2)^(1/2) is that of (C1^(1/2) C2 C1^(1/2))^(1/2), which is symmetric: no complex numbers.
    mixed = np.sqrt(np.linalg.eigvalsh(root @ other_covariance @ root).clip(0)).sum()
    return float(((mean - other_mean) ** 2).sum() + np.trace(covariance + other_covariance) - 2 * mixed)


def trained_classifier(train: datasets.Images, test: datasets.Images) -> tuple[keras.Model, float]:
    """Return a classifier of pixels of 0 to 255 and its accuracy on `test`; trained once for each dataset."""
    path = FOLDER / f"classifier_{train.digest[:12]}.keras"
    if not path.exists():
        keras.utils.set_random_seed(0)
        inputs = keras.Input(train.images.shape[1:])
        x, width = layers.Rescaling(1 / 127.5, offset=-1)(inputs), 32
        while x.shape[1] > 5:  # MNIST: 26, 13, 11, 5; CIFAR-10: 30, 15, 13, 6, 4, 2
            x = layers.Conv2D(width, 3, activation="relu")(x)
            x, width = layers.MaxPooling2D()(x), 2 * width
        x = layers.Dense(128, activation="relu", name="features")(layers.Flatten()(x))
        x = layers.Dropout(0.5)(x)
        classifier = keras.Model(inputs, layers.Dense(len(train.class_names))(x))
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        classifier.compile("adam", loss, metrics=["accuracy"])
        print("training the classifier that judges, once:")
        classifier.fit(train.images, train.labels, batch_size=128, epochs=EPOCHS[train.channels], verbose=2)
        FOLDER.mkdir(parents=True, exist_ok=True)
        checkpoints.save_model(path, classifier)
    classifier = keras.models.load_model(path)
    return classifier, classifier.evaluate(test.images, test.labels, batch_size=500, verbose=0)[1]


def inception_network() -> keras.Model | None:
    """Return a network from pixels of 0 to 255, colour and of any size, to the 2,048 pooled features of InceptionV3.

    Returns None if get_ckpt.py has not fetched its weights. Raises UserError if their file is not the published one.
    """
    if not published.NETWORKS["InceptionV3"].path.exists():
        return None
    inception = networks.load("InceptionV3", (-1.0, 1.0)).model
    inputs = keras.Input((None, None, 3))
    images = layers.Resizing(299, 299)(layers.Rescaling(1 / 127.5, offset=-1)(inputs))
    return keras.Model(inputs, layers.GlobalAveragePooling2D()(inception(images)))


def inception_distance(network: keras.Model, images: np.ndarray, real: np.ndarray) -> float:
    """Return the Fréchet distance of uint8 images (N, height, width, 3) in the features of `inception_network`."""

    def statistics(images: np.ndarray, title: str) -> tuple:
        starts = cli.progress(range(0, len(images), 50), title)
        features = np.concatenate([network(images[start : start + 50], training=False) for start in starts])
        return features.mean(axis=0, dtype=np.float64), np.cov(features, rowvar=False, dtype=np.float64)

    return frechet_distance(*statistics(images, "InceptionV3, samples"), *statistics(real, "InceptionV3, real images"))


@cli.one_line_errors
def main(argv=None):
    """Judge the samples.npz that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=Path, required=True, help="a samples.npz, as --sample writes it")
    parser.add_argument(
        "--data", help="the real images: mnist, cifar10, digits or patches (mnist, or cifar10 if colour)"
    )
    parser.add_argument(
        "--inception_count", type=int, default=2500, help="images of either kind for InceptionV3 (%(default)s)"
    )
    arguments = parser.parse_args(argv)
    try:
        samples = files.read_npz(arguments.samples)
    except ValueError as error:
        raise cli.UserError(f"--samples {arguments.samples}: {error}") from None
    images = samples.get("images", np.empty(0))
    is_square = images.ndim == 4 and images.shape[1] == images.shape[2]
    if images.dtype != np.uint8 or not is_square or images.shape[3] not in (1, 3):
        raise cli.UserError(f"--samples {arguments.samples}: must hold `images`, uint8 (N, size, size, 1 or 3)")
    in_color = images.shape[-1] == 3
    if len(images) < LEAST:
        raise cli.UserError(f"--samples {arguments.samples}: holds {len(images)} images; a distance needs {LEAST:,}")
    if arguments.inception_count < LEAST:
        raise cli.UserError(f"--inception_count {arguments.inception_count}: must be at least {LEAST:,}")
    data = arguments.data or ("cifar10" if in_color else "mnist")
    test = datasets.load(data, images.shape[1], "test")
    if test.channels != images.shape[-1]:  # told before a classifier is trained
        raise cli.UserError(
            f"--samples {arguments.samples}: are {'colour' if in_color else 'grey'}, unlike {test.name}"
        )
    judge = Judge(data, images.shape[1], test=test)
    result = {"samples": str(arguments.samples), "real_images": judge.test.name, "real_count": judge.real_count}
    result |= {"sample_count": len(images), "classifier_accuracy": judge.accuracy, "floor": judge.floor}
    result |= judge.measure(images, samples.get("labels"))
    if in_color and (inception := inception_network()):
        count = min(arguments.inception_count, len(images), judge.real_count)
        result["inception_count"] = count
        real = judge.test.images[:count]
        result["inception_distance"] = inception_distance(inception, images[:count], real)
        result["inception_floor"] = inception_distance(inception, judge.training_images[:count], real)
    for name, value in result.items():
        print(f"{name.replace('_', ' '):20} {f'{value:.4g}' if isinstance(value, float) else value}")
    if "inception_distance" in result:
        print("inception distance: in Keras's InceptionV3 and so not comparable with published FID")
    write_json("quality", result)


def needed(package: str):
    """Import a package that only some benchmarks need. Raises UserError if it is not installed."""
    try:
        return importlib.import_module(package)
    except ImportError:
        raise cli.UserError(f"{package} is not installed: pip install -r benchmarks/requirements.txt") from None


def machine() -> str:
    """Return what a figure was measured on: processor, cores, and versions."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    processor = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "")
    versions = f"Python {platform.python_version()}, TensorFlow {tf.__version__}, Keras {keras.__version__}"
    return f"{processor or platform.processor()}, {devices.cores()} cores; {versions}"


def write_json(name: str, result: dict) -> None:
    """Keep a benchmark's result, and what it was measured on, in outputs/benchmarks/."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    files.write_json(FOLDER / f"{name}.json", {**result, "measured_on": machine()})


if __name__ == "__main__":
    main()
