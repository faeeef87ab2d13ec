"""The yardstick itself: the Fréchet distance against closed forms, and the classes that it counts."""

import numpy as np
import pytest

from benchmarks import quality, report
from common import datasets


def test_distance_of_equal_gaussians_is_zero():
    covariance = np.cov(np.random.default_rng(0).standard_normal((50, 4)), rowvar=False)
    assert quality.frechet_distance(np.ones(4), covariance, np.ones(4), covariance) == pytest.approx(0, abs=1e-9)


def test_distance_against_closed_forms():
    mean, other = np.array([1.0, -2.0]), np.array([0.0, 0.5])
    # Diagonal covariances commute: the distance is that of the means and of the standard deviations.
    expected = 1 + 2.5**2 + (2 - 1) ** 2 + (3 - 5) ** 2
    distance = quality.frechet_distance(mean, np.diag([4.0, 9.0]), other, np.diag([1.0, 25.0]))
    assert distance == pytest.approx(expected)


def test_distance_is_symmetric_and_does_not_depend_on_the_axes():
    generator = np.random.default_rng(0)
    a, b = (np.cov(generator.standard_normal((9, 4)), rowvar=False) for _ in range(2))
    rotation, _ = np.linalg.qr(generator.standard_normal((4, 4)))
    zero = np.zeros(4)
    distance = quality.frechet_distance(zero, a, zero, b)
    assert distance > 0.1
    assert quality.frechet_distance(zero, b, zero, a) == pytest.approx(distance)
    turned = [rotation @ covariance @ rotation.T for covariance in (a, b)]
    assert quality.frechet_distance(zero, turned[0], zero, turned[1]) == pytest.approx(distance)


def test_time_to_a_distance_is_interpolated():
    points = [{"seconds": seconds, "frechet_distance": distance} for seconds, distance in ((0, 99), (10, 40), (40, 10))]
    assert report.seconds_to(20, points) == pytest.approx(20)
    assert np.isnan(report.seconds_to(5, points))


def test_the_judge_tells_digits_from_noise_and_right_labels_from_wrong_ones():
    judge = quality.Judge("digits")
    test = datasets.load("digits", 28, "test")
    measured = judge.measure(test.images, test.labels)
    assert measured["frechet_distance"] == pytest.approx(0, abs=1e-3)
    assert measured["label_agreement"] == pytest.approx(judge.accuracy)
    assert judge.accuracy > 0.7
    assert judge.measure(test.images, (test.labels + 1) % 10)["label_agreement"] < 0.2
    noise = np.random.default_rng(0).integers(0, 256, test.images.shape, np.uint8)
    assert judge.measure(noise)["frechet_distance"] > 5 * judge.floor
