"""Decoding strategies: how often each character is drawn."""

import numpy as np
import pytest
import tensorflow as tf

from blocks import decoding

PROBABILITIES = [0.1, 0.4, 0.3, 0.2]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, PROBABILITIES),
        ({"temperature": 0.5}, np.square(PROBABILITIES) / np.sum(np.square(PROBABILITIES))),
        ({"temperature": 0.0}, [0, 1, 0, 0]),
        ({"top_k": 2}, [0, 4 / 7, 3 / 7, 0]),
        ({"top_k": 1}, [0, 1, 0, 0]),
        ({"top_k": 99}, PROBABILITIES),
        ({"top_p": 0.5}, [0, 4 / 7, 3 / 7, 0]),  # 0.4 alone is too little
        ({"top_p": 0.3}, [0, 1, 0, 0]),
        ({"top_k": 3, "top_p": 0.5}, [0, 4 / 7, 3 / 7, 0]),
    ],
    ids=str,
)
def test_characters_are_drawn_by_their_probabilities(settings, expected):
    settings = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, **settings}
    logits = tf.math.log(tf.constant([PROBABILITIES] * 4000))
    found = decoding.choose(logits, **settings, seed=tf.constant([0, 1])).numpy()
    np.testing.assert_allclose(np.bincount(found, minlength=4) / 4000, expected, atol=0.03 * (max(expected) < 1))
