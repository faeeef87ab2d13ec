"""Check what a zip archive (.keras, .npz) will unpack to, before it is unpacked: a small file may hold gigabytes."""

import copy
import math
import zipfile
from pathlib import Path

import numpy as np

MOST_UNPACKED = 1 << 28  # bytes of all members together, or MOST_RATIO times the file's size if that is more
MOST_RATIO = 20  # of unpacked to packed bytes; text and sparse arrays have about 10
MOST_DESCRIPTION = 1 << 24  # bytes of a JSON member; the largest of keras.applications has about a million


def check(path: Path) -> None:
    """Raise ValueError if the archive at `path` would take far more memory than its size; zipfile's errors otherwise.

    Members that Python unpacks as a whole whatever their header says, JSON, are unpacked piece by piece and counted.
    """
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        unpacked = sum(member.file_size for member in members)
        if unpacked > max(MOST_UNPACKED, MOST_RATIO * path.stat().st_size):
            raise ValueError(f"it would unpack to {unpacked:,} bytes")
        for member in members:
            if member.filename.endswith(".json"):
                _check_description(archive, member)
            elif member.filename.endswith(".npy"):
                _check_array(archive, member)


def _check_description(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> None:
    honest = copy.copy(member)
    honest.file_size = MOST_DESCRIPTION + 1  # read on where a forged header would end
    size = 0
    if member.file_size <= MOST_DESCRIPTION:
        with archive.open(honest) as file:
            while piece := file.read(1 << 16):
                size += len(piece)
    if max(size, member.file_size) > MOST_DESCRIPTION:
        raise ValueError(f"{member.filename} unpacks to more than {MOST_DESCRIPTION:,} bytes")


def _check_array(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> None:
    """Raise ValueError if an array's header announces more bytes than the member has: NumPy would allocate them."""
    with archive.open(member) as file:
        version = np.lib.format.read_magic(file)
        read_header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        if version not in read_header:
            raise ValueError(f"{member.filename} has the unknown version {version}")
        shape, _, dtype = read_header[version](file)
    if math.prod(shape) * dtype.itemsize > member.file_size:
        raise ValueError(f"{member.filename} has {member.file_size:,} bytes, too few for {dtype} {shape}")
