"""The user's own settings of Keras change nothing, which one line says."""

import os

import keras
import pytest

from common import devices


@pytest.fixture(autouse=True)
def keras_defaults():
    yield
    devices.use_keras_defaults()


def test_the_backend_is_tensorflow_and_onednn_is_on():
    assert os.environ["KERAS_BACKEND"] == keras.config.backend() == "tensorflow"
    assert os.environ["TF_ENABLE_ONEDNN_OPTS"] == "1"


def test_keras_settings_change_nothing(capsys):
    keras.config.set_floatx("float16")
    keras.config.set_epsilon(1e-3)
    keras.config.set_image_data_format("channels_first")
    devices.use_keras_defaults()
    assert (keras.config.floatx(), keras.config.epsilon()) == ("float32", 1e-7)
    assert keras.config.image_data_format() == "channels_last"
    ignored = "floatx float16, epsilon 0.001, image_data_format channels_first"
    assert capsys.readouterr().out == f"ignoring Keras's settings {ignored}: the scripts need Keras's defaults\n"


def test_keras_defaults_are_not_reported(capsys):
    devices.use_keras_defaults()
    assert capsys.readouterr().out == ""
