"""Download a file once: verified, within a time limit, complete or not at all, resuming an interrupted attempt."""

import contextlib
import dataclasses
import hashlib
import http.client
import os
import shutil
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from common.errors import UserError, reason_of
from common.files import growing, partial, put_in_place
from common.progress import phase

TRIES = 3
SILENCE_SECONDS = 10.0  # how long to wait for a server that sends nothing
TOTAL_SECONDS = 600.0  # time limit of a download, all attempts together
CHUNK_BYTES = 1 << 18
MOST_BYTES = 1 << 30  # of a file whose size neither we nor the server know
ALGORITHMS = {32: "MD5", 64: "SHA-256"}  # by the number of hexadecimal digits of their digests


class _Failed(Exception):
    """An attempt failed; final: another one would fail, too."""

    def __init__(self, reason: str, final: bool = False):
        super().__init__(reason)
        self.final = final


def keras_cache(kind: str) -> Path:
    """Return the folder in which Keras keeps its downloads; kind: "datasets" or "models"."""
    home = os.environ.get("KERAS_HOME") or "~/.keras"
    return Path(os.path.expanduser(home), kind)  # noqa: PTH111 - as Keras; Path.expanduser raises for unknown users


def fault(path: Path, digest: str | int) -> str:
    """Return why the file at `path` is not the expected one, "" if it is; `digest` as for `fetch`."""
    try:
        if isinstance(digest, int):
            size = path.stat().st_size
            return "" if size == digest else f"{size:,} bytes, not {digest:,}"
        name = ALGORITHMS[len(digest)]
        with path.open("rb") as file:  # systems in FIPS mode allow MD5 only if it is not for security
            algorithm = hashlib.new(name.replace("-", ""), usedforsecurity=False)
            found = hashlib.file_digest(file, lambda: algorithm).hexdigest()
        return "" if found == digest else f"{name} {found[:16]}…, not {digest[:16]}…"
    except OSError as error:
        return reason_of(error)


def find(folder: Path, digest: str | int, size: int) -> Path | None:
    """Return the file below `folder` that is the expected one, whatever its name; None if there is none.

    digest: as for `fetch`; it is computed only for files of the right size, in bytes.
    """
    for path in sorted(folder.rglob("*")):
        with contextlib.suppress(OSError):  # of files that may not be read
            if path.is_file() and path.stat().st_size == size and not fault(path, digest):
                return path
    return None


def fetch(url: str, path: Path, digest: str | int, seconds: float = TOTAL_SECONDS, size: int = 0) -> None:
    """Download `url` to `path`, in at most three attempts; `path` appears only when it is complete and verified.

    digest: MD5 or SHA-256 in hexadecimal, distinguished by their lengths; where none is published, the size in bytes.
        A size cannot verify that parts belong together; each attempt then starts from the beginning.
    seconds: time limit of all attempts, including the time for which another process downloads the same file.
    size: the file's size in bytes, if it is known; no more is received than that, or than the server has announced.
    Raises UserError with the reason why the last attempt failed.
    """
    size = digest if isinstance(digest, int) else size
    download = _Download(url, path, digest, size, seconds, time.monotonic() + seconds)
    with growing(path, seconds, keep=download.in_parts) as file, phase(f"requesting {path.name}"):
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
    """Copy the file `source` to `path`, which appears only when it is complete and verified; `digest` as for `fetch`.

    Raises UserError if `source` is not the expected file or cannot be copied.
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
    """One download: the arguments of `fetch`, and the time at which it is given up."""

    url: str
    path: Path
    digest: str | int
    size: int
    seconds: float
    deadline: float

    @property
    def in_parts(self) -> bool:
        return isinstance(self.digest, str)

    def receive(self, file: BinaryIO) -> None:
        """Append the missing bytes to `file`. Raises _Failed, or UserError if the file is not the expected one."""
        response, start = self.request(file.seek(0, os.SEEK_END) if self.in_parts else 0)
        with response:
            file.truncate(start)
            total = response.headers.get("Content-Range", "").rpartition("/")[2]
            length = int(total) if total.isdecimal() else start + (response.length or 0)
            most = self.size or length or MOST_BYTES
            may_be_cut = not total.isdecimal() and response.length is None and not response.chunked
            title, received = f"downloading {self.path.name}", start
            with phase(title, length or None, is_bytes=True, done=start) as advance:
                while received <= most and (chunk := self.read(response, most + 1 - received)):
                    received += file.write(chunk)
                    advance(len(chunk))
        file.flush()
        is_too_long = received > most
        wrong = f"more than {most:,} bytes" if is_too_long else fault(partial(self.path), self.digest)
        if not wrong:
            return
        if received < length and not is_too_long:
            raise _Failed(f"it ended after {received:,} of {length:,} bytes")
        if may_be_cut and not is_too_long:  # a lost connection looks like the end
            raise _Failed(f"it ended after {received:,} bytes, and the server did not say how many there are")
        file.truncate(0)
        if not start:
            raise UserError(f"{self.url} does not have the expected contents ({wrong})")
        self.receive(file)  # its parts may come from two versions of the file: download it in one

    def request(self, start: int) -> tuple[http.client.HTTPResponse, int]:
        """Request the bytes from `start` on. Return the response and its first byte: `start`, or 0."""
        headers = {"Range": f"bytes={start}-"} if start else {}
        with _network():
            try:
                request = urllib.request.Request(self.url, headers=headers)
                opener = urllib.request.build_opener(_SafeRedirections)
                response = opener.open(request, timeout=SILENCE_SECONDS)
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
        raise _Failed("the server sent a part that was not requested")

    def read(self, response: http.client.HTTPResponse, most: int) -> bytes:
        if time.monotonic() > self.deadline:
            raise _Failed(f"it took longer than {self.seconds:g} seconds", final=True)
        with _network():
            return response.read1(min(CHUNK_BYTES, most))  # what has arrived; read() would wait for all of it


class _SafeRedirections(urllib.request.HTTPRedirectHandler):
    """Follows redirections to https, and those from http to http: none that gives up encryption or changes to FTP."""

    def redirect_request(self, request, *answer):
        redirected = super().redirect_request(request, *answer)
        if redirected and redirected.type != "https" and (request.type, redirected.type) != ("http", "http"):
            raise _Failed(f"it redirects from {request.type} to {redirected.full_url}, which is refused", final=True)
        return redirected


@contextlib.contextmanager
def _network() -> Iterator[None]:
    """Turn errors of the network into _Failed; those of the disk are OSErrors, too, and are raised outside."""
    try:
        yield
    except urllib.error.HTTPError as error:
        final = error.code < 500 and error.code not in (408, 429)  # timeout and too many requests
        raise _Failed(f"the server answered {error.code} {error.reason}", final) from None
    except (OSError, http.client.HTTPException, ValueError) as error:  # ValueError: not a URL
        reason = getattr(error, "reason", None) or error
        if isinstance(reason, socket.gaierror):
            raise _Failed("there is no network, or no server of this name") from None
        text = reason_of(reason) if isinstance(reason, OSError) else str(reason)
        raise _Failed(text or type(error).__name__) from None
