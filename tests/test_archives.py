"""Archives that would unpack to gigabytes are refused before they are unpacked."""

import io
import tracemalloc
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest

from common import archives, files, trained_networks
from common.errors import UserError


def write(path, **members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name.replace("__", "."), content)
    return Path(path)


def header(shape, dtype="<f4"):
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": dtype, "fortran_order": False, "shape": shape})
    return file.getvalue()


def forge_size(path, name, size):
    """Make the archive's directory say that a member has `size` bytes."""
    data = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        member = archive.getinfo(name)
    position = data.rindex(b"PK\1\2", 0, data.rindex(name.encode()))
    assert int.from_bytes(data[position + 24 : position + 28], "little") == member.file_size
    path.write_bytes(data[: position + 24] + size.to_bytes(4, "little") + data[position + 28 :])


@pytest.mark.parametrize(
    ("is_forged", "words"),
    [(False, r"config\.json unpacks to more than 100,000 bytes"), (True, "Bad CRC-32 for file 'config.json'")],
)
def test_a_description_that_unpacks_to_far_more_is_refused_before_keras_reads_it(is_forged, words, monkeypatch):
    monkeypatch.setattr(archives, "MOST_DESCRIPTION", 100_000)
    monkeypatch.setattr(keras.models, "load_model", None)
    path = write("bomb.keras", config__json=b" " * 20_000_000, metadata__json=b"{}")
    if is_forged:
        forge_size(path, "config.json", 10)
    tracemalloc.start()
    with pytest.raises(UserError, match=rf"bomb\.keras: .*{words}"):
        trained_networks.load(str(path))
    assert tracemalloc.get_traced_memory()[1] < 2_000_000
    tracemalloc.stop()


def test_all_members_together_are_bounded(monkeypatch):
    monkeypatch.setattr(archives, "MOST_UNPACKED", 1_000_000)
    path = write("sparse.npz", **{f"{name}__npy": header((150_000,)) + bytes(600_000) for name in "ab"})
    with pytest.raises(ValueError, match="it would unpack to 1,200,"):
        files.read_npz(path)
    monkeypatch.setattr(archives, "MOST_UNPACKED", 2_000_000)
    assert files.read_npz(path)["b"].shape == (150_000,)


@pytest.mark.parametrize("shape", [(10**12,), (10**9, 10**9, 10**9)])
def test_an_array_whose_header_announces_more_than_there_is(shape):
    path = write("short.npz", x__npy=header(shape) + bytes(100))
    with pytest.raises(ValueError, match=r"x\.npy has 228 bytes, too few for float32"):
        files.read_npz(path)


def test_large_arrays_that_are_not_packed_are_read(monkeypatch):
    monkeypatch.setattr(archives, "MOST_UNPACKED", 1000)
    files.write_npz(Path("large.npz"), x=np.zeros(10_000), empty=np.zeros((0, 3)), scalar=np.float32(1))
    assert set(files.read_npz(Path("large.npz"))) == {"x", "empty", "scalar"}
