"""Downloads from a server that answers well, badly or not at all, and from two processes at once."""

import errno
import fcntl
import hashlib
import io
import os
import re
import socket
import tarfile
import threading
import time
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from servers import (
    GOOD,
    body,
    body_of_unknown_length,
    chunked_and_cut,
    endless,
    partial_content,
    ranged,
    redirect,
    silence,
    silence_in_the_middle,
    status,
    trickle,
)

from common import datasets, downloads, files
from common.errors import UserError

SHA256 = hashlib.sha256(GOOD).hexdigest()
MD5 = hashlib.md5(GOOD).hexdigest()
PATH = Path("cache/inner/file")
PART = Path("cache/inner/.file.part")


def fetch(url, digest=SHA256, **limits):
    downloads.fetch(url, PATH, digest, **limits)
    return PATH.read_bytes()


def left():
    return [path.name for path in Path().rglob("*") if path.is_file()]


def leave(data, path=PART):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def ranges(requests):
    return [request.headers["Range"] for request in requests]


@pytest.mark.parametrize("digest", [SHA256, MD5, len(GOOD)])
@pytest.mark.parametrize("answer", [body(GOOD), body_of_unknown_length(GOOD), body(GOOD, len(GOOD) + 1000)])
def test_a_good_file(serve, answer, digest):
    url, requests = serve(answer)
    assert fetch(url, digest) == GOOD
    assert left() == ["file"]
    assert ranges(requests) == [None]


@pytest.mark.parametrize(
    "hitch",
    [status(500), status(429), body(GOOD[:300_000], len(GOOD)), chunked_and_cut, silence, silence_in_the_middle],
)
def test_a_temporary_failure_is_tried_again(serve, hitch):
    url, requests = serve(hitch, hitch, body(GOOD))
    assert fetch(url) == GOOD
    assert left() == ["file"]
    assert len(requests) == 3


@pytest.mark.parametrize(
    ("answer", "tries", "words"),
    [
        (status(500), 3, "the server answered 500 Internal Server Error"),
        (status(503), 3, "the server answered 503 Service Unavailable"),
        (status(404), 1, "the server answered 404 Not Found"),
        (chunked_and_cut, 3, "IncompleteRead"),
        (silence, 3, "timed out"),
        (silence_in_the_middle, 3, "timed out"),
        (body(GOOD[::-1]), 1, f"does not have the expected contents .*, not {SHA256[:16]}"),
        (body(GOOD, 300_000), 1, "does not have the expected contents"),
        (body_of_unknown_length(GOOD + b"x"), 1, "does not have the expected contents .more than 700,000 bytes"),
        (body(GOOD + b"x"), 1, "does not have the expected contents .more than 700,000 bytes"),
        (body(b""), 1, "does not have the expected contents"),
        (partial_content(GOOD[:1000], "bytes 1000-1999/700000"), 3, "a part that was not requested"),
    ],
)
def test_a_failure_is_reported_and_leaves_nothing(serve, answer, tries, words):
    url, requests = serve(answer)
    with pytest.raises(UserError, match=f"{re.escape(url)} .*{words}"):
        fetch(url, size=len(GOOD))
    assert left() == []
    assert len(requests) == tries


def test_a_server_that_trickles_exceeds_the_time_limit(serve):
    url, requests = serve(trickle)
    start = time.monotonic()
    with pytest.raises(UserError, match=r"could not be downloaded: it took longer than 0\.6 seconds"):
        fetch(url, seconds=0.6)
    assert time.monotonic() - start < 3
    assert left() == []
    assert len(requests) == 1


def test_refused_connection(closed_port):
    with pytest.raises(UserError, match=r"could not be downloaded: connection refused"):
        fetch(f"http://127.0.0.1:{closed_port}/file")
    assert left() == []


def test_no_network(monkeypatch):
    def resolve(*_arguments, **_options):
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    with pytest.raises(UserError, match="could not be downloaded: there is no network, or no server of this name"):
        fetch("http://server.example/file")
    assert left() == []


@pytest.mark.parametrize("url", ["http://[bad/file", "http://127.0.0.1:port/file", "http:///file", "file"])
def test_no_url(url):
    with pytest.raises(UserError, match=f"{re.escape(url)} could not be downloaded: "):
        fetch(url)
    assert left() == []


def test_a_redirection_is_followed_with_the_requested_part(serve):
    leave(GOOD[:1000])
    place, requests = serve(ranged(GOOD))
    assert fetch(serve(redirect(place))[0]) == GOOD
    assert ranges(requests) == ["bytes=1000-"]


def test_a_server_that_never_ends_is_left_at_the_known_or_the_largest_size(serve, monkeypatch):
    monkeypatch.setattr(downloads, "MOST_BYTES", 5000)
    for size, most in ((1000, 1000), (0, 5000)):
        url, requests = serve(endless)
        with pytest.raises(UserError, match=f"does not have the expected contents .more than {most:,} bytes"):
            fetch(url, size=size)
        assert requests[0].sent < 10_000_000  # what the kernel buffers
    assert left() == []


def test_too_many_bytes_after_a_part_of_an_earlier_run_cost_one_more_request(serve):
    leave(GOOD[:300_000])
    url, requests = serve(partial_content(bytes(500_000), "bytes 300000-799999/800000"), ranged(GOOD))
    assert fetch(url, size=len(GOOD)) == GOOD
    assert ranges(requests) == ["bytes=300000-", None]


@pytest.mark.parametrize(
    ("start", "place", "is_followed"),
    [
        ("http://a/x", "http://b/x", True),
        ("http://a/x", "https://b/x", True),
        ("https://a/x", "https://b/x", True),
        ("https://a/x", "http://b/x", False),
        ("https://a/x", "ftp://b/x", False),
        ("http://a/x", "ftp://b/x", False),
    ],
)
def test_no_redirection_gives_up_encryption_or_leaves_http(start, place, is_followed):
    def follow():
        handler, request = downloads._SafeRedirections(), urllib.request.Request(start)
        return handler.redirect_request(request, None, 302, "Found", {}, place).full_url

    if is_followed:
        assert follow() == place
    else:
        with pytest.raises(
            downloads._Failed, match=f"redirects from {start[: start.index(':')]} to {place}"
        ) as refused:
            follow()
        assert refused.value.final


def test_a_refused_redirection_is_reported_at_once(serve):
    url, requests = serve(redirect("ftp://127.0.0.1/x"))
    with pytest.raises(UserError, match="could not be downloaded: it redirects from http to ftp://127"):
        fetch(url)
    assert len(requests) == 1


def test_circular_redirections_end(serve):
    url, requests = serve(redirect("/file"))
    with pytest.raises(UserError, match=r"could not be downloaded: the server answered 302 .*redirect"):
        fetch(url)
    assert 1 < len(requests) < 20
    assert left() == []


def test_an_existing_file_stays_when_its_replacement_fails(serve):
    leave(b"old", PATH)
    with pytest.raises(UserError):
        fetch(serve(body(GOOD[::-1]))[0])
    assert PATH.read_text() == "old"
    assert left() == ["file"]


def test_a_cache_that_cannot_be_written_is_not_a_failure_of_the_network(serve):
    url, _ = serve(body(GOOD))
    Path("cache").write_text("a file where the folder should be")
    with pytest.raises(UserError, match="cannot write cache/inner/file: "):
        fetch(url)
    assert left() == ["cache"]


# Resuming


def test_an_attempt_resumes_where_the_last_one_stopped(serve):
    url, requests = serve(ranged(GOOD, most=300_000))
    assert fetch(url) == GOOD
    assert ranges(requests) == [None, "bytes=300000-", "bytes=600000-"]
    assert [request.sent for request in requests] == [300_000, 300_000, 100_000]
    assert left() == ["file"]


def test_the_next_run_resumes_after_a_failure(serve):
    with pytest.raises(UserError, match="it ended after 300,000 of 700,000 bytes"):
        fetch(serve(body(GOOD[:300_000], len(GOOD)))[0])
    assert left() == [".file.part"]
    with pytest.raises(UserError, match="404"):
        fetch(serve(status(404))[0])
    assert PART.read_bytes() == GOOD[:300_000]
    url, requests = serve(ranged(GOOD))
    assert fetch(url) == GOOD
    assert ranges(requests) == ["bytes=300000-"]
    assert requests[0].sent == 400_000
    assert left() == ["file"]


@pytest.mark.parametrize(
    "answer",
    [
        partial_content(GOOD[300_000:500_000], "bytes 300000-499999/700000"),
        partial_content(GOOD[300_000:500_000], "bytes 300000-699999/*", length=400_000),
    ],
    ids=["less than requested", "cut, and of unknown length"],
)
def test_it_resumes_after_a_part_of_the_part(serve, answer):
    leave(GOOD[:300_000])
    url, requests = serve(answer, ranged(GOOD))
    assert fetch(url) == GOOD
    assert ranges(requests) == ["bytes=300000-", "bytes=500000-"]


@pytest.mark.parametrize(
    ("answer", "requested"),
    [
        (body(GOOD), ["bytes=300000-"]),
        (status(416), ["bytes=300000-", None]),
        (partial_content(GOOD[3000:], "bytes 3000-699999/700000"), ["bytes=300000-", None]),
        (partial_content(GOOD[300_000:], "bytes 3000000-3399999/3400000"), ["bytes=300000-", None]),
        (partial_content(GOOD[300_000:]), ["bytes=300000-", None]),
        (partial_content(GOOD[:400_000], "bytes 300000-699999/700000"), ["bytes=300000-", None]),
    ],
    ids=["none", "416", "from elsewhere", "from far away", "from nowhere", "wrong bytes"],
)
def test_with_a_server_that_cannot_resume_it_starts_over(serve, answer, requested):
    leave(GOOD[:300_000])
    url, requests = serve(answer, body(GOOD))
    assert fetch(url) == GOOD
    assert ranges(requests) == requested
    assert left() == ["file"]


def test_a_lost_connection_that_looks_like_the_end(serve):
    url, requests = serve(body_of_unknown_length(GOOD[:300_000]), ranged(GOOD))
    assert fetch(url) == GOOD
    assert ranges(requests) == [None, "bytes=300000-"]


def test_wrong_bytes_of_an_earlier_run_cost_one_more_request(serve):
    leave(bytes(300_000))
    url, requests = serve(ranged(GOOD))
    assert fetch(url) == GOOD
    assert ranges(requests) == ["bytes=300000-", None]


def test_wrong_contents_in_parts_and_then_in_one_are_given_up(serve):
    leave(GOOD[:300_000])
    url, requests = serve(ranged(GOOD[::-1]))
    with pytest.raises(UserError, match="does not have the expected contents"):
        fetch(url)
    assert ranges(requests) == ["bytes=300000-", None]
    assert left() == []


def test_if_only_the_size_is_known_no_parts_are_joined(serve):
    leave(bytes(300_000))
    url, requests = serve(ranged(GOOD, most=300_000), ranged(GOOD))
    assert fetch(url, len(GOOD)) == GOOD
    assert ranges(requests) == [None, None]
    with pytest.raises(UserError, match=r"does not have the expected contents \(700,000 bytes, not 700,001\)"):
        fetch(url, len(GOOD) + 1)
    assert PATH.read_bytes() == GOOD
    assert left() == ["file"]


def test_a_full_disk_stops_the_download_and_the_next_run_resumes_it(serve, limited_file_size):
    url, requests = serve(ranged(GOOD))
    with limited_file_size(400_000), pytest.raises(UserError) as refused:
        fetch(url)
    assert str(refused.value) == "cannot write cache/inner/file: file too large"
    assert left() == [".file.part"]
    assert fetch(url) == GOOD
    assert ranges(requests) == [None, "bytes=400000-"]


# Two processes at once


@pytest.fixture
def other():
    """The partial file, opened and locked as by another process."""
    leave(GOOD[:1000])
    with PART.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield file


def test_a_file_that_another_process_is_downloading_is_left_alone(serve, other):
    url, requests = serve(ranged(GOOD))
    with pytest.raises(UserError, match="another process is still writing cache/inner/file"):
        fetch(url, seconds=0.3)
    assert requests == []
    assert PART.read_bytes() == GOOD[:1000]
    other.close()
    assert fetch(url) == GOOD


def test_what_another_process_has_downloaded_is_used(serve, other, capsys):
    url, requests = serve(status(500))
    waiting = threading.Thread(target=fetch, args=(url,))
    waiting.start()
    while waiting.is_alive() and "process is writing cache/inner/file; waiting" not in capsys.readouterr().out:
        time.sleep(0.01)
    other.write(GOOD[1000:])
    files.put_in_place(other, PATH)
    other.close()
    waiting.join()
    assert requests == []
    assert PATH.read_bytes() == GOOD
    assert left() == ["file"]


def test_a_file_that_was_put_in_place_while_it_was_opened_is_not_changed(serve, monkeypatch):
    url, requests = serve(body(GOOD[::-1]))
    flock = fcntl.flock

    def too_late(file, operation):
        if not requests and PART.read_bytes() == GOOD:
            PART.rename(PATH)
        flock(file, operation)

    leave(GOOD)
    monkeypatch.setattr(fcntl, "flock", too_late)
    with pytest.raises(UserError, match="does not have the expected contents"):
        fetch(url, len(GOOD) - 1)
    assert PATH.read_bytes() == GOOD
    assert left() == ["file"]


def test_the_file_is_put_in_place_after_it_is_on_disk_and_while_it_is_locked(serve, monkeypatch):
    synced, replace = [], Path.replace

    def replaced(part, path):
        assert synced == [len(GOOD)]
        with part.open("ab") as file, pytest.raises(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return replace(part, path)

    monkeypatch.setattr(os, "fsync", lambda number: synced.append(os.fstat(number).st_size))
    monkeypatch.setattr(Path, "replace", replaced)
    assert fetch(serve(body(GOOD))[0]) == GOOD
    assert len(synced) == 1


def test_without_locks(serve, monkeypatch):
    def flock(file, operation):
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", flock)
    assert fetch(serve(body(GOOD))[0]) == GOOD
    PATH.unlink()
    monkeypatch.setattr(files, "fcntl", None)
    assert fetch(serve(ranged(GOOD, most=400_000))[0]) == GOOD
    assert left() == ["file"]


# MNIST


@pytest.fixture(scope="module")
def archive():
    file = io.BytesIO()
    np.savez_compressed(file, **{name: np.zeros(shape, np.uint8) for name, shape in datasets.MNIST_SHAPES.items()})
    return file.getvalue()


@pytest.mark.parametrize("data", ["auto", "mnist"])
def test_mnist_is_downloaded_once(serve, monkeypatch, tmp_path, archive, data):
    url, requests = serve(body(archive))
    monkeypatch.setattr(datasets, "MNIST_URL", url)
    monkeypatch.setattr(datasets, "MNIST_SHA256", hashlib.sha256(archive).hexdigest())
    monkeypatch.setattr(datasets, "MNIST_BYTES", len(archive))
    for _ in range(2):
        assert datasets.load(data, 28).name == "MNIST (train)"
    assert len(requests) == 1
    assert (tmp_path / "keras" / "datasets" / "mnist.npz").read_bytes() == archive


@pytest.mark.parametrize("failure", ["refused", "wrong contents", "silence", "read-only"])
def test_without_mnist_auto_continues_with_the_digits_and_says_why(
    serve, monkeypatch, tmp_path, capsys, archive, failure
):
    if failure != "refused":
        answer = silence if failure == "silence" else body(archive)
        monkeypatch.setattr(datasets, "MNIST_URL", serve(answer)[0])
    if failure == "read-only":
        (tmp_path / "keras").touch()
    assert datasets.load("auto", 28).name == "scikit-learn's small digits (train)"
    captured = capsys.readouterr()
    first, second, third = captured.out.splitlines()
    why = {
        "refused": "refused",
        "wrong contents": "does not have the expected contents",
        "silence": "timed out",
        "read-only": "cannot write",
    }
    assert first.startswith(f"MNIST is not in {tmp_path / 'keras' / 'datasets'}, and ")
    assert why[failure] in first
    assert second.startswith("continuing with scikit-learn's digits of 8x8 pixels, enlarged and so blurred; to use ")
    assert "; to use MNIST, put mnist.npz into " in second
    assert third.startswith("data: scikit-learn's small digits (train), 1,500 pictures")
    assert captured.err == ""
    assert list((tmp_path / "keras").rglob("*.*")) == []


def test_without_mnist_requesting_it_is_an_error(refusal, tmp_path):
    assert "mnist.npz could not be downloaded: " in refusal("--data", "mnist")
    assert not Path("outputs").exists()
    assert list((tmp_path / "keras").rglob("*.*")) == []


# CIFAR-10


def archive_of(*names):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as archive:
        for name in names:
            member = tarfile.TarInfo(name)
            member.size = 3
            archive.addfile(member, io.BytesIO(b"abc"))
    return file.getvalue()


def test_cifar10_is_unpacked_and_the_archive_removed(serve, monkeypatch, tmp_path):
    data = archive_of("cifar-10-batches-py/test_batch")
    url, requests = serve(body(data))
    monkeypatch.setattr(datasets, "CIFAR10_URL", url)
    monkeypatch.setattr(datasets, "CIFAR10_SHA256", hashlib.sha256(data).hexdigest())
    with pytest.raises(UserError, match="test_batch is damaged"):  # it is three bytes
        datasets.load("cifar10", 32, split="test")
    found = [str(path.relative_to(tmp_path / "keras" / "datasets")) for path in (tmp_path / "keras").rglob("*_batch")]
    assert found == ["cifar-10-batches-py/test_batch"]
    assert [path.name for path in (tmp_path / "keras" / "datasets").iterdir()] == ["cifar-10-batches-py"]
    assert len(requests) == 1


def test_an_archive_or_mnist_put_into_the_cache_by_hand_is_used_whatever_its_name(monkeypatch, tmp_path, archive):
    data = archive_of("cifar-10-batches-py/test_batch")
    for name, contents in (("CIFAR10", data), ("MNIST", archive)):
        monkeypatch.setattr(datasets, f"{name}_SHA256", hashlib.sha256(contents).hexdigest())
        monkeypatch.setattr(datasets, f"{name}_BYTES", len(contents))
        leave(contents, tmp_path / "keras/datasets" / f"{name} (1)")
    with pytest.raises(UserError, match="test_batch is damaged"):  # it is three bytes
        datasets.load("cifar10", 32, split="test")
    assert datasets.load("mnist", 28).name == "MNIST (train)"
    assert (tmp_path / "keras/datasets/CIFAR10 (1)").read_bytes() == data  # the user's own file stays


@pytest.mark.parametrize("name", ["../outside", "/tmp/cifar10-outside"])
def test_no_archive_writes_outside_its_folder(serve, monkeypatch, tmp_path, name):
    data = archive_of(name)
    monkeypatch.setattr(datasets, "CIFAR10_URL", serve(body(data))[0])
    monkeypatch.setattr(datasets, "CIFAR10_SHA256", hashlib.sha256(data).hexdigest())
    with pytest.raises(UserError, match=r"cannot be unpacked|cannot write"):
        datasets.load("cifar10", 32, split="test")
    assert not list(tmp_path.rglob("*outside*"))
    assert not Path("/tmp/cifar10-outside").exists()
    assert list((tmp_path / "keras" / "datasets").iterdir()) == [tmp_path / "keras/datasets/cifar-10-python.tar.gz"]


def test_without_cifar10_auto_continues_with_the_patches_and_says_why(capsys):
    assert datasets.load("auto", 32, full="cifar10").name == "patches of scikit-learn's two photographs (train)"
    first, second, _ = capsys.readouterr().out.splitlines()
    assert first.startswith("CIFAR-10 is not in ")
    assert "refused" in first
    assert second.startswith("continuing with patches")
