"""A run's folder: made as a whole, locked by one process, described by its config.json, and opened again."""

import contextlib
import dataclasses
import itertools
import os
import platform
import shutil
import tempfile
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

import keras
import tensorflow as tf

from common import cli, files
from common.devices import Device
from common.errors import UserError
from common.saved_runs import SavedRun


def create(config, fill: Callable[[Path], None], is_chief: bool = True) -> tuple[Path, BinaryIO]:
    """Create the folder of a new run, which appears only with everything that `fill` writes into it.

    The link `latest` beside it then points to it. A process that is not the chief gets a temporary folder.
    Returns the folder and its lock, an open file. Raises UserError if the folder exists or cannot be written.
    """
    parent = Path(config.output_dir if is_chief else tempfile.mkdtemp()) / cli.script_name(type(config))
    folder = parent / (config.name or _unused_time_stamp(parent))
    taken = f"{folder} exists; continue it with --resume {folder}, or choose another --name"
    if folder.parent != parent or folder.name.startswith(".") or folder.name == "latest":
        raise UserError(f"--name {config.name}: must be a plain file name other than 'latest'")
    with files.as_user_error(parent):
        if folder.exists():
            raise UserError(taken)
        parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=parent))
    lock = None
    try:
        lock = files.lock(partial)
        with files.as_user_error(folder):
            partial.chmod(0o755)
            fill(partial)
        try:
            partial.rename(folder)
        except OSError:
            raise UserError(taken) from None
    except BaseException:
        if lock:
            lock.close()
        shutil.rmtree(partial, ignore_errors=True)
        raise
    _link_latest(folder)
    return folder, lock


def reopen(folder: Path, check: Callable[[SavedRun], None]) -> BinaryIO:
    """Lock the folder of a run that is to be continued, once `check` has raised no error, and return the lock.

    What a killed process had begun to write is deleted. Raises UserError if another process uses the folder.
    """
    check(SavedRun(folder))
    lock = files.lock(folder)
    for unfinished in folder.rglob(".*.part*"):
        unfinished.unlink(missing_ok=True)
    return lock


def private_copy(folder: Path) -> Path:
    """Copy a run into a temporary folder, for a process that reads the chief's files and whose own nobody reads."""
    copy = Path(tempfile.mkdtemp())
    shutil.copytree(folder, copy, dirs_exist_ok=True, ignore=shutil.ignore_patterns(".*", "*.png"))
    return copy


@contextlib.contextmanager
def open_folder(config, data: dict, device: Device) -> Iterator[Path]:
    """Open the folder of a run that has no training loop: a new one, or `config.resume`; locked until the block ends.

    data: the entry `data` of config.json; a resumed run must agree with each `digest` or `<part>_digest` in it.
    Raises UserError if the folder cannot be written or was made from other data.
    """
    if config.resume:
        folder = Path(config.resume)
        lock = reopen(folder, lambda run: _check_digests(run, data))
    else:
        folder, lock = create(config, lambda new: write_config(new, config, data, device))
    print(f"run: {folder}", flush=True)
    try:
        yield folder
    except KeyboardInterrupt:
        print(f"stopped; continue with --resume {folder}", flush=True)
        raise
    except UserError:
        if not config.resume and {it.name for it in folder.iterdir()} <= {"config.json", files.LOCK}:
            shutil.rmtree(folder, ignore_errors=True)  # it holds no result
        raise
    finally:
        lock.close()


def write_config(folder: Path, config, data: dict, device: Device) -> None:
    """Write config.json: the settings, the description of the data, the device, and the versions."""
    description = {
        "script": cli.script_name(type(config)),
        "settings": dataclasses.asdict(dataclasses.replace(config, resume="")),
        "data": data,
        "device": device.description,
        "versions": {
            "python": platform.python_version(),
            "tensorflow": tf.__version__,
            "keras": keras.__version__,
        },
    }
    files.write_json(folder / "config.json", description)


def _check_digests(run: SavedRun, data: dict) -> None:
    if run.digest != data["digest"]:
        raise UserError(f"{run.folder} was made from another picture ({run.data_name}) than {data['name']}")
    for name, digest in data.items():
        if name.endswith("_digest") and digest != run.digests.get(name, ""):
            part = name.removesuffix("_digest")
            raise UserError(f"{run.folder} was made with another {part}: its file has changed; start a new run")


def _unused_time_stamp(parent: Path) -> str:
    """Return the time as a folder name, numbered if another run started in the same second."""
    stamp = datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    names = (f"{stamp}_{number}" if number > 1 else stamp for number in itertools.count(1))
    return next(name for name in names if not (parent / name).exists())


def _link_latest(folder: Path) -> None:
    link = folder.parent / f".latest.{os.getpid()}"
    with contextlib.suppress(OSError):  # Windows allows links to administrators only
        link.symlink_to(folder.name)
        link.replace(folder.parent / "latest")
    link.unlink(missing_ok=True)  # it is still there if `latest` is a folder, such as a copy of a run
