"""The user's own settings of Keras change nothing, which one line says."""

import importlib.util
import json
import os
import sys
from pathlib import Path

import keras
import keras.src.backend
import pytest

from common import environment


def import_again():
    """Import the module that reads Keras's settings once more, as a module of its own, and return it."""
    spec = environment.KerasSettings.find_spec(environment.READER, keras.src.backend.__path__)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def keras_json(tmp_path):
    path = tmp_path / "keras" / "keras.json"
    path.parent.mkdir()
    return path


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (
            {"backend": "theano", "image_data_format": "channels_first"},
            "backend 'theano', image_data_format 'channels_first'",
        ),
        ({"floatx": "float16", "epsilon": 1e-3}, "floatx 'float16', epsilon 0.001"),
        (
            {"floatx": "float7", "epsilon": "x", "image_data_format": 3},
            "floatx 'float7', epsilon 'x', image_data_format 3",
        ),
    ],
)
def test_keras_json_changes_nothing(keras_json, capsys, settings, said):
    keras_json.write_text(json.dumps(settings))
    config = import_again()
    assert (config.backend(), config.floatx(), config.epsilon()) == ("tensorflow", "float32", 1e-7)
    assert config.image_data_format() == "channels_last"
    expected = f"ignoring Keras's settings {said} in {keras_json}: these scripts need Keras's defaults\n"
    assert capsys.readouterr().out == expected
    assert Path(os.environ["KERAS_HOME"]) == keras_json.parent
    assert config.keras_home() == str(keras_json.parent)


@pytest.mark.parametrize("content", ["", "[]", "{", json.dumps(environment.DEFAULTS)])
def test_usual_or_unreadable_settings_are_passed_over_in_silence(keras_json, capsys, content):
    keras_json.write_text(content)
    assert import_again().floatx() == "float32"
    assert capsys.readouterr().out == ""


def test_another_backend_is_ignored(monkeypatch, capsys):
    assert os.environ["KERAS_BACKEND"] == "tensorflow"
    assert environment.KerasSettings in sys.meta_path
    monkeypatch.setattr(environment, "_requested_backend", "jax")
    assert import_again().backend() == "tensorflow"
    assert "settings KERAS_BACKEND=jax: these" in capsys.readouterr().out


def test_no_keras_json_is_written(tmp_path):
    import_again()
    assert not (tmp_path / "keras").exists()
