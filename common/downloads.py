"""Fetch a file once: checked, within a time limit, never half, and going on where the last try stopped."""

import contextlib
import dataclasses
import hashlib
import http.client
import os
import shutil
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Column

from common.cli import UserError
from common.files import growing, partial, put_in_place

TRIES = 3
SILENCE_SECONDS = 10.0  # a server that sends nothing for so long is given up
TOTAL_SECONDS = 600.0  # as is a download that takes longer, all tries together
CHUNK_BYTES = 1 << 18
ALGORITHMS = {32: "MD5", 64: "SHA-256"}  # of a digest with so many hexadecimal digits


class _Failed(Exception):
    """What went wrong in one try, and whether there is any use in another."""

    def __init__(self, reason: str, final: bool = False):
        super().__init__(reason)
        self.final = final


def keras_cache(kind: str) -> Path:
    """Return the folder where Keras keeps what it downloads, of this kind: "datasets" or "models"."""
    home = os.environ.get("KERAS_HOME") or "~/.keras"
    return Path(os.path.expanduser(home), kind)  # noqa: PTH111 - as Keras; Path.expanduser raises for unknown users


def fault(path: Path, digest: str | int) -> str:
    """Say in a few words why the file at `path` is not the expected one, "" if it is; `digest` as for `fetch`."""
    try:
        if isinstance(digest, int):
            size = path.stat().st_size
            return "" if size == digest else f"{size:,} bytes, not {digest:,}"
        name = ALGORITHMS[len(digest)]
        with path.open("rb") as file:  # not for security: else systems in FIPS mode refuse MD5
            algorithm = hashlib.new(name.replace("-", ""), usedforsecurity=False)
            found = hashlib.file_digest(file, lambda: algorithm).hexdigest()
        return "" if found == digest else f"{name} {found[:16]}…, not {digest[:16]}…"
    except OSError as error:
        return (error.strerror or str(error)).lower()


def fetch(url: str, path: Path, digest: str | int, seconds: float = TOTAL_SECONDS) -> None:
    """Download `url` to `path`, which appears only when all of it has come and is what was expected.

    digest: MD5 or SHA-256 in hexadecimal, told apart by their lengths; where none is published, the size in bytes.
        A size cannot tell whether parts fit together, so that each try then starts from the beginning.
    seconds: how long it may take: all tries, and waiting for another process that downloads the same file.

    Tries three times. Raises UserError that says what went wrong the last time.
    """
    download = _Download(url, path, digest, seconds, time.monotonic() + seconds)
    with growing(path, seconds, keep=download.in_parts) as file:
        if download.in_parts and path.exists() and not fault(path, digest):
            return  # another process was faster
        for attempt in range(1, TRIES + 1):
            try:
                download.receive(file)
                break
            except _Failed as failed:
                if failed.final or attempt == TRIES:
                    raise UserError(f"{url} could not be downloaded: {failed}") from None
                time.sleep(attempt * 0.5)
        put_in_place(file, path)


def copy(source: Path, path: Path, digest: str | int) -> None:
    """Copy the file `source` to `path`, which appears only when it is whole and what was expected, as for `fetch`.

    Raises UserError if `source` is not what was expected or cannot be copied.
    """
    if wrong := fault(source, digest):
        raise UserError(f"{source} is not the expected file ({wrong})")
    with growing(path, TOTAL_SECONDS, keep=False) as file, source.open("rb") as original:
        file.truncate(0)
        shutil.copyfileobj(original, file)
        file.flush()
        if wrong := fault(partial(path), digest):
            raise UserError(f"{source} changed while it was copied ({wrong})")
        put_in_place(file, path)


@dataclasses.dataclass(frozen=True)
class _Download:
    """What the steps of a download need to know."""

    url: str
    path: Path
    digest: str | int
    seconds: float
    deadline: float

    @property
    def in_parts(self) -> bool:
        return isinstance(self.digest, str)

    def receive(self, file: BinaryIO) -> None:
        """Append what is still missing to `file`. Raises _Failed, or UserError if that is not what was expected."""
        response, start = self.request(file.seek(0, os.SEEK_END) if self.in_parts else 0)
        with response:
            file.truncate(start)
            total = response.headers.get("Content-Range", "").rpartition("/")[2]
            length = int(total) if total.isdecimal() else start + (response.length or 0)
            may_be_cut = not total.isdecimal() and response.length is None and not response.chunked
            narrow = Column(max_width=30, no_wrap=True, overflow="ellipsis")  # or long names leave the bar no room
            name = TextColumn(f"downloading {self.path.name}", table_column=narrow)
            columns = name, BarColumn(), DownloadColumn(), TimeRemainingColumn()
            with Progress(*columns, transient=True, disable=not sys.stdout.isatty()) as bar:
                task = bar.add_task("", total=length or None, completed=start)
                while chunk := self.read(response):
                    file.write(chunk)
                    bar.advance(task, len(chunk))
        received = file.seek(0, os.SEEK_END)
        wrong = fault(partial(self.path), self.digest)
        if not wrong:
            return
        if received < length:
            raise _Failed(f"it ended after {received:,} of {length:,} bytes")
        if may_be_cut:  # a lost connection looks like the end
            raise _Failed(f"it ended after {received:,} bytes, and how many there are the server did not say")
        file.truncate(0)
        if not start:
            raise UserError(f"{self.url} has not the expected contents ({wrong})")
        self.receive(file)  # perhaps its parts are those of two files: once more, in one

    def request(self, start: int) -> tuple[http.client.HTTPResponse, int]:
        """Ask for the bytes from `start` on. Return the answer, and where it begins: there, or at 0."""
        headers = {"Range": f"bytes={start}-"} if start else {}
        with _network():
            try:
                request = urllib.request.Request(self.url, headers=headers)
                response = urllib.request.urlopen(request, timeout=SILENCE_SECONDS)
            except urllib.error.HTTPError as error:
                if start and error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                    return self.request(0)
                raise
        if response.status != http.HTTPStatus.PARTIAL_CONTENT:
            return response, 0
        if response.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
            return response, start
        response.close()
        if start:
            return self.request(0)
        raise _Failed("the server answered with a part that was not asked for")

    def read(self, response: http.client.HTTPResponse) -> bytes:
        if time.monotonic() > self.deadline:
            raise _Failed(f"it took longer than {self.seconds:g} seconds", final=True)
        with _network():
            return response.read1(CHUNK_BYTES)  # what there is; read() would wait for all of it


@contextlib.contextmanager
def _network() -> Iterator[None]:
    """Tell errors of the network from those of the disk, which are OSErrors, too."""
    try:
        yield
    except urllib.error.HTTPError as error:
        final = error.code < 500 and error.code not in (408, 429)  # which ask for patience
        raise _Failed(f"the server answered {error.code} {error.reason}", final) from None
    except (OSError, http.client.HTTPException, ValueError) as error:  # ValueError: not an address
        raise _Failed(str(getattr(error, "reason", None) or error) or type(error).__name__) from None
