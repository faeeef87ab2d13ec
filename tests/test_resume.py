"""A run that is interrupted anywhere and resumed ends like one that was not, bit for bit."""

import contextlib
import csv
import dataclasses
import errno
import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
import tiny_script
from conftest import ROOT, STEPS

from common import checkpoints, devices, files, interruption, progress, runs, tables

RUNS = Path("outputs/tiny_script")


def outcome(folder):
    """Return everything in a finished run that must not depend on interruptions."""
    newest = max((folder / "checkpoints").glob("*.npz"))
    with np.load(newest) as file:
        arrays = {name: file[name] for name in file.files if name != "seconds"}
    with (folder / "metrics.csv").open() as file:
        rows = [(row["epoch"], row["step"], row["loss"], row["bias"]) for row in csv.DictReader(file)]
    pictures = {path.name: path.read_bytes() for path in (folder / "samples").iterdir()}
    return arrays, rows, pictures, (folder / "final.png").read_bytes()


def assert_equal_runs(folder, other):
    arrays, *rest = outcome(folder)
    other_arrays, *other_rest = outcome(other)
    assert any(name.startswith("network/") and array.dtype.kind in "iu" for name, array in arrays.items())  # Dropout's
    assert arrays.keys() == other_arrays.keys()
    for name, array in arrays.items():
        assert np.array_equal(array, other_arrays[name]), name
    assert rest == other_rest


def after_step(monkeypatch, step, action):
    """Call `action` while the losses of a step are logged, in the first run that comes this far."""
    log, logged = runs.Run.log, []

    def log_and_act(run, losses):
        log(run, losses)
        logged.append(losses)
        if len(logged) == step:
            action()

    monkeypatch.setattr(runs.Run, "log", log_and_act)


def test_one_epoch_and_one_resumed_equal_two(tiny_run, tiny_flags):
    tiny_script.main([*tiny_flags, "--epochs", "2", "--name", "straight"])
    keras.utils.clear_session()
    tiny_script.main(["--resume", str(tiny_run), "--epochs", "2"])
    assert len(outcome(tiny_run)[1]) == 3
    # The shorter run wrote its last grid where the longer one wrote none.
    (tiny_run / f"samples/step_{STEPS:08d}.png").unlink()
    assert_equal_runs(RUNS / "straight", tiny_run)


@pytest.mark.parametrize(
    ("number", "status", "step"),
    [  # after step 1 there is one grid
        *((signal.SIGINT, 130, 33), (signal.SIGTERM, 143, 33), (signal.SIGHUP, 129, 33)),
        (signal.SIGINT, 130, 1),
    ],
)
def test_a_signal_ends_the_step_saves_and_says_how_to_resume(
    tiny_run, tiny_flags, monkeypatch, capsys, number, status, step
):
    handler, cut = signal.getsignal(number), RUNS / "cut"
    after_step(monkeypatch, step, lambda: os.kill(os.getpid(), number))
    with pytest.raises(SystemExit) as leaving:
        tiny_script.main([*tiny_flags, "--name", "cut"])
    assert leaving.value.code == status
    assert signal.getsignal(number) is handler
    steps = "1 step" if step == 1 else f"{step} steps"
    assert f"stopped after {steps}; continue with: python tiny_script.py --resume {cut}\n" in capsys.readouterr().out
    assert (cut / f"checkpoints/step_{step:08d}.npz").exists()
    assert (cut / "samples.gif").exists()
    tiny_script.main(["--resume", str(cut)])
    assert_equal_runs(tiny_run, cut)


def test_a_run_under_nohup_is_not_ended_by_a_closed_terminal(tiny_flags, monkeypatch):
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        after_step(monkeypatch, 3, lambda: os.kill(os.getpid(), signal.SIGHUP))
        tiny_script.main([*tiny_flags, "--name", "nohup"])
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
    assert (RUNS / "nohup/final.png").exists()


def test_a_run_in_a_terminal_that_is_closed_saves(tmp_path):
    """The program runs in a terminal of its own, whose other end is closed in the middle of the training."""
    program = tmp_path / "waits.py"
    program.write_text(
        f"import sys\nsys.path[:0] = [{str(ROOT)!r}, {str(ROOT / 'tests')!r}]\n"
        "import tiny_script\nfrom common import runs\nfrom conftest import TINY_FLAGS\n"
        "log = runs.Run.log\n"
        "def log_and_wait(run, losses):\n"
        "    log(run, losses)\n"
        "    while len(run._losses) == 30 and not run._signal:\n"
        "        print('ready', flush=True)\n"
        "runs.Run.log = log_and_wait\n"
        "tiny_script.main([*TINY_FLAGS, '--name', 'closed'])\n"
    )
    terminal = (
        "import os, pty, sys\nchild, terminal = pty.fork()\n"
        "if not child:\n    os.execv(sys.executable, [sys.executable, sys.argv[1]])\n"
        "shown = b''\nwhile b'ready' not in shown:\n    shown += os.read(terminal, 1000)\n"
        "os.close(terminal)\nsys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))\n"
    )
    assert subprocess.run([sys.executable, "-c", terminal, program], timeout=100).returncode == 129
    assert (RUNS / "closed/checkpoints/step_00000030.npz").exists()


def test_a_run_in_another_thread_than_the_main_one(tiny_flags):
    handlers = [signal.getsignal(number) for number in interruption.SIGNALS]
    thread = threading.Thread(target=tiny_script.main, args=[[*tiny_flags, "--name", "thread"]])
    thread.start()
    thread.join()
    assert (RUNS / "thread/final.png").exists()
    assert [signal.getsignal(number) for number in interruption.SIGNALS] == handlers


@pytest.mark.parametrize("place", ["a grid of samples", "the last grid", "the compilation"])
def test_a_signal_does_not_wait_for_what_may_be_left_anywhere(tiny_run, tiny_flags, monkeypatch, capsys, place):
    sample, make_train_step, grids = tiny_script.sample, tiny_script.make_train_step, []

    def interrupt():
        os.kill(os.getpid(), signal.SIGINT)
        raise AssertionError("the signal was not heeded")

    def interrupted_sample(*arguments):
        grids.append(0)
        if len(grids) == {"a grid of samples": 3, "the last grid": 6}.get(place):  # after steps 40 and 93
            with progress.phase("drawing"):
                interrupt()
        return sample(*arguments)

    monkeypatch.setattr(tiny_script, "sample", interrupted_sample)
    if place == "the compilation":
        monkeypatch.setattr(tiny_script, "make_train_step", lambda **_: lambda *_: interrupt())
    with pytest.raises(SystemExit) as leaving:
        tiny_script.main([*tiny_flags, "--name", "cut"])
    assert leaving.value.code == 130
    monkeypatch.setattr(tiny_script, "make_train_step", make_train_step)
    monkeypatch.setattr(tiny_script, "sample", sample)
    stopped = f"; continue with: python tiny_script.py --resume {RUNS / 'cut'}\n"
    assert capsys.readouterr().out.endswith(stopped)
    keras.utils.clear_session()
    tiny_script.main(["--resume", str(RUNS / "cut")])
    assert_equal_runs(tiny_run, RUNS / "cut")


def test_a_second_signal_does_not_wait_for_the_end_of_the_step(tiny_flags, monkeypatch, capsys):
    after_step(monkeypatch, 3, lambda: [os.kill(os.getpid(), signal.SIGINT) for _ in range(2)])
    with pytest.raises(SystemExit) as leaving:
        tiny_script.main([*tiny_flags, "--name", "cut"])
    assert leaving.value.code == 130
    assert capsys.readouterr().err == "interrupted\n"
    assert list((RUNS / "cut/checkpoints").iterdir()) == []


def test_a_signal_after_the_last_step_loses_nothing_and_sets_the_exit_status(tiny_flags, monkeypatch):
    save_model = checkpoints.save_model

    def save_and_interrupt(path, model):
        save_model(path, model)
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(checkpoints, "save_model", save_and_interrupt)
    with pytest.raises(SystemExit) as leaving:
        tiny_script.main([*tiny_flags, "--name", "late"])
    assert leaving.value.code == 143
    for name in (f"checkpoints/step_{STEPS:08d}.npz", "network.keras", "samples.gif", "curves.png"):
        assert (RUNS / "late" / name).exists()


def test_what_a_killed_run_wrote_after_its_checkpoint_is_taken_back(tiny_run):
    """After a kill -9, metrics and grids are ahead of the last checkpoint, and a row is torn."""
    killed = shutil.copytree(tiny_run, RUNS / "killed")
    (killed / f"checkpoints/step_{STEPS:08d}.npz").unlink()
    (killed / "config.json").write_text((killed / "config.json").read_text().replace('"tiny"', '"killed"'))
    with (killed / "metrics.csv").open("a") as file:
        file.write("1,99,3.0,100.0,1.5,0.5\n1,149,4.0,10")
    tiny_script.main(["--resume", str(killed)])
    assert_equal_runs(tiny_run, killed)


@pytest.fixture
def disk_is_full_at(monkeypatch):
    """A context in which the disk is full when a file of this name is written."""

    @contextlib.contextmanager
    def fill(name):
        to_disk = files._to_disk

        def refuse(file):
            if Path(file.name).name.startswith(f".{name}."):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            to_disk(file)

        with monkeypatch.context() as patch:
            patch.setattr(files, "_to_disk", refuse)
            yield

    return fill


@pytest.mark.parametrize("name", ["step_00000050.npz", "step_00000020.png", "final.png", "samples.gif", "curves.png"])
def test_a_run_that_a_full_disk_ends_is_resumed_when_there_is_space(
    name, tiny_run, tiny_flags, refusal, disk_is_full_at
):
    with disk_is_full_at(name):
        assert f"{name}: no space left on device" in refusal(*tiny_flags, "--name", "full")
    assert list(RUNS.rglob("*.part*")) == []
    keras.utils.clear_session()
    tiny_script.main(["--resume", str(RUNS / "full")])
    assert_equal_runs(tiny_run, RUNS / "full")


def test_a_run_that_a_full_gpu_ends_says_how_to_continue(tiny_run, tiny_flags, monkeypatch, capsys):
    def fail():
        raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor on device:GPU:0")

    after_step(monkeypatch, 35, fail)
    with pytest.raises(SystemExit) as leaving:
        tiny_script.main([*tiny_flags, "--name", "full"])
    assert leaving.value.code == 2
    printed = capsys.readouterr()
    command = "python tiny_script.py --resume outputs/tiny_script/full"
    assert printed.out.splitlines()[-1] == f"continue from step 30 with: {command}"
    assert "tiny_script.py: error: the GPU is out of memory; use smaller" in printed.err
    keras.utils.clear_session()
    tiny_script.main(["--resume", str(RUNS / "full")])
    assert_equal_runs(tiny_run, RUNS / "full")


@pytest.mark.parametrize("name", ["grid.png", "samples.npz"])
def test_samples_on_a_full_disk(name, tiny_run, refusal, disk_is_full_at):
    with disk_is_full_at(name):
        assert "no space left on device" in refusal("--sample", 3)
    assert not (tiny_run / f"generated/{name}").exists()
    assert list(tiny_run.rglob("*.part*")) == []
    tiny_script.main(["--sample", "3"])
    assert (tiny_run / f"generated/{name}").exists()


def test_with_minutes_alone_it_trains_until_they_are_over(tiny_flags, monkeypatch):
    monkeypatch.setattr(tiny_script, "DEFAULT_STEPS", 1)
    monkeypatch.setattr(runs.Schedule, "is_out_of_time", lambda schedule, seconds: len(logged) >= 100)
    logged, log = [], runs.Run.log
    monkeypatch.setattr(runs.Run, "log", lambda run, losses: logged.extend(losses["loss"]) or log(run, losses))
    tiny_script.main([*tiny_flags, "--epochs", "0", "--minutes", "60", "--name", "long"])
    assert (RUNS / "long/checkpoints/step_00000100.npz").exists()


def test_a_run_that_minutes_end_is_complete(tiny_flags, capsys):
    tiny_script.main([*tiny_flags, "--epochs", "1000", "--minutes", "0.005", "--name", "short"])
    assert (RUNS / "short/final.png").exists()
    assert (RUNS / "short/network.keras").exists()
    printed = capsys.readouterr().out
    assert "--minutes 0.005: the time is up; what follows finishes the run\n" in printed
    assert "done: " in printed


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_good_checkpoints(tiny_flags, refusal, monkeypatch):
    original = tiny_script.make_train_step

    def breaks_at_step_26(**arguments):
        step_of = original(**arguments)

        def train_step(pixels, labels, step):
            losses = step_of(pixels, labels, step)
            return {name: tf.where(step == 25, np.nan, loss) for name, loss in losses.items()}

        return train_step

    monkeypatch.setattr(tiny_script, "make_train_step", breaks_at_step_26)
    assert "loss is not finite at step 26; earlier checkpoints are kept in " in refusal(*tiny_flags, "--name", "nan")
    kept = sorted(path.name for path in (RUNS / "nan/checkpoints").iterdir())
    assert kept == ["step_00000010.npz", "step_00000020.npz"]


def test_a_failure_before_the_first_checkpoint_names_none(refusal, tiny_flags, monkeypatch):
    flags = [*tiny_flags, "--learning_rate", "1", "--checkpoint_every", "50"]
    log = runs.Run.log
    monkeypatch.setattr(runs.Run, "log", lambda run, losses: log(run, {"loss": tf.constant([np.nan])}))
    line = refusal(*flags, "--name", "loss")
    assert "loss is not finite at step 1; there is no earlier checkpoint; a smaller --learning_rate may help" in line

    def spoil(run, losses):
        weights = run._saved["network"].trainable_variables[0]
        weights.assign(weights * np.nan)

    monkeypatch.setattr(runs.Run, "log", spoil)
    line = refusal(*flags, "--name", "weights")
    assert "network is not finite after step 50; there is no earlier checkpoint; a smaller --learning_rate" in line


def test_a_warning_is_printed_once_with_its_step(tiny_flags, monkeypatch, capsys):
    log = runs.Run.log
    warnings = {"alike": "the samples are all alike"}
    monkeypatch.setattr(runs.Run, "log", lambda run, losses: log(run, losses) or run.warn(warnings))
    tiny_script.main([*tiny_flags, "--name", "warned"])
    printed = capsys.readouterr().out
    assert printed.count("all alike") == printed.count("step 0: the samples are all alike") == 1


def test_any_number_of_steps_per_call_trains_the_same(tiny_flags, monkeypatch):
    calls = []
    compile_step = devices.Device.compile

    def recorded(device, step):
        take_steps = compile_step(device, step)

        def call(pixels, labels, steps):
            calls.append(len(steps))
            return take_steps(pixels, labels, steps)

        return call

    monkeypatch.setattr(devices.Device, "compile", recorded)
    saved = {}
    for count in (1, 3, 25):
        monkeypatch.setattr(runs, "steps_per_call", lambda rate, count=count: count)
        calls.clear()
        tiny_script.main([*tiny_flags, "--epochs", "2", "--checkpoint_every", "93", "--name", f"calls_{count}"])
        folder = RUNS / f"calls_{count}"
        with np.load(folder / "checkpoints/step_00000186.npz") as checkpoint:
            saved[count] = {name: array for name, array in checkpoint.items() if name != "seconds"}
        saved[count] |= {row["step"]: (row["loss"], row["bias"]) for row in tables.read(folder / "metrics.csv")}
        saved[count] |= {path.name: path.read_bytes() for path in sorted((folder / "samples").iterdir())}
        assert sum(calls) == 186
        assert max(calls) == min(count, 20)  # a sample is due every 20 steps
    for other in (3, 25):
        assert saved[other].keys() == saved[1].keys()
        assert all(np.array_equal(saved[other][name], saved[1][name]) for name in saved[1])


def test_losses_and_grids_for_tensorboard(tiny_flags):
    tiny_script.main([*tiny_flags, "--tensorboard", "--name", "board"])
    (path,) = (RUNS / "board/tensorboard").iterdir()
    found = {}
    for event in tf.compat.v1.train.summary_iterator(str(path)):
        for value in event.summary.value:
            found.setdefault(value.tag, {})[event.step] = tf.make_ndarray(value.tensor)
    assert sorted(found) == ["bias", "loss", "samples"]
    metrics = np.genfromtxt(RUNS / "board/metrics.csv", delimiter=",", names=True)
    assert found["loss"][50] == pytest.approx(float(metrics["loss"]))
    assert sorted(found["samples"]) == [0, 20, 40, 60, 80, STEPS]


def test_data_that_stay_on_the_device_train_the_same(tiny_flags, monkeypatch):
    saved, setup = [], devices.setup
    for gathers_data in (False, True):
        changes = {"gathers_data": gathers_data}
        monkeypatch.setattr(
            devices, "setup", lambda config, changes=changes: dataclasses.replace(setup(config), **changes)
        )
        tiny_script.main([*tiny_flags, "--name", f"device_{gathers_data}"])
        with np.load(RUNS / f"device_{gathers_data}/checkpoints/step_00000093.npz") as checkpoint:
            saved.append({name: array for name, array in checkpoint.items() if name != "seconds"})
    assert all(np.array_equal(saved[0][name], saved[1][name]) for name in saved[0])
