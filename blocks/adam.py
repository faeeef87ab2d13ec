"""Adam (Kingma and Ba 2015, arXiv:1412.6980) with fewer operations: Keras's takes twelve for each variable.

Between the matrix products of small networks, these take up to a fifth of a training step on a CPU.
"""

import keras
import tensorflow as tf


class Adam(keras.optimizers.Adam):
    """`keras.optimizers.Adam`, without amsgrad, in one operation for each variable instead of twelve.

    Same state and, to rounding, same steps.
    """

    def update_step(self, gradient, variable, learning_rate):
        """Update a variable and its two moments; Keras calls this for each variable."""
        step, index = tf.cast(self.iterations + 1, tf.float32), self._get_variable_index(variable)
        momentum, velocity = self._momentums[index].value, self._velocities[index].value
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=momentum.handle,
            v=velocity.handle,
            beta1_power=self.beta_1**step,
            beta2_power=self.beta_2**step,
            lr=tf.cast(learning_rate, tf.float32),
            beta1=self.beta_1,
            beta2=self.beta_2,
            epsilon=self.epsilon,
            grad=tf.convert_to_tensor(gradient),  # an embedding's is sparse
        )
