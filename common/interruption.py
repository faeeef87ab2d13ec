"""Ctrl-C, SIGTERM and a closed terminal: a command ends soon, keeps its work, and says how to continue."""

import contextlib
import shlex
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from common import cli, flags, streams

SIGNALS = (signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else []))


class Interrupted(SystemExit):
    """Leaves a command after a signal, with the exit status that a shell gives to that signal."""

    def __init__(self, number: int):
        """number: of the signal."""
        super().__init__(128 + number)


def interrupt(number: int, frame) -> None:
    """Handle a signal by leaving the command."""
    if number != signal.SIGINT:
        streams.drop_lost_terminal()
    raise Interrupted(number)


@contextlib.contextmanager
def handled_by(handler: Callable) -> Iterator[None]:
    """Let `handler` receive the signals while the block runs; in another thread than the main one, do nothing.

    A signal that the caller of the command ignores, such as SIGHUP under nohup, stays ignored.
    """
    old = {}
    if threading.current_thread() is threading.main_thread():  # elsewhere Python allows no handlers
        caught = [it for it in SIGNALS if it == signal.SIGINT or signal.getsignal(it) != signal.SIG_IGN]
        old = {number: signal.signal(number, handler) for number in caught}
    try:
        yield
    finally:
        for number, previous in old.items():
            signal.signal(number, previous)


def resume_command(config, folder: Path) -> str:
    """Return the command line that continues the run in `folder`, quoted for the shell.

    It names the script as the user did, and repeats the flags that belong to one command.
    """
    script = f"{cli.script_name(type(config))}.py"
    words = ["python", sys.argv[0] if Path(sys.argv[0]).name == script else script, "--resume", str(folder)]
    own = flags.fields_with(type(config), flags.PerCommand) - {"resume", "run"}
    own -= flags.fields_with(type(config), flags.UsesRun)
    words += [flags.as_typed(it, True) for it in sorted(own) if getattr(config, it)]  # all are switches
    return shlex.join(words)
