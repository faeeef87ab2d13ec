"""Feature extraction: the activations of chosen layers of a trained network, from pictures of any size."""

import collections
import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

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
    """Return the output shapes of the layers that give one feature map (batch, height, width, channels), by name.

    A layer of a model within the model is named inner/layer; a layer's second call is named layer:2.
    """
    return {
        call.name: tuple(call.node.output_tensors[0].shape)
        for call in _flatten(model)
        if isinstance(call.layer, keras.Layer)
        and len(call.outputs) == 1
        and getattr(call.node.output_tensors[0], "ndim", 0) == 4
    }


def any_size_model(model: keras.Model, layer_names: list[str]) -> keras.Model:
    """Return the part of `model` that computes these layers' outputs, a list, for pictures of any size.

    layer_names: as those of `layer_shapes`. Models within the model are replaced by their layers.
    Batch normalisation that follows a convolution is folded into its weights, which changes nothing but the rounding
    (Jacob et al. 2018, arXiv:1712.05877, section 3.2). The layers compute in Keras's global precision.
    Raises UserError if a layer works at one size only.
    """
    calls = _flatten(model)
    wanted = {call.name: call.outputs[0] for call in calls if call.name in layer_names}
    calls = _needed(calls, set(wanted.values()))
    normalizations = _foldable(calls, set(wanted.values()))
    images = keras.Input((None, None, model.inputs[0].shape[-1]))
    clones = _clones(calls, normalizations)
    try:
        values = _call(calls, clones, model.inputs[0], images)
        any_size = keras.Model(images, [values[wanted[name]] for name in layer_names])
        any_size.compute_output_shape((1, 2000, 3000, images.shape[-1]))
    except (ValueError, TypeError) as error:
        names = ", ".join(layer_names)
        raise UserError(f"--layers {names}: the network takes pictures of one size only ({error!s:.100})") from None
    for layer, clone in clones.items():
        if layer in normalizations:
            clone.set_weights(_fold(layer, normalizations[layer]))
        elif isinstance(layer, keras.Layer) and layer.weights:
            clone.set_weights(layer.get_weights())
        _finalize_normalizations(clone)
    return any_size


def _finalize_normalizations(layer) -> None:
    """Make each layers.Normalization, also in a layer that holds others, use the weights that were set."""
    for inner in getattr(layer, "layers", ()):
        _finalize_normalizations(inner)
    if isinstance(layer, layers.Normalization):
        layer.finalize_state()


@dataclasses.dataclass(frozen=True)
class _Call:
    """A call of a layer or operation in the graph of a model whose inner models have been replaced by their layers.

    layer: an inner model, too, whose call comes before those of its layers. node: Keras's record of the call.
    inputs, outputs: stand for the tensors; those of an inner model are those of the layers that compute them.
    """

    name: str
    layer: Any
    node: Any
    inputs: tuple
    outputs: tuple

    @property
    def is_opened(self) -> bool:
        return _has_graph(self.layer)


def _has_graph(layer) -> bool:
    """Whether a layer is a model made of layers, and not of code of its own."""
    return isinstance(layer, keras.Sequential) or hasattr(layer, "_nodes_by_depth")


def _flatten(model: keras.Model) -> list[_Call]:
    """Return the calls in a model's graph, each after those whose outputs it takes, with unique names.

    A layer's own `output` will not do: it belongs to the layer's first call, which may be part of another graph.
    """
    calls, times = [], collections.Counter()

    def open_model(inner, inputs: tuple, prefix: str) -> tuple:
        tensors = dict(zip(map(id, inner.inputs), inputs, strict=True))
        graph = keras.Model(inner.inputs, inner.outputs)
        order = {layer: number for number, layer in enumerate(graph.operations)}
        for _, nodes in sorted(graph._nodes_by_depth.items(), reverse=True):  # Keras has no public name for them
            for node in sorted(nodes, key=lambda it: order[it.operation]):
                if node.is_input:
                    continue
                layer, inputs = node.operation, tuple(tensors[id(it)] for it in node.input_tensors)
                name = prefix + layer.name
                times[name] += 1
                name += f":{times[name]}" if times[name] > 1 else ""
                outputs = tuple(object() for _ in node.output_tensors)
                if _has_graph(layer):
                    number = len(calls)
                    outputs = open_model(layer, inputs, f"{name}/")
                    calls.insert(number, _Call(name, layer, node, inputs, outputs))
                else:
                    calls.append(_Call(name, layer, node, inputs, outputs))
                tensors.update(zip(map(id, node.output_tensors), outputs, strict=True))
        return tuple(tensors[id(it)] for it in inner.outputs)

    open_model(model, tuple(model.inputs), "")
    return calls


def _needed(calls: list[_Call], wanted: set) -> list[_Call]:
    """Return the calls of layers, without those of the models that hold them, that the tensors `wanted` depend on."""
    needed, kept = set(wanted), []
    for call in reversed(calls):
        if not call.is_opened and needed.intersection(call.outputs):
            needed.update(call.inputs)
            kept.append(call)
    return kept[::-1]


def _foldable(calls: list[_Call], wanted: set) -> dict:
    """Return the normalisation that alone uses a linear convolution's output, by convolution; both are called once."""
    users = collections.defaultdict(list)
    for call in calls:
        for tensor in call.inputs:
            users[tensor].append(call)
    times = collections.Counter(call.layer for call in calls)
    found = {}
    for call in calls:
        is_linear = type(call.layer) is layers.Conv2D and call.layer.activation is keras.activations.linear
        using = users[call.outputs[0]]
        if is_linear and len(using) == 1 and isinstance(using[0].layer, layers.BatchNormalization):
            pair = (call, using[0])
            if all(times[it.layer] == 1 and it.outputs[0] not in wanted for it in pair):
                found[call.layer] = using[0].layer
    return found


def _clones(calls: list[_Call], normalizations: dict) -> dict:
    """Return a new layer, without weights yet, for each layer; none for the folded normalisations."""
    clones, names, folded = {}, collections.Counter(), set(normalizations.values())
    for layer in dict.fromkeys(call.layer for call in calls if call.layer not in folded):
        settings = layer.get_config()
        if isinstance(layer, keras.Layer):  # and not an operation of keras.ops
            settings["dtype"] = keras.config.dtype_policy().name
        if layer in normalizations:
            settings["use_bias"] = True
        clones[layer] = type(layer).from_config(settings)
        names[layer.name] += 1
        if names[layer.name] > 1:  # two models within the model may use the same name
            clones[layer].name = f"{layer.name}__{names[layer.name]}"
    return clones


def _call(calls: list[_Call], clones: dict, model_input, images) -> dict:
    """Call the clones in place of their layers, with `images` as the model's input; return all results by tensor."""
    values = {model_input: images}
    for call in calls:
        if call.layer in clones:
            inputs = zip(map(id, call.node.input_tensors), (values[it] for it in call.inputs), strict=True)
            arguments, settings = call.node.arguments.fill_in(dict(inputs))
            results = keras.tree.flatten(clones[call.layer](*arguments, **settings))
        else:  # a folded normalisation
            results = [values[call.inputs[0]]]
        values.update(zip(call.outputs, results, strict=True))
    return values


def _fold(convolution: layers.Conv2D, normalization: layers.BatchNormalization) -> list[np.ndarray]:
    """Return the kernel and the bias of the convolution that equals both layers in inference."""
    mean, variance = (np.asarray(it) for it in (normalization.moving_mean, normalization.moving_variance))
    scale = 1.0 / np.sqrt(variance + normalization.epsilon)
    if normalization.scale:
        scale = scale * np.asarray(normalization.gamma)
    bias = np.asarray(convolution.bias) if convolution.use_bias else 0.0
    shift = np.asarray(normalization.beta) if normalization.center else 0.0
    return [np.asarray(convolution.kernel) * scale, shift + (bias - mean) * scale]
