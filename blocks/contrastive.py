"""Contrastive learning: codes by which an image can be recognised in a distorted copy of it."""

import tensorflow as tf

from common import devices


def nt_xent(codes, distorted_codes, temperature: float):
    """Return the normalised temperature-scaled cross-entropy (NT-Xent), a scalar in nats.

    It is the cross-entropy of finding each image's copy among all distorted copies, and each copy's image among all
    images; the logits are the cosine similarities of the codes, divided by the temperature. Chen et al. 2020
    (arXiv:2002.05709), equation 1; there an image is compared with the other images, too, and a copy with the other
    copies.

    codes, distorted_codes: of the images and of their distorted copies, (batch, code_size) each.
    """
    codes, distorted_codes = (tf.math.l2_normalize(it, axis=-1) for it in (codes, distorted_codes))
    losses = 0.0
    for queries, keys in ((codes, distorted_codes), (distorted_codes, codes)):
        keys = devices.all_gather(keys)
        matches = devices.local_shard(tf.range(keys.shape[0]))  # the row in keys of each query's counterpart
        similarities = tf.matmul(queries, keys, transpose_b=True) / temperature  # (batch, global batch)
        losses += 0.5 * tf.nn.sparse_softmax_cross_entropy_with_logits(matches, similarities)
    return tf.nn.compute_average_loss(losses)
