"""The memory that this process may still use, and the refusal of what would need more."""

import functools
import math
import os
import re
from pathlib import Path

from common.errors import UserError

# The files of a control group: its limit, what it uses, and what of that the kernel can take back.
OF_VERSION_1 = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
OF_VERSION_2 = ("memory.max", "memory.current", "inactive_file")
SMALL = 2**26  # bytes: what needs less is not compared with the memory that is left


def check(needed: float, what: str) -> None:
    """Raise UserError if `needed` bytes for `what`, a plural, exceed the memory that is left."""
    left = available() if needed > SMALL else needed
    if needed > left:
        raise UserError(
            f"{what} need {_readable(needed)} of memory, and {_readable(left)} are available; "
            "use smaller numbers: --help lists the flags"
        )


def available(root: Path = Path("/")) -> float:
    """Return the bytes that this process may still use: what the machine has left, or its containers' limits.

    Linux reports both; elsewhere this is the machine's whole memory, or infinite where that is unknown.
    root: the folder that holds proc/ and sys/.
    """
    try:
        meminfo = dict(re.findall(r"(\w+): +(\d+) kB", (root / "proc/meminfo").read_text()))
        left = 1024.0 * (int(meminfo["MemAvailable"]) + int(meminfo.get("SwapFree", 0)))
    except (OSError, KeyError, ValueError):
        try:
            left = float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
        except (AttributeError, OSError, ValueError):  # Windows
            left = math.inf
    return max(0.0, min([left, *_left_in_groups(root)]))


def check_networks() -> None:
    """Have `check` precede the creation of every weight of a network and every variable of an optimizer."""
    import keras  # imported here because it takes seconds

    create = keras.Variable.__init__
    if hasattr(create, "__wrapped__"):
        return

    @functools.wraps(create)
    def checked(variable, initializer, shape=None, *arguments, **options):
        if callable(initializer) or isinstance(initializer, str):  # other values are in memory already
            size = math.prod(shape or ())
            check(4 * size, f"weights of shape {tuple(shape or ())}")
        create(variable, initializer, shape, *arguments, **options)

    keras.Variable.__init__ = checked


def _left_in_groups(root: Path) -> list[float]:
    """Return the bytes left in each control group (version 1 or 2) of this process that has a limit."""
    left = []
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return left
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        mount, names = ("sys/fs/cgroup/memory", OF_VERSION_1) if controllers else ("sys/fs/cgroup", OF_VERSION_2)
        group = Path(path.lstrip("/"))
        for folder in (group, *group.parents):  # within a container, the mount itself may be its group
            left += _left_in_group(root / mount / folder, *names)
    return left


def _left_in_group(folder: Path, limit: str, usage: str, cache: str) -> list[float]:
    try:
        most, used = int((folder / limit).read_text()), int((folder / usage).read_text())  # "max": no limit
        freed = re.search(rf"^{cache} (\d+)$", (folder / "memory.stat").read_text(), re.MULTILINE)
    except (OSError, ValueError):
        return []
    return [float(most - used + (int(freed[1]) if freed else 0))]


def _readable(size: float) -> str:
    power, unit = next((it for it in ((1e6, "MB"), (1e9, "GB")) if size < 999.5 * it[0]), (1e12, "TB"))
    return f"{size / power:,.3g} {unit}"
