"""Wrong settings for trained runs, damaged runs, folders that cannot be written: one line each, nothing lost."""

import contextlib
import dataclasses
import errno
import fcntl
import json
import os
import select
import signal
import subprocess
import sys
import types
from datetime import datetime
from pathlib import Path

import keras
import numpy as np
import pytest
import tiny_script
from conftest import STEPS

from common import files, run_folder, saved_runs, tables
from common.errors import UserError


@pytest.fixture
def refused(refusal, contents):
    """A function that checks that flags are refused with these words in the line, and that no file changes."""

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
        refused("there is no run in outputs/tiny_script yet; start one with: python tiny_script.py", *flags.split())


def test_a_folder_that_is_not_a_run(refused):
    Path("other").mkdir()
    for reference in ("other", "nowhere"):
        message = f"{reference} is not a run: it has no config.json; name a run's folder, or latest"
        refused(message, "--resume", reference)
        refused(message, "--sample", 4, "--run", reference)
    refused("/config.json cannot be read: file name too long", "--resume", "x" * 300)


def test_a_run_of_another_script(refused, tiny_run):
    change_config(tiny_run, lambda description: description.update(script="vae"))
    for flags in (["--resume", tiny_run], ["--resume", "latest"], ["--sample", 4]):
        refused("tiny is a run of vae.py, not of tiny_script.py", *flags)


def test_a_run_of_an_earlier_version_is_read_and_its_gone_settings_are_named(tiny_run, capsys):
    change_config(tiny_run, lambda description: description["settings"].update(momentum=0.5, width=3))
    for flags in (["--sample", "3"], ["--resume", str(tiny_run)]):
        tiny_script.main(flags)
        printed = capsys.readouterr().out.splitlines()
        assert printed.count(f"{tiny_run} was made by another version; ignoring its --momentum, --width") == 1
    assert "momentum" not in json.loads((tiny_run / "config.json").read_text())["settings"]


def test_the_link_latest_may_move_while_its_run_continues(tiny_run):
    found = saved_runs.configure(tiny_script.Config, ["--resume", "outputs/tiny_script/latest"], "")
    assert Path(found.resume) == tiny_run


def test_latest_may_be_a_copy_instead_of_a_link(refused, tiny_run):
    (tiny_run.parent / "latest").unlink()
    tiny_run.rename(tiny_run.parent / "latest")
    refused("outputs/tiny_script/latest; leave it out", "--resume", "latest", "--latent_dim", 5)
    _, lock = run_folder.create(tiny_script.Config(name="new"), lambda new: None)
    lock.close()
    assert sorted(path.name for path in tiny_run.parent.iterdir()) == ["latest", "new"]


# Settings


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ("--latent_dim 5", "--latent_dim 5 (the run has 32)"),
        ("--seed 1", "--seed 1 (the run has 0)"),
        ("--learning_rate 0.5", f"--learning_rate 0.5 (the run has {tiny_script.Config.learning_rate})"),
        ("--batch_size 8", "--batch_size 8 (the run has 16)"),
        ("--conditional", "--conditional (the run has --no_conditional)"),
        ("--latent_dim 5 --batch_size 8", "--batch_size 8 (the run has 16), --latent_dim 5 (the run has 32)"),
    ],
)
def test_a_setting_that_contradicts_the_run(refused, tiny_run, flags, words):
    refused(f"{words}: cannot be changed for {tiny_run}", "--resume", "latest", *flags.split())


def test_the_networks_settings_cannot_be_changed_for_sampling(refused, tiny_run):
    refused("--latent_dim 5 (the run has 32): cannot be changed", "--sample", 4, "--latent_dim", 5)


def test_a_run_keeps_its_name(refused, tiny_run):
    refused(f"--name other: {tiny_run} keeps its name, tiny; leave it out", "--resume", "latest", "--name", "other")


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ([], "its last epoch, 1, is over; give more --epochs to continue"),
        (
            ["--minutes", "1e-4", "--epochs", "9"],
            "of --minutes 0.0001, all sessions together; to continue, give more, or --minutes 0",
        ),
    ],
)
def test_a_run_that_is_over_says_so(tiny_run, more, words, capsys):
    tiny_script.main(["--resume", str(tiny_run), *more])
    assert words in capsys.readouterr().out


def test_sampling_allows_no_other_name_or_data(refused, tiny_run):
    refused("--name other (the run has tiny): cannot be changed", "--sample", 4, "--name", "other")
    refused("--data pictures (the run has digits)", "--sample", 4, "--data", "pictures")
    refused("leave it out, or name another run with --run, or train one", "--interpolate", "--epochs", 9)


def test_sampling_needs_neither_the_devices_nor_the_machines_that_trained(tiny_run, monkeypatch):
    change_config(tiny_run, lambda description: description["settings"].update(strategy="multi_worker", jit="on"))
    tiny_script.main(["--sample", "3"])
    change_config(tiny_run, lambda description: description["settings"].update(strategy="auto"))
    monkeypatch.setenv("TF_CONFIG", '{"cluster": {"worker": ["127.0.0.1:1", "127.0.0.1:2"]}}')  # nobody answers there
    tiny_script.main(["--sample", "3"])


def test_labels(refused, tiny_run):
    refused("the run's classes are: none, as it was trained without --conditional", "--sample", 4, "--label", 3)
    refused("--label 3: needs --sample or --interpolate", "--label", 3)
    run, config = saved_runs.SavedRun(tiny_run), tiny_script.Config(conditional=True)
    assert run.labels(config, 12).tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1]
    assert run.labels(dataclasses.replace(config, label="3"), 2).tolist() == [3, 3]
    with pytest.raises(UserError, match="--label x: the run's classes are: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9"):
        run.labels(dataclasses.replace(config, label="x"), 4)


def test_other_data_than_the_run_was_trained_on(refused, tiny_folder, tiny_flags, capsys):
    folder = tiny_folder(count=20, color=False)
    tiny_script.main([*tiny_flags, "--data", str(folder), "--name", "mine"])
    moved = folder.rename(folder.with_name("moved"))
    tiny_script.main(["--resume", "latest", "--data", str(moved)])
    assert "resumed after" in capsys.readouterr().out
    (moved / "left" / "000.png").unlink()
    refused("was trained on other data", "--resume", "outputs/tiny_script/mine", "--data", moved)
    refused("name its data with --data", "--resume", "latest", "--data", "digits")


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
        '{"script": "tiny_script"}',
        '{"script": "tiny_script", "settings": {}}',
        '{"script": "tiny_script", "settings": {}, "data": 3}',
        '{"script": "tiny_script", "settings": [], "data": {}}',
        '{"script": "tiny_script", "settings": {}, "data": {"digest": 3}}',
        "[" * 100_000,
        "\udcff",
    ],
)
def test_a_damaged_config(refused, tiny_run, text):
    (tiny_run / "config.json").write_text(text, errors="surrogateescape")
    refused("outputs/tiny_script/tiny/config.json ", "--resume", tiny_run)
    refused("outputs/tiny_script/tiny/config.json ", "--sample", 4)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("latent_dim", "wide"),
        ("latent_dim", None),
        ("conditional", 1),
        ("data", []),
        ("latent_dim", 0),
        ("latent_dim", 1e30),
        ("latent_dim", 10**30),
        ("precision", "float8"),
        ("precision", ["auto"]),
        ("learning_rate", True),
        ("learning_rate", 10**400),
    ],
)
def test_a_damaged_setting(refused, tiny_run, field, value):
    change_config(tiny_run, lambda description: description["settings"].update({field: value}))
    refused(field, "--resume", tiny_run)
    refused(field, "--sample", 4)


@pytest.mark.parametrize(
    ("entry", "value"),
    [("channels", -1), ("channels", 2), ("channels", True), ("class_names", [1, 2]), ("class_names", [["a"]])],
)
def test_damaged_facts_about_the_data(refused, tiny_run, entry, value):
    change_config(tiny_run, lambda description: description["data"].update({entry: value}))
    for flags in (["--resume", tiny_run], ["--sample", 4]):
        refused(f"config.json is damaged: data.{entry} is {value}", *flags)


def test_a_long_text_in_a_config_makes_no_long_message(tiny_run):
    for change in ({"precision": "x" * 10_000}, {"seed": 10**4000}):
        change_config(tiny_run, lambda description, change=change: description["settings"].update(change))
        with pytest.raises(UserError) as refusal:
            saved_runs.read_config(tiny_script.Config, tiny_run)
        assert len(str(refusal.value)) < 500


def test_a_setting_that_the_config_lacks_is_named_with_the_default_that_replaces_it(tiny_run, capsys):
    def change(description):
        for name in ("latent_dim", "conditional", "output_dir", "interpolate"):  # the last two may always change
            del description["settings"][name]

    change_config(tiny_run, change)
    tiny_script.main(["--sample", "3"])
    lines = capsys.readouterr().out.splitlines()
    line = "config.json lacks settings; continuing with today's defaults: --no_conditional, --latent_dim 32"
    assert lines.count(f"{tiny_run}/{line}") == 1


def checkpoints_of(folder):
    return sorted((folder / "checkpoints").glob("*.npz"))


def test_a_run_without_a_checkpoint(refused, tiny_run):
    for path in checkpoints_of(tiny_run):
        path.unlink()
    line = f"{tiny_run} has no checkpoint yet; wait if it is still being trained, otherwise continue it with --resume"
    refused(f"{line} {tiny_run}", "--sample", 4)


def test_a_run_with_a_truncated_checkpoint_resumes_from_the_one_before_and_ends_alike(tiny_run, capsys):
    older, newest = checkpoints_of(tiny_run)
    with np.load(newest) as file:
        want = {name: file[name] for name in file.files if name not in ("seconds",)}
    newest.write_bytes(newest.read_bytes()[:-100])
    tiny_script.main(["--resume", "latest"])
    output = capsys.readouterr().out
    assert f"{newest} is damaged" in output
    assert "resumed after 90 steps" in output
    assert len(checkpoints_of(tiny_run)) == 2
    with np.load(newest) as file:
        assert all(np.array_equal(file[name], array) for name, array in want.items())
    assert older.exists()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"seconds": None}, "it has no number seconds"),
        ({"seconds": np.array("soon")}, "it has no number seconds"),
        ({"seconds": np.array(np.nan)}, "seconds is not finite"),
        ({"step/000": np.array(-5)}, "its step is -5"),
        ({"step/000": np.array(92.5)}, "it has no number step"),
        ({"step/000": np.array(10**18)}, "its step is 1000000000000000000"),
        ({"step/000": np.array(3)}, "its step is 3"),
        ({"seconds": np.array(1e300)}, "its seconds is 1e+300"),
        ({"generator/000": np.array(np.nan)}, "generator/000 is not finite"),
        ({"pending": np.array([[np.nan]]), "losses": np.array(["loss"])}, "pending is not finite"),
        ({"losses": np.array([1, 2])}, "it lacks the losses"),
        ({"pending": None}, "it lacks the losses"),
        ({"pending": np.zeros((3, 7), np.float32)}, "it has losses of shape (3, 7)"),
    ],
)
@pytest.mark.parametrize("command", [["--resume", "latest"], ["--sample", "3"]])
def test_a_checkpoint_with_impossible_contents_is_replaced_by_the_one_before(tiny_run, capsys, change, reason, command):
    newest = checkpoints_of(tiny_run)[-1]
    arrays = {name: array for name, array in (files.read_npz(newest) | change).items() if array is not None}
    np.savez(newest, **arrays)
    tiny_script.main(command)
    printed = capsys.readouterr().out
    assert f"{newest} is damaged ({reason}" in printed
    assert "resumed after 90 steps" in printed or "--sample" in command


def test_every_checkpoint_damaged(refused, tiny_run):
    for path in checkpoints_of(tiny_run):
        path.write_bytes(path.read_bytes()[:1000])
    for flags in (["--resume", "latest", "--epochs", 2], ["--sample", 4]):
        refused(f"every checkpoint in {tiny_run / 'checkpoints'} is damaged", *flags)


def test_a_checkpoint_of_another_network(refused, tiny_run):
    change_config(tiny_run, lambda description: description["settings"].update(latent_dim=9))
    for flags in (["--resume", "latest", "--epochs", 2], ["--sample", 4]):
        refused(f"step_{STEPS:08d}.npz was made for another network", *flags)


def test_a_file_managers_copy_of_a_grid_is_left_alone(tiny_run):
    copy = tiny_run / "samples" / "step_00000020 copy.png"
    copy.write_bytes(b"")
    tiny_script.main(["--resume", "latest"])
    assert copy.exists()


@pytest.mark.parametrize(
    "row", [b"2,100,\xff\xfe", b"2,100", b"2,100,1,2", b"2,100,abc", b"\0", b"2,-100,1", b"2,1e2,1", b'"', b"2,,1"]
)
def test_of_a_damaged_table_the_rows_before_the_damage_are_kept(row, capsys):
    path = Path("metrics.csv")
    path.write_bytes(b"epoch,step,loss\n1,50,0.5\n" + row + b"\n3,150,0.3\n")
    assert tables.read(path) == [{"epoch": "1", "step": "50", "loss": "0.5"}]
    line = 4 if row == b'"' else 3  # an open quote takes what follows
    assert capsys.readouterr().out == f"{path} is damaged from line {line} on; rows kept: 1\n"


@pytest.mark.parametrize("header", [b"a,b", b"step,step", b"\xff", b""])
def test_of_a_table_with_a_damaged_header_nothing_is_kept(header, capsys):
    Path("metrics.csv").write_bytes(header + b"\n50,0.5\n")
    assert tables.read(Path("metrics.csv")) == []
    assert capsys.readouterr().out == "metrics.csv is damaged from line 1 on; rows kept: 0\n"


def test_a_run_with_a_damaged_table_is_resumed_and_drawn(tiny_run, capsys):
    table = tiny_run / "metrics.csv"
    whole = table.read_bytes()
    table.write_bytes(whole + b"1,60,\xff\n" + b"9" * 200_000 + b"\n")
    tiny_script.main(["--resume", "latest", "--epochs", "2"])
    assert capsys.readouterr().out.count(f"{table} is damaged from line 3 on; rows kept: 1\n") == 1
    assert table.read_bytes().startswith(whole)
    assert len(tables.read(table)) == 3


@pytest.mark.parametrize("name", ["metrics.csv", "config.json"])
@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo])
def test_a_table_or_config_that_is_no_file_is_named_and_never_waited_for(refused, tiny_run, name, make):
    (tiny_run / name).unlink()
    make(tiny_run / name)
    refused(f"{tiny_run / name} cannot be read: not a regular file", "--resume", tiny_run, "--epochs", 2)


def test_a_config_of_gigabytes_is_refused_before_it_is_read(refused, tiny_run):
    with (tiny_run / "config.json").open("wb") as file:
        file.truncate(1 << 33)
    refused("config.json cannot be read: too large, 8,589,934,592 bytes", "--sample", 4)


# Folders that cannot be written


def test_an_output_folder_that_is_a_file(refused, tiny_flags):
    Path("file").touch()
    for output_dir in ("file", "file/below"):
        refused(f"cannot write {output_dir}/tiny_script: not a directory", *tiny_flags, "--output_dir", output_dir)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_an_output_folder_without_permission(refused, tiny_flags):
    Path("closed").mkdir(mode=0o555)
    refused("cannot write closed/tiny_script: permission denied", *tiny_flags, "--output_dir", "closed")


def test_names_that_exist_or_are_not_allowed(refused, tiny_run, tiny_flags):
    refused(f"{tiny_run} exists; continue it with --resume {tiny_run}", *tiny_flags, "--name", "tiny")
    for name in ("latest", "a/b", "..", ".", ".hidden", "a b", "a:b", "a\u202eb", "*"):
        shown = name.replace("\u202e", "\\u202e")
        refused(f"--name {shown}: must be a plain file name", *tiny_flags, "--name", name)
    refused("--name a b\\x1b[1m: must be a plain file name of letters, digits", *tiny_flags, "--name", "a\nb\x1b[1m")


def test_runs_of_the_same_second_get_different_names(monkeypatch):
    second = datetime(2026, 11, 22, 16, 19, 15)
    monkeypatch.setattr(run_folder, "datetime", types.SimpleNamespace(now=lambda: second))
    names = []
    for _ in range(3):
        folder, lock = run_folder.create(tiny_script.Config(), lambda new: None)
        lock.close()
        names.append(folder.name)
    assert names == ["2026-11-22_16-19-15", "2026-11-22_16-19-15_2", "2026-11-22_16-19-15_3"]


@contextlib.contextmanager
def full_disk(folder):
    """Leave room for 16,000 bytes on the disk."""
    room = os.statvfs(folder).f_bavail * os.statvfs(folder).f_frsize
    filler = folder / "filler"
    filler.write_bytes(bytes(room - 16_000))
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
    with full_disk(Path("outputs")) if shortage == "full disk" else limited_file_size(16_000):
        line = refusal("--resume", "latest", "--epochs", 2, "--sample_every", 1000)
        assert "cannot write outputs/tiny_script/tiny/checkpoints/step_00000100.npz: " in line
        assert ("no space left on device" if shortage == "full disk" else "file too large") in line
    after = contents(tiny_run)
    assert after.keys() == before.keys()
    changed = {Path(path).name for path in before if after[path] != before[path]}
    assert changed <= {"config.json", "metrics.csv"}  # what was done after the checkpoint
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers
    assert [lock.closed for lock in locks] == [True]


def test_no_room_for_the_finished_networks(refusal, tiny_run, contents, monkeypatch):
    def save(model, path):
        Path(path).write_bytes(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(keras.Model, "save", save)
    before = contents(tiny_run)
    assert f"cannot write {tiny_run}/network.keras: no space left on device" in refusal("--resume", "latest")
    assert contents(tiny_run) == before


# Several processes


def test_file_systems_without_locks(tiny_run, monkeypatch):
    def flock(file, operation):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", flock)
    tiny_script.main(["--resume", "latest"])


def test_a_run_in_use_by_another_process_is_not_resumed(refused, tiny_run):
    hold = "import fcntl, sys; f = open(sys.argv[1], 'wb'); fcntl.flock(f, fcntl.LOCK_EX); print(flush=True); input()"
    command = [sys.executable, "-c", hold, tiny_run / ".lock"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        holder.stdout.readline()
        refused(f"{tiny_run} is in use by another process", "--resume", "latest", "--epochs", 2)
        holder.stdin.close()


def test_a_run_of_the_same_name_that_appears_at_the_last_moment_is_left_alone(refusal, tiny_flags, monkeypatch):
    part, folder = files.part, Path("outputs/tiny_script/same")

    def lose_the_race(path):
        folder.mkdir(exist_ok=True)
        (folder / "config.json").write_text("the winner's")
        return part(path)

    monkeypatch.setattr(files, "part", lose_the_race)
    assert f"{folder} exists; continue it with" in refusal(*tiny_flags, "--name", "same")
    assert list(folder.parent.iterdir()) == [folder]
    assert [path.read_text() for path in folder.iterdir()] == ["the winner's"]


@pytest.mark.parametrize("name", ["same", ""])
@pytest.mark.parametrize("renames_folders", [True, False])
def test_of_several_processes_with_the_same_name_one_wins_and_without_a_name_all(name, renames_folders, monkeypatch):
    """They are forked and only make the folder: ready when all have started, they race for it."""
    second = datetime(2026, 11, 22, 16, 19, 15)
    monkeypatch.setattr(run_folder, "datetime", types.SimpleNamespace(now=lambda: second))
    if not renames_folders:
        monkeypatch.setattr(Path, "rename", refusing(errno.EACCES))
    children, starts = {}, []
    for _ in range(8):
        read_end, write_end = os.pipe()
        child = os.fork()
        if not child:
            select.select([read_end], [], [])
            status = 1
            with contextlib.suppress(BaseException):
                try:
                    run_folder.create(tiny_script.Config(name=name), lambda new: (new / "config.json").touch())
                    status = 0
                except UserError as error:
                    status = 2 if "outputs/tiny_script/same exists" in str(error) else 3
            os._exit(status)
        children[child] = read_end
        starts.append(write_end)
    for write_end in starts:
        os.write(write_end, b"!")
    statuses = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    for end in (*children.values(), *starts):
        os.close(end)
    found = sorted(path.name for path in Path("outputs/tiny_script").iterdir())
    stamps = ["2026-11-22_16-19-15", *(f"2026-11-22_16-19-15_{number}" for number in range(2, 9))]
    assert sorted(statuses) == ([0, *[2] * 7] if name else [0] * 8)
    assert found == (["latest", "same"] if name else [*stamps, "latest"])
    assert all(Path("outputs/tiny_script", it, "config.json").exists() for it in found)


# File systems that offer less than a disk


def refusing(code):
    def refuse(*arguments, **options):
        raise OSError(code, os.strerror(code))

    return refuse


@pytest.mark.parametrize(
    ("where", "name", "code"),
    [
        (Path, "rename", errno.EACCES),  # of folders; files are moved by Path.replace
        (Path, "chmod", errno.EPERM),
        (os, "fsync", errno.EINVAL),
        (Path, "symlink_to", errno.EPERM),
    ],
)
def test_what_a_file_system_refuses_is_done_in_another_way_or_passed_over(tiny_flags, monkeypatch, where, name, code):
    monkeypatch.setattr(where, name, refusing(code))
    tiny_script.main([*tiny_flags, "--name", "odd", "--sample_every", "1000"])
    tiny_script.main(["--resume", "outputs/tiny_script/odd", "--epochs", "2"])
    found = sorted(path.name for path in Path("outputs/tiny_script").iterdir())
    assert found == (["odd"] if name == "symlink_to" else ["latest", "odd"])


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EDQUOT])
def test_a_disk_that_is_full_only_when_it_writes_is_not_passed_over(monkeypatch, code):
    monkeypatch.setattr(os, "fsync", refusing(code))
    with pytest.raises(UserError, match="cannot write file: "), files.atomic_write(Path("file")):
        pass


def test_numbers_that_cannot_be_mapped_are_read(monkeypatch):
    np.arange(5, dtype=np.uint8).tofile("numbers")
    assert isinstance(files.map_array(Path("numbers"), np.uint8), np.memmap)
    monkeypatch.setattr(np, "memmap", refusing(errno.ENODEV))
    assert files.map_array(Path("numbers"), np.uint8).tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("umask", [0o002, 0o022, 0o077])
def test_permissions_are_those_of_the_umask(umask, tiny_flags):
    before = os.umask(umask)
    try:
        folder, lock = run_folder.create(tiny_script.Config(), lambda new: (new / "samples").mkdir())
        lock.close()
        files.write_json(folder / "config.json", {})
    finally:
        os.umask(before)
    for path in (folder, folder / "samples"):
        assert path.stat().st_mode & 0o777 == 0o777 & ~umask
    assert (folder / "config.json").stat().st_mode & 0o777 == 0o666 & ~umask


# What killed processes leave behind


def part_of(process, path, machine=None):
    return path.with_name(f".{path.name}.{machine or files._machine()}-{process}.part")


@pytest.mark.parametrize("command", [["--resume", "latest"], ["--sample", "3"]])
def test_the_parts_of_killed_processes_are_removed_by_the_next_command_those_of_living_ones_are_not(tiny_run, command):
    with subprocess.Popen([sys.executable, "-c", "pass"]) as dead:
        pass
    living = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    (tiny_run / "generated").mkdir()
    target = tiny_run / "generated/samples.npz"
    kept = [part_of(living.pid, target), part_of(dead.pid, target, "01234567")]
    gone = [part_of(dead.pid, target), part_of(os.getpid(), target), part_of(1, target, "76543210")]
    gone += [tiny_run / "checkpoints/.step_00000093.npz.1.part"]  # as earlier versions named them
    gone += [part_of(dead.pid, tiny_run / "network").with_suffix(".part.keras")]
    for path in (*kept, *gone):
        path.touch()
    for old in gone[2:4]:  # of another machine, or of an unknown process
        os.utime(old, (0, 0))
    tiny_script.main(command)
    living.communicate(b"")
    assert [path for path in kept if not path.exists()] == []
    assert [path for path in gone if path.exists()] == []


def test_a_folder_that_a_killed_process_had_begun_is_removed_by_the_next_run():
    with subprocess.Popen([sys.executable, "-c", "pass"]) as dead:
        pass
    begun = part_of(dead.pid, Path("outputs/tiny_script/begun"))
    (begun / "samples").mkdir(parents=True)
    _, lock = run_folder.create(tiny_script.Config(name="new"), lambda new: None)
    lock.close()
    assert sorted(path.name for path in begun.parent.iterdir()) == ["latest", "new"]
