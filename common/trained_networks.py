"""Trained networks, loaded from their files: the bundled one, those of keras.applications, and any Keras file."""

import dataclasses
import difflib
import hashlib
import math
import re
import textwrap
import zipfile
from collections.abc import Callable
from pathlib import Path

import keras
import tensorflow as tf

from common import archives, downloads, files
from common.errors import UserError
from common.progress import phase
from common.published_networks import NETWORKS

BUNDLED = Path(__file__).parents[1] / "pretrained" / "dream_network.keras"

REASONS = {  # parts of Keras's error messages, and what they mean for the user
    "`Lambda` layer": "a Lambda layer in it holds Python code, which is not run, as it may do anything; "
    "rebuild the network with Keras's own layers, such as Rescaling, and save it again",
    r"(?:Could not locate \w+|Unknown \w+:?) '([^']+)'": "{0} in it is not part of Keras, and the file holds no code "
    "for it; rebuild the network with Keras's own layers and save it again",
    r"Unrecognized keyword arguments passed to (\w+): \{'(\w+)'": "another version of Keras wrote it: {0} has the "
    "setting {1}, which this version lacks; rebuild the network with Keras 3, load the weights, and save it again",
    "No model config found": "weights without a network; save the whole network with model.save('x.keras')",
}


@dataclasses.dataclass(frozen=True)
class TrainedNetwork:
    """A trained network that takes pictures.

    name: for messages. source: the argument of `load`, with "auto" resolved. path: its file. model: as saved.
    prepare: maps images (batch, height, width, 3) in [-1, 1] to what the model was trained on.
    """

    name: str
    source: str
    path: Path
    model: keras.Model
    prepare: Callable[[tf.Tensor], tf.Tensor]

    @property
    def digest(self) -> str:
        """SHA-256 of the file."""
        with self.path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()


@phase("loading the network")
def load(model: str, input_range: tuple[float, float] = (-1.0, 1.0)) -> TrainedNetwork:
    """Load the network that `model` names.

    model: a network of keras.applications that get_ckpt.py has fetched; "bundled" for the small one that comes with
    these scripts; the path of a Keras file; "auto" for InceptionV3 if it has been fetched, else "bundled".
    input_range: the lowest and highest pixel value that the network of a Keras file was trained on.
    Raises UserError if the network is missing, damaged, or takes no pictures, or if the range is empty or infinite.
    """
    if model == "auto":
        if files.exists(NETWORKS["InceptionV3"].path):
            return _load_published("InceptionV3")
        print("using the small bundled network; to fetch InceptionV3: python get_ckpt.py", flush=True)
        model = "bundled"
    if model in ("bundled", "box"):  # "box" in earlier versions
        return TrainedNetwork("the bundled network", "bundled", BUNDLED, _load_file(BUNDLED), lambda images: images)
    if model in NETWORKS:
        return _load_published(model)
    path = Path(model)
    low, high = input_range
    if not -math.inf < low < high < math.inf:
        raise UserError(f"--input_range {low} {high}: give two finite numbers, the lower one first")
    _check_is_file(path, model)
    network = _load_file(path)
    is_grey = network.inputs[0].shape[-1] == 1

    def prepare(images):
        if is_grey:
            images = tf.image.rgb_to_grayscale(images)
        return low + (images + 1.0) * (0.5 * (high - low))

    return TrainedNetwork(path.name, model, path, network, prepare)


def _load_published(name: str) -> TrainedNetwork:
    published = NETWORKS[name]
    if not files.exists(published.path):
        raise UserError(f"--model {name}: not fetched yet; fetch it with: python get_ckpt.py --model {name}")
    if fault := downloads.fault(published.path, published.digest):
        raise UserError(
            f"{published.path} is not the published file ({fault}); "
            f"replace it with: python get_ckpt.py --model {name} --force"
        )
    build = getattr(keras.applications, name)
    try:
        model = build(include_top=False, weights=str(published.path), input_shape=(None, None, 3))
    except (OSError, ValueError) as error:  # MobileNetV2: only its size has been checked
        raise UserError(f"{published.path} cannot be read: {error}") from None
    preprocess = getattr(keras.applications, published.address.partition("/")[0]).preprocess_input
    return TrainedNetwork(name, name, published.path, model, lambda images: preprocess((images + 1.0) * 127.5))


def _check_is_file(path: Path, model: str) -> None:
    """Raise UserError, with the reason and advice, unless a file is at `path`, which --model names as `model`."""
    if files.exists(path / "saved_model.pb"):
        raise UserError(
            f"--model {model}: a TensorFlow SavedModel, which Keras 3 cannot read; "
            "load it with the program that made it, and save it as a Keras file with model.save('x.keras')"
        )
    if files.exists(path) and path.is_dir():
        raise UserError(f"--model {model}: a folder; name the Keras file (.keras or .h5)")
    if files.exists(path) and not path.is_file():
        raise UserError(f"--model {model}: not a regular file; copy it to one")
    if not files.exists(path):
        nearest = difflib.get_close_matches(model, NETWORKS, n=1, cutoff=0.5)
        advice = f"did you mean {nearest[0]}?" if nearest else f"known are bundled, {', '.join(NETWORKS)}"
        raise UserError(f"--model {model}: no such file or network; {advice}")


def _load_file(path: Path) -> keras.Model:
    """Load a Keras file without running code that it may carry. Raises UserError if its network takes no pictures."""
    try:
        if zipfile.is_zipfile(path):
            archives.check(path)
        model = keras.models.load_model(path, compile=False, safe_mode=True)
    except Exception as error:  # zipfile, h5py, json and Keras raise their own kinds, and a damaged file any
        raise UserError(f"{path}: {_reason(error)}") from None
    inputs = getattr(model, "inputs", None) or []
    if len(inputs) != 1 or len(inputs[0].shape) != 4 or inputs[0].shape[-1] not in (1, 3):
        shapes = ", ".join(str(tuple(it.shape)) for it in inputs) or "unknown"
        raise UserError(f"{path}: not a network of grey or RGB pictures: its input shape is {shapes}")
    return model


def _reason(error: Exception) -> str:
    """Return why Keras could not load a file, and what to do."""
    for pattern, reason in REASONS.items():
        if match := re.search(pattern, str(error)):
            return reason.format(*match.groups())
    cause = str(error).rpartition("Exception encountered: ")[2]  # Keras puts its settings, pages of them, before that
    return f"damaged, or not a Keras file ({textwrap.shorten(cause, 200, placeholder=' …') or type(error).__name__})"
