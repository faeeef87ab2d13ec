"""Help and errors come without TensorFlow, and TensorFlow starts without a word."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from common import late_import

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = ("autoencoder", "char_rnn", "dcgan_mnist", "deep_dream", "gan_cifar10", "get_ckpt", "vae", "vanilla_gan")


@pytest.fixture
def without_tensorflow(tmp_path):
    """An environment in which the import of TensorFlow ends the process with status 77."""
    (tmp_path / "fake" / "tensorflow").mkdir(parents=True)
    (tmp_path / "fake" / "tensorflow" / "__init__.py").write_text("raise SystemExit(77)")
    return {**os.environ, "PYTHONPATH": str(tmp_path / "fake")}


def run(words, environment=None):
    return subprocess.run(
        [sys.executable, *map(str, words)], env=environment, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_needs_no_tensorflow(script, without_tensorflow):
    result = run([ROOT / f"{script}.py", "--help"], without_tensorflow)
    assert (result.returncode, result.stderr) == (0, "")
    assert f"usage: {script}.py" in result.stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["vae.py", "--epoch", "3"], "unknown flag --epoch; did you mean --epochs?"),
        (["gan_cifar10.py", "--data", "nowhere"], "--data nowhere: there is no such folder"),
        (["char_rnn.py", "--train", "nowhere.txt"], "nowhere.txt: there is no such file or folder"),
        (["deep_dream.py", "--image_path", "nowhere.jpg"], "nowhere.jpg: no such file or directory"),
        (["dcgan_mnist.py", "--sample", "4"], "there is no run in outputs/dcgan_mnist yet"),
    ],
)
def test_mistakes_need_no_tensorflow(words, message, without_tensorflow):
    result = run([ROOT / words[0], *words[1:]], without_tensorflow)
    assert result.returncode == 2
    assert result.stderr.startswith(f"{words[0]}: error: {message}") and result.stderr.count("\n") == 1


def test_tensorflow_is_imported_by_a_command_that_needs_it(without_tensorflow):
    assert run([ROOT / "deep_dream.py"], without_tensorflow).returncode == 77


@pytest.mark.parametrize("words", [[], ["--verbose"]])
def test_tensorflow_reports_only_with_verbose(words, tmp_path):
    flags = ["--max_size", "64", "--steps", "1", "--octaves", "1", "--output_dir", tmp_path]
    result = run([ROOT / "deep_dream.py", *flags, *words])
    assert result.returncode == 0
    assert ("oneDNN" in result.stderr) if words else (result.stderr == "")


def test_a_package_that_is_missing_is_one_line():
    hide = "import sys, importlib.util as u; f = u.find_spec; u.find_spec = lambda n: None if n == 'tyro' else f(n)"
    program = f"{hide}; import common.environment as e; e.begin_command()"
    result = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert "lacks the package tyro; activate the virtual environment" in result.stderr


def test_settings_of_keras_that_it_cannot_read_are_one_line(tmp_path):
    (tmp_path / "keras.json").write_text("[1]")
    result = run([ROOT / "vae.py", "--help"], {**os.environ, "KERAS_HOME": str(tmp_path)})
    assert result.returncode == 2
    assert result.stderr == f"vae.py: error: {tmp_path}/keras.json does not hold Keras's settings, a JSON object; " + (
        "delete it or mend it\n"
    )


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the device that is always full is Linux's")
def test_standard_output_on_a_full_disk_is_one_line():
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, ROOT / "vae.py", "--help"]
        result = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert result.returncode == 2
    assert result.stderr == "vae.py: error: standard output cannot be written: no space left on device\n"


def test_ctrl_c_during_the_imports_leaves_no_traceback(tmp_path):
    slow = tmp_path / "slow" / "numpy"
    slow.mkdir(parents=True)
    (slow / "__init__.py").write_text("print('importing', flush=True); import time; time.sleep(60)")
    environment = {**os.environ, "PYTHONPATH": str(slow.parent)}
    command = [sys.executable, str(ROOT / "dcgan_mnist.py")]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}

    def as_in_a_terminal():  # processes in the background of a shell ignore Ctrl-C
        signal.signal(signal.SIGINT, signal.default_int_handler)

    with subprocess.Popen(command, env=environment, preexec_fn=as_in_a_terminal, **pipes) as process:
        process.stdout.readline()
        time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=20)
    assert (process.returncode, errors) == (-signal.SIGINT, b"")


def test_stand_ins_give_way_to_what_they_stand_for():
    program = """
from common import late_import
late_import.begin()
import tensorflow as tf
from keras import layers

def double(x: tf.Tensor | None) -> layers.Layer:
    return tf.add(x, x)

assert late_import.is_pending()
class Doubled(layers.Layer):
    pass
assert not late_import.is_pending() and not isinstance(layers, late_import.StandIn)
assert double(3).numpy() == 6 and isinstance(Doubled(), layers.Layer)
import blocks.lstm
assert issubclass(blocks.lstm.LSTM, layers.LSTM)
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    result = run(["-c", program], environment)
    assert (result.returncode, result.stderr) == (0, "")


def test_what_tensorflow_leaves_is_not_searched_when_the_command_ends():
    program = """
import atexit, gc
from common import late_import
atexit.register(lambda: print(gc.get_freeze_count() > 100_000))
late_import.begin()
late_import.finish()
"""
    result = run(["-c", program], {**os.environ, "PYTHONPATH": str(ROOT)})
    assert result.stdout.splitlines()[-1] == "True"


def test_tensorflow_that_is_already_imported_is_left_alone():
    late_import.begin()
    assert not late_import.is_pending()
