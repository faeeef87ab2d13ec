"""The Fréchet distance against closed forms, and the classifier in whose features it is taken."""

from pathlib import Path

import keras
import numpy as np
import pytest

from benchmarks import quality, results
from common import datasets, published_networks
from common.errors import UserError
from evaluation import frechet_distance as frechet


def test_distance_against_closed_forms():
    mean, other = np.array([1.0, -2.0]), np.array([0.0, 0.5])
    # Diagonal covariances commute: the distance is that of the means and of the standard deviations.
    expected = 1 + 2.5**2 + (2 - 1) ** 2 + (3 - 5) ** 2
    distance = frechet.frechet_distance(mean, np.diag([4.0, 9.0]), other, np.diag([1.0, 25.0]))
    assert distance == pytest.approx(expected)


def test_distance_is_a_distance_and_does_not_depend_on_the_axes():
    generator = np.random.default_rng(0)
    a, b = (np.cov(generator.standard_normal((9, 4)), rowvar=False) for _ in range(2))
    rotation, _ = np.linalg.qr(generator.standard_normal((4, 4)))
    zero = np.zeros(4)
    distance = frechet.frechet_distance(zero, a, zero, b)
    assert distance > 0.1
    assert frechet.frechet_distance(zero, a, zero, a) == pytest.approx(0, abs=1e-9)
    assert frechet.frechet_distance(zero, b, zero, a) == pytest.approx(distance)
    turned = [rotation @ covariance @ rotation.T for covariance in (a, b)]
    assert frechet.frechet_distance(zero, turned[0], zero, turned[1]) == pytest.approx(distance)


def test_class_entropy():
    assert frechet.class_entropy(np.full(10, 0.1)) == pytest.approx(np.log(10))
    assert frechet.class_entropy(np.array([0.0, 1.0])) == 0


def test_evaluator_distinguishes_digits_from_noise_and_right_labels_from_wrong_ones():
    train, test = (datasets.load("digits", 12, split) for split in ("train", "test"))
    evaluator = quality.evaluator(train, test)
    measured = evaluator.measure(test.images, test.labels)
    assert measured["frechet_distance"] == pytest.approx(0, abs=1e-3)
    assert measured["label_agreement"] > 0.7
    assert evaluator.measure(test.images, (test.labels + 1) % 10)["label_agreement"] < 0.2
    noise = np.random.default_rng(0).integers(0, 256, test.images.shape, np.uint8)
    assert evaluator.measure(noise)["frechet_distance"] > 5 * evaluator.floor
    assert sum(measured["class_shares"]) == pytest.approx(1, abs=1e-3)

    (path,) = results.FOLDER.glob("classifier_*.keras")
    assert frechet.trained_classifier(path, None, None, 10).output_shape == (None, 10)  # is not trained again


def test_inception_is_used_only_if_its_published_file_is_here():
    assert frechet.inception_network() is None
    path = published_networks.NETWORKS["InceptionV3"].path
    path.parent.mkdir(parents=True)
    path.write_bytes(b"something else")
    with pytest.raises(UserError, match="is not the published file"):
        frechet.inception_network()


def test_distance_in_the_features_of_another_network():
    random = np.random.default_rng(0)
    inputs = keras.Input((None, None, 3))
    network = keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(inputs))
    dark, light = (random.integers(low, low + 50, (120, 8, 8, 3), np.uint8) for low in (0, 100))
    assert frechet.inception_distance(network, dark, dark) == pytest.approx(0, abs=1e-6)
    expected = 3 * 100**2  # the means of three channels; their variances are alike
    assert frechet.inception_distance(network, light, dark) == pytest.approx(expected, rel=0.02)


def test_settings_are_chosen_by_images_that_are_held_out_of_training():
    names = {split: [part.name for part in quality.load("digits", 28, split)] for split in quality.SPLITS}
    assert names["test"] == ["scikit-learn's small digits (train)", "scikit-learn's small digits (test)"]
    assert names["validation"] == ["scikit-learn's small digits (fit)", "scikit-learn's small digits (validation)"]


def test_samples_that_cannot_be_measured(refusal_of):
    def save(images, name="images"):
        np.savez("samples.npz", **{name: images})

    digits = datasets.load("digits", 28).images
    save(digits[:100])
    flags = ["--samples", "samples.npz", "--data", "digits"]
    assert "holds 100 images; a distance needs 200" in refusal_of(quality, *flags)
    save(np.repeat(digits[:300], 3, axis=-1))
    assert "samples.npz: are colour, unlike scikit-learn's small digits" in refusal_of(quality, *flags)
    assert "--inception_count 0: must be at least 200" in refusal_of(quality, *flags, "--inception_count", 0)
    assert "samples.npz: " in refusal_of(quality, "--samples", "nowhere/samples.npz")
    for images in (digits[:300, ..., 0], digits[:300] / np.float32(255), digits[:300, 1:], np.arange(3)):
        save(images)
        assert "samples.npz: must hold `images`, uint8 (N, size, size, 1 or 3)" in refusal_of(quality, *flags)
    save(digits[:300], "weights")
    assert "samples.npz: must hold `images`" in refusal_of(quality, *flags)
    assert not Path("outputs").exists()  # no classifier was trained
