"""A run's folder: made as a whole, locked by one process, described by its config.json, and opened again."""

import contextlib
import dataclasses
import itertools
import os
import platform
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

import keras
import tensorflow as tf

from common import cli, files, interruption, progress
from common.devices import Device
from common.errors import UserError
from common.saved_runs import SavedRun

LONGEST_NAME = 200  # bytes; file systems take 255, and parts of files have longer names


def create(config, fill: Callable[[Path], None], is_chief: bool = True) -> tuple[Path, BinaryIO]:
    """Create the folder of a new run, which appears only with everything that `fill` writes into it.

    The link `latest` beside it then points to it. A process that is not the chief gets a temporary folder.
    Returns the folder and its lock, an open file. Raises UserError if the folder exists or cannot be written.
    """
    parent = Path(config.output_dir if is_chief else tempfile.mkdtemp()) / cli.script_name(type(config))
    if config.name and (config.name != as_name(config.name) or config.name.startswith(".") or config.name == "latest"):
        allowed = "letters, digits, '.', '_' and '-', no '.' at its start, and not be 'latest'"
        raise UserError(f"--name {config.name}: must be a plain file name of {allowed}")
    if len(os.fsencode(config.name)) > LONGEST_NAME:
        raise UserError(f"--name {config.name}: has more than {LONGEST_NAME} bytes; choose a shorter one")
    for name in [config.name] if config.name else _time_stamps():
        folder = parent / name
        is_new = not os.path.lexists(folder)  # a link that leads nowhere is in the way, too
        if is_new and (lock := _create(folder, fill)):
            _link_latest(folder)
            return folder, lock
    resuming = f"continue it with --resume {folder}, or " if files.exists(folder / "config.json") else ""
    raise UserError(f"{folder} exists; {resuming}choose another --name")


def as_name(text: str) -> str:
    """Return a text as --name admits it: other characters are replaced by _."""
    return re.sub(r"[^\w.-]", "_", text)


def _create(folder: Path, fill: Callable[[Path], None]) -> BinaryIO | None:
    """Create and fill a folder, and return its lock; None if another process has created it in the meantime.

    It is filled under another name and then renamed; where folders cannot be renamed, as on some network shares, it is
    filled at its place.
    """
    with files.as_user_error(folder.parent):
        folder.parent.mkdir(parents=True, exist_ok=True)
        files.remove_abandoned(folder.parent, ".*.part")
        partial = files.part(folder)
        partial.mkdir()
    with _locked_until_failure(partial) as lock:
        with files.as_user_error(folder):
            fill(partial)
        with contextlib.suppress(OSError):
            partial.rename(folder)
            return lock
    _discard(partial, lock)
    try:
        with files.as_user_error(folder):
            folder.mkdir()
    except UserError as error:
        if isinstance(error.__cause__, FileExistsError):
            return None
        raise
    with _locked_until_failure(folder) as lock, files.as_user_error(folder):
        fill(folder)
    return lock


@contextlib.contextmanager
def _locked_until_failure(folder: Path) -> Iterator[BinaryIO]:
    """Lock a folder; if the block raises an error, delete the folder."""
    lock = None
    try:
        lock = files.lock(folder)
        yield lock
    except BaseException:
        _discard(folder, lock)
        raise


def _discard(folder: Path, lock: BinaryIO | None) -> None:
    if lock:
        lock.close()
    shutil.rmtree(folder, ignore_errors=True)


def reopen(folder: Path, check: Callable[[SavedRun], None]) -> BinaryIO:
    """Lock the folder of a run that is to be continued, once `check` has raised no error, and return the lock.

    What a killed process had begun to write is deleted. Raises UserError if another process uses the folder.
    """
    check(SavedRun(folder))
    lock = files.lock(folder)
    files.remove_abandoned(folder)
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
        write_config(folder, config, data, device)  # a file that it names may have moved
    else:
        folder, lock = create(config, lambda new: write_config(new, config, data, device))
    print(f"run: {folder}", flush=True)
    try:
        with interruption.handled_by(interruption.interrupt):
            yield folder
    except BaseException as error:
        progress.stop_all()
        files_in = [it for it in folder.rglob("*") if it.is_file()]
        holds_results = any(it.name not in ("config.json", files.LOCK) for it in files_in)
        if not isinstance(error, UserError):
            command = interruption.resume_command(config, folder)
            print(f"stopped; continue with: {command}" if holds_results else "stopped; nothing is kept", flush=True)
        if not (holds_results or config.resume):
            shutil.rmtree(folder, ignore_errors=True)
            if not (latest := folder.parent / "latest").exists():
                latest.unlink(missing_ok=True)
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


def _time_stamps() -> Iterator[str]:
    """Yield the time as a folder name, then with numbers: other runs may have started in the same second."""
    stamp = datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    yield stamp
    yield from (f"{stamp}_{number}" for number in itertools.count(2))


def _link_latest(folder: Path) -> None:
    """Have the link `latest` beside `folder` point to it; without links, `latest` is found by the times of the runs."""
    latest, link = folder.parent / "latest", files.part(folder.parent / "latest")
    with contextlib.suppress(OSError):
        link.symlink_to(folder.name, target_is_directory=True)
        link.replace(latest)
        return
    with contextlib.suppress(OSError):  # Windows replaces no link to a folder, and lets only some users make links
        if latest.is_symlink():
            latest.unlink()  # no link is better than one to an older run
        link.rename(latest)
    link.unlink(missing_ok=True)  # it is still there if `latest` is a folder, such as a copy of a run
