"""A run that was cut anywhere and resumed ends as one that was not, bit for bit."""

import csv
import os
import signal
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers

import dcgan_mnist


@pytest.fixture(autouse=True)
def dropout(monkeypatch):
    """Put Dropout into the discriminator: its random state must survive, too."""
    original = dcgan_mnist.activation
    monkeypatch.setattr(dcgan_mnist, "activation", lambda x: layers.Dropout(0.3)(original(x)))


def outcome(folder):
    """All of a finished run that must not depend on interruptions."""
    newest = max((folder / "checkpoints").glob("*.npz"))
    with np.load(newest) as file:
        arrays = {name: file[name] for name in file.files if name != "seconds"}
    with (folder / "metrics.csv").open() as file:
        rows = [(row["step"], row["generator_loss"], row["discriminator_loss"]) for row in csv.DictReader(file)]
    pictures = {path.name: path.read_bytes() for path in (folder / "samples").iterdir()}
    return arrays, rows, pictures, (folder / "final.png").read_bytes()


def assert_equal_runs(folder, other):
    arrays, *rest = outcome(folder)
    other_arrays, *other_rest = outcome(other)
    assert any(name.startswith("discriminator/") and array.dtype.kind in "iu" for name, array in arrays.items())
    assert arrays.keys() == other_arrays.keys()
    for name, array in arrays.items():
        assert np.array_equal(array, other_arrays[name]), name
    assert rest == other_rest


def test_two_epochs_and_two_resumed_equal_four(tiny_flags):
    folder = Path("outputs/dcgan_mnist")
    dcgan_mnist.main([*tiny_flags, "--epochs", "2", "--name", "straight"])
    dcgan_mnist.main([*tiny_flags, "--epochs", "1", "--name", "resumed"])
    keras.utils.clear_session()
    dcgan_mnist.main(["--resume", "latest", "--epochs", "2"])
    assert len(outcome(folder / "straight")[1]) == 3
    # The shorter run showed its last grid where the longer one shows none.
    (folder / "resumed/samples/step_00000093.png").unlink()
    assert_equal_runs(folder / "straight", folder / "resumed")


@pytest.mark.parametrize(
    ("number", "status", "step"),
    [(signal.SIGINT, 130, 33), (signal.SIGTERM, 143, 33), (signal.SIGINT, 130, 3)],  # of step 3 there is one grid
)
def test_signal_in_the_middle_of_an_epoch(tiny_flags, monkeypatch, capsys, number, status, step):
    folder = Path("outputs/dcgan_mnist")
    dcgan_mnist.main([*tiny_flags, "--name", "straight"])
    log, logged = dcgan_mnist.runs.Run.log, []

    def log_and_interrupt(run, losses):
        log(run, losses)
        logged.append(losses)
        if len(logged) == step:
            os.kill(os.getpid(), number)

    handler = signal.getsignal(number)
    monkeypatch.setattr(dcgan_mnist.runs.Run, "log", log_and_interrupt)
    with pytest.raises(SystemExit) as leaving:
        dcgan_mnist.main([*tiny_flags, "--name", "cut"])
    assert leaving.value.code == status
    assert signal.getsignal(number) is handler
    assert "go on with --resume" in capsys.readouterr().out
    assert (folder / f"cut/checkpoints/step_{step:08d}.npz").exists()
    assert (folder / "cut/samples.gif").exists()
    dcgan_mnist.main(["--resume", str(folder / "cut")])
    assert_equal_runs(folder / "straight", folder / "cut")


def test_signal_after_the_last_step(tiny_flags, monkeypatch, capsys):
    """Nothing is lost, and the exit status tells of it."""
    save_model = dcgan_mnist.runs.checkpoints.save_model

    def save_and_interrupt(path, model):
        save_model(path, model)
        os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch, pytest.raises(SystemExit) as leaving:
        patch.setattr(
            dcgan_mnist.runs.checkpoints, "save_model", lambda *them: patch.undo() or save_and_interrupt(*them)
        )
        dcgan_mnist.main([*tiny_flags, "--name", "late"])
    assert leaving.value.code == 143
    folder = Path("outputs/dcgan_mnist/late")
    assert (folder / "checkpoints/step_00000093.npz").exists()
    assert (folder / "generator.keras").exists()
    assert (folder / "discriminator.keras").exists()
    assert (folder / "samples.gif").exists()


def test_files_after_the_checkpoint_are_taken_back(tiny_flags):
    """As after a kill -9: metrics and grids are ahead of the last checkpoint, and a row is torn."""
    folder = Path("outputs/dcgan_mnist")
    for name in ("straight", "killed"):
        dcgan_mnist.main([*tiny_flags, "--name", name])
    (folder / "killed/checkpoints/step_00000093.npz").unlink()
    with (folder / "killed/metrics.csv").open("a") as file:
        file.write("1,99,3.0,100.0,1.5,0.5\n1,149,4.0,10")
    dcgan_mnist.main(["--resume", str(folder / "killed")])
    assert_equal_runs(folder / "straight", folder / "killed")


def test_with_minutes_alone_it_trains_until_they_are_over(tiny_flags, monkeypatch):
    monkeypatch.setattr(dcgan_mnist, "DEFAULT_STEPS", 1)
    monkeypatch.setattr(dcgan_mnist.runs.Run, "_out_of_time", property(lambda run: run._done >= 100))
    dcgan_mnist.main([*tiny_flags, "--epochs", "0", "--minutes", "60", "--name", "long"])
    assert Path("outputs/dcgan_mnist/long/checkpoints/step_00000100.npz").exists()


def test_minutes_end_a_run_whole(tiny_flags, capsys):
    dcgan_mnist.main([*tiny_flags, "--epochs", "1000", "--minutes", "0.02", "--name", "short"])
    folder = Path("outputs/dcgan_mnist/short")
    assert (folder / "final.png").exists()
    assert (folder / "generator.keras").exists()
    assert "done: " in capsys.readouterr().out
