"""Keras's LSTM layer with a training step that is faster on CPUs; docs/lstm.md explains how.

Same arguments, same weights and, to rounding, same outputs and gradients as Keras's layer: weights saved from one can
be loaded into the other. On a GPU, Keras's own implementation runs, with cuDNN, unless `use_cudnn` is False.
"""

from typing import NamedTuple

import keras
import tensorflow as tf

from common import cores

SMALLEST_PART = 16  # sequences; a smaller part of a batch does not pay for a core of its own


class LSTM(keras.layers.LSTM):
    """`keras.layers.LSTM` with a faster training step on CPUs; takes the same arguments.

    Keras's own implementation runs with a mask, dropout inside the layer, other activations or no bias, backwards or
    unrolled.
    """

    def inner_loop(self, sequences, initial_state, mask, training=False):
        """Run over sequences (batch, time, features); called by Keras between its checks of inputs and outputs.

        Returns the last output, all outputs (batch, time, units), and the two final states (batch, units).
        """
        is_plain = mask is None and not (self.dropout or self.recurrent_dropout or self.go_backwards or self.unroll)
        names = self.activation.__name__, self.recurrent_activation.__name__, self.use_bias
        takes_cudnn = self.use_cudnn and tf.config.list_physical_devices("GPU")
        if not is_plain or names != ("tanh", "sigmoid", True) or takes_cudnn:
            return super().inner_loop(sequences, initial_state, mask, training)
        weights = self.cell.kernel, self.cell.recurrent_kernel, self.cell.bias
        arguments = [tf.cast(tf.convert_to_tensor(it), tf.float32) for it in (sequences, *initial_state, *weights)]
        outputs, hidden, cell = lstm_outputs(*arguments)
        return hidden, outputs, [hidden, cell]


def most_parts(batch_size: int) -> int:
    """Return the number of parts into which the layer divides a batch if the CPU has enough cores."""
    return max(1, batch_size // SMALLEST_PART)


def lstm_outputs(inputs, hidden, cell, kernel, recurrent_kernel, bias):
    """Run a long short-term memory (Hochreiter and Schmidhuber 1997, with the forget gate of Gers et al. 2000).

    Each step updates the hidden state h and the cell state c from the input x. The gates i, f, o and the candidate g
    have weights W, U and biases b of their own; products of c, h and gates are elementwise:

        i, f, o = sigmoid(W x + U h + b),  g = tanh(W x + U h + b),  c = f c + i g,  h = o tanh(c)

    inputs: (batch, time, features). hidden, cell: the states before the first step, (batch, units). kernel: (features,
    4 * units); recurrent_kernel: (units, 4 * units); bias: (4 * units,); each in Keras's order of the gates: input,
    forget, candidate, output. All are float32.
    Returns the outputs (batch, time, units) and both states after the last step, (batch, units).
    """
    kernel, recurrent_kernel, bias = (_sigmoids_first(it) for it in (kernel, recurrent_kernel, bias))
    weights = tf.transpose(tf.concat([kernel, recurrent_kernel], axis=0))
    results, sizes = [], cores.part_sizes(inputs.shape[0], SMALLEST_PART)
    for sequences, *states in zip(*(tf.split(it, sizes) for it in (inputs, hidden, cell)), strict=True):
        batch_last = tf.transpose(sequences, (1, 2, 0))
        outputs, last_cell = _recurrence(batch_last, *map(tf.transpose, states), weights, bias[:, None])
        results.append((tf.transpose(outputs, (2, 0, 1)), tf.transpose(outputs[-1]), tf.transpose(last_cell)))
    return tuple(tf.concat(parts, axis=0) for parts in zip(*results, strict=True))


def _sigmoids_first(weights):
    """Reorder the gates along the last axis to input, forget, output, candidate: one sigmoid for the first three."""
    input_gate, forget_gate, candidate, output_gate = tf.split(weights, 4, axis=-1)
    return tf.concat([input_gate, forget_gate, output_gate, candidate], axis=-1)


# From here on the batch is the last axis. A step's product is then weights times states: the large matrix is on the
# left, and both are read in the order in which they lie in memory. Eigen, which multiplies for TensorFlow, is nearly
# twice as fast at this as at the transposed product (docs/lstm.md).


class _History(NamedTuple):
    """What the backward pass needs from each step of the forward pass."""

    inputs: tf.TensorArray  # input and hidden state before the step, stacked (features + units, batch)
    cells: tf.TensorArray  # cell state before the step (units, batch)
    gates: tf.TensorArray  # input, forget and output gate, stacked (3 * units, batch)
    candidates: tf.TensorArray  # new content for the cell state (units, batch)


@tf.custom_gradient
def _recurrence(inputs, hidden, cell, weights, bias):
    """Run over inputs (time, features, batch) from the states (units, batch).

    weights: (4 * units, features + units); bias: (4 * units, 1).
    Returns the outputs (time, units, batch) and the last cell state (units, batch).
    """
    outputs, last_cell, history = _forward(inputs, hidden, cell, weights, bias)

    def gradient(outputs_gradient, cell_gradient):
        return _backward(outputs_gradient, cell_gradient, weights, history)

    return (tf.ensure_shape(outputs, (inputs.shape[0], hidden.shape[0], inputs.shape[2])), last_cell), gradient


def _forward(inputs, hidden, cell, weights, bias):
    """Return the outputs (time, units, batch), the last cell state (units, batch) and the history of all steps."""
    time, units = tf.shape(inputs)[0], hidden.shape[0]
    steps = _array(time).unstack(inputs)

    def forward(step, hidden, cell, outputs, history):
        before = tf.concat([steps.read(step), hidden], axis=0)
        total = weights @ before + bias  # one product for both input and state
        gates, candidate = tf.sigmoid(total[: 3 * units]), tf.tanh(total[3 * units :])
        history = _write(history, step, (before, cell, gates, candidate))
        input_gate, forget_gate, output_gate = tf.split(gates, 3)
        cell = forget_gate * cell + input_gate * candidate
        hidden = output_gate * tf.tanh(cell)
        return step + 1, hidden, cell, outputs.write(step, hidden), history

    start = (0, hidden, cell, _array(time), _History(*(_array(time) for _ in _History._fields)))
    _, _, last_cell, outputs, history = tf.while_loop(
        lambda step, *_: step < time, forward, start, maximum_iterations=time
    )
    return outputs.stack(), last_cell, history


def _backward(outputs_gradient, cell_gradient, weights, history: _History):
    """Return the gradients of inputs, hidden, cell, weights and bias: backpropagation through time.

    outputs_gradient: (time, units, batch); cell_gradient: that of the last cell state, (units, batch).
    No step waits for the gradient of the weights, so one large product at the end computes it for all steps.
    """
    time, units = tf.shape(outputs_gradient)[0], cell_gradient.shape[0]
    features = weights.shape[1] - units
    upstream, transposed = _array(time).unstack(outputs_gradient), tf.transpose(weights)

    def backward(step, hidden_gradient, cell_gradient, totals, inputs_gradients):
        hidden_gradient += upstream.read(step)
        gates, candidate, cell_before = (it.read(step) for it in (history.gates, history.candidates, history.cells))
        input_gate, forget_gate, output_gate = tf.split(gates, 3)
        squashed = tf.tanh(forget_gate * cell_before + input_gate * candidate)
        cell_gradient += tf.raw_ops.TanhGrad(y=squashed, dy=hidden_gradient * output_gate)
        gates_gradient = tf.concat(
            [cell_gradient * candidate, cell_gradient * cell_before, hidden_gradient * squashed], axis=0
        )
        before_sigmoid = tf.raw_ops.SigmoidGrad(y=gates, dy=gates_gradient)
        before_tanh = tf.raw_ops.TanhGrad(y=candidate, dy=cell_gradient * input_gate)
        total = tf.concat([before_sigmoid, before_tanh], axis=0)
        input_gradient, hidden_gradient = tf.split(transposed @ total, [features, units])
        totals, inputs_gradients = totals.write(step, total), inputs_gradients.write(step, input_gradient)
        return step - 1, hidden_gradient, cell_gradient * forget_gate, totals, inputs_gradients

    start = (time - 1, tf.zeros_like(cell_gradient), cell_gradient, _array(time), _array(time))
    _, hidden_gradient, first_cell_gradient, totals, inputs_gradients = tf.while_loop(
        lambda step, *_: step >= 0, backward, start, maximum_iterations=time
    )
    totals, before = _side_by_side(totals, 4 * units), _side_by_side(history.inputs, features + units)
    weights_gradient = tf.matmul(totals, before, transpose_b=True)
    bias_gradient = tf.reduce_sum(totals, axis=1, keepdims=True)
    return inputs_gradients.stack(), hidden_gradient, first_cell_gradient, weights_gradient, bias_gradient


def _array(time) -> tf.TensorArray:
    """Return an empty array with an entry for each step; entries may be read more than once."""
    return tf.TensorArray(tf.float32, time, clear_after_read=False)


def _write(history: _History, step, values) -> _History:
    return _History(*(array.write(step, value) for array, value in zip(history, values, strict=True)))


def _side_by_side(array: tf.TensorArray, rows: int):
    """Return the entries of an array, (rows, batch) each, as one matrix (rows, time * batch)."""
    return tf.reshape(tf.transpose(array.stack(), (1, 0, 2)), (rows, -1))
