"""Penalties on a discriminator's gradient with respect to its images.

R1 damps the oscillation of the two networks; the interpolated penalty keeps the norm of the gradient near 1.
"""

import tensorflow as tf

LAZY_STEPS = 16  # between two penalties (Karras et al. 2020)


def r1_penalty(score, real_images):
    """Return half the squared norm of the score's gradient at real images, averaged over the batch: a scalar.

    Mescheder et al. 2018 (arXiv:1801.04406), equation 9.
    score: maps images to logits (batch,). real_images: (batch, height, width, channels).
    """
    with tf.GradientTape() as tape:
        tape.watch(real_images)
        logits = score(real_images)
    gradients = tape.gradient(logits, real_images)
    return tf.nn.compute_average_loss(0.5 * tf.reduce_sum(gradients**2, axis=(1, 2, 3)))


def interpolated_penalty(score, real_images, fake_images, mix):
    """Return (|gradient| - 1)^2 at points between real and generated images, averaged over the batch: a scalar.

    Gulrajani et al. 2017 (arXiv:1704.00028), equation 3.
    score: maps images to logits (batch,). real_images, fake_images: (batch, height, width, channels).
    mix: (batch, 1, 1, 1) in [0, 1], 1 for the real image.
    """
    between = mix * real_images + (1.0 - mix) * fake_images
    with tf.GradientTape() as tape:
        tape.watch(between)
        logits = score(between)
    norms = tf.norm(tf.reshape(tape.gradient(logits, between), (between.shape[0], -1)), axis=-1)
    return tf.nn.compute_average_loss((norms - 1.0) ** 2)


def lazily(penalty, step, every: int = LAZY_STEPS):
    """Return `every` * penalty() at each `every`-th step and 0 at the others: as strong on average, but cheaper.

    Lazy regularisation: Karras et al. 2020 (arXiv:1912.04958), section 3.1.
    penalty: a function without arguments that returns a scalar. step: the number of the step, from 0 on.
    """
    if tf.distribute.get_replica_context().num_replicas_in_sync > 1:  # layers cannot synchronise within tf.cond
        return tf.where(step % every == 0, every * penalty(), 0.0)
    return tf.cond(step % every == 0, lambda: every * penalty(), lambda: 0.0)
