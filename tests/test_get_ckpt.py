"""get_ckpt.py: the table of networks, downloads that are verified and resumed, files from elsewhere, and its errors."""

import functools
import hashlib
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import keras
import pytest
import tensorflow as tf
from conftest import ROOT
from keras.src.utils import file_utils
from servers import GOOD, body, held, ranged, redirect, silence, status

import deep_dream
import get_ckpt
from blocks.feature_extraction import layer_shapes
from common import downloads, layer_flags

NAME = "inception_v3_weights_tf_dim_ordering_tf_kernels_notop.h5"
NETWORK = get_ckpt.PublishedNetwork(f"inception_v3/{NAME}", len(GOOD), hashlib.md5(GOOD).hexdigest())
NEXT = "next: python deep_dream.py --image_path x.jpg"


@pytest.fixture
def place(monkeypatch, tmp_path, closed_port):
    """Where Keras looks for InceptionV3: nothing is there. The published file is GOOD, on a host that is down."""
    monkeypatch.setitem(get_ckpt.NETWORKS, "InceptionV3", NETWORK)
    monkeypatch.setattr(get_ckpt, "PUBLISHED", f"http://127.0.0.1:{closed_port}")
    monkeypatch.setattr(downloads, "TRIES", 1)
    return tmp_path / "keras" / "models" / NAME


@pytest.fixture
def publish(place, serve, monkeypatch):
    """A function that starts a server of the published file and returns its address and the list of its requests."""

    def start(*answers):
        url, requests = serve(*answers)
        monkeypatch.setattr(get_ckpt, "PUBLISHED", url.removesuffix("/file"))
        return get_ckpt.PUBLISHED, requests

    return start


@pytest.fixture
def said(capsys):
    """A function that runs get_ckpt.py with flags and returns the lines that it prints."""

    def run(*flags):
        get_ckpt.main([str(flag) for flag in flags])
        captured = capsys.readouterr()
        assert captured.err == ""
        return captured.out.splitlines()

    return run


@pytest.fixture
def refused(refusal_of):
    """A function that runs get_ckpt.py with flags that end in an error and returns the line that it prints."""
    return functools.partial(refusal_of, get_ckpt)


def leave(data, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def part_of(path):
    return path.with_name(f".{path.name}.part")


def names(folder):
    return sorted(path.name for path in folder.iterdir())


# The table of networks


@pytest.mark.filterwarnings("ignore:.*input_shape")
@pytest.mark.parametrize("name", get_ckpt.NETWORKS)
def test_the_table_is_what_keras_fetches_and_the_default_layers_exist(monkeypatch, tmp_path, name):
    fetched = []
    monkeypatch.setattr(file_utils, "get_file", lambda *args, **settings: fetched.append((args, settings)))
    monkeypatch.setattr(keras.Model, "load_weights", lambda model, path: None)
    network = get_ckpt.NETWORKS[name]
    with keras.StatelessScope(initialize_variables=False):  # much faster: the weights are not needed
        model = getattr(keras.applications, name)(weights="imagenet", include_top=False)
    settings = {"cache_subdir": "models"} | ({"file_hash": network.md5} if network.md5 else {})
    assert fetched == [((network.path.name, f"{get_ckpt.PUBLISHED}/{network.address}"), settings)]
    assert network.path.parent == tmp_path / "keras" / "models"
    assert 1 < network.size / (4 * model.count_params()) < 1.05  # four bytes per weight, and little else
    assert layer_flags.parse_layers(deep_dream.DEFAULT_LAYERS[name], list(layer_shapes(model)), name)


def test_keras_finds_the_file(place, publish, said, monkeypatch, tmp_path):
    publish(body(GOOD))
    said()
    monkeypatch.setattr(file_utils, "urlretrieve", None)  # a download would fail
    found = keras.utils.get_file(
        NAME, "https://nowhere/", cache_subdir="models", cache_dir=tmp_path / "keras", file_hash=NETWORK.md5
    )
    assert found == str(place)


def test_keras_home_is_in_the_home_folder_by_default(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("KERAS_HOME")
    assert NETWORK.path == tmp_path / ".keras" / "models" / NAME
    monkeypatch.setenv("KERAS_HOME", "~/elsewhere")
    assert NETWORK.path == tmp_path / "elsewhere" / "models" / NAME


def test_list(place, said):
    def lines():
        return [line for line in said("--list") if line.startswith(("InceptionV3 ", "MobileNetV2 "))]

    inception, mobile = lines()
    assert inception == f"InceptionV3    0.7  {NAME} (not fetched)"
    assert mobile.startswith("MobileNetV2    9.4  mobilenet_v2_weights_")
    assert mobile.endswith("1.0_224_no_top.h5 (not fetched)")
    assert str(place.parent) in said("--list")[0]

    leave(GOOD[:200_000], part_of(place))
    assert lines()[0].endswith("(0.2 MB fetched)")
    leave(GOOD[::-1], place)
    assert f"(not the published file: MD5 {hashlib.md5(GOOD[::-1]).hexdigest()[:16]}…, not " in lines()[0]
    leave(GOOD, place)
    mobile_network = get_ckpt.NETWORKS["MobileNetV2"]
    with mobile_network.path.open("wb") as file:
        file.truncate(mobile_network.size)
    assert [line.rpartition("(")[2] for line in lines()] == ["fetched, MD5 correct)", "fetched, size correct)"]
    mobile_network.path.write_bytes(b"abc")
    assert "(not the published file: 3 bytes, not 9,406,464)" in lines()[1]


# Fetching


def test_a_file_is_fetched_once(place, publish, said):
    _, requests = publish(body(GOOD))
    assert said() == [f"InceptionV3 is in {place}", NEXT]
    assert place.read_bytes() == GOOD
    for flags in ((), ("--force",)):
        assert said(*flags)[-2:] == [f"InceptionV3 is in {place}", NEXT]
    assert said()[0] == "already fetched"
    assert [request.path for request in requests] == [f"/inception_v3/{NAME}"]
    assert names(place.parent) == [NAME]


def test_another_model(place, publish, said, monkeypatch):
    _, requests = publish(body(GOOD))
    monkeypatch.setitem(get_ckpt.NETWORKS, "MobileNetV2", get_ckpt.PublishedNetwork("mobile/small.h5", len(GOOD), ""))
    assert said("--model", "MobileNetV2")[-1] == f"{NEXT} --model MobileNetV2"
    assert (place.parent / "small.h5").read_bytes() == GOOD
    said("--model", "MobileNetV2", "--force")  # only its size is verified, so it is fetched again
    assert [request.path for request in requests] == ["/mobile/small.h5"] * 2


def test_a_wrong_file_is_reported_and_replaced_only_with_force(place, publish, refused, said):
    _, requests = publish(status(500), body(GOOD))
    leave(b"something", place)
    line = refused()
    assert f"{place} is not the published file (MD5 437b930db84b8079…, not " in line
    assert "replace it with --force" in line
    assert requests == []
    assert "the server answered 500" in refused("--force")
    assert place.read_bytes() == b"something"
    said("--force")
    assert place.read_bytes() == GOOD


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (status(404), "could not be downloaded: the server answered 404 Not Found"),
        (status(503), "could not be downloaded: the server answered 503 Service Unavailable"),
        (redirect("/"), "could not be downloaded: the server answered 302"),
        (silence, "could not be downloaded: timed out"),
        (body(GOOD[:-1], len(GOOD)), "could not be downloaded: it ended after 699,999 of 700,000 bytes"),
        (body(GOOD[::-1]), "does not have the expected contents (MD5 "),
    ],
)
def test_what_a_server_does_wrong_is_reported_in_one_line(publish, refused, answer, words):
    url, _ = publish(answer)
    assert f"{url}/inception_v3/{NAME} {words}" in refused()


def test_a_host_that_is_down(place, refused):
    line = refused()
    assert "refused" in line
    assert (
        f"; fetch {NAME} (700,000 bytes, MD5 {NETWORK.md5}) on another machine and put it into {place.parent}" in line
    )
    assert line.endswith("until then, deep_dream.py dreams with its bundled network\n")


def test_a_folder_that_cannot_be_created(publish, refused, tmp_path):
    publish(body(GOOD))
    (tmp_path / "keras").touch()
    leave(GOOD, Path("carried.h5"))
    for flags in ((), ("--from", "carried.h5")):
        assert f"cannot write {tmp_path / 'keras' / 'models' / NAME}: " in refused(*flags)


def test_a_full_disk(place, publish, refused, said, limited_file_size):
    _, requests = publish(ranged(GOOD))
    with limited_file_size(400_000):
        assert f"cannot write {place}: file too large" in refused()
    said()
    assert [request.sent for request in requests[1:]] == [300_000]
    place.unlink()
    Path("carried.h5").write_bytes(GOOD)
    with limited_file_size(400_000):
        assert f"cannot write {place}: file too large" in refused("--from", "carried.h5")
    assert names(place.parent) == []


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--model", "VGG17"), "--model 'VGG17': must be one of 'InceptionV3', "),
        (("--form", "x"), "unknown flag --form; did you mean --from?"),
        (("--from",), "--from: needs a value"),
        (("VGG16",), "unexpected word 'VGG16'"),
    ],
)
def test_a_wrong_command_line(place, refused, flags, words):
    assert words in refused(*flags)


@pytest.mark.parametrize("error", [MemoryError(), tf.errors.ResourceExhaustedError(None, None, "OOM")])
def test_too_little_memory(refused, monkeypatch, error):
    def obtain(*arguments):
        raise error

    monkeypatch.setattr(get_ckpt, "obtain", obtain)
    assert "out of memory" in refused()


# From elsewhere


@pytest.mark.parametrize(
    "source", ["carried.h5", "folder", ".", "~/carried.h5", "file://", "FILE://localhost", "saved"]
)
def test_from_a_file_or_folder(place, said, monkeypatch, source):
    if "://" in source:
        source += str(Path.cwd() / "my%20files" / "carried.h5")
    leave(GOOD, Path("my files/carried.h5"))
    leave(GOOD, Path("saved", NAME.replace(".h5", " (1).h5")))  # as browsers name a second download
    leave(GOOD[:10], Path("saved", NAME))
    monkeypatch.setenv("HOME", str(Path.cwd()))
    leave(GOOD, Path("carried.h5"))
    leave(GOOD, Path("folder/deep/down", NAME))
    assert said("--from", source) == [f"InceptionV3 is in {place}", NEXT]
    assert place.read_bytes() == GOOD
    assert names(place.parent) == [NAME]


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("wrong.h5", "wrong.h5 is not the expected file (MD5 437b930db84b8079…, not "),
        ("nowhere.h5", "nowhere.h5 is not the expected file (no such file or directory)"),
        ("folder", f"--from folder: no file in this folder is {NAME} (700,000 bytes, MD5 {NETWORK.md5}), whatever its"),
        ("cut", f"cut/{NAME} is not the expected file (MD5 "),
        ("~nobody-of-that-name/x", "is not the expected file (no such file or directory)"),
        ("x" * 300, "is not the expected file (file name too long)"),
        ("ftp://host/x.h5", "--from ftp://host/x.h5: give an address that begins with https://, a file, or a folder"),
        ("file:///nowhere/x.h5", "/nowhere/x.h5 is not the expected file (no such file or directory)"),
        ("http://[bad/x.h5", "http://[bad/x.h5 could not be downloaded: "),
    ],
)
def test_sources_without_the_file(place, refused, source, words):
    leave(b"something", Path("wrong.h5"))
    leave(b"", Path("folder/other.h5"))
    leave(GOOD[1:] + b"x", Path("folder/same_size.h5"))
    leave(b"", Path("cut", NAME))
    leave(GOOD[:1000], part_of(place))
    assert words in refused("--from", source)
    assert not place.exists()
    assert part_of(place).read_bytes() == GOOD[:1000]  # kept for a later download


def test_a_file_replaces_its_partial_download(place, said):
    leave(bytes(1000), part_of(place))
    leave(b"wrong", place)
    leave(GOOD, Path("carried.h5"))
    said("--from", "carried.h5", "--force")
    assert place.read_bytes() == GOOD
    assert names(place.parent) == [NAME]


def test_a_file_that_changes_while_it_is_copied(place, refused, monkeypatch):
    leave(GOOD, Path("carried.h5"))
    monkeypatch.setattr(downloads.shutil, "copyfileobj", lambda original, file: file.write(GOOD[:1000]))
    assert "carried.h5 changed while it was copied (MD5 " in refused("--from", "carried.h5")
    assert names(place.parent) == []


@pytest.mark.parametrize(
    ("address", "asked"),
    [
        ("", f"/{NAME}"),
        ("/mirror", f"/mirror/{NAME}"),
        ("/mirror/", f"/mirror/{NAME}"),
        ("/SAVED.H5", "/SAVED.H5"),
        (f"/mirror/{NAME}", f"/mirror/{NAME}"),
        ("/renamed.h5?download=1", "/renamed.h5?download=1"),
    ],
)
def test_from_a_mirror(place, serve, said, address, asked):
    url, requests = serve(body(GOOD))
    said("--from", url.removesuffix("/file").replace("http:", "HTTP:") + address)
    assert [request.path for request in requests] == [asked]
    assert place.read_bytes() == GOOD


# In separate processes

CHILD = f"""
import signal, sys
import get_ckpt
from common import progress
loaded = {{"tensorflow", "keras"}} & set(sys.modules)
assert not loaded, loaded  # importing them takes seconds
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore the signal
get_ckpt.PUBLISHED = sys.argv[1]
progress.SECONDS_UNNOTICED = 1000.0
get_ckpt.NETWORKS["InceptionV3"] = get_ckpt.{NETWORK}
get_ckpt.main([])
"""


@pytest.fixture
def start():
    """A function that starts get_ckpt.py in a separate process, with the address of the published file."""
    children = []

    def run(address):
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        child = [sys.executable, "-u", "-c", CHILD, address]
        children.append(subprocess.Popen(child, env={**os.environ, "PYTHONPATH": str(ROOT)}, **pipes))
        return children[-1]

    yield run
    for child in children:
        child.kill()
        child.communicate()


def wait_until(condition):
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_download_is_resumed(place, publish, start, number):
    address, requests = publish(held(GOOD, gate := threading.Event()), ranged(GOOD))
    child = start(address)
    part = part_of(place)
    wait_until(lambda: part.exists() and part.stat().st_size > 100_000)
    child.send_signal(number)
    out, err = child.communicate(timeout=60)
    gate.set()
    if number == signal.SIGINT:
        assert child.returncode == 130
        assert err == "the part received so far is kept; run the same command again to resume\ninterrupted\n"
    assert out == ""
    assert not place.exists()
    size = part.stat().st_size

    out, err = start(address).communicate(timeout=60)
    assert err == ""
    assert out.splitlines() == [f"InceptionV3 is in {place}", NEXT]
    assert [request.headers["Range"] for request in requests] == [None, f"bytes={size}-"]
    assert requests[1].sent == len(GOOD) - size
    assert place.read_bytes() == GOOD
    assert names(place.parent) == [NAME]


def test_two_processes_download_a_file_once(place, publish, start):
    address, requests = publish(held(GOOD, gate := threading.Event()))
    first = start(address)
    wait_until(part_of(place).exists)
    second = start(address)
    assert second.stdout.readline() == f"another process is writing {place}; waiting for it\n"
    gate.set()
    for child in (first, second):
        out, err = child.communicate(timeout=60)
        assert (child.returncode, err) == (0, "")
        assert out.splitlines() == [f"InceptionV3 is in {place}", NEXT]
    assert len(requests) == 1
    assert place.read_bytes() == GOOD
    assert names(place.parent) == [NAME]
