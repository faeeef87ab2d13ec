"""Standard output and error where they are missing: closed by `>&-`, under pythonw, or after the terminal is gone."""

import contextlib
import os
import sys


def ensure() -> None:
    """Open os.devnull for each standard stream that is missing.

    Otherwise the next file to be opened, perhaps a checkpoint, would get the stream's number and all that is printed.
    """
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        if getattr(sys, name) is None:
            with contextlib.suppress(OSError):
                null = os.open(os.devnull, os.O_RDWR)
                if null != number:
                    os.dup2(null, number)
                    os.close(null)
            setattr(sys, name, open(number, mode, closefd=False))  # noqa: SIM115 - open as long as the process lives


def drop_lost_terminal() -> None:
    """Point standard output and error to os.devnull if their terminal is gone, so that printing raises no error."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):  # a stream without a number, as in notebooks
            number = stream.fileno()
            try:
                os.write(number, b"")
            except OSError:
                os.dup2(os.open(os.devnull, os.O_WRONLY), number)
