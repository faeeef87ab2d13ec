"""Networks that were trained elsewhere: found, checked, and made ready to be run on pictures of any size."""

import collections
import dataclasses
import difflib
import functools
import hashlib
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from common import downloads, files
from common.cli import UserError
from common.published import NETWORKS

BOX = Path(__file__).with_name("dream_network.keras")


@dataclasses.dataclass(frozen=True)
class Network:
    """A network of pictures.

    name: for people to read. source: what `load` was asked for, "auto" resolved. path: its file. model: as it was
    saved. prepare: turns images (batch, height, width, 3) in [-1, 1] into what the model was trained on.
    """

    name: str
    source: str
    path: Path
    model: keras.Model
    prepare: Callable[[tf.Tensor], tf.Tensor]

    @property
    def digest(self) -> str:
        """SHA-256 of its file."""
        with self.path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    @functools.cached_property  # asked for several times, and it goes through the whole graph
    def layer_shapes(self) -> dict[str, tuple]:
        """By name, in order, the shape of the output of each layer that gives one map of features."""
        outputs = _outputs(_calls(self.model))
        kept = [layer.name for layer in self.model.layers if not isinstance(layer, layers.InputLayer)]
        return {name: tuple(outputs[name].shape) for name in kept if name in outputs and outputs[name].ndim == 4}


def load(model: str, input_range: tuple[float, float]) -> Network:
    """Return the network that `model` names.

    model: a network of keras.applications that get_ckpt.py has fetched; "box" for the small one that comes with these
    scripts; the path of a Keras file; "auto" for InceptionV3 if it is there, else "box".
    input_range: of the pictures that the network of a Keras file was trained on.
    Raises UserError if it is not there, not whole, or not a network of pictures.
    """
    if model == "auto":
        if files.exists(NETWORKS["InceptionV3"].path):
            return _published("InceptionV3")
        print("InceptionV3 is not here, so this dreams with the small network in the box; for the full one:")
        print("    python get_ckpt.py")
        model = "box"
    if model == "box":
        return Network("the network in the box", model, BOX, _from_file(BOX), lambda images: images)
    if model in NETWORKS:
        return _published(model)
    path = Path(model)
    try:
        found = path.is_file()
    except OSError:  # a name too long
        found = False
    if not found:
        nearest = difflib.get_close_matches(model, NETWORKS, n=1, cutoff=0.5)
        known = f"did you mean {nearest[0]}?" if nearest else f"known are {', '.join(NETWORKS)} and box"
        raise UserError(f"--model {model}: there is no such file or network; {known}")
    network = _from_file(path)
    channels = network.inputs[0].shape[-1]
    low, high = input_range

    def prepare(images):
        if channels == 1:
            images = tf.image.rgb_to_grayscale(images)
        return low + (images + 1.0) * (0.5 * (high - low))

    return Network(path.name, model, path, network, prepare)


def _published(name: str) -> Network:
    published = NETWORKS[name]
    if not files.exists(published.path):
        raise UserError(f"--model {name}: is not here; fetch it with: python get_ckpt.py --model {name}")
    if wrong := downloads.fault(published.path, published.digest):
        raise UserError(
            f"{published.path} is not the published file ({wrong}); "
            f"replace it with: python get_ckpt.py --model {name} --force"
        )
    try:
        model = getattr(keras.applications, name)(
            include_top=False, weights=str(published.path), input_shape=(None, None, 3)
        )
    except (OSError, ValueError) as error:  # MobileNetV2, of which only the size was checked
        raise UserError(f"{published.path} cannot be read: {error}") from None
    preprocess = getattr(keras.applications, published.address.partition("/")[0]).preprocess_input
    return Network(name, name, published.path, model, lambda images: preprocess((images + 1.0) * 127.5))


def _from_file(path: Path) -> keras.Model:
    """Load a Keras file; code that a file may carry is not run. Raises UserError if it holds no network of pictures."""
    try:
        model = keras.models.load_model(path, compile=False, safe_mode=True)
    except Exception as error:  # of zipfile, h5py, json and Keras; and whatever a damaged file's settings lead to
        what = next(iter(str(error).splitlines()), "") or type(error).__name__
        raise UserError(f"{path}: not a whole Keras file ({what[:200]})") from None
    inputs = getattr(model, "inputs", None) or []
    if len(inputs) != 1 or len(inputs[0].shape) != 4 or inputs[0].shape[-1] not in (1, 3):
        shapes = ", ".join(str(tuple(it.shape)) for it in inputs) or "not known"
        raise UserError(f"{path}: not a network of pictures, grey or RGB: the shape of its input is {shapes}")
    return model


def _calls(model: keras.Model) -> list:
    """Return all calls of layers and operations in the network's graph, as Keras's nodes.

    A layer's own `output` is that of its first call, which for a model within the model is no part of this graph.
    """
    by_depth = keras.Model(model.inputs, model.outputs)._nodes_by_depth  # for which Keras has no public name
    return [call for calls in by_depth.values() for call in calls]


def _outputs(calls: list) -> dict[str, keras.KerasTensor]:
    """Return, by name, the output of each operation that is called once and has one; calls: as of `_calls`."""
    times = collections.Counter(call.operation.name for call in calls)
    return {
        call.operation.name: call.output_tensors[0]
        for call in calls
        if times[call.operation.name] == len(call.output_tensors) == 1
    }


def features(model: keras.Model, names: list[str]) -> keras.Model:
    """Return the part of `model` that computes these layers' outputs, a list, from pictures of any size.

    Batch normalisation that follows a convolution is folded into its weights, which changes nothing but the rounding
    (Jacob et al. 2018, arXiv:1712.05877, section 3.2). The layers compute in the precision that is set globally.
    Raises UserError if one of them works at one size only.
    """
    outputs = _outputs(_calls(model))
    model = keras.Model(model.inputs[0], [outputs[name] for name in names])
    normalizations = {
        convolution: layer for convolution, layer in _foldable(model) if not {convolution.name, layer.name} & set(names)
    }
    folded = {layer.name for layer in normalizations.values()}

    def clone(layer):
        if isinstance(layer, keras.Model):  # within the model, and perhaps of one size, too
            return keras.models.clone_model(layer, keras.Input((None, None, layer.inputs[0].shape[-1])), clone)
        settings = layer.get_config()
        if isinstance(layer, keras.Layer):  # and not an operation of keras.ops
            settings["dtype"] = keras.config.dtype_policy().name
        if layer in normalizations:
            settings["use_bias"] = True
        return type(layer).from_config(settings)

    def call(layer, inputs, *arguments, **settings):
        return inputs if layer.name in folded else layer(inputs, *arguments, **settings)

    pictures = keras.Input((None, None, model.inputs[0].shape[-1]))
    try:
        anysize = keras.models.clone_model(model, pictures, clone, call)
        anysize.compute_output_shape((1, 2000, 3000, pictures.shape[-1]))
    except (ValueError, TypeError) as error:
        raise UserError(f"--layers {', '.join(names)}: works with pictures of one size only ({error!s:.100})") from None
    for layer in model.layers:
        if layer in normalizations:
            anysize.get_layer(layer.name).set_weights(_fold(layer, normalizations[layer]))
        elif isinstance(layer, keras.Layer) and layer.weights and layer.name not in folded:
            anysize.get_layer(layer.name).set_weights(layer.get_weights())
    _finalize_normalizations(anysize)
    return anysize


def _finalize_normalizations(layer) -> None:
    """Let layers.Normalization, also of models within the model, compute with the weights that they were given."""
    for inner in getattr(layer, "layers", ()):
        _finalize_normalizations(inner)
    if isinstance(layer, layers.Normalization):
        layer.finalize_state()


def _foldable(model: keras.Model):
    """Yield each convolution, and the normalisation that alone uses its output; both are called nowhere else."""
    users, calls = {}, _calls(model)
    outputs = _outputs(calls)
    for call in calls:
        for tensor in call.input_tensors:
            users.setdefault(id(tensor), []).append(call.operation)
    for layer in model.layers:
        using = users.get(id(outputs.get(layer.name)), [])
        linear = type(layer) is layers.Conv2D and layer.activation is keras.activations.linear
        if linear and len(using) == 1 and isinstance(using[0], layers.BatchNormalization) and using[0].name in outputs:
            yield layer, using[0]


def _fold(convolution: layers.Conv2D, normalization: layers.BatchNormalization) -> list[np.ndarray]:
    """Return the kernel and the bias that do what both layers do in turn, when not in training."""
    mean, variance = (np.asarray(it) for it in (normalization.moving_mean, normalization.moving_variance))
    scale = 1.0 / np.sqrt(variance + normalization.epsilon)
    if normalization.scale:
        scale = scale * np.asarray(normalization.gamma)
    bias = np.asarray(convolution.bias) if convolution.use_bias else 0.0
    shift = np.asarray(normalization.beta) if normalization.center else 0.0
    return [np.asarray(convolution.kernel) * scale, shift + (bias - mean) * scale]


def size_test(network: keras.Model) -> Callable[[int, int], bool]:
    """Return a function that tells whether pictures of a height and width leave every output some places."""

    def fits(height: int, width: int) -> bool:
        try:
            shapes = network.compute_output_shape((1, height, width, network.inputs[0].shape[-1]))
        except ValueError:  # a convolution without padding has nothing left
            return False
        return all(size is None or size > 0 for shape in shapes for size in shape)

    return fits


def chosen_layers(text: str, network: Network) -> dict[str, float]:
    """Return the layers that a text such as mixed3=1,mixed5=0.5 names, and their weights; "" means the last one.

    Raises UserError, with the nearest names, for an unknown one.
    """
    shapes, weights = network.layer_shapes, {}
    if not shapes:
        raise UserError(f"{network.name} has no layer that keeps places, such as a convolution: nothing to dream of")
    for word in (text or next(reversed(shapes))).split(","):
        name, _, weight = word.strip().partition("=")
        if name not in shapes:
            nearest = difflib.get_close_matches(name, shapes, n=3, cutoff=0.4)
            advice = f"the nearest are {', '.join(nearest)}" if nearest else "--list_layers shows them all"
            raise UserError(f"--layers {name}: {network.name} has no such layer of features; {advice}")
        try:
            weights[name] = float(weight or 1)
        except ValueError:
            weights[name] = np.nan
        if not np.isfinite(weights[name]) or weights[name] == 0:
            raise UserError(f"--layers {word.strip()}: the weight must be a number other than 0")
    return weights


def chosen_channels(text: str, count: int, layers: list[str]) -> list[int]:
    """Return the numbers in a text such as 3,17,40-45, of a layer that has `count`; [] for all."""
    if not text:
        return []
    if len(layers) > 1:
        raise UserError(f"--channels {text}: are those of one layer; --layers names {len(layers)}")
    chosen = []
    for word in text.split(","):
        first, _, last = word.strip().partition("-")
        if not first.isdecimal() or not (last or first).isdecimal():
            raise UserError(f"--channels {word.strip()}: give numbers and ranges, such as 3,17,40-45")
        if not int(first) <= int(last or first) < count:
            raise UserError(f"--channels {word.strip()}: {layers[0]} has the channels 0 to {count - 1}")
        chosen += range(int(first), int(last or first) + 1)
    return chosen
