"""Normalizing flows: invertible networks that turn a standard normal distribution into a learned one."""

import keras
from keras import layers

UNITS = 128  # in each of the two hidden layers of a coupling


def affine_coupling_flow(
    dimensions: int, classes: int, couplings: int, name: str = "flow"
) -> tuple[keras.Model, keras.Model]:
    """Return a flow from latents to standard normal base variables, and its inverse, which shares its weights.

    It is a chain of affine coupling layers (Dinh et al. 2017, arXiv:1605.08803, equations 6 to 8; there, the scale is
    applied before the shift). A coupling keeps one half of the vector, shifts and scales the other half by amounts that
    depend on the kept one, and exchanges the halves. At the start of training it only exchanges them.
    Both models take vectors (batch, dimensions) and one-hot classes (batch, classes), and return vectors. The first
    also returns the logarithm of its Jacobian determinant, (batch,): the log density of latents is that of their base
    variables plus this logarithm.
    dimensions: at least 2 if there are couplings. couplings: their number; with 0, both models return their input.
    name: of the first model. TensorFlow sorts sums by the names of their terms, so another name may change results in
    the last bit.
    """
    half = dimensions // 2
    conditioners = [_conditioner(half, dimensions - half, classes) for _ in range(couplings)]

    latents, one_hot = keras.Input((dimensions,)), keras.Input((classes,))
    x, log_determinant = latents, keras.ops.zeros_like(latents[:, 0])
    for conditioner in conditioners:
        kept, changed = x[:, :half], x[:, half:]
        shift, log_scale = conditioner([kept, one_hot])
        x = keras.ops.concatenate([(changed + shift) * keras.ops.exp(log_scale), kept], axis=-1)  # exchanges the halves
        log_determinant += keras.ops.sum(log_scale, axis=-1)
    flow = keras.Model([latents, one_hot], [x, log_determinant], name=name)

    base = keras.Input((dimensions,))
    x = base
    for conditioner in reversed(conditioners):
        changed, kept = x[:, : dimensions - half], x[:, dimensions - half :]
        shift, log_scale = conditioner([kept, one_hot])
        x = keras.ops.concatenate([kept, changed * keras.ops.exp(-log_scale) - shift], axis=-1)
    return flow, keras.Model([base, one_hot], x, name=f"inverse_{name}")


def _conditioner(kept_size: int, changed_size: int, classes: int) -> keras.Model:
    """Map the half that a coupling keeps, and the class, to the shift of the other half and its log scale, -2 to 2."""
    kept, one_hot = keras.Input((kept_size,)), keras.Input((classes,))
    x = keras.ops.concatenate([kept, one_hot], axis=-1)
    for _ in range(2):
        x = layers.Dense(UNITS, activation="silu", dtype="float32")(x)
    x = layers.Dense(2 * changed_size, kernel_initializer="zeros", dtype="float32")(x)  # 0: no effect at the start
    return keras.Model([kept, one_hot], [x[:, :changed_size], 2.0 * keras.ops.tanh(x[:, changed_size:])])
