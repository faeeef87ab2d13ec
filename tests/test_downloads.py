import hashlib
import http.server
import io
import re
import threading
import time
import types
from pathlib import Path

import numpy as np
import pytest

from common import cli, datasets, downloads

GOOD = np.random.default_rng(0).bytes(700_000)
SHA256 = hashlib.sha256(GOOD).hexdigest()


@pytest.fixture
def serve(monkeypatch):
    """A function that starts a server with an answer for each request, the last one for all further ones.

    It returns the address of a file there and the list of the requests that came.
    """
    monkeypatch.setattr(downloads, "SILENCE_SECONDS", 0.4)
    monkeypatch.setattr(downloads, "time", types.SimpleNamespace(monotonic=time.monotonic, sleep=lambda seconds: None))
    over, servers = threading.Event(), []

    def start(*answers):
        requests = []

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                requests.append(self.path)
                answers[min(len(requests), len(answers)) - 1](self, over)

            def log_message(self, *args):
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        servers.append(server)
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        return f"http://127.0.0.1:{server.server_port}/file", requests

    yield start
    over.set()
    for server in servers:
        server.shutdown()
        server.server_close()


def body(data, claimed=None):
    def answer(request, over):
        request.send_response(200)
        request.send_header("Content-Length", str(claimed or len(data)))
        request.end_headers()
        request.wfile.write(data)

    return answer


def body_of_unknown_length(data):
    def answer(request, over):
        request.send_response(200)
        request.end_headers()
        request.wfile.write(data)

    return answer


def chunked_and_cut(request, over):
    request.protocol_version = "HTTP/1.1"
    request.send_response(200)
    request.send_header("Transfer-Encoding", "chunked")
    request.end_headers()
    request.wfile.write(b"%x\r\n" % 1000 + bytes(100))


def status(code):
    return lambda request, over: request.send_error(code)


def silence(request, over):
    over.wait(20)


def silence_in_the_middle(request, over):
    request.send_response(200)
    request.send_header("Content-Length", str(len(GOOD)))
    request.end_headers()
    request.wfile.write(GOOD[:1000])
    over.wait(20)


def trickle(request, over):
    request.send_response(200)
    request.send_header("Content-Length", str(len(GOOD)))
    request.end_headers()
    for byte in GOOD[:200]:
        request.wfile.write(bytes([byte]))
        if over.wait(0.02):
            break


def fetch(url):
    path = Path("cache/inner/file")
    downloads.fetch(url, path, SHA256)
    return path.read_bytes()


def left():
    return [path.name for path in Path().rglob("*") if path.is_file()]


@pytest.mark.parametrize("answer", [body(GOOD), body_of_unknown_length(GOOD)])
def test_a_good_file(serve, answer):
    url, requests = serve(answer)
    assert fetch(url) == GOOD
    assert left() == ["file"]
    assert len(requests) == 1


@pytest.mark.parametrize(
    "hitch", [status(500), body(GOOD[:300_000], len(GOOD)), chunked_and_cut, silence, silence_in_the_middle]
)
def test_what_may_pass_is_tried_again(serve, hitch):
    url, requests = serve(hitch, hitch, body(GOOD))
    assert fetch(url) == GOOD
    assert left() == ["file"]
    assert len(requests) == 3


@pytest.mark.parametrize(
    ("answer", "tries", "words"),
    [
        (status(500), 3, "the server answered 500 Internal Server Error"),
        (status(404), 1, "the server answered 404 Not Found"),
        (body(GOOD[:300_000], len(GOOD)), 3, "it ended after 300,000 of 700,000 bytes"),
        (chunked_and_cut, 3, "IncompleteRead"),
        (silence, 3, "timed out"),
        (silence_in_the_middle, 3, "timed out"),
        (body(GOOD[::-1]), 1, f"has not the expected contents .*, not {SHA256[:16]}"),
        (body(b""), 1, "has not the expected contents"),
    ],
)
def test_a_failure_is_told_and_leaves_nothing(serve, answer, tries, words):
    url, requests = serve(answer)
    with pytest.raises(cli.UserError, match=f"{re.escape(url)} .*{words}"):
        fetch(url)
    assert left() == []
    assert len(requests) == tries


def test_a_server_that_trickles_is_given_up(serve, monkeypatch):
    monkeypatch.setattr(downloads, "TOTAL_SECONDS", 0.6)
    url, requests = serve(trickle)
    start = time.monotonic()
    with pytest.raises(cli.UserError, match=r"could not be downloaded: it took longer than 0\.6 seconds"):
        fetch(url)
    assert time.monotonic() - start < 3
    assert left() == []
    assert len(requests) == 1


def test_refused_connection(closed_port):
    with pytest.raises(cli.UserError, match=r"could not be downloaded: .*refused"):
        fetch(f"http://127.0.0.1:{closed_port}/file")
    assert left() == []


def test_a_file_that_is_there_stays_when_its_replacement_fails(serve):
    Path("cache/inner").mkdir(parents=True)
    Path("cache/inner/file").write_text("old")
    with pytest.raises(cli.UserError):
        fetch(serve(body(GOOD[::-1]))[0])
    assert Path("cache/inner/file").read_text() == "old"
    assert left() == ["file"]


def test_a_cache_that_cannot_be_written_is_no_fault_of_the_network(serve):
    url, _ = serve(body(GOOD))
    Path("cache").write_text("a file where the folder should be")
    with pytest.raises(cli.UserError, match="cannot write cache/inner/file: "):
        fetch(url)
    assert left() == ["cache"]


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
    for _ in range(2):
        assert datasets.load(data, 28).name == "MNIST (train)"
    assert len(requests) == 1
    assert (tmp_path / "keras" / "datasets" / "mnist.npz").read_bytes() == archive


@pytest.mark.parametrize("failure", ["refused", "wrong contents", "silence", "read-only"])
def test_without_mnist_auto_goes_on_with_the_digits_and_says_why(
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
        "wrong contents": "has not the expected contents",
        "silence": "timed out",
        "read-only": "cannot write",
    }
    assert first.startswith(f"MNIST is not in {tmp_path / 'keras' / 'datasets'}, and ")
    assert why[failure] in first
    assert "goes on with scikit-learn's small digits" in second
    assert third.startswith("data: scikit-learn's small digits (train), 1,500 pictures")
    assert captured.err == ""
    assert list((tmp_path / "keras").rglob("*.*")) == []


def test_without_mnist_insisting_on_it_is_an_error(refusal, tmp_path):
    assert "mnist.npz could not be downloaded: " in refusal("--data", "mnist")
    assert not Path("outputs").exists()
    assert list((tmp_path / "keras").rglob("*.*")) == []
