"""Feature extraction: the activations of chosen layers of a trained network, from pictures of any size."""

import collections
import contextlib
from collections.abc import Callable, Iterator

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from common.errors import UserError


class FeatureExtractor:
    """Computes the activations of chosen layers. model: the Keras model that computes them from prepared images."""

    def __init__(self, model: keras.Model, layer_names: list[str], prepare: Callable = lambda images: images):
        """prepare: maps images in [-1, 1] to what `model` was trained on. Raises UserError like `any_size_model`."""
        self.model = any_size_model(model, layer_names)
        self._prepare = prepare

    def __call__(self, images) -> list:
        """Map images, float32 (batch, height, width, 3) in [-1, 1], to activations.

        Returns float32 (batch, height, width, channels) for each layer.
        """
        outputs = self.model(self._prepare(images), training=False)
        return [tf.cast(activation, tf.float32) for activation in keras.tree.flatten(outputs)]

    def accepts(self, height: int, width: int) -> bool:
        """Return whether pictures of this size are large enough for every layer."""
        try:
            shapes = self.model.compute_output_shape((1, height, width, self.model.inputs[0].shape[-1]))
        except ValueError:  # a convolution without padding has no output left
            return False
        return all(size is None or size > 0 for shape in shapes for size in shape)


@contextlib.contextmanager
def mismatch_as_user_error(height: int, width: int, advice: str) -> Iterator[None]:
    """Raise UserError, with the picture's size, if TensorFlow cannot join branches of the network at this size.

    advice: what the user can do.
    """
    try:
        yield
    except tf.errors.InvalidArgumentError:
        raise UserError(f"this network's layers do not fit together at {width}x{height} pixels; {advice}") from None


def layer_shapes(model: keras.Model) -> dict[str, tuple]:
    """Return the output shapes of the layers that give one feature map (batch, height, width, channels), by name."""
    outputs = _outputs(_calls(model))
    names = [layer.name for layer in model.layers if not isinstance(layer, layers.InputLayer)]
    return {name: tuple(outputs[name].shape) for name in names if name in outputs and outputs[name].ndim == 4}


def any_size_model(model: keras.Model, layer_names: list[str]) -> keras.Model:
    """Return the part of `model` that computes these layers' outputs, a list, for pictures of any size.

    Batch normalisation that follows a convolution is folded into its weights, which changes nothing but the rounding
    (Jacob et al. 2018, arXiv:1712.05877, section 3.2). The layers compute in Keras's global precision.
    Raises UserError if a layer works at one size only.
    """
    outputs = _outputs(_calls(model))
    model = keras.Model(model.inputs[0], [outputs[name] for name in layer_names])
    normalizations = {
        convolution: normalization
        for convolution, normalization in _foldable(model)
        if not {convolution.name, normalization.name} & set(layer_names)
    }
    folded = {layer.name for layer in normalizations.values()}

    def clone(layer):
        if isinstance(layer, keras.Model):  # a model within the model, which may have a fixed size, too
            return keras.models.clone_model(layer, keras.Input((None, None, layer.inputs[0].shape[-1])), clone)
        settings = layer.get_config()
        if isinstance(layer, keras.Layer):  # and not an operation of keras.ops
            settings["dtype"] = keras.config.dtype_policy().name
        if layer in normalizations:
            settings["use_bias"] = True
        return type(layer).from_config(settings)

    def call(layer, inputs, *arguments, **settings):
        return inputs if layer.name in folded else layer(inputs, *arguments, **settings)

    images = keras.Input((None, None, model.inputs[0].shape[-1]))
    try:
        any_size = keras.models.clone_model(model, images, clone, call)
        any_size.compute_output_shape((1, 2000, 3000, images.shape[-1]))
    except (ValueError, TypeError) as error:
        names = ", ".join(layer_names)
        raise UserError(f"--layers {names}: the network takes pictures of one size only ({error!s:.100})") from None
    _copy_weights(model, any_size, normalizations)
    return any_size


def _copy_weights(source: keras.Model, target: keras.Model, normalizations: dict) -> None:
    """Set the target's weights to the source's, with each of these convolutions' normalisations folded in."""
    folded = set(normalizations.values())
    for layer in source.layers:
        if layer in normalizations:
            target.get_layer(layer.name).set_weights(_fold(layer, normalizations[layer]))
        elif isinstance(layer, keras.Layer) and layer.weights and layer not in folded:
            target.get_layer(layer.name).set_weights(layer.get_weights())
    _finalize_normalizations(target)


def _finalize_normalizations(layer) -> None:
    """Make each layers.Normalization, also in models within the model, use the weights that were set."""
    for inner in getattr(layer, "layers", ()):
        _finalize_normalizations(inner)
    if isinstance(layer, layers.Normalization):
        layer.finalize_state()


def _calls(model: keras.Model) -> list:
    """Return all calls of layers and operations in the model's graph, as Keras's nodes.

    A layer's own `output` will not do: it belongs to the layer's first call, which may be part of another graph.
    """
    by_depth = keras.Model(model.inputs, model.outputs)._nodes_by_depth  # Keras has no public name for it
    return [call for calls in by_depth.values() for call in calls]


def _outputs(calls: list) -> dict[str, keras.KerasTensor]:
    """Return the output of each operation that is called once and has one output, by the operation's name."""
    times = collections.Counter(call.operation.name for call in calls)
    return {
        call.operation.name: call.output_tensors[0]
        for call in calls
        if times[call.operation.name] == len(call.output_tensors) == 1
    }


def _foldable(model: keras.Model):
    """Yield each linear convolution whose output only a batch normalisation uses, and that; both are called once."""
    users, calls = {}, _calls(model)
    outputs = _outputs(calls)
    for call in calls:
        for tensor in call.input_tensors:
            users.setdefault(id(tensor), []).append(call.operation)
    for layer in model.layers:
        using = users.get(id(outputs.get(layer.name)), [])
        is_linear = type(layer) is layers.Conv2D and layer.activation is keras.activations.linear
        is_normalized = len(using) == 1 and isinstance(using[0], layers.BatchNormalization)
        if is_linear and is_normalized and using[0].name in outputs:
            yield layer, using[0]


def _fold(convolution: layers.Conv2D, normalization: layers.BatchNormalization) -> list[np.ndarray]:
    """Return the kernel and the bias of the convolution that equals both layers in inference."""
    mean, variance = (np.asarray(it) for it in (normalization.moving_mean, normalization.moving_variance))
    scale = 1.0 / np.sqrt(variance + normalization.epsilon)
    if normalization.scale:
        scale = scale * np.asarray(normalization.gamma)
    bias = np.asarray(convolution.bias) if convolution.use_bias else 0.0
    shift = np.asarray(normalization.beta) if normalization.center else 0.0
    return [np.asarray(convolution.kernel) * scale, shift + (bias - mean) * scale]
