"""What lies in a folder that the user names: links are followed, and the output of runs is left out."""

import contextlib
import functools
import json
import os
import re
from collections.abc import Iterable
from pathlib import Path

from common import files
from common.errors import printable, reason_of

_output_dir = "outputs"


def leave_out(output_dir: str) -> None:
    """Make `files_below` leave out this folder, the command's --output_dir."""
    global _output_dir
    _output_dir = output_dir


def natural_order(names: Iterable) -> list:
    """Return names or paths sorted, with the numbers in them in numerical order: frame2 before frame10."""

    def key(name: str | Path) -> tuple:
        return [re.sub("[0-9]+", lambda digits: digits[0].zfill(20), part) for part in Path(name).parts], str(name)

    return sorted(names, key=key)


def files_below(folder: Path) -> list[Path]:
    """Return everything below `folder` that is not a folder or hidden, in alphabetical order: files, pipes, devices.

    Links are followed, but each folder is entered once. Runs and --output_dir are left out, as are folders that cannot
    be entered; one line says so.
    """
    found, folders, links, left_out = [], [folder], [], {}
    entered = {_identity(it) for it in folder.resolve().parents}  # a link to one of them leads back to `folder`
    while folders or links:
        current = folders.pop() if folders else links.pop(0)  # links last: a folder goes by its own name
        if current != folder and _is_output(current):
            left_out.setdefault("output of this program", []).append(current)
            continue
        if _identity(current) in entered:
            left_out.setdefault("read already, or leads back to its start", []).append(current)
            continue
        entered.add(_identity(current))
        try:
            entries = sorted((it for it in os.scandir(current) if not it.name.startswith(".")), key=lambda it: it.name)
        except OSError as error:
            left_out.setdefault(reason_of(error), []).append(current)
            continue
        for entry in entries:
            if not os.path.isdir(entry):  # noqa: PTH112 - the other is_dir raise an error for a link into a closed folder
                found.append(Path(entry))
            else:
                (links if entry.is_symlink() else folders).append(Path(entry))
    for reason, places in left_out.items():
        print_once(f"left out {', '.join(map(str, places[:3]))}{' …' if places[3:] else ''}: {reason}")
    return sorted(found)


def run_around(folder: Path) -> Path | None:
    """Return the run to which `folder` belongs, None if it belongs to none."""
    folder = folder.resolve()
    return next((it for it in (folder, *folder.parents) if _is_run(it)), None)


@functools.cache
def print_once(line: str) -> None:
    """Print a line, unless this process has printed it already."""
    print(printable(line), flush=True)


def _identity(folder: Path) -> tuple[int, int]:
    status = folder.stat()
    return status.st_dev, status.st_ino


def _is_output(folder: Path) -> bool:
    with contextlib.suppress(OSError):  # there is no such folder yet
        if folder.samefile(_output_dir):
            return True
    return run_around(folder) is not None if folder.is_symlink() else _is_run(folder)


def _is_run(folder: Path) -> bool:
    """Whether `folder` holds the config.json that a run writes."""
    path = folder / "config.json"
    try:
        description = json.loads(files.read_bytes(path, files.MOST_CONFIG_BYTES))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(description, dict) and {"script", "settings", "data"} <= description.keys()
