"""The fast LSTM layer against Keras's."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from blocks import lstm
from common import cores


def outputs_and_gradients(layer, sequences, states):
    """Return the outputs and final states of a layer, and its gradients with respect to everything."""
    with tf.GradientTape() as tape:
        tape.watch([sequences, *states])
        outputs, *after = layer(sequences, initial_state=states)
        weights = tf.cos(tf.range(7.0))[None, :, None]
        loss = tf.reduce_sum(outputs * weights) + sum(tf.reduce_sum(tf.sin(state)) for state in after)
    return [outputs, *after, *tape.gradient(loss, [sequences, *states, *layer.trainable_variables])]


@pytest.mark.parametrize(
    ("shape", "count", "sizes"),
    [
        (None, 1, 1),  # eagerly
        (None, 2, [1, 2]),
        ((3, None, 5), 2, [1, 2]),  # as a graph
        ((None, None, 5), 2, 1),
    ],
    ids=str,
)
def test_layer_equals_keras_lstm_to_rounding_with_its_gradients(shape, count, sizes, monkeypatch):
    monkeypatch.setattr(lstm, "SMALLEST_PART", 1)
    monkeypatch.setattr(cores, "count", lambda: count)
    monkeypatch.setattr(cores, "threads_of_operation", lambda: 1)
    assert cores.part_sizes(shape[0] if shape else 3, lstm.SMALLEST_PART) == sizes
    random = np.random.default_rng(0)
    sequences = tf.constant(random.standard_normal((3, 7, 5)), tf.float32)
    states = [tf.constant(random.standard_normal((3, 16)), tf.float32) for _ in range(2)]
    ours, theirs = (kind(16, return_sequences=True, return_state=True) for kind in (lstm.LSTM, keras.layers.LSTM))
    for layer in (ours, theirs):
        layer.build((3, 7, 5))
    theirs.set_weights([random.standard_normal(weight.shape) / 3 for weight in theirs.get_weights()])
    ours.set_weights(theirs.get_weights())
    assert [weight.name for weight in ours.weights] == [weight.name for weight in theirs.weights]

    def run(sequences, *states):
        return outputs_and_gradients(ours, sequences, states)

    if shape:
        signature = [tf.TensorSpec(shape), *[tf.TensorSpec((shape[0], 16))] * 2]
        run = tf.function(run, input_signature=signature)
    expected = outputs_and_gradients(theirs, sequences, states)
    for one, other in zip(run(sequences, *states), expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=2e-6)


def test_layer_is_kerass_own_for_settings_that_ours_lacks(monkeypatch):
    monkeypatch.setattr(lstm, "lstm_outputs", None)
    for settings in ({"dropout": 0.1}, {"activation": "relu"}, {"use_bias": False}, {"go_backwards": True}):
        layer = lstm.LSTM(4, **settings)
        assert layer(tf.ones((2, 3, 5)), training=True).shape == (2, 4)
    assert lstm.LSTM(4)(tf.ones((2, 3, 5)), mask=tf.constant([[True, True, False]] * 2)).shape == (2, 4)
