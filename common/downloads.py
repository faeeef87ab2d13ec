"""Fetch a file once, checked, within a time limit, and never half."""

import contextlib
import hashlib
import http.client
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from common.cli import UserError
from common.files import told_in_one_line, whole

TRIES = 3
SILENCE_SECONDS = 10.0  # a server that sends nothing for so long is given up
TOTAL_SECONDS = 600.0  # as is a download that takes longer, all tries together
CHUNK_BYTES = 1 << 18


class _Failed(Exception):
    """What went wrong in one try, and whether there is any use in another."""

    def __init__(self, reason: str, final: bool = False):
        super().__init__(reason)
        self.final = final


def fetch(url: str, path: Path, sha256: str) -> None:
    """Download `url` to `path`, which appears only when all of it has come and its SHA-256 is the given one.

    Tries three times. Raises UserError that says what went wrong the last time.
    """
    with told_in_one_line(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + TOTAL_SECONDS
    for attempt in range(1, TRIES + 1):
        try:
            return _fetch_once(url, path, sha256, deadline)
        except _Failed as failed:
            reason = failed
            if failed.final:
                break
            if attempt < TRIES:
                time.sleep(attempt * 0.5)
    raise UserError(f"{url} could not be downloaded: {reason}")


def _fetch_once(url: str, path: Path, sha256: str, deadline: float) -> None:
    digest = hashlib.sha256()
    with _network():
        response = urllib.request.urlopen(url, timeout=SILENCE_SECONDS)
    with response, whole(path) as file:
        length = response.length or 0
        columns = TextColumn(f"downloading {path.name}"), BarColumn(), DownloadColumn(), TimeRemainingColumn()
        with Progress(*columns, transient=True, disable=not sys.stdout.isatty()) as bar:
            task = bar.add_task("", total=length or None)
            while chunk := _read(response, deadline):
                file.write(chunk)
                digest.update(chunk)
                bar.advance(task, len(chunk))
        received = file.tell()
        if received < length:
            raise _Failed(f"it ended after {received:,} of {length:,} bytes")
        if digest.hexdigest() != sha256:
            raise UserError(
                f"{url} has not the expected contents (SHA-256 {digest.hexdigest()[:16]}…, not {sha256[:16]}…)"
            )


def _read(response: http.client.HTTPResponse, deadline: float) -> bytes:
    if time.monotonic() > deadline:
        raise _Failed(f"it took longer than {TOTAL_SECONDS:g} seconds", final=True)
    with _network():
        return response.read1(CHUNK_BYTES)  # what there is; read() would wait for all of it


@contextlib.contextmanager
def _network() -> Iterator[None]:
    """Tell errors of the network from those of the disk, which are OSErrors, too."""
    try:
        yield
    except urllib.error.HTTPError as error:
        raise _Failed(f"the server answered {error.code} {error.reason}", final=error.code < 500) from None
    except (OSError, http.client.HTTPException) as error:
        raise _Failed(str(getattr(error, "reason", None) or error) or type(error).__name__) from None
