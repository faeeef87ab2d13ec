"""What all tests share: nothing from the network, nothing from the user's own folders, and small things to train on."""

import contextlib
import functools
import http.server
import json
import os
import resource
import shutil
import socket
import subprocess
import sys
import threading
import time
import types
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import keras  # noqa: E402
import numpy as np  # noqa: E402
import pytest  # noqa: E402
from PIL import Image  # noqa: E402

import dcgan_mnist  # noqa: E402
from common import datasets, downloads  # noqa: E402

TINY = {
    "data": "digits",
    "image_size": 16,
    "generator_width": 4,
    "discriminator_width": 4,
    "latent_dim": 8,
    "batch_size": 16,
    "epochs": 1,
    "sample_every": 20,
    "checkpoint_every": 10,
    "precision": "float32",
}
TINY_FLAGS = [word for name, value in TINY.items() for word in (f"--{name}", str(value))]


@pytest.fixture(scope="session")
def closed_port():
    with socket.socket() as taken:  # bound, so that nobody else listens there, but not listening
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


@pytest.fixture(autouse=True)
def isolated(tmp_path, monkeypatch, closed_port):
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.delenv("TF_CONFIG", raising=False)
    monkeypatch.setattr(datasets, "MNIST_URL", f"http://127.0.0.1:{closed_port}/mnist.npz")
    monkeypatch.setattr(datasets, "CIFAR10_URL", f"http://127.0.0.1:{closed_port}/cifar-10-python.tar.gz")
    yield
    keras.config.set_dtype_policy("float32")


@pytest.fixture
def tiny_flags():
    """Flags of a run of dcgan_mnist.py that takes a few seconds: 93 steps."""
    return list(TINY_FLAGS)


@pytest.fixture
def tiny_folder(tmp_path):
    """A function that makes a folder of `count` pictures for each class; without classes they lie in the folder."""

    def make(count=10, classes=("left", "right"), color=True, size=20, name="pictures"):
        folder = tmp_path / name
        random = np.random.default_rng(0)
        for kind in classes or (".",):
            (folder / kind).mkdir(parents=True, exist_ok=True)
            for number in range(count):
                shape = (size, size, 3) if color else (size, size)
                pixels = random.integers(0, 256, shape).astype(np.uint8)
                Image.fromarray(pixels).save(folder / kind / f"{number:03d}.png")
        return folder

    return make


@pytest.fixture(scope="session")
def _finished_run(tmp_path_factory):
    outputs = tmp_path_factory.mktemp("finished")
    dcgan_mnist.main([*TINY_FLAGS, "--output_dir", str(outputs), "--name", "tiny"])
    return outputs / "dcgan_mnist" / "tiny"


@pytest.fixture
def tiny_run(_finished_run):
    """The folder, relative to the current one, of a finished run with the tiny flags; the test's own copy."""
    folder = Path("outputs/dcgan_mnist/tiny")
    shutil.copytree(_finished_run, folder)
    (folder.parent / "latest").symlink_to("tiny")
    return folder


@pytest.fixture
def refusal_of(capsys):
    """A function that runs a script with flags that it must refuse, and returns the one line that it says."""

    def run(script, *flags):
        capsys.readouterr()
        with pytest.raises(SystemExit) as leaving:
            script.main([str(flag) for flag in flags])
        assert leaving.value.code == 2
        captured = capsys.readouterr()
        assert "Traceback" not in captured.out + captured.err
        assert captured.err.startswith(f"{Path(script.__file__).name}: error: ")
        assert captured.err.count("\n") == 1, captured.err
        return captured.err

    return run


@pytest.fixture
def refusal(refusal_of):
    """The same for dcgan_mnist.py: called with the flags alone."""
    return functools.partial(refusal_of, dcgan_mnist)


# How a program that checks several devices begins: they can only be set up in a new process.
DEVICES_PROGRAM = """
import json, sys
import numpy as np
import tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * int(sys.argv[1]))
from common import devices

def train(script, config, *shape, batches, **options):
    global device
    device = devices.setup(config)
    with device.strategy.scope():
        trained = script.build(config, *shape)
    step = device.compile(script.make_train_step(**trained, config=config, **options))
    for number, batch in enumerate(batches):
        losses = step(*device.share(*batch), tf.constant(number, tf.int64))
    return trained, losses

strategy = sys.argv[2]
"""


@pytest.fixture
def assert_two_devices_equal_one():
    """A function that runs a program on one device and on two, and compares the arrays that it found on each.

    The program calls `train` with a script, its settings, of which one is `strategy`, and batches, one for each step;
    options and shape are for the script's `make_train_step` and `build`. It leaves its arrays in the list `found`.
    """

    def run(program, rtol=2e-3, atol=1e-4):
        results = []
        for devices, strategy in ((1, "one_device"), (2, "mirrored")):
            environment = {**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}
            program_path = Path("program.py")
            program_path.write_text(
                f"{DEVICES_PROGRAM}{program}\n"
                "json.dump([device.replicas, *(np.ravel(it).tolist() for it in found)], open('found.json', 'w'))\n"
            )
            command = [sys.executable, str(program_path), str(devices), strategy]
            output = subprocess.run(command, env=environment, capture_output=True, text=True)
            assert output.returncode == 0, output.stderr[-2000:]
            replicas, *numbers = json.loads(Path("found.json").read_text())
            assert replicas == devices
            results.append(numbers)
        for one, two in zip(*results, strict=True):
            np.testing.assert_allclose(one, two, rtol=rtol, atol=atol)

    return run


@pytest.fixture
def limited_file_size():
    """A context in which no file can grow beyond so many bytes, as on a full disk; short, as pytest writes, too."""

    @contextlib.contextmanager
    def limit(size):
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    return limit


@pytest.fixture
def serve(monkeypatch):
    """A function that starts a server with an answer (servers.py) for each request, the last one for all further ones.

    It returns the address of a file there and the list of the requests that came.
    """
    monkeypatch.setattr(downloads, "SILENCE_SECONDS", 0.4)
    monkeypatch.setattr(downloads, "time", types.SimpleNamespace(monotonic=time.monotonic, sleep=lambda seconds: None))
    over, servers = threading.Event(), []

    def start(*answers):
        requests = []

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                requests.append(self)
                with contextlib.suppress(ConnectionError):  # of clients that were killed or have enough
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


@pytest.fixture
def contents():
    """A function that returns, by path, the bytes of all files below a folder."""

    def read(folder):
        return {str(path): path.read_bytes() for path in sorted(Path(folder).rglob("*")) if path.is_file()}

    return read
