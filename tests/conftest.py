"""What all tests share: no network, none of the user's folders, and small things to train."""

import contextlib
import functools
import http.server
import inspect
import resource
import shutil
import socket
import sys
import threading
import time
import types
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import common.environment  # noqa: F401, E402 - first: it sets what TensorFlow reads at its import

from common import late_import, progress  # noqa: E402

progress.SECONDS_UNNOTICED = 1000.0  # lines that depend on the machine's speed are in no test's output
late_import.begin()
late_import.finish()  # without TensorFlow's reports, which would stand after the results

import keras  # noqa: E402
import numpy as np  # noqa: E402
import pytest  # noqa: E402
import tensorflow as tf  # noqa: E402
import tiny_script  # noqa: E402
from PIL import Image  # noqa: E402

from common import datasets, devices, downloads, runs  # noqa: E402

TINY_FLAGS = (
    *("--data", "digits", "--epochs", "1", "--sample_every", "20", "--checkpoint_every", "10"),
    *("--precision", "float32"),
)
STEPS = 93  # of a run with these flags

# Two devices, so that tests can train on both; most of them use the first one only.
CPU = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(CPU, [tf.config.LogicalDeviceConfiguration()] * 2)


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
    monkeypatch.setattr(runs, "steps_per_call", lambda rate: 1)  # not as the machine's speed has it
    monkeypatch.setattr(datasets, "MNIST_URL", f"http://127.0.0.1:{closed_port}/mnist.npz")
    monkeypatch.setattr(datasets, "CIFAR10_URL", f"http://127.0.0.1:{closed_port}/cifar-10-python.tar.gz")
    monkeypatch.setattr(downloads, "time", types.SimpleNamespace(monotonic=time.monotonic, sleep=lambda seconds: None))
    yield
    keras.config.set_dtype_policy("float32")


@pytest.fixture
def tiny_flags():
    """Flags of a run of tiny_script.py that takes less than a second: 93 steps."""
    return list(TINY_FLAGS)


@pytest.fixture
def tiny_folder(tmp_path):
    """A function that makes a folder of `count` pictures for each class; without classes they are directly in it."""

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
    tiny_script.main([*TINY_FLAGS, "--output_dir", str(outputs), "--name", "tiny"])
    return outputs / "tiny_script" / "tiny"


@pytest.fixture
def tiny_run(_finished_run):
    """The folder, relative to the current one, of a finished run with the tiny flags; the test's own copy."""
    folder = Path("outputs/tiny_script/tiny")
    shutil.copytree(_finished_run, folder)
    (folder.parent / "latest").symlink_to("tiny")
    return folder


@pytest.fixture
def refusal_of(capsys):
    """A function that runs a script with flags that it must refuse, and returns the line that it prints."""

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
    """The same for tiny_script.py: called with the flags alone."""
    return functools.partial(refusal_of, tiny_script)


def train_on(device, script, config, *shape, batches, **options):
    """Train one step for each batch; return what `script.build` made, and the last losses."""
    with device.strategy.scope():
        trained = script.build(config, *shape)
    train_step = script.make_train_step(**trained, config=config, **options)
    progress = [tf.zeros(1, tf.float64)] if "progress" in inspect.signature(train_step).parameters else []
    step = device.compile(train_step)
    for number, batch in enumerate(batches):
        losses = step(*device.shard(*(array[None] for array in batch)), tf.constant([number]), *progress)
    return trained, {name: loss[0] for name, loss in losses.items()}


@pytest.fixture
def assert_two_devices_equal_one():
    """A function that trains on one device and on two, and compares the arrays that `find` returns for each.

    find: takes a function `train`, which is `train_on` with a device of that kind, and the strategy that the script's
    Config must have.
    """
    if tf.config.list_physical_devices("GPU"):
        pytest.skip("two CPU devices are compared, and devices.setup prefers the GPU")

    def run(find, rtol=2e-3, atol=1e-4):
        results = []
        for replicas, strategy in ((1, "one_device"), (2, "mirrored")):

            def train(script, config, *shape, replicas=replicas, **options):
                # Two strategies in one process must not use the same keys, which TensorFlow keeps with their shapes.
                tf.distribute.MirroredStrategy._collective_key_base += 100_000
                device = devices.setup(config)
                assert device.replicas == replicas
                return train_on(device, script, config, *shape, **options)

            results.append([np.ravel(array) for array in find(train, strategy)])
        for one, two in zip(*results, strict=True):
            np.testing.assert_allclose(one, two, rtol=rtol, atol=atol)

    return run


@pytest.fixture
def limited_file_size():
    """A context in which no file can exceed `size` bytes, as on a full disk; pytest's own files cannot, either."""

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
    """A function that starts a server with an answer (servers.py) for each request; the last one is repeated.

    It returns the URL of a file there and the list of the requests that the server receives.
    """
    monkeypatch.setattr(downloads, "SILENCE_SECONDS", 0.4)
    over, servers = threading.Event(), []

    def start(*answers):
        requests = []

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                requests.append(self)
                with contextlib.suppress(ConnectionError):  # of clients that were killed or hung up
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
