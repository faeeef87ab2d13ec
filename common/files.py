"""Files that appear whole or not at all, and folders into which one process at a time writes."""

import contextlib
import errno
import io
import itertools
import json
import math
import os
import platform
import re
import shutil
import time
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

from common import archives
from common.errors import UserError, reason_of

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

LOCK = ".lock"  # the file whose lock stands for its folder
PART = re.compile(r"\.([0-9a-f]{8})-(\d{1,10})\.part(?:\.keras)?$")  # in names: machine and process that write it
PARTS_IN_FOLDER = f".*.{'[0-9a-f]' * 8}-[0-9]*.part"  # as a pattern: only these, as the folder may be the user's own
MOST_CONFIG_BYTES = 1 << 24  # a run's config.json is far smaller
A_DAY = 24 * 3600.0  # seconds


@contextlib.contextmanager
def atomic_write(path: Path) -> Iterator[BinaryIO]:
    """Open a file that is moved to `path` when the block ends without an exception, and deleted otherwise.

    Raises UserError if it cannot be written, on a full disk for example; an earlier file at `path` then remains.
    """
    temporary = part(path)
    with as_user_error(path):
        try:
            with temporary.open("wb") as file:
                yield file
                file.flush()
                _to_disk(file)
            with as_user_error(path, "renaming its part was refused: "):
                replace(temporary, path)
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)


def replace(source: Path, path: Path) -> None:
    """Move the file `source` to `path`, in one step; on Windows try for a second, as others may have `path` open."""
    for _ in range(0 if fcntl else 10):
        with contextlib.suppress(PermissionError):  # while a viewer, a virus scanner or a backup reads it
            source.replace(path)
            return
        time.sleep(0.1)
    source.replace(path)


def part(path: Path) -> Path:
    """Return the path at which this process collects what is to be moved to `path`; `remove_abandoned` knows it."""
    return path.with_name(f".{path.name}.{_machine()}-{os.getpid()}.part")


def remove_abandoned(folder: Path, pattern: str = "**/.*.part*") -> None:
    """Delete the parts (files, or folders) that killed processes left in `folder`; those of living ones stay.

    A process on another machine counts as living until its part is a day old.
    """
    for path in folder.glob(pattern):
        with contextlib.suppress(OSError):  # already gone, or on a disk that cannot be written
            if not _is_abandoned(path):
                continue
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()


def _is_abandoned(path: Path) -> bool:
    machine, process = PART.search(path.name).groups() if PART.search(path.name) else ("", "")
    if not fcntl or machine != _machine():  # Windows has no signal that changes nothing
        return time.time() - path.lstat().st_mtime > A_DAY
    if int(process) == os.getpid():  # of an earlier process with this number, as in containers: this one has none yet
        return True
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return True
    except OSError:  # another user's
        return False
    return False


def _machine() -> str:
    """Return a short name of this machine: others, which may use the same folder, have other processes."""
    return f"{zlib.crc32(platform.node().encode(errors='replace')):08x}"


def _to_disk(file: BinaryIO) -> None:
    """Wait until a file's contents are on the disk: its renaming must not reach the disk before them."""
    try:
        os.fsync(file.fileno())
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EFBIG):
            raise
        # Otherwise the file system has no such operation, as some that stand for network storage.


def partial(path: Path) -> Path:
    """Return the path at which `growing` collects the bytes of `path`."""
    return path.with_name(f".{path.name}.part")


@contextlib.contextmanager
def growing(path: Path, seconds: float, keep: bool) -> Iterator[BinaryIO]:
    """Open `partial(path)` for appending, and keep other processes from doing so until the block ends.

    When the file is complete, `put_in_place` moves it to `path`.
    seconds: how long to wait for another process. keep: leave an incomplete file for the next attempt.
    Raises UserError if it cannot be written, or if the other process takes too long.
    """
    part, deadline = partial(path), time.monotonic() + seconds
    with as_user_error(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        for attempt in itertools.count():
            with part.open("ab") as file:
                if _locked(file) and _is_at(part, file):
                    try:
                        yield file
                    finally:
                        if not file.closed and _is_at(part, file) and not (keep and part.stat().st_size):
                            if not fcntl:
                                file.close()  # Windows removes no open file
                            with contextlib.suppress(PermissionError):  # another process has it open there
                                part.unlink()
                    return
            if time.monotonic() > deadline:
                raise UserError(f"another process is still writing {path}")
            if attempt == 0:
                print(f"another process is writing {path}; waiting for it", flush=True)
            time.sleep(0.2)


def put_in_place(file: BinaryIO, path: Path) -> None:
    """Move the `file` that `growing` opened to `path`, in one step."""
    file.flush()
    _to_disk(file)
    if not fcntl:
        file.close()  # Windows renames no open file; elsewhere it is locked for as long as it is open
    replace(partial(path), path)


def _locked(file: BinaryIO) -> bool:
    """Lock `file` until it is closed; False if another process holds the lock. Does nothing on Windows."""
    if fcntl:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:  # some clusters' file systems have no locks
            pass
    return True


def _is_at(path: Path, file: BinaryIO) -> bool:
    """Whether the open `file` is still at `path`: another process may have moved it since."""
    try:
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False


def write_json(path: Path, content) -> None:
    """Write `content` as indented JSON."""
    with atomic_write(path) as file:
        file.write((json.dumps(content, indent=2) + "\n").encode())


def read_bytes(path: Path, most: float = math.inf) -> bytes:
    """Return a file's contents. Raises OSError if it cannot be read, is a pipe or the like, or has more than `most`."""
    if path.exists() and not path.is_file():
        raise OSError("not a regular file")
    if (size := path.stat().st_size) > most:
        raise OSError(f"too large, {size:,} bytes")
    return path.read_bytes()


def exists(path: Path) -> bool:
    """Whether a file or folder is at `path`; False where Path.exists raises: no permission, a name too long."""
    return os.access(path, os.F_OK)


def entries(folder: Path, pattern: str = "*") -> list[Path]:
    """Return what a folder holds under names of this pattern; nothing if there is no such folder.

    Raises UserError if it cannot be read, where Path.glob finds nothing.
    """
    try:
        return [path for path in folder.iterdir() if path.match(pattern)]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise UserError(f"cannot read {folder}: {reason_of(error)}") from error


def is_hidden(path: Path, folder: Path) -> bool:
    """Whether the name of a file, or of a folder between `folder` and the file, begins with a dot."""
    return any(part.startswith(".") for part in path.relative_to(folder).parts)


@contextlib.contextmanager
def as_user_error(path: Path, what: str = "") -> Iterator[None]:
    """Turn an OSError, raised while `path` is written, into a UserError that names it, after `what` was tried."""
    try:
        yield
    except OSError as error:
        is_in_place = isinstance(error, FileExistsError)  # a file, or a link to nothing, where a folder is needed
        reason = f"{error.filename} is not a folder" if is_in_place else reason_of(error)
        raise UserError(f"cannot write {path}: {what}{reason}") from error


def write_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8, with "?" for what is not Unicode, such as half of a surrogate pair."""
    with atomic_write(path) as file:
        file.write(text.encode("utf-8", "replace"))


def write_npz(path: Path, **arrays: np.ndarray) -> None:
    """Write arrays, by name, as an .npz file."""
    with atomic_write(path) as file:
        np.savez(file, **arrays)


def write_npz_in_parts(path: Path, length: int, **arrays: Iterable[np.ndarray]) -> None:
    """Write arrays of this length, by name, as a compressed .npz file; each is given as parts along its first axis."""
    with atomic_write(path) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, parts in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                for number, part in enumerate(parts):
                    if number == 0:
                        shape, dtype = (length, *part.shape[1:]), np.lib.format.dtype_to_descr(part.dtype)
                        header = {"descr": dtype, "fortran_order": False, "shape": shape}
                        np.lib.format.write_array_header_1_0(member, header)
                    member.write(np.ascontiguousarray(part))


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """Return the arrays of an .npz file, without unpickling.

    Raises ValueError if it is damaged in any way, UserError if it is missing or may not be read.
    """
    try:
        with path.open("rb") as file:
            if not zipfile.is_zipfile(file):
                raise ValueError("it is not a complete .npz file")
            archives.check(path)
            file.seek(0)
            with np.load(file, allow_pickle=False) as arrays:
                return {name: arrays[name] for name in arrays.files}
    except MemoryError:
        raise
    except (FileNotFoundError, PermissionError) as error:
        raise UserError(f"cannot read {path}: {reason_of(error)}") from error
    except Exception as error:  # NumPy, zipfile and zlib raise about ten different ones
        raise ValueError(str(error) or type(error).__name__) from None


def map_array(path: Path, dtype) -> np.ndarray:
    """Return the numbers in a file as an array (N,) that is read where it is used; read it whole if that is refused."""
    try:
        return np.memmap(path, dtype, "r")
    except OSError:  # some file systems that stand for network storage
        return np.fromfile(path, dtype)


def lock(folder: Path) -> BinaryIO:
    """Lock `folder` until the returned file is closed or the process ends.

    Raises UserError if another process holds the lock. Does nothing on Windows, where an open file cannot be moved.
    """
    if not fcntl:
        return io.BytesIO()
    with as_user_error(folder):
        file = (folder / LOCK).open("wb")  # stays open as long as the lock is held
    if not _locked(file):
        file.close()
        raise UserError(f"{folder} is in use by another process")
    return file
