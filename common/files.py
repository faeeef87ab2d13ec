"""Files that appear whole or not at all, and a folder that one process at a time writes into."""

import contextlib
import io
import itertools
import json
import os
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

from common.cli import UserError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

LOCK = ".lock"  # the file in a folder that is locked


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


def partial(path: Path) -> Path:
    """Return where `growing` gathers the bytes of `path`."""
    return path.with_name(f".{path.name}.part")


@contextlib.contextmanager
def growing(path: Path, seconds: float, keep: bool) -> Iterator[BinaryIO]:
    """Open `partial(path)` for appending, which no other process can do until the block ends.

    seconds: how long to wait for a process that has it open. keep: leave the file for the next time, unless it is
    empty. When it is whole, `put_in_place` moves it to `path`. Raises UserError if it cannot be written or had.
    """
    part, deadline = partial(path), time.monotonic() + seconds
    with told_in_one_line(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        for attempt in itertools.count():
            with part.open("ab") as file:
                if _locked(file) and _is_at(part, file):
                    try:
                        yield file
                    finally:
                        if not file.closed and _is_at(part, file) and not (keep and part.stat().st_size):
                            with contextlib.suppress(PermissionError):  # Windows removes no open file
                                part.unlink()
                    return
            if time.monotonic() > deadline:
                raise UserError(f"another process is still writing {path}")
            if attempt == 0:
                print(f"another process is writing {path}; waiting for it", flush=True)
            time.sleep(0.2)


def put_in_place(file: BinaryIO, path: Path) -> None:
    """Move the `file` that `growing` opened to `path`; what stood there stays until then."""
    file.flush()
    os.fsync(file.fileno())  # the rename must not reach the disk before the contents
    if not fcntl:
        file.close()  # Windows renames no open file; elsewhere it is locked for as long as it is open
    partial(path).replace(path)


def _locked(file: BinaryIO) -> bool:
    """Lock `file` until it is closed, unless another process has. Without effect where there are no locks."""
    if fcntl:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:  # as on some clusters' file systems
            pass
    return True


def _is_at(path: Path, file: BinaryIO) -> bool:
    """Whether the open `file` is still at `path`: another process may have moved it after it was opened here."""
    try:
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False


def write_json(path: Path, content) -> None:
    """Write what JSON can hold, indented for people to read."""
    with whole(path) as file:
        file.write((json.dumps(content, indent=2) + "\n").encode())


def exists(path: Path) -> bool:
    """Whether there is something at `path`; False, too, where Path.exists raises: a closed folder, a name too long."""
    return os.access(path, os.F_OK)


def is_hidden(path: Path, folder: Path) -> bool:
    """Whether a file within `folder`, or a folder that holds it there, has a name such as .thumbnails."""
    return any(part.startswith(".") for part in path.relative_to(folder).parts)


@contextlib.contextmanager
def told_in_one_line(path: Path) -> Iterator[None]:
    """Turn an OSError of writing `path` into a UserError that names it."""
    try:
        yield
    except OSError as error:
        raise UserError(f"cannot write {path}: {(error.strerror or str(error)).lower()}") from error


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """Return the arrays of an .npz file; nothing in it is unpickled. Raises ValueError if it is damaged in any way."""
    try:
        with path.open("rb") as file:
            if not zipfile.is_zipfile(file):
                raise ValueError("it is not a whole .npz file")
            file.seek(0)
            with np.load(file, allow_pickle=False) as arrays:
                return {name: arrays[name] for name in arrays.files}
    except MemoryError:
        raise
    except Exception as error:  # NumPy, zipfile and zlib have about ten kinds between them
        raise ValueError(str(error) or type(error).__name__) from None


def lock(folder: Path) -> BinaryIO:
    """Return an open file that keeps other processes from locking `folder` until it is closed or the process ends.

    Raises UserError if another process holds it. Without effect on Windows, where an open file could not be moved.
    """
    if not fcntl:
        return io.BytesIO()
    with told_in_one_line(folder):
        file = (folder / LOCK).open("wb")  # held open for as long as the lock is
    if not _locked(file):
        file.close()
        raise UserError(f"{folder} is in use by another process")
    return file
