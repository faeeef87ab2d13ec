"""Fetch a file once, checked, within a time limit, and never half."""

import hashlib
import http.client
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from common.cli import UserError
from common.files import whole

TRIES = 3
SILENCE_SECONDS = 10.0  # a server that sends nothing for so long is given up
CHUNK_BYTES = 1 << 18


def fetch(url: str, path: Path, sha256: str) -> None:
    """Download `url` to `path`, which appears only when all of it has come and its SHA-256 is the given one.

    Tries three times. Raises UserError that says what went wrong the last time.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    for attempt in range(1, TRIES + 1):
        try:
            return _fetch_once(url, path, sha256)
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", None) or str(error) or type(error).__name__
            if isinstance(error, urllib.error.HTTPError) and error.code < 500:
                reason = f"the server answered {error.code} {error.reason}"
                break
            if attempt < TRIES:
                time.sleep(attempt * 0.5)
    raise UserError(f"{url} could not be downloaded: {reason}")


def _fetch_once(url: str, path: Path, sha256: str) -> None:
    digest = hashlib.sha256()
    with urllib.request.urlopen(url, timeout=SILENCE_SECONDS) as response, whole(path) as file:
        length = int(response.headers.get("Content-Length") or 0)
        columns = TextColumn(f"downloading {path.name}"), BarColumn(), DownloadColumn(), TimeRemainingColumn()
        with Progress(*columns, transient=True, disable=not sys.stdout.isatty()) as bar:
            task = bar.add_task("", total=length or None)
            while chunk := _read(response):
                file.write(chunk)
                digest.update(chunk)
                bar.advance(task, len(chunk))
        received = file.tell()
        if received < length:
            raise ConnectionError(f"it ended after {received:,} of {length:,} bytes")
        if digest.hexdigest() != sha256:
            raise UserError(
                f"{url} has not the expected contents (SHA-256 {digest.hexdigest()[:16]}…, not {sha256[:16]}…)"
            )


def _read(response) -> bytes:
    try:
        return response.read(CHUNK_BYTES)
    except http.client.IncompleteRead as cut:
        return cut.partial
