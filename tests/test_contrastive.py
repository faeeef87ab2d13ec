"""What autoencoder.py's contrastive loss is made of: the loss, random distortions, and codes rounded to bits."""

import numpy as np
import pytest
import tensorflow as tf

from blocks.contrastive import nt_xent
from blocks.distortion import random_affine
from blocks.straight_through import straight_through_sign


def test_nt_xent_against_its_closed_form():
    codes, others = np.random.default_rng(0).normal(size=(2, 5, 3)).astype(np.float32)
    first, second = (it / np.linalg.norm(it, axis=1, keepdims=True) for it in (codes, others))
    powers = np.exp(first @ second.T / 0.2)
    probabilities = [np.diag(powers) / powers.sum(axis=axis) for axis in (0, 1)]
    loss = float(nt_xent(tf.constant(codes), tf.constant(others), temperature=0.2))
    assert loss == pytest.approx(-np.log(probabilities).mean(), rel=1e-4)


def test_nt_xent_of_codes_that_are_all_equal_is_a_guess():
    loss = float(nt_xent(tf.ones((8, 1)), tf.ones((8, 1)), temperature=0.2))
    assert loss == pytest.approx(np.log(8), rel=1e-5)


def test_distortions_keep_the_image_in_the_middle_and_differ():
    images = np.zeros((200, 21, 21, 1), np.float32)
    images[:, 7:14, 7:14] = 1.0
    uniform = np.random.default_rng(0).random((200, 6), np.float32)
    distorted = random_affine(tf.constant(images), tf.constant(uniform)).numpy()
    assert distorted.min() == 0
    assert distorted.max() <= 1 + 1e-5
    rows, columns = np.mgrid[:21, :21] - 10
    mass = distorted.sum(axis=(1, 2, 3))
    for places in (rows, columns):
        centres = (distorted[..., 0] * places).sum(axis=(1, 2)) / mass
        assert np.abs(centres).max() < 21 * 0.1 * 1.28 * 1.5  # shifts, in pixels of a scaled and sheared image
        assert np.abs(centres).max() > 1.5
        assert np.mean(centres) == pytest.approx(0, abs=0.3)
    assert mass.min() < 49 / 1.2 < 49 < 49 * 1.2 < mass.max()
    assert np.unique(mass.round(3)).size > 190


@pytest.mark.parametrize(
    ("number", "value", "expected"),
    [
        (0, 0.5, lambda image: image),
        (4, 1.0, lambda image: np.pad(image[:, 2:], ((0, 0), (0, 2)))),  # a tenth of 20 pixels to the left
        (5, 1.0, lambda image: np.pad(image[2:], ((0, 2), (0, 0)))),  # upwards
    ],
)
def test_distortion_by_known_numbers(number, value, expected):
    uniform = np.full((1, 6), 0.5, np.float32)
    uniform[0, number] = value
    image = np.random.default_rng(0).random((20, 20)).astype(np.float32)
    distorted = random_affine(tf.constant(image[None, ..., None]), tf.constant(uniform)).numpy()
    np.testing.assert_allclose(distorted[0, ..., 0], expected(image), atol=1e-5)


def test_signs_pass_the_gradient_straight_through():
    values = tf.constant([[-0.3, 0.0, 2.0]])
    with tf.GradientTape() as tape:
        tape.watch(values)
        signs = straight_through_sign(values)
        total = tf.reduce_sum(signs * [[1.0, 2.0, 3.0]])
    np.testing.assert_allclose(signs, [[-1, -1, 1]])
    np.testing.assert_allclose(tape.gradient(total, values), [[1, 2, 3]])
