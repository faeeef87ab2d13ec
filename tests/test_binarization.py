"""Black and white images: as often white as their pixels are bright, or by a threshold."""

import numpy as np
import pytest
import tensorflow as tf

from blocks import binarization

GREY = np.random.default_rng(1).integers(0, 256, (200, 8, 8, 1), np.uint8)


def test_threshold_is_at_the_middle():
    np.testing.assert_array_equal(binarization.threshold(GREY), np.where(GREY >= 128, 255, 0))


def dynamic(pixels):
    uniform = tf.random.stateless_uniform(pixels.shape, (0, 0))
    return np.asarray(binarization.dynamic(pixels / np.float32(255), uniform)) * 255


@pytest.mark.parametrize("binarize", [binarization.static, dynamic])
def test_pixels_are_white_as_often_as_they_are_bright(binarize):
    drawn = binarize(GREY)
    np.testing.assert_array_equal(drawn, binarize(GREY))
    assert set(np.unique(drawn)) == {0, 255}
    for level in range(4):
        chosen = level == GREY // 64
        assert drawn[chosen].mean() == pytest.approx(GREY[chosen].mean(), abs=8)
    assert (drawn[GREY == 0] == 0).all()
    assert (drawn[GREY == 255] == 255).all()
    np.testing.assert_array_equal(binarize(drawn.astype(np.uint8)), drawn)


def test_dynamic_binarization_is_tested_and_evaluated_on_the_static_draw():
    np.testing.assert_array_equal(binarization.fixed(GREY, "dynamic"), binarization.static(GREY))
    np.testing.assert_array_equal(binarization.fixed(GREY, "static"), binarization.static(GREY))
    np.testing.assert_array_equal(binarization.fixed(GREY, "threshold"), binarization.threshold(GREY))
