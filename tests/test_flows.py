"""The affine coupling flow: a density with an inverse."""

import numpy as np
import tensorflow as tf

from blocks.flows import affine_coupling_flow


def test_flow_is_a_density_with_an_inverse():
    flow, inverse = affine_coupling_flow(dimensions=5, classes=3, couplings=2)
    for index, variable in enumerate(flow.variables):
        variable.assign(tf.random.stateless_normal(variable.shape, (index, 0)) * 0.15)
    latents = tf.random.stateless_normal((4, 5), (0, 1))
    one_hot = tf.one_hot([0, 1, 2, 0], 3)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(latents)
        base, log_determinant = flow([latents, one_hot])
    jacobian = tape.batch_jacobian(base, latents, experimental_use_pfor=False)
    np.testing.assert_allclose(log_determinant, np.linalg.slogdet(jacobian)[1], atol=1e-3)
    assert np.abs(log_determinant).max() > 0.1
    np.testing.assert_allclose(inverse([base, one_hot]), latents, atol=1e-3)
    other = flow([latents, tf.roll(one_hot, 1, axis=-1)])[0]
    assert not np.allclose(other, base, atol=1e-2)  # each class has its own density


def test_without_couplings_and_at_the_start_of_training_the_density_is_normal():
    latents, no_classes = tf.random.stateless_normal((4, 6), (0, 0)), tf.zeros((4, 0))
    for couplings in (0, 2):  # an even number puts the halves back in their places
        flow, inverse = affine_coupling_flow(6, 0, couplings)
        base, log_determinant = flow([latents, no_classes])
        np.testing.assert_array_equal(base, latents)
        np.testing.assert_array_equal(log_determinant, np.zeros(4))
        np.testing.assert_array_equal(inverse([base, no_classes]), latents)
