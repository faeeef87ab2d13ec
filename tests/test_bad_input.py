"""Wrong settings for trained runs, damaged runs, folders that cannot be written: one line each, and nothing lost."""

import contextlib
import errno
import fcntl
import json
import os
import signal
import subprocess
import sys
import tempfile
import types
from datetime import datetime
from pathlib import Path

import keras
import numpy as np
import pytest

import dcgan_mnist
from common import files, runs, stored

ROOT = Path(dcgan_mnist.__file__).parent


@pytest.fixture
def refused(refusal, contents):
    """A function that checks that flags are refused with some words in the line, and that no file is changed by it."""

    def check(words, *flags):
        before = contents(".")
        line = refusal(*flags)
        assert words in line
        after = contents(".")
        assert after.keys() == before.keys()
        assert after == before

    return check


def change_config(folder, change):
    path = folder / "config.json"
    description = json.loads(path.read_text())
    change(description)
    path.write_text(json.dumps(description))


# Which run


def test_no_run_yet(refused):
    for flags in ("--resume latest", "--sample 4", "--interpolate"):
        refused("there is no run in outputs/dcgan_mnist yet; start one with: python dcgan_mnist.py", *flags.split())


def test_a_folder_that_is_no_run(refused):
    Path("other").mkdir()
    for reference in ("other", "nowhere", "x" * 300):
        refused(f"{reference} holds no run: no config.json in it", "--resume", reference)
        refused(f"{reference} holds no run: no config.json in it", "--sample", 4, "--run", reference)


def test_a_run_of_another_script(refused, tiny_run):
    change_config(tiny_run, lambda description: description.update(script="vae"))
    for flags in (["--resume", tiny_run], ["--resume", "latest"], ["--sample", 4]):
        refused("tiny is a run of vae.py, not of dcgan_mnist.py", *flags)


def test_a_run_of_another_version(refused, tiny_run):
    change_config(tiny_run, lambda description: description["settings"].update(momentum=0.5))
    refused("was made by another version of dcgan_mnist.py, with --momentum", "--resume", tiny_run)


def test_the_link_latest_may_move_while_its_run_goes_on(tiny_run):
    found = stored.configure(dcgan_mnist.Config, ["--resume", "outputs/dcgan_mnist/latest"], "")
    assert Path(found.resume) == tiny_run


def test_latest_may_be_a_copy_instead_of_a_link(refused, tiny_run):
    (tiny_run.parent / "latest").unlink()
    tiny_run.rename(tiny_run.parent / "latest")
    refused("outputs/dcgan_mnist/latest; leave it out", "--resume", "latest", "--generator_width", 5)


# Settings


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ("--generator_width 5", "--generator_width 5 (the run has 4)"),
        ("--seed 1", "--seed 1 (the run has 0)"),
        ("--learning_rate 0.5", f"--learning_rate 0.5 (the run has {dcgan_mnist.Config.learning_rate})"),
        ("--batch_size 8", "--batch_size 8 (the run has 16)"),
        ("--conditional", "--conditional True (the run has False)"),
        ("--generator_width 5 --batch_size 8", "--batch_size 8 (the run has 16), --generator_width 5 (the run has 4)"),
    ],
)
def test_a_setting_that_contradicts_the_run(refused, tiny_run, flags, words):
    refused(f"{words}: cannot be changed for {tiny_run}", "--resume", "latest", *flags.split())


def test_the_networks_settings_cannot_be_changed_for_sampling(refused, tiny_run):
    refused("--generator_width 5 (the run has 4): cannot be changed", "--sample", 4, "--generator_width", 5)


def test_a_run_keeps_its_name(refused, tiny_run):
    refused(f"--name other: {tiny_run} keeps its name, tiny; leave it out", "--resume", "latest", "--name", "other")


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ([], "its epochs, 1, are over; to train on give more --epochs"),
        (["--minutes", "1e-4", "--epochs", "9"], "its 0.0001 minutes are over; to train on give more --minutes"),
    ],
)
def test_a_run_that_is_over_says_so(tiny_run, more, words, capsys):
    dcgan_mnist.main(["--resume", str(tiny_run), *more])
    assert words in capsys.readouterr().out


def test_sampling_does_not_train_and_so_knows_no_other_name_or_data(refused, tiny_run):
    refused("--name other (the run has tiny): cannot be changed", "--sample", 4, "--name", "other")
    refused("--data pictures (the run has digits)", "--sample", 4, "--data", "pictures")
    refused("leave it out, or name another run by --run, or train one", "--interpolate", "--epochs", 9)


def test_sampling_needs_neither_the_devices_nor_the_machines_that_trained(tiny_run, monkeypatch):
    change_config(tiny_run, lambda description: description["settings"].update(strategy="multi_worker", jit="on"))
    dcgan_mnist.main(["--sample", "3"])
    change_config(tiny_run, lambda description: description["settings"].update(strategy="auto"))
    monkeypatch.setenv("TF_CONFIG", '{"cluster": {"worker": ["127.0.0.1:1", "127.0.0.1:2"]}}')  # where nobody answers
    dcgan_mnist.main(["--sample", "3"])


def test_labels(refused, tiny_run):
    refused("the run's classes are: none, as it was trained without --conditional", "--sample", 4, "--label", 3)
    change_config(tiny_run, lambda description: description["settings"].update(conditional=True))
    refused("--label: chooses what --sample or --interpolate draws", "--label", 3)
    refused("--label x: the run's classes are: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9", "--sample", 4, "--label", "x")


def test_other_data_than_the_run_was_trained_on(refused, tiny_folder, tiny_flags, capsys):
    folder = tiny_folder(count=20, color=False)
    dcgan_mnist.main([*tiny_flags, "--data", str(folder), "--name", "mine"])
    moved = folder.rename(folder.with_name("moved"))
    dcgan_mnist.main(["--resume", "latest", "--data", str(moved)])
    assert "resumed after" in capsys.readouterr().out
    (moved / "left" / "000.png").unlink()
    refused("was trained on other data", "--resume", "outputs/dcgan_mnist/mine", "--data", moved)
    refused("--data can name the former", "--resume", "latest", "--data", "digits")


def test_machines_that_cannot_be_read(refused, tiny_flags, monkeypatch):
    for machines in ("{", "[]"):
        monkeypatch.setenv("TF_CONFIG", machines)
        refused("the environment variable TF_CONFIG cannot be read", *tiny_flags)
    for machines in ('{"cluster": {"worker": ["127.0.0.1:1"]}}', '{"cluster": ["127.0.0.1:1"]}'):
        monkeypatch.setenv("TF_CONFIG", machines)
        refused("the environment variable TF_CONFIG names no cluster and task", *tiny_flags)


# Damaged runs


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        "{}",
        '{"script": "dcgan_mnist"}',
        '{"script": "dcgan_mnist", "settings": {}}',
        '{"script": "dcgan_mnist", "settings": [], "data": {}}',
        '{"script": "dcgan_mnist", "settings": {}, "data": {"digest": 3}}',
        "[" * 100_000,
        "\udcff",
    ],
)
def test_a_damaged_config(refused, tiny_run, text):
    (tiny_run / "config.json").write_text(text, errors="surrogateescape")
    refused("outputs/dcgan_mnist/tiny/config.json ", "--resume", tiny_run)
    refused("outputs/dcgan_mnist/tiny/config.json ", "--sample", 4)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("generator_width", "wide"),
        ("generator_width", None),
        ("conditional", 1),
        ("data", []),
        ("generator_width", 0),
        ("precision", "float8"),
    ],
)
def test_a_damaged_setting(refused, tiny_run, field, value):
    change_config(tiny_run, lambda description: description["settings"].update({field: value}))
    refused(field, "--resume", tiny_run)
    refused(field, "--sample", 4)


def checkpoints_of(folder):
    return sorted((folder / "checkpoints").glob("*.npz"))


def test_a_run_without_a_checkpoint(refused, tiny_run):
    for path in checkpoints_of(tiny_run):
        path.unlink()
    refused(f"{tiny_run} has no checkpoint yet; train it further with --resume {tiny_run}", "--sample", 4)


def test_from_a_truncated_checkpoint_the_run_falls_back_and_ends_the_same(tiny_run, capsys):
    older, newest = checkpoints_of(tiny_run)
    with np.load(newest) as file:
        want = {name: file[name] for name in file.files if name not in ("seconds",)}
    newest.write_bytes(newest.read_bytes()[:-100])
    dcgan_mnist.main(["--resume", "latest"])
    output = capsys.readouterr().out
    assert f"{newest} is damaged" in output
    assert "resumed after 90 steps" in output
    assert len(checkpoints_of(tiny_run)) == 2
    with np.load(newest) as file:
        assert all(np.array_equal(file[name], array) for name, array in want.items())
    assert older.exists()


def test_every_checkpoint_damaged(refused, tiny_run):
    for path in checkpoints_of(tiny_run):
        path.write_bytes(path.read_bytes()[:1000])
    for flags in (["--resume", "latest", "--epochs", 2], ["--sample", 4]):
        refused(f"every checkpoint in {tiny_run / 'checkpoints'} is damaged", *flags)


def test_a_checkpoint_of_another_network(refused, tiny_run):
    change_config(tiny_run, lambda description: description["settings"].update(latent_dim=9))
    for flags in (["--resume", "latest", "--epochs", 2], ["--sample", 4]):
        refused("step_00000093.npz was made for another network", *flags)


def test_a_file_managers_copy_of_a_grid_is_left_alone(tiny_run):
    copy = tiny_run / "samples" / "step_00000020 copy.png"
    copy.write_bytes(b"")
    dcgan_mnist.main(["--resume", "latest"])
    assert copy.exists()


def test_damaged_metrics(refused, tiny_run):
    (tiny_run / "metrics.csv").write_text("step\nx\n")
    refused(f"{tiny_run / 'metrics.csv'} is damaged", "--resume", "latest")


# Folders that cannot be written


def test_an_output_folder_that_is_a_file(refused, tiny_flags):
    Path("file").touch()
    for output_dir in ("file", "file/below"):
        refused(f"cannot write {output_dir}/dcgan_mnist: not a directory", *tiny_flags, "--output_dir", output_dir)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_an_output_folder_without_permission(refused, tiny_flags):
    Path("closed").mkdir(mode=0o555)
    refused("cannot write closed/dcgan_mnist: permission denied", *tiny_flags, "--output_dir", "closed")


def test_names_that_are_taken_or_none(refused, tiny_run, tiny_flags):
    refused(f"{tiny_run} exists; go on with it by --resume {tiny_run}", *tiny_flags, "--name", "tiny")
    for name in ("latest", "a/b", "..", ".", ".hidden"):
        refused(f"--name {name}: must be a plain name", *tiny_flags, "--name", name)
    refused("file name too long", *tiny_flags, "--name", "x" * 300)


def test_runs_of_the_same_second_get_names_of_their_own(monkeypatch):
    second = datetime(2026, 11, 22, 16, 19, 15)
    monkeypatch.setattr(runs, "datetime", types.SimpleNamespace(now=lambda: second))
    names = []
    for _ in range(3):
        folder, lock = runs.create_folder(dcgan_mnist.Config(), lambda new: None)
        lock.close()
        names.append(folder.name)
    assert names == ["2026-11-22_16-19-15", "2026-11-22_16-19-15_2", "2026-11-22_16-19-15_3"]


@contextlib.contextmanager
def full_disk(folder):
    """The disk has room for 30,000 bytes more."""
    room = os.statvfs(folder).f_bavail * os.statvfs(folder).f_frsize
    filler = folder / "filler"
    filler.write_bytes(bytes(room - 30_000))
    try:
        yield
    finally:
        filler.unlink()


@pytest.fixture
def small_disk():
    Path("outputs").mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", "outputs"]
    try:
        mounted = subprocess.run(mount, capture_output=True).returncode == 0
    except FileNotFoundError:
        mounted = False
    if not mounted:
        pytest.skip("a small disk cannot be mounted here")
    where = Path("outputs").resolve()
    yield
    subprocess.run(["umount", "--lazy", where], check=True)  # even if a failed test left a file open


@pytest.mark.parametrize("shortage", ["limited file size", "full disk"])
def test_no_room_for_a_checkpoint(request, refusal, contents, limited_file_size, monkeypatch, shortage):
    if shortage == "full disk":
        request.getfixturevalue("small_disk")
    tiny_run = request.getfixturevalue("tiny_run")
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    before, locks, lock = contents(tiny_run), [], files.lock
    monkeypatch.setattr(files, "lock", lambda folder: locks.append(lock(folder)) or locks[-1])
    with full_disk(Path("outputs")) if shortage == "full disk" else limited_file_size(30_000):
        line = refusal("--resume", "latest", "--epochs", 2, "--sample_every", 1000)
        assert "cannot write outputs/dcgan_mnist/tiny/checkpoints/step_00000100.npz: " in line
        assert ("no space left on device" if shortage == "full disk" else "file too large") in line
    after = contents(tiny_run)
    assert after.keys() == before.keys()
    changed = {Path(path).name for path in before if after[path] != before[path]}
    assert changed <= {"config.json", "metrics.csv"}  # in them is what was done after the checkpoint
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers
    assert [lock.closed for lock in locks] == [True]


def test_no_room_for_the_finished_networks(refusal, tiny_run, contents, monkeypatch):
    def save(model, path):
        Path(path).write_bytes(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(keras.Model, "save", save)
    before = contents(tiny_run)
    assert f"cannot write {tiny_run}/generator.keras: no space left on device" in refusal("--resume", "latest")
    assert contents(tiny_run) == before


# Several processes


def test_file_systems_without_locks(tiny_run, monkeypatch):
    def flock(file, operation):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", flock)
    dcgan_mnist.main(["--resume", "latest"])


def test_a_run_in_use_by_another_process_is_not_resumed(refused, tiny_run):
    hold = "import fcntl, sys; f = open(sys.argv[1], 'wb'); fcntl.flock(f, fcntl.LOCK_EX); print(flush=True); input()"
    command = [sys.executable, "-c", hold, tiny_run / ".lock"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        holder.stdout.readline()
        refused(f"{tiny_run} is in use by another process", "--resume", "latest", "--epochs", 2)
        holder.stdin.close()


def test_a_run_of_the_same_name_that_appears_at_the_last_moment_is_left_alone(refusal, tiny_flags, monkeypatch):
    make, folder = tempfile.mkdtemp, Path("outputs/dcgan_mnist/same")

    def lose_the_race(**options):
        folder.mkdir()
        (folder / "config.json").write_text("the winner's")
        return make(**options)

    monkeypatch.setattr(tempfile, "mkdtemp", lose_the_race)
    assert f"{folder} exists; go on with it by" in refusal(*tiny_flags, "--name", "same")
    assert list(folder.parent.iterdir()) == [folder]
    assert [path.read_text() for path in folder.iterdir()] == ["the winner's"]


def test_of_two_processes_with_the_same_name_one_wins(tiny_flags, tmp_path):
    wait = "import sys, dcgan_mnist; print('ready', flush=True); sys.stdin.readline(); dcgan_mnist.main()"
    command = [sys.executable, "-c", wait, *tiny_flags, "--name", "same"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    racers = [subprocess.Popen(command, env=environment, text=True, **pipes) for _ in range(2)]
    for racer in racers:
        assert racer.stdout.readline() == "ready\n"
    for racer in racers:
        racer.stdin.write("\n")
        racer.stdin.flush()
    outputs = [racer.communicate() for racer in racers]
    codes = [racer.returncode for racer in racers]
    assert sorted(codes) == [0, 2], outputs
    lost = outputs[codes.index(2)][1].splitlines()
    assert [line for line in lost if line.startswith("dcgan_mnist.py: error: ")] == lost[-1:]
    assert "outputs/dcgan_mnist/same exists" in lost[-1]
    assert sorted(path.name for path in Path("outputs/dcgan_mnist").iterdir()) == ["latest", "same"]
    assert len(checkpoints_of(Path("outputs/dcgan_mnist/same"))) == 2
