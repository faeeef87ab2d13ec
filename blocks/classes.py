"""How a network is given the class of an image."""

import tensorflow as tf
from keras import layers


def append_one_hot(latents, labels, classes: int):
    """Append each image's class, one-hot, to its latents: (batch, latent_dim + classes).

    Mirza and Osindero 2014 (arXiv:1411.1784), equation 2. labels: (batch,). classes: 0 appends nothing.
    """
    return tf.concat([latents, tf.one_hot(labels, classes)], axis=-1)


def class_scale_and_offset(x, one_hot):
    """Scale and shift normalised features by amounts learned for each class: class-conditional batch normalisation.

    Dumoulin et al. 2017 (arXiv:1610.07629), equation 5, for instance normalisation; for the batch normalisation of GANs
    Miyato and Koyama 2018 (arXiv:1802.05637). The scales start at 1 and the offsets at 0, as if there were no classes.
    x: (batch, height, width, channels). one_hot: (batch, classes).
    """
    one_hot = layers.Reshape((1, 1, one_hot.shape[-1]))(one_hot)  # the same at every pixel
    scale, offset = (layers.Dense(x.shape[-1], use_bias=False, kernel_initializer="zeros")(one_hot) for _ in range(2))
    return x * (1.0 + scale) + offset


def own_class_logit(logits, labels):
    """Return each image's logit (batch,) for its own class, of (batch, classes); without classes there is only one.

    This is `projection_logit` without the part that all classes share.
    """
    if logits.shape[-1] == 1:
        return logits[:, 0]
    return tf.reduce_sum(logits * tf.one_hot(labels, logits.shape[-1]), axis=-1)


def projection_logit(logits, labels):
    """Return each image's logit (batch,) for its own class: its first of (batch, 1 + classes) plus that of its class.

    The projection discriminator: Miyato and Koyama 2018 (arXiv:1802.05637), figure 1 d. labels: (batch,).
    """
    return logits[:, 0] + tf.reduce_sum(logits[:, 1:] * tf.one_hot(labels, logits.shape[-1] - 1), axis=-1)


def classification_loss(class_logits, labels):
    """Return the cross-entropy of images' classes in nats, averaged over the batch: a scalar.

    For real images it is the first term of the AC-GAN's L_C, negated (Odena et al. 2017, arXiv:1610.09585, equation 3).
    class_logits: (batch, classes). labels: (batch,).
    """
    return tf.nn.compute_average_loss(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, class_logits))
