"""Import TensorFlow and Keras when a command first needs them, so that help and errors come at once.

Importing them takes three to seven seconds of processor time. Until then, stand-ins take their places in the scripts
and in the modules that these import: `import tensorflow as tf`, `from keras import layers` and annotations such as
`-> keras.Model` get one without importing anything. The first call of one imports both, and real modules replace the
stand-ins everywhere. Meanwhile nothing is printed of what TensorFlow reports while it starts: on a machine without a
GPU, several lines that look like errors.
"""

import atexit
import contextlib
import gc
import importlib
import os
import sys
import tempfile
import types
from collections.abc import Iterator

MODULES = ("tensorflow", "keras", "blocks.adam", "blocks.dropout", "blocks.lstm")  # the blocks define Keras classes
LOG_LEVEL = "TF_CPP_MIN_LOG_LEVEL"  # the environment variable; where the user has set it, nothing is hidden


class StandIn(types.ModuleType):
    """Takes the place of a module, or of something in it, until it is first called or derived from."""

    def __getattr__(self, name: str):
        if name.startswith("__") and name != "__version__":  # the import system's questions
            raise AttributeError(name)
        if is_pending() and name != "__version__":
            return StandIn(f"{self.__name__}.{name}")
        return getattr(self.real(), name)

    def __call__(self, *arguments, **named_arguments):
        """Call what this stands for."""
        return self.real()(*arguments, **named_arguments)

    def __mro_entries__(self, bases: tuple) -> tuple:
        return (self.real(),)

    def __or__(self, other):  # in annotations: tf.Tensor | None
        return self

    def real(self):
        """Return what this stands for; imports TensorFlow and Keras."""
        finish()
        module = next(it for it in MODULES if f"{self.__name__}.".startswith(f"{it}."))
        value = importlib.import_module(module)
        for name in self.__name__.removeprefix(module).split(".")[1:]:
            value = getattr(value, name)
        return value


def begin() -> None:
    """Put a stand-in in the place of each of MODULES, unless TensorFlow has already been imported."""
    if "tensorflow" not in sys.modules:
        sys.modules.update((name, StandIn(name)) for name in MODULES)


def is_pending() -> bool:
    """Whether TensorFlow has not been imported yet."""
    return isinstance(sys.modules.get("tensorflow"), StandIn)


def finish(verbose: bool = False) -> None:
    """Import TensorFlow and Keras, find the GPUs, and replace all stand-ins; does nothing the second time.

    verbose: show what TensorFlow and Keras report while they start and later.
    """
    if not is_pending():
        return
    for name in MODULES:
        del sys.modules[name]
    from common.progress import phase  # not before `environment` has checked that its packages are there

    is_loud = verbose or LOG_LEVEL in os.environ
    with phase("starting TensorFlow"), contextlib.nullcontext() if is_loud else _quiet():
        tensorflow, *_ = map(importlib.import_module, MODULES)
        tensorflow.config.list_physical_devices("GPU")  # reports that there is none as an error
    atexit.register(gc.freeze)  # Python need not search what TensorFlow leaves: the shell's prompt returns at once
    for module in list(sys.modules.values()):
        for name, value in list(vars(module).items()):
            if isinstance(value, StandIn):
                setattr(module, name, value.real())


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Import TensorFlow within this context, and from then on it reports only errors that end the process.

    Its first lines are written before it reads its settings, so what is written to standard error, also by libraries
    in C, goes to a file, and is shown only if an exception is raised.
    """
    os.environ[LOG_LEVEL] = "3"
    sys.stderr.flush()
    with tempfile.TemporaryFile() as written:
        standard_error = os.dup(2)
        os.dup2(written.fileno(), 2)
        try:
            yield
        except BaseException:
            written.seek(0)
            os.write(standard_error, written.read())
            raise
        finally:
            os.dup2(standard_error, 2)
            os.close(standard_error)
            del os.environ[LOG_LEVEL]  # has been read; processes started by this one decide for themselves
    sys.modules["tensorflow"].get_logger().setLevel("ERROR")
