"""Dropout whose masks are functions of seed and step: rate, shape, devices, and the file that any Keras can load."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from blocks.dropout import Dropout, as_keras, masks_of


def dropped(layer, inputs, step=0, stream=1, seed=0):
    with masks_of(seed, step, stream):
        return np.asarray(layer(inputs, training=True))


def test_the_rate_is_dropped_and_the_rest_enlarged():
    layer, inputs = Dropout(0.3), tf.ones((100, 50))
    found = dropped(layer, inputs)
    assert np.unique(found) == pytest.approx([0, 1 / 0.7])
    assert np.mean(found == 0) == pytest.approx(0.3, abs=0.02)
    assert np.array_equal(found, dropped(layer, inputs))
    for other in ({"step": 1}, {"stream": 2}, {"seed": 1}):
        assert np.mean(dropped(layer, inputs, **other) == found) == pytest.approx(0.3**2 + 0.7**2, abs=0.03)
    assert layer(inputs, training=False) is inputs and Dropout(0.0)(inputs, training=True) is inputs


def test_a_noise_shape_drops_the_same_units_at_all_times():
    found = dropped(Dropout(0.5, noise_shape=(None, 1, 8), dtype="mixed_bfloat16"), tf.ones((16, 5, 8)))
    assert found.shape == (16, 5, 8) and found.dtype == tf.bfloat16.as_numpy_dtype
    assert (found == found[:, :1]).all() and 0.3 < np.mean(found == 0) < 0.7


def test_layers_called_one_after_the_other_have_masks_of_their_own():
    first, second = Dropout(0.5), Dropout(0.5)
    inputs = tf.ones((20, 20))
    with masks_of(0, 0, 1):
        masks = np.asarray(first(inputs, training=True)), np.asarray(second(inputs, training=True))
    assert not np.array_equal(*masks)
    assert np.array_equal(masks[1], dropped(first, inputs, stream=2))


def test_a_copy_with_keras_layers_computes_the_same_and_needs_none_of_ours(tmp_path):
    inputs = keras.Input((4,))
    x = keras.layers.SpectralNormalization(keras.layers.Dense(6))(inputs)
    network = keras.Model(inputs, Dropout(0.4)(x) + 1.0, name="network")
    plain = as_keras(network)
    plain.save(tmp_path / "network.keras")
    assert [type(layer) for layer in plain.layers if "dropout" in layer.name] == [keras.layers.Dropout]
    loaded = keras.models.load_model(tmp_path / "network.keras")
    assert loaded.name == "network"
    rows = np.random.default_rng(0).random((3, 4), np.float32)
    np.testing.assert_array_equal(loaded(rows), network(rows))
