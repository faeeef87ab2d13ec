"""Keras's LSTM, computed so that it trains faster on a CPU; docs/recurrence.md explains how.

The same layer with the same weights and, to rounding, the same outputs and gradients: what is saved from the one can be
read by the other. On a GPU it is Keras's own, with cuDNN.
"""

import keras
import tensorflow as tf

from common import devices

SMALLEST_PART = 16  # sequences that are worth a core of their own


class LSTM(keras.layers.LSTM):
    """Keras's LSTM with a faster training step on CPUs; takes the same arguments.

    With a mask, dropout inside the layer, other activations, without a bias, backwards or unrolled, it is Keras's own.
    """

    def inner_loop(self, sequences, initial_state, mask, training=False):
        """Run over sequences (batch, time, features); Keras's RNN calls it between checking its inputs and outputs.

        Returns the last output, all outputs (batch, time, units), and the two final states (batch, units).
        """
        is_plain = mask is None and not (self.dropout or self.recurrent_dropout or self.go_backwards or self.unroll)
        names = self.activation.__name__, self.recurrent_activation.__name__, self.use_bias
        if not is_plain or names != ("tanh", "sigmoid", True) or tf.config.list_physical_devices("GPU"):
            return super().inner_loop(sequences, initial_state, mask, training)
        weights = self.cell.kernel, self.cell.recurrent_kernel, self.cell.bias
        arguments = [tf.cast(tf.convert_to_tensor(it), tf.float32) for it in (sequences, *initial_state, *weights)]
        outputs, hidden, cell = lstm(*arguments)
        return hidden, outputs, [hidden, cell]


def parts_of(sequences: int) -> int:
    """Into how many parts a batch is cut at most, so that each is computed on a core of its own."""
    return max(1, min(devices.cores(), sequences // SMALLEST_PART))


def share_cores(sequences: int) -> None:
    """Leave each part of a batch its cores; to be called before anything is computed, as `devices.limit_threads`."""
    devices.limit_threads(devices.cores() // parts_of(sequences))


def division(sequences: int | None) -> list[int] | int:
    """Return what `tf.split` is to make of a batch: parts of these sizes, or 1 if an operation may use all cores."""
    free = devices.cores() // devices.threads_of_operation()
    parts = min(free, parts_of(sequences)) if sequences else 1
    return [(sequences + index) // parts for index in range(parts)] if parts > 1 else 1


def lstm(inputs, hidden, cell, kernel, recurrent_kernel, bias):
    """Return what a long short-term memory (Hochreiter and Schmidhuber 1997) makes of a batch of sequences.

    inputs: (batch, time, features). hidden, cell: its states before, (batch, units). kernel: (features, 4 * units);
    recurrent_kernel: (units, 4 * units); bias: (4 * units,); in each, Keras's order of the gates: input, forget,
    candidate, output. All are float32.
    Returns the outputs (batch, time, units) and both states after, (batch, units).
    """
    kernel, recurrent_kernel, bias = (_sigmoids_first(it) for it in (kernel, recurrent_kernel, bias))
    weights = tf.transpose(tf.concat([kernel, recurrent_kernel], axis=0))
    parts, divided = [], division(inputs.shape[0])
    for sequences, *states in zip(*(tf.split(it, divided) for it in (inputs, hidden, cell)), strict=True):
        batch_last = tf.transpose(sequences, (1, 2, 0))
        outputs, last_cell = _recurrence(batch_last, *map(tf.transpose, states), weights, bias[:, None])
        parts.append((tf.transpose(outputs, (2, 0, 1)), tf.transpose(outputs[-1]), tf.transpose(last_cell)))
    return tuple(tf.concat(results, axis=0) for results in zip(*parts, strict=True))


def _sigmoids_first(weights):
    """Reorder the gates along the last axis to input, forget, output, candidate: one sigmoid for the first three."""
    input_gate, forget_gate, candidate, output_gate = tf.split(weights, 4, axis=-1)
    return tf.concat([input_gate, forget_gate, output_gate, candidate], axis=-1)


@tf.custom_gradient
def _recurrence(inputs, hidden, cell, weights, bias):
    """Run over inputs (time, features, batch) from states (units, batch), the batch last.

    weights: (4 * units, features + units); bias: (4 * units, 1).
    With the batch last, a step's product is weights times states: the large matrix on the left, both read in the order
    in which they lie in memory. Eigen, which multiplies for TensorFlow, is nearly twice as fast at this as at its
    transpose (docs/recurrence.md).
    Returns the outputs (time, units, batch) and the last cell state (units, batch).
    """
    time, units, features = tf.shape(inputs)[0], hidden.shape[0], inputs.shape[1]

    def history(source=None):
        array = tf.TensorArray(inputs.dtype, time, clear_after_read=False)
        return array if source is None else array.unstack(source)

    steps = history(inputs)

    def forward(step, hidden, cell, outputs, befores, cells, gates, candidates):
        before = tf.concat([steps.read(step), hidden], axis=0)
        total = weights @ before + bias  # the products of input and state as one
        gate, candidate = tf.sigmoid(total[: 3 * units]), tf.tanh(total[3 * units :])
        input_gate, forget_gate, output_gate = tf.split(gate, 3)
        befores, cells = befores.write(step, before), cells.write(step, cell)
        cell = forget_gate * cell + input_gate * candidate
        hidden = output_gate * tf.tanh(cell)
        gates, candidates = gates.write(step, gate), candidates.write(step, candidate)
        return step + 1, hidden, cell, outputs.write(step, hidden), befores, cells, gates, candidates

    start = (0, hidden, cell, *(history() for _ in range(5)))
    _, _, last_cell, outputs, befores, cells, gates, candidates = tf.while_loop(
        lambda step, *_: step < time, forward, start, maximum_iterations=time
    )

    def gradient(outputs_gradient, cell_gradient):
        """Go back through time; what no step waits for is left for one large product at the end."""
        upstream, transposed = history(outputs_gradient), tf.transpose(weights)

        def backward(step, hidden_gradient, cell_gradient, totals, inputs_gradients):
            hidden_gradient += upstream.read(step)
            gate, candidate, cell_before = gates.read(step), candidates.read(step), cells.read(step)
            input_gate, forget_gate, output_gate = tf.split(gate, 3)
            squashed = tf.tanh(forget_gate * cell_before + input_gate * candidate)
            cell_gradient += tf.raw_ops.TanhGrad(y=squashed, dy=hidden_gradient * output_gate)
            gate_gradient = tf.concat(
                [cell_gradient * candidate, cell_gradient * cell_before, hidden_gradient * squashed], axis=0
            )
            total = tf.concat(  # before sigmoid and tanh
                [
                    tf.raw_ops.SigmoidGrad(y=gate, dy=gate_gradient),
                    tf.raw_ops.TanhGrad(y=candidate, dy=cell_gradient * input_gate),
                ],
                axis=0,
            )
            input_gradient, hidden_gradient = tf.split(transposed @ total, [features, units])
            totals, inputs_gradients = totals.write(step, total), inputs_gradients.write(step, input_gradient)
            return step - 1, hidden_gradient, cell_gradient * forget_gate, totals, inputs_gradients

        start = (time - 1, tf.zeros_like(hidden), cell_gradient, history(), history())
        _, hidden_gradient, first_cell_gradient, totals, inputs_gradients = tf.while_loop(
            lambda step, *_: step >= 0, backward, start, maximum_iterations=time
        )
        totals, before = (  # (4 units or features + units, time x batch)
            tf.reshape(tf.transpose(it.stack(), (1, 0, 2)), (rows, -1))
            for it, rows in ((totals, 4 * units), (befores, features + units))
        )
        weights_gradient = tf.matmul(totals, before, transpose_b=True)
        bias_gradient = tf.reduce_sum(totals, axis=1, keepdims=True)
        return inputs_gradients.stack(), hidden_gradient, first_cell_gradient, weights_gradient, bias_gradient

    return (tf.ensure_shape(outputs.stack(), (inputs.shape[0], units, inputs.shape[2])), last_cell), gradient
