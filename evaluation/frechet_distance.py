"""How far generated images are from real ones, and which classes they show, in the features of a classifier.

The distance is that of Heusel et al. 2017 (arXiv:1706.08500), which they take in the features of Inception. Ours uses a
small classifier of the same data set, so it compares the runs of this project with one another; it is not comparable
with published figures. The distance of real training images to the same test images is the best a generator can reach.

For colour images there are also the features of Keras's InceptionV3, if get_ckpt.py has fetched it. Its weights and its
way of enlarging images differ from those behind published FID, so it is not comparable with published FID either.
"""

from pathlib import Path

import keras
import numpy as np
from keras import layers

from common import checkpoints, cli, published_networks, trained_networks

EPOCHS = {1: 5, 3: 12}  # of training the classifier, by the channels of the images
FEATURES = 128  # of the classifier


def frechet_distance(mean, covariance, other_mean, other_covariance) -> float:
    """Return the distance of two Gaussians: |m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)) (equation 6).

    mean, other_mean: (features,). covariance, other_covariance: (features, features).
    """
    values, vectors = np.linalg.eigh(covariance)
    root = (vectors * np.sqrt(values.clip(0))) @ vectors.T
    # The trace of (C1 C2)^(1/2) is that of (C1^(1/2) C2 C1^(1/2))^(1/2), which is symmetric: no complex numbers.
    mixed = np.sqrt(np.linalg.eigvalsh(root @ other_covariance @ root).clip(0)).sum()
    return float(((mean - other_mean) ** 2).sum() + np.trace(covariance + other_covariance) - 2 * mixed)


def mean_and_covariance(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean (features,) and the covariance (features, features), float64, of features (N, features)."""
    features = features.astype(np.float64)
    return features.mean(axis=0), np.cov(features, rowvar=False)


def class_entropy(shares: np.ndarray) -> float:
    """Return the entropy in nats of shares (classes,), whose sum is 1: log(classes) if all are equal, 0 if one is 1."""
    return float(sum(share * np.log(1 / share) for share in shares if share))


class Evaluator:
    """Measures generated images against real ones, in the features of a classifier of the same data set.

    floor: the distance of real training images, the best that a generator can reach.
    """

    def __init__(self, classifier: keras.Model, training_images: np.ndarray, test_images: np.ndarray):
        """Measure the real images.

        classifier: from `trained_classifier`. training_images, test_images: uint8 (N, height, width, channels).
        """
        self._network = keras.Model(classifier.inputs, [classifier.get_layer("features").output, *classifier.outputs])
        self._real, _ = self._statistics(test_images)
        self.floor = self.measure(training_images)["frechet_distance"]

    def measure(self, images: np.ndarray, labels: np.ndarray | None = None) -> dict:
        """Measure uint8 images (N, height, width, channels).

        labels: the classes that they should show, (N,).
        Returns their Fréchet distance to the test images; the share of each class among the classifier's predictions,
        and the entropy of these shares in nats; with labels, the fraction of images classified as their label.
        """
        statistics, classes = self._statistics(images)
        agreement = {} if labels is None else {"label_agreement": float((classes == labels).mean())}
        shares = np.bincount(classes, minlength=self._network.outputs[1].shape[-1]) / len(classes)
        return {
            "frechet_distance": frechet_distance(*statistics, *self._real),
            "class_entropy": class_entropy(shares),
            "class_shares": shares.round(4).tolist(),
            **agreement,
        }

    @cli.phase("measuring images")
    def _statistics(self, images: np.ndarray) -> tuple[tuple[np.ndarray, np.ndarray], np.ndarray]:
        features, logits = self._network.predict(images, batch_size=500, verbose=0)
        return mean_and_covariance(features), logits.argmax(axis=-1)


def trained_classifier(path: Path, images: np.ndarray, labels: np.ndarray, classes: int) -> keras.Model:
    """Return the classifier in the file `path`; without such a file, train it and write it there.

    images: uint8 (N, height, width, 1 or 3). labels: (N,).
    The classifier maps pixels of 0 to 255 to logits (batch, classes); its layer "features" gives (batch, 128).
    """
    if path.exists():
        return keras.models.load_model(path)
    keras.utils.set_random_seed(0)
    inputs = keras.Input(images.shape[1:])
    x, width = layers.Rescaling(1 / 127.5, offset=-1)(inputs), 32
    while x.shape[1] > 5:  # MNIST: 26, 13, 11, 5; CIFAR-10: 30, 15, 13, 6, 4, 2
        x = layers.Conv2D(width, 3, activation="relu")(x)
        x, width = layers.MaxPooling2D()(x), 2 * width
    x = layers.Dense(FEATURES, activation="relu", name="features")(layers.Flatten()(x))
    classifier = keras.Model(inputs, layers.Dense(classes)(layers.Dropout(0.5)(x)))
    classifier.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
    print("training the classifier whose features are compared, once for each data set:")
    with cli.phase("training the classifier"):
        classifier.fit(images, labels, batch_size=128, epochs=EPOCHS[images.shape[-1]], verbose=2)
    path.parent.mkdir(parents=True, exist_ok=True)
    checkpoints.save_model(path, classifier)
    return classifier


def inception_network() -> keras.Model | None:
    """Map pixels of 0 to 255, (batch, height, width, 3), to InceptionV3's pooled features, (batch, 2048).

    Returns None if get_ckpt.py has not fetched its weights. Raises UserError if their file is not the published one.
    """
    if not published_networks.NETWORKS["InceptionV3"].path.exists():
        return None
    inception = trained_networks.load("InceptionV3").model
    inputs = keras.Input((None, None, 3))
    images = layers.Resizing(299, 299)(layers.Rescaling(1 / 127.5, offset=-1)(inputs))
    return keras.Model(inputs, layers.GlobalAveragePooling2D()(inception(images)))


def inception_distance(network: keras.Model, images: np.ndarray, real_images: np.ndarray) -> float:
    """Return the Fréchet distance of uint8 images (N, height, width, 3) in the features of `inception_network`."""

    def statistics(images: np.ndarray, title: str) -> tuple[np.ndarray, np.ndarray]:
        starts = cli.progress(range(0, len(images), 50), title)
        features = [network(images[start : start + 50], training=False) for start in starts]
        return mean_and_covariance(np.concatenate(features))

    samples, real = statistics(images, "InceptionV3, samples"), statistics(real_images, "InceptionV3, real images")
    return frechet_distance(*samples, *real)
