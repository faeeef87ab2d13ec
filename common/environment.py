"""What TensorFlow and Keras read when they are imported; every script imports this module first.

By default TensorFlow enables oneDNN's operations only on processors with AVX512-VNNI or AMX. On other processors, such
as most laptops', they make training up to 1.7 times as fast, and no script slower.

Keras would take backend, number format, epsilon and order of axes from the user's keras.json and KERAS_BACKEND. The
scripts are written for its defaults, so that neither changes anything here.
"""

import functools
import importlib.machinery
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

DEFAULTS = {"backend": "tensorflow", "floatx": "float32", "epsilon": 1e-7, "image_data_format": "channels_last"}
READER = "keras.src.backend.config"  # the module that reads keras.json when it is imported
NOWHERE = os.path.join(os.devnull, "keras")  # noqa: PTH118 - a folder that neither exists nor can be made

from common import streams

streams.ensure()  # before TensorFlow opens files
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # a value set by the user stays
_requested_backend = os.environ.get("KERAS_BACKEND", "")
os.environ["KERAS_BACKEND"] = DEFAULTS["backend"]


class KerasSettings:
    """Hides keras.json from Keras while the module that reads it is imported; an entry of sys.meta_path."""

    @staticmethod
    def find_spec(name: str, path, target=None):
        """Return how to import Keras's module READER; None, which means as usual, for all others."""
        if name != READER:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        spec.loader.exec_module = functools.partial(_import_without_settings, spec.loader.exec_module)
        return spec


def _import_without_settings(execute: Callable, module) -> None:
    home = os.environ.get("KERAS_HOME")
    os.environ["KERAS_HOME"] = NOWHERE
    try:
        execute(module)
    finally:
        del os.environ["KERAS_HOME"]
        if home is not None:
            os.environ["KERAS_HOME"] = home
    module._KERAS_DIR = os.path.expanduser(home or "~/.keras")  # noqa: PTH111 - Path's raises for unknown users
    if ignored := _ignored(Path(module._KERAS_DIR, "keras.json")):
        print(f"ignoring Keras's settings {', '.join(ignored)}: these scripts need Keras's defaults", flush=True)


def _ignored(path: Path) -> list[str]:
    """Return the user's settings that differ from Keras's defaults: those in keras.json and KERAS_BACKEND."""
    try:
        saved = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError):  # Keras ignores an unreadable file, too
        saved = {}
    saved = saved if isinstance(saved, dict) else {}
    found = [f"{name} {saved[name]!r:.40}" for name, usual in DEFAULTS.items() if saved.get(name, usual) != usual]
    found = [f"{', '.join(found)} in {path}"] if found else []
    if _requested_backend not in ("", DEFAULTS["backend"]):
        found.append(f"KERAS_BACKEND={_requested_backend}")
    return found


sys.meta_path.insert(0, KerasSettings)
