"""Decoding strategies: how the next character is chosen, given the logits of all characters."""

import tensorflow as tf


def choose(logits, temperature, top_k, top_p, seed):
    """Draw a character's index for each row of logits (batch, characters): int64 (batch,).

    temperature: divides the logits; below 1 likely characters become even more likely, and 0 always takes the most
    likely one. top_k, top_p: as for `truncate`. seed: int32 (2,); the same seed and logits give the same result.
    """
    most_likely = tf.argmax(logits, axis=-1)
    logits = truncate(logits / tf.maximum(temperature, 1e-6), top_k, top_p)
    drawn = tf.random.stateless_categorical(logits, 1, seed)[:, 0]
    return tf.where(temperature > 0, drawn, most_likely)


def truncate(logits, top_k, top_p):
    """Return logits (batch, characters) with those of unlikely characters set to -inf.

    top_k: keep this many of the most likely characters, 0 for all (Fan et al. 2018, arXiv:1805.04833). top_p: keep the
    fewest most likely ones whose probabilities add up to at least top_p: nucleus sampling (Holtzman et al. 2020,
    arXiv:1904.09751, section 3.1). A character is kept if both keep it, or if it is as likely as one that they keep.
    """
    characters = logits.shape[-1]
    ranked = tf.sort(logits, direction="DESCENDING", axis=-1)
    most = top_k or characters
    probability_before = tf.cumsum(tf.nn.softmax(ranked), axis=-1, exclusive=True)  # that of all likelier characters
    is_kept = (probability_before < top_p) & (tf.range(characters) < most)
    smallest = tf.reduce_min(tf.where(is_kept, ranked, float("inf")), axis=-1, keepdims=True)
    return tf.where(logits >= smallest, logits, -float("inf"))
