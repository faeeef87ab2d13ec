"""A pickle can neither run code nor make NumPy read memory through pointers from the file."""

import os
import pickle
import random
import struct
from pathlib import Path

import numpy as np
import pytest

from common import plain_pickle


def write(content: bytes, name="batch") -> Path:
    path = Path(name)
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("protocol", range(5))
@pytest.mark.parametrize("order", ["C", "F"])
def test_arrays_of_integers_are_read(protocol, order):
    data = np.asarray(np.arange(6, dtype=np.uint8).reshape(2, 3), order=order)
    content = {b"data": data, b"labels": [3, 1], b"names": [b"a", "b"], b"wide": np.arange(3, dtype=np.int64)}
    found = plain_pickle.load(write(pickle.dumps(content, protocol)))
    np.testing.assert_array_equal(found[b"data"], data)
    assert found[b"data"].dtype == np.uint8
    np.testing.assert_array_equal(found[b"wide"], [0, 1, 2])
    assert (found[b"labels"], found[b"names"]) == ([3, 1], [b"a", "b"])


def test_a_pickle_of_python_2_is_read():
    """As CIFAR-10 was written: text of bytes, NumPy's old module name."""
    content = (
        b"\x80\x02}q\x01(U\x04dataq\x02cnumpy.core.multiarray\n_reconstruct\nq\x03cnumpy\nndarray\nq\x04K\x00\x85U\x01b"
        b"\x87Rq\x05(K\x01K\x02\x85cnumpy\ndtype\nq\x06U\x02u1K\x00K\x01\x87Rq\x07(K\x03U\x01|NNNJ\xff\xff\xff\xffJ"
        b"\xff\xff\xff\xffK\x00tb\x89U\x02\x05\x06tbu."
    )
    np.testing.assert_array_equal(plain_pickle.load(write(content))[b"data"], [5, 6])


class Call:
    """Pickles as a call of a function."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize(
    "content",
    [
        Call(os.system, "touch owned"),
        Call(eval, "open('owned', 'w')"),
        Call(np.frombuffer, b"\0" * 8, "O"),
        Call(np.load, "owned"),
        np.array([{}], object),
        np.zeros(2, np.float32),
        np.zeros((1, 1, 1), np.uint8),
        np.zeros(2, [("a", "u1")]),
        np.uint8,
        Path,
        1 + 2j,
        {1, 2},
    ],
)
def test_anything_else_is_refused(content):
    with pytest.raises(ValueError):
        plain_pickle.load(write(pickle.dumps({b"data": content})))
    assert not Path("owned").exists()


def forged(kind_state: tuple, contents: bytes, code: bytes = b"u1") -> bytes:
    """A pickle of an array whose type is given `kind_state`, with fields and flags as NumPy knows them."""

    class Kind:
        def __reduce__(self):
            return np.dtype, (code.decode(), False, True), kind_state

    class Array:
        def __reduce__(self):
            return np._core.multiarray._reconstruct, (np.ndarray, (0,), b"b"), (1, (1,), Kind(), False, contents)

    return pickle.dumps({b"data": Array()}, 2)


def test_a_forged_type_state_is_ignored():
    """As an object type whose flags say that it needs no reference counting, the bytes would be used as a pointer."""
    fields = (3, "|", None, ("a",), {"a": (np.dtype("O"), 0)}, 8, 1, 0)
    pointer = struct.pack("<Q", id(fields))
    with pytest.raises(ValueError):  # eight bytes are not one number of one byte; or np.dtype("O") is refused
        plain_pickle.load(write(forged(fields, pointer)))
    plain = (3, "|", None, None, None, 8, 1, 63)
    with pytest.raises(ValueError):
        plain_pickle.load(write(forged(plain, pointer)))
    assert plain_pickle.load(write(forged(plain, b"\7")))[b"data"].tolist() == [7]


NESTED = b")q\0" + b"".join(b"h%ch%c\x86q%c" % (number, number, number + 1) for number in range(90))  # (((), ()), …


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"\x80\2}(" + NESTED + b"K\1u.", "a tuple as a key"),
        (b"(" + NESTED + b"K\1d.", "a tuple as a key"),
        (b"\x80\4\x8f(" + NESTED + b"\x90.", "a set"),
        (b"\x80\4(" + NESTED + b"\x91.", "a set"),
        (NESTED + b"0cnumpy\ndtype\nh\x5a\x85R.", "an array of tuple"),
        (
            b"c_codecs\nencode\nq\0X\0\0\x40\0" + b"x" * (1 << 22) + b"q\1]" + b"h\0h\1h\1\x86Ra" * 20 + b".",
            "its texts",
        ),
        (b"c" + b"m" * 1_000_000 + b"\nname\n.", "it holds"),
        (b"\x80\2}U\4datacnumpy\nndarray\n)\x81s.", "more than numbers"),
        (b"\x80\4\x96" + b"\xff" * 8 + b".", "exceeds"),
    ],
)
def test_a_short_pickle_takes_neither_long_nor_much_memory_nor_a_long_message(content, words):
    """Hashing or showing nested tuples would take for ever, and encoding a text many times all memory."""
    with pytest.raises(ValueError, match=words) as refusal:
        plain_pickle.load(write(content))
    assert len(str(refusal.value)) <= 200


def test_damaged_pickles_are_refused_or_plain():
    """Bytes changed at random, states included: each time a ValueError, or nothing but plain values."""
    generator = random.Random(0)
    whole = pickle.dumps({b"data": np.arange(40, dtype=np.uint8).reshape(4, 10), b"labels": [1, 2]}, 2)
    whole_forged = forged((3, "|", None, ("a",), {"a": (np.dtype("u1"), 0)}, 8, 1, 0), bytes(8))
    refused = 0
    for number in range(500):
        content = bytearray(whole if number % 2 else whole_forged)
        for _ in range(generator.randint(1, 4)):
            content[generator.randrange(len(content))] = generator.randrange(256)
        try:
            found = plain_pickle.load(write(bytes(content)))
        except ValueError:
            refused += 1
            continue
        assert all(isinstance(it, int | float | bytes | str | list | np.ndarray) for it in found.values())
        assert all(it.dtype.kind in "iu" for it in found.values() if isinstance(it, np.ndarray))
    assert refused > 150
