"""Read arrays, lists, numbers and bytes from an untrusted pickle, such as CIFAR-10's.

The pickle cannot create or call a NumPy class or set its state: a forged state could make NumPy read memory through
pointers from the file. Stand-ins record each array's type, shape and bytes, and the array is then made from the bytes.
Time and memory are bounded by the size of the file, too: nested tuples are never hashed or shown, as a short file can
nest them so that this would take for ever.
"""

import io
import pickle
import textwrap
from pathlib import Path
from typing import ClassVar

import numpy as np

MOST_BYTES = 1 << 26  # twice those of a batch of CIFAR-10
CODES = {
    "u1": np.uint8,
    "i1": np.int8,
    "u2": np.uint16,
    "i2": np.int16,
    "u4": np.uint32,
    "i4": np.int32,
    "i8": np.int64,
}


class _Kind:
    """Stands in for numpy.dtype: keeps the code of an integer type and ignores any state."""

    def __init__(self, code, *_):
        code = code.decode("ascii") if isinstance(code, bytes) else code
        if not isinstance(code, str) or code not in CODES:
            found = repr(code) if isinstance(code, str) else type(code).__name__
            raise pickle.UnpicklingError(f"it holds an array of {found:.20}, not of integers")
        self.code = code

    def __setstate__(self, state):
        """Ignore the state, which would set byte order, fields and flags."""


class _Array:
    """Stands in for numpy.ndarray: keeps shape, type and bytes."""

    value = None

    def __setstate__(self, state):
        """Take over the state that NumPy writes: version, shape, type, order, bytes."""
        _, shape, kind, is_fortran, contents = state
        if not isinstance(kind, _Kind) or not isinstance(contents, bytes) or len(shape) > 2:
            raise pickle.UnpicklingError("it holds an array that is not one of plain integers")
        values = np.frombuffer(contents, CODES[kind.code])
        self.value = values.reshape(tuple(map(int, shape)), order="F" if is_fortran else "C")


def _new_array(*_) -> _Array:
    return _Array()


class _Dictionary(dict):
    """A dictionary whose keys are texts, bytes and numbers."""

    def __setitem__(self, key, value):
        if not isinstance(key, str | bytes | int | float):
            raise pickle.UnpicklingError(f"it holds a {type(key).__name__} as a key")
        super().__setitem__(key, value)


# The only names that a pickle may look up, besides _codecs.encode; none leads to a class or function of NumPy's.
STAND_INS = {
    ("numpy.core.multiarray", "_reconstruct"): _new_array,
    ("numpy._core.multiarray", "_reconstruct"): _new_array,
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Kind,
}
SETS = (pickle.EMPTY_SET, pickle.ADDITEMS, pickle.FROZENSET)  # they hash what they hold


class _PlainUnpickler(pickle._Unpickler):  # Python's implementation: in the one in C, a file can allocate gigabytes
    encoded = 0  # bytes that `encode` has returned

    def find_class(self, module: str, name: str):
        if (module, name) == ("_codecs", "encode"):
            return self.encode
        if (module, name) not in STAND_INS:
            raise pickle.UnpicklingError(f"it holds {module}.{name}, which no data set needs")
        return STAND_INS[module, name]

    def encode(self, text: str, encoding: str) -> bytes:
        """Return the bytes that Python 3 has written as a text for Python 2; a pickle may name a text many times."""
        self.encoded += len(text)
        if self.encoded > MOST_BYTES:
            raise pickle.UnpicklingError(f"its texts stand for more than {MOST_BYTES:,} bytes")
        return text.encode("latin1")

    def load_set(self):
        raise pickle.UnpicklingError("it holds a set, which no data set needs")

    def load_empty_dictionary(self):
        self.append(_Dictionary())

    def load_dictionary(self):
        items, dictionary = self.pop_mark(), _Dictionary()
        for key, value in zip(items[::2], items[1::2], strict=True):
            dictionary[key] = value
        self.append(dictionary)

    dispatch: ClassVar = {
        **pickle._Unpickler.dispatch,
        **dict.fromkeys(map(ord, SETS), load_set),
        ord(pickle.EMPTY_DICT): load_empty_dictionary,
        ord(pickle.DICT): load_dictionary,
    }


def load(path: Path) -> dict:
    """Return the dictionary in a pickle: its values are numbers, bytes, texts, lists of these, and arrays of integers.

    Arrays have at most two dimensions. Raises ValueError if it holds anything else, is too large or is damaged.
    """
    if path.stat().st_size > MOST_BYTES:
        raise ValueError(f"it has {path.stat().st_size:,} bytes, more than {MOST_BYTES:,}")
    try:
        found = _PlainUnpickler(io.BytesIO(path.read_bytes()), encoding="bytes").load()
    except OSError:
        raise
    except Exception as error:  # a damaged pickle can fail in any way
        raise ValueError(textwrap.shorten(str(error), 200, placeholder=" …") or type(error).__name__) from None
    if not isinstance(found, dict):
        raise ValueError(f"it holds a {type(found).__name__}, not a dictionary")
    return {name: _plain(value) for name, value in found.items()}


def _plain(value):
    """Return a value with an array in place of its stand-in. Raises ValueError if it is neither plain nor an array."""
    if isinstance(value, _Array):
        value = value.value
    scalars = value if isinstance(value, list) else [value]
    if not isinstance(value, np.ndarray) and not all(isinstance(it, int | float | bytes | str) for it in scalars):
        raise ValueError("it holds more than numbers, texts and arrays of integers")
    return value
