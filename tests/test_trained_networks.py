"""Trained networks are found, verified and prepared, and --layers and --channels are read."""

import dataclasses
import hashlib
import os
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from keras.src.legacy.saving.legacy_h5_format import save_weights_to_hdf5_group

from blocks.feature_extraction import layer_shapes
from common import layer_flags
from common.errors import UserError
from common.trained_networks import BUNDLED, NETWORKS, load

COLORS = tf.constant([-1.0, 0.0, 1.0], shape=(1, 1, 1, 3))


def publish(name, model, monkeypatch):
    """Store a model's weights as if they were the published ones."""
    published = NETWORKS[name]
    published.path.parent.mkdir(parents=True)
    with h5py.File(published.path, "w") as file:  # in the format of Keras 2, like the published files
        save_weights_to_hdf5_group(file, model)
    size, md5 = published.path.stat().st_size, hashlib.md5(published.path.read_bytes()).hexdigest()
    network = dataclasses.replace(published, size=size, md5=published.md5 and md5)
    monkeypatch.setitem(NETWORKS, name, network)


def small_network(**settings):
    images = keras.Input((None, None, 3))
    return keras.Model(images, layers.Conv2D(2, 3)(images))


# Networks


def test_the_bundled_network_is_the_documented_one(capsys):
    assert BUNDLED.stat().st_size <= 2_000_000
    network = load("auto")
    assert "python get_ckpt.py" in capsys.readouterr().out
    assert layer_shapes(network.model)["classes"][-1] == 10
    readme = BUNDLED.with_name("README.md").read_text()
    assert f"{BUNDLED.stat().st_size:,} bytes | `{network.digest}`" in readme
    assert f"{network.model.count_params():,}" in readme
    assert load("box").source == load("bundled").source == network.source == "bundled"


@pytest.mark.parametrize("name", ["InceptionV3", "VGG16"])
def test_published_networks_are_verified(name):
    with pytest.raises(UserError, match=f"fetch it with: python get_ckpt.py --model {name}"):
        load(name)
    NETWORKS[name].path.parent.mkdir(parents=True)
    NETWORKS[name].path.write_bytes(b"truncated")
    with pytest.raises(UserError, match=f"is not the published file .*python get_ckpt.py --model {name} --force"):
        load(name)


def test_a_published_network_is_read(monkeypatch):
    model = keras.applications.VGG16(include_top=False, weights=None, input_shape=(None, None, 3))
    publish("VGG16", model, monkeypatch)
    for one, other in zip(load("VGG16").model.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("name", NETWORKS)
def test_pictures_are_prepared_as_a_published_network_was_trained(name, monkeypatch):
    monkeypatch.setattr(keras.applications, name, small_network)
    publish(name, small_network(), monkeypatch)
    network = load("auto" if name == "InceptionV3" else name)
    assert network.source == name
    expected = [-1.0, 0.0, 1.0]
    if name in ("VGG16", "VGG19", "ResNet50"):  # blue, green, red, minus the means of ImageNet
        expected = [255.0 - 103.939, 127.5 - 116.779, -123.68]
    np.testing.assert_allclose(np.ravel(network.prepare(COLORS)), expected, atol=1e-4)


def test_pictures_are_prepared_to_the_input_range_of_a_keras_file():
    small_network().save("rgb.keras")
    np.testing.assert_allclose(np.ravel(load("rgb.keras", (0.0, 255.0)).prepare(COLORS)), [0.0, 127.5, 255.0])
    images = keras.Input((28, 28, 1))
    keras.Model(images, layers.Conv2D(2, 3)(images)).save("grey.keras")
    grey = load("grey.keras", (0.0, 1.0)).prepare(COLORS)
    np.testing.assert_allclose(np.ravel(grey), [0.5 * (1 + 0.114 - 0.2989)], atol=1e-4)
    for low, high in ((1.0, 0.0), (0.0, np.inf), (np.nan, 1.0)):
        with pytest.raises(
            UserError, match=f"--input_range {low} {high}: give two finite numbers, the lower one first"
        ):
            load("rgb.keras", (low, high))


@keras.saving.register_keras_serializable("mine")
class Own(layers.Layer):
    def call(self, x):
        return x


keras.saving.get_custom_objects().clear()
MADE = {
    "lambda": lambda: layers.Lambda(lambda x: 2 * x),
    "own class": Own,
    "own class in h5": Own,
    "other version": lambda: layers.DepthwiseConv2D(3, name="dw"),
    "weights": lambda: layers.Conv2D(2, 3),
}


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("vectors", "not a network of grey or RGB pictures: its input shape is"),
        ("twelve channels", "not a network of grey or RGB pictures: its input shape is"),
        ("two inputs", "not a network of grey or RGB pictures: its input shape is"),
        ("cut", "damaged, or not a Keras file"),
        ("empty", "damaged, or not a Keras file"),
        ("directory", r"--model bad\.keras: a folder; name the Keras file"),
        ("saved model", r"--model bad\.keras: a TensorFlow SavedModel, .*; load it with .* model\.save\('x\.keras'\)$"),
        ("pipe", r"--model bad\.keras: not a regular file; copy it to one"),
        ("lambda", "a Lambda layer in it holds Python code, which is not run, .* and save it again$"),
        ("own class", "Own in it is not part of Keras, .* and save it again$"),
        ("own class in h5", "bad.h5: mine>Own in it is not part of Keras, .* and save it again$"),
        ("other version", "DepthwiseConv2D has the setting groups, which this version lacks; "),
        ("weights", "weights without a network; save the whole network"),
        ("a name that is too long", "no such file or network"),
    ],
)
def test_files_that_hold_no_network_of_pictures(kind, words):
    path = Path("x" * 300 if "name" in kind else "bad.keras")
    if kind == "vectors":
        keras.Sequential([keras.Input((7,)), layers.Dense(2)]).save(path)
    elif kind == "twelve channels":
        keras.Sequential([keras.Input((7, 7, 12)), layers.Conv2D(2, 3)]).save(path)
    elif kind == "two inputs":
        inputs = [keras.Input((8, 8, 3)) for _ in range(2)]
        keras.Model(inputs, layers.Add()(inputs)).save(path)
    elif kind == "cut":
        path.write_bytes(BUNDLED.read_bytes()[:9000])
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind in ("directory", "saved model"):
        path.mkdir()
        if kind == "saved model":
            (path / "saved_model.pb").touch()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind in MADE:
        path = Path("bad.h5" if "h5" in kind or kind in ("weights", "other version") else "bad.keras")
        with keras.utils.custom_object_scope({"mine>Own": Own}):
            model = keras.Sequential([keras.Input((8, 8, 3)), MADE[kind]()])
        model.save(path)
        if kind == "weights":
            with h5py.File(path, "a") as file:
                del file.attrs["model_config"]
        elif kind == "other version":
            with h5py.File(path, "a") as file:
                settings = file.attrs["model_config"].replace('"name": "dw",', '"name": "dw", "groups": 1,')
                file.attrs["model_config"] = settings
    with pytest.raises(UserError, match=words):
        load(str(path))


def test_a_name_that_is_nearly_right():
    with pytest.raises(UserError, match=r"did you mean InceptionV3\?"):
        load("Inception")


# Layers and channels


def test_layers_and_their_weights():
    known = ["mixed0", "mixed1", "mixed2"]
    weights = layer_flags.parse_layers("mixed0=2, mixed1=-0.5,mixed2", known, "a")
    assert weights == {"mixed0": 2.0, "mixed1": -0.5, "mixed2": 1.0}
    assert layer_flags.parse_layers(layer_flags.as_text(weights), known, "a") == weights
    assert layer_flags.as_text(weights) == "mixed0=2,mixed1=-0.5,mixed2=1"
    assert layer_flags.parse_layers("", known, "a") == {"mixed2": 1.0}
    assert layer_flags.parse_layers("mixed1 , mixed0 = 2 ,", known, "a") == {"mixed1": 1.0, "mixed0": 2.0}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("mixd1", "--layers mixd1: a has no such layer; the nearest are mixed1, mixed0"),
        ("xyz", "--layers xyz: a has no such layer; --list_layers lists them all"),
        ("mixed1=x", "--layers mixed1=x: the weight must be a number other than 0"),
        ("mixed0,mixed1=0", "--layers mixed1=0: the weight must be a number other than 0"),
        ("mixed1=inf", "the weight must be a number other than 0"),
    ],
)
def test_bad_layers(text, words):
    with pytest.raises(UserError, match=words):
        layer_flags.parse_layers(text, ["mixed0", "mixed1"], "a")
    with pytest.raises(UserError, match="a has no feature maps"):
        layer_flags.parse_layers(text, [], "a")


def test_channels():
    assert layer_flags.parse_channels("3,17, 40-42", ["mixed0"], 43) == [3, 17, 40, 41, 42]
    assert layer_flags.parse_channels("", ["mixed0", "mixed1"], 5) == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("5", "--channels 5: mixed1 has the channels 0 to 4"),
        ("0-9999999999", "mixed1 has the channels 0 to 4"),
        ("3-2", "mixed1 has the channels 0 to 4"),
        ("a", "--channels a: give numbers and ranges"),
    ],
)
def test_bad_channels(text, words):
    with pytest.raises(UserError, match=words):
        layer_flags.parse_channels(text, ["mixed1"], 5)
    with pytest.raises(UserError, match="needs a single layer, but --layers names 2"):
        layer_flags.parse_channels(text, ["mixed0", "mixed1"], 5)
