"""Whatever takes more than a moment says what it is, how far it is, and ends at once after Ctrl-C."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import tiny_script
from conftest import ROOT
from servers import ranged

import dcgan_mnist
import gan_cifar10
import vanilla_gan
from blocks import mixture
from common import datasets, devices, downloads, generated, image_files, interruption, progress, saved_runs, text
from common.errors import UserError
from evaluation import surprisal


@pytest.fixture
def soon(monkeypatch):
    """Lines come after 0.05 seconds and then every 0.2 seconds."""
    monkeypatch.setattr(progress, "SECONDS_UNNOTICED", 0.05)
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0.2)


@pytest.fixture
def titles(monkeypatch):
    """The titles of all phases, in the order in which they begin."""
    found, start = [], progress.Phase.start
    monkeypatch.setattr(progress.Phase, "start", lambda phase: found.append(phase.title) or start(phase))
    return found


# What is shown


def test_elsewhere_than_in_a_terminal_a_long_phase_prints_a_line_when_it_begins_and_then_now_and_then(soon, capsys):
    with progress.phase("compiling"):
        time.sleep(0.5)
    lines = capsys.readouterr().out.splitlines()
    assert lines == ["compiling: 0:00 so far"] * len(lines)
    assert 2 <= len(lines) <= 4


def test_a_short_phase_prints_nothing(capsys):
    with progress.phase("compiling"):
        pass
    assert list(progress.progress([1, 2], "reading")) == [1, 2]
    time.sleep(0.1)
    assert capsys.readouterr().out == ""


def test_a_loop_shows_how_much_is_over_and_how_long_the_rest_takes(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    shown = progress.Phase("reading", 2000, is_stoppable=True, is_bytes=False)
    now[0] = 10.0
    assert shown.state == "0 of 2,000, 0:10 so far"
    now[0] = 30.0
    shown.advance(500)
    assert shown.state == "500 of 2,000, 1:30 left"
    now[0] = 35.0
    assert shown.state == "500 of 2,000, 1:25 left"
    now[0] = 1000.0
    assert shown.state == "500 of 2,000, 0:00 left"
    now[0] = 30.0
    resumed = progress.Phase("downloading", 90_000_000, is_stoppable=True, is_bytes=True, done=30_000_000)
    now[0] = 40.0
    resumed.advance(30_000_000)
    assert resumed.state == "60.0 MB of 90.0 MB, 0:10 left"


def test_of_phases_within_each_other_only_the_innermost_prints(soon, capsys):
    with progress.phase("outer"):
        for _ in progress.progress(range(2), "inner"):
            time.sleep(0.2)
    assert set(re.findall("[a-z]+:", capsys.readouterr().out)) == {"inner:"}


def test_a_terminal_shows_a_bar_and_leaves_nothing_of_it():
    program = (
        "import time\nfrom common import progress\nprogress.SECONDS_WITHOUT_BAR = 0.1\n"
        "with progress.phase('outer'):\n"
        "    time.sleep(0.5)\n"
        "    with progress.phase('too short'):\n        pass\n"
        "    for _ in progress.progress(range(3), 'inner'):\n        time.sleep(0.3)\n"
        "print('end')\n"
    )
    terminal = (
        "import os, pty, sys\nchild, terminal = pty.fork()\n"
        "if not child:\n    os.execv(sys.executable, [sys.executable, '-c', sys.argv[1]])\n"
        "shown = b''\n"
        "try:\n    while part := os.read(terminal, 1000):\n        shown += part\nexcept OSError:\n    pass\n"
        "os.write(1, shown)\n"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT), "TERM": "xterm", "COLUMNS": "80"}
    command = [sys.executable, "-c", terminal, program]
    shown = subprocess.run(command, env=environment, timeout=100, stdout=subprocess.PIPE).stdout.decode()
    assert "outer" in shown
    assert "too short" not in shown
    assert "outer" not in shown.partition("0 of 3")[2].partition("2 of 3")[0]
    assert re.search(r"inner.*2 of 3, 0:00 left", shown)
    assert "\x1b[2K" in shown.partition("2 of 3")[2]  # the line is erased
    assert shown.rstrip().endswith("end")


def test_what_takes_long_is_a_phase(titles, tiny_flags, tiny_folder, tmp_path):
    (tmp_path / "a.txt").write_text("to be or not to be\n" * 500)
    corpus = text.load([str(tmp_path / "a.txt")], "utf-8", 1, tmp_path)
    surprisal.validation_loss(
        lambda indices, title: surprisal.read_in_windows(lambda it, _: (0.0 * it[:, 1:], []), indices, [], title),
        corpus.validation,
    )
    datasets.load(str(tiny_folder()), 8)
    tiny_script.main([*tiny_flags, "--name", "a"])
    tiny_script.main(["--sample", "2000", "--interpolate"])
    assert set(titles) >= {
        *("reading the text", "reading text", "encoding text", "validating", "reading the data", "reading pictures"),
        *("compiling the training step", "saving the networks", "saving, drawing samples.gif and curves.png"),
        *("sampling", "walking", "making walk.gif"),
    }


def test_a_download_shows_how_much_has_arrived(titles, serve, tmp_path):
    url, _ = serve(ranged(b"published"))
    downloads.fetch(url, tmp_path / "file", len(b"published"))
    assert titles == ["requesting file", "downloading file"]


def test_a_mixture_fitted_in_steps_is_the_mixture_fitted_at_once(titles):
    from sklearn.mixture import GaussianMixture

    codes = np.random.default_rng(0).standard_normal((300, 4)).astype(np.float32) ** 3
    fitted = mixture.fit_mixture(codes, seed=5)
    drawn = np.random.default_rng(5).permutation(codes)
    at_once = GaussianMixture(20, reg_covar=1e-3, max_iter=50, random_state=5).fit(drawn)
    assert at_once.n_iter_ > mixture.AT_ONCE
    assert np.array_equal(fitted["means"], at_once.means_)
    assert np.array_equal(fitted["covariances"], at_once.covariances_)
    assert titles == ["fitting a mixture of Gaussians to the codes"]


def test_the_training_step_is_compiled_once_and_before_anything_is_computed(titles):
    traced, counter = [], tf.Variable(0)

    def step(value):
        traced.append(tf.executing_eagerly())
        return {"loss": counter.assign_add(value)}

    call = devices.trace_first(tf.function(step), "the step")
    assert [int(call(tf.constant(2))["loss"]) for _ in range(3)] == [2, 4, 6]
    assert traced == [False]
    assert titles == ["compiling the step", "running the step for the first time"]


# Ctrl-C and SIGTERM


def test_whether_a_phase_may_be_left_anywhere():
    assert not progress.is_stoppable()
    with progress.phase("coding"):
        assert progress.is_stoppable()
        with progress.phase("saving", is_stoppable=False), progress.phase("drawing"):
            assert not progress.is_stoppable()
    assert not progress.is_stoppable()


def test_pictures_that_are_left_are_not_read_after_ctrl_c(monkeypatch, tiny_folder):
    read = []

    def interrupted_at_the_fourth(path, *arguments):
        read.append(path)
        if path.name == "003.png" and path.parent.name == "left":
            os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.01)
        return np.zeros((8, 8, 3), np.uint8)

    monkeypatch.setattr(image_files, "read_picture", interrupted_at_the_fourth)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            image_files.read_folder(str(tiny_folder(count=200)), 8, 0)
    finally:
        signal.signal(signal.SIGINT, before)
    assert len(read) < 100


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_command_without_a_training_loop_names_how_to_continue_only_if_something_is_kept(capsys, number, tmp_path):
    before = signal.getsignal(number)
    with pytest.raises(interruption.Interrupted) as leaving, interruption.handled_by(interruption.interrupt):
        os.kill(os.getpid(), number)
    assert leaving.value.code == 128 + number
    assert signal.getsignal(number) is before


def test_the_command_that_continues_a_run(monkeypatch, tiny_script_config):
    folder = Path("my outputs/tiny_script/it's")
    command = "--resume 'my outputs/tiny_script/it'\"'\"'s'"
    assert interruption.resume_command(tiny_script_config, folder) == f"python tiny_script.py {command}"
    monkeypatch.setattr(sys, "argv", ["../some where/tiny_script.py"])
    expected = f"python '../some where/tiny_script.py' {command}"
    assert interruption.resume_command(tiny_script_config, folder) == expected


@pytest.fixture
def tiny_script_config():
    return tiny_script.Config(sample=0, epochs=3)


# What the last line names


def test_samples_end_with_the_name_of_their_picture(tiny_run, capsys):
    tiny_script.main(["--sample", "4"])
    assert capsys.readouterr().out.splitlines()[-1] == f"see {tiny_run / 'generated/grid.png'}"


def test_a_text_ends_with_the_name_of_its_file(tiny_run, capsys):
    run = saved_runs.SavedRun(tiny_run)
    generated.stream_text(run, "To", iter([" be", " or"]))
    run.report()
    assert capsys.readouterr().out == f"To be or\nsee {tiny_run / 'generated/sample.txt'}\n"
    assert (tiny_run / "generated/sample.txt").read_text() == "To be or"


# Few pictures


@pytest.mark.parametrize("script", [dcgan_mnist, vanilla_gan, gan_cifar10])
def test_every_gan_reports_few_pictures(script, tiny_folder, monkeypatch, capsys):
    def stop(device):
        raise UserError("so far")

    monkeypatch.setattr(devices.Device, "scope", stop)
    with pytest.raises(SystemExit):
        script.main(["--data", str(tiny_folder(count=30)), "--augment"][: 3 if script is gan_cifar10 else 2])
    printed = capsys.readouterr().out
    assert "60 pictures are few: a discriminator memorises fewer than 1,000" in printed
    assert ("add --flip to delay that" in printed) == (script is gan_cifar10)


def test_few_pictures_are_reported_with_what_helps(capsys):
    few = datasets.Images(np.zeros((999, 8, 8, 1), np.uint8), np.zeros(999, np.int32), (), "few")
    few.warn_if_few()
    few.warn_if_few(["augment", "flip"])
    start = (
        "999 pictures are few: a discriminator memorises fewer than 1,000, and the samples then get worse; give more, "
    )
    ends = "or stop when they do", "or add --augment and --flip to delay that"
    assert capsys.readouterr().out.splitlines() == [start + end for end in ends]
    datasets.Images(np.zeros((1000, 8, 8, 1), np.uint8), np.zeros(1000, np.int32), (), "enough").warn_if_few()
    assert capsys.readouterr().out == ""
