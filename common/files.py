"""Files that appear whole or not at all, and a folder that one process at a time writes into."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from common.cli import UserError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None


@contextlib.contextmanager
def whole(path: Path) -> Iterator[BinaryIO]:
    """Open a file that takes its place at `path` when the block ends well, and leaves nothing behind otherwise.

    Raises UserError if it cannot be written, on a full disk for example; what stood at `path` stays.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    with told_in_one_line(path):
        try:
            with temporary.open("wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())  # the rename must not reach the disk before the contents
            temporary.replace(path)
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def told_in_one_line(path: Path) -> Iterator[None]:
    """Turn an OSError of writing `path` into a UserError that names it."""
    try:
        yield
    except OSError as error:
        raise UserError(f"cannot write {path}: {(error.strerror or str(error)).lower()}") from error


def lock(folder: Path) -> BinaryIO:
    """Return an open file that keeps other processes from locking `folder` until it is closed or the process ends.

    Raises UserError if another process holds it. Without effect on Windows.
    """
    with told_in_one_line(folder):
        file = (folder / ".lock").open("wb")  # noqa: SIM115  # held open for as long as the lock is
    if fcntl:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.close()
            raise UserError(f"{folder} is in use by another process") from None
    return file
