"""Output folders as people have them: files and links in their place, those of other users, names that are too long."""

import codecs
import contextlib
import os
from pathlib import Path

import pytest
import tiny_script

from common import devices, files, run_folder
from common.errors import UserError

RUNS = Path("outputs/tiny_script")
NOBODY = 65534


def tree(folder="."):
    return sorted(str(path) for path in Path(folder).rglob("*"))


@pytest.fixture
def closed():
    """A context in which a file or folder may not be read, as another user's; for root, who may, as another user."""
    codecs.lookup("cp437")  # which zipfile needs, and the other user may be unable to import

    @contextlib.contextmanager
    def close(path):
        mode, user = path.stat().st_mode, os.geteuid()
        path.chmod(0)
        if user == 0:
            os.seteuid(NOBODY)
        try:
            yield
        finally:
            if user == 0:
                os.seteuid(user)
            path.chmod(mode)

    return close


# In the place of a folder


@pytest.mark.parametrize("kind", ["file", "dangling", "loop", "pipe"])
@pytest.mark.parametrize("place", ["there", "there/tiny_script"])
def test_what_is_in_the_place_of_an_output_folder_is_named_and_left_alone(kind, place, refusal, tiny_flags):
    Path(place).parent.mkdir(exist_ok=True)
    if kind == "file":
        Path(place).touch()
    elif kind == "pipe":
        os.mkfifo(place)
    else:
        Path(place).symlink_to("nowhere" if kind == "dangling" else Path(place).name)
    before = tree()
    line = refusal(*tiny_flags, "--output_dir", "there")
    assert "error: cannot write there/tiny_script: " in line
    assert "exists" not in line
    if kind == "dangling":
        assert f"{place} is not a folder" in line
    assert tree() == before


def test_an_output_folder_behind_a_link(tiny_flags):
    Path("disk").mkdir()
    Path("link").symlink_to("disk")
    tiny_script.main([*tiny_flags, "--output_dir", "link", "--name", "a"])
    tiny_script.main(["--resume", "link/tiny_script/latest", "--epochs", "2"])
    assert Path("disk/tiny_script/a/checkpoints/step_00000186.npz").exists()


@pytest.mark.parametrize("kind", ["file", "dangling", "empty folder"])
def test_a_name_that_is_taken_by_something_else_than_a_run_cannot_be_resumed(kind, refusal, tiny_flags):
    RUNS.mkdir(parents=True)
    {
        "file": Path.touch,
        "dangling": lambda path: path.symlink_to("nowhere"),
        "empty folder": Path.mkdir,
    }[kind](RUNS / "a")
    before = tree()
    assert f"error: {RUNS}/a exists; choose another --name\n" in refusal(*tiny_flags, "--name", "a")
    assert tree() == before


@pytest.mark.parametrize("name", ["x" * 201, "中" * 67])
def test_a_name_that_is_too_long_for_the_parts_of_files(name, refusal, tiny_flags):
    assert "has more than 200 bytes; choose a shorter one" in refusal(*tiny_flags, "--name", name)
    assert tree() == []


# Other users'


@pytest.mark.parametrize(
    ("place", "expected"),
    [
        ("outputs", f"cannot read {RUNS}: permission denied"),
        (RUNS, f"cannot read {RUNS}: permission denied"),
        (RUNS / "tiny", f"{RUNS}/tiny/config.json cannot be read: permission denied"),
        (RUNS / "tiny/config.json", f"{RUNS}/tiny/config.json cannot be read: permission denied"),
        (RUNS / "tiny/checkpoints", f"cannot read {RUNS}/tiny/checkpoints: permission denied"),
        (RUNS / "tiny/checkpoints/step_00000093.npz", "/checkpoints/step_00000093.npz: permission denied"),
    ],
)
@pytest.mark.parametrize("has_link", [True, False])
def test_what_may_not_be_read_is_not_called_missing_or_damaged(
    place, expected, has_link, refusal, tiny_run, closed, contents
):
    if not has_link:
        (RUNS / "latest").unlink()
    before = contents(".")
    with closed(Path(place)):
        assert expected in refusal("--sample", "3")
    assert contents(".") == before


def test_what_may_not_be_written_is_named(refusal, tiny_run, tiny_flags, closed):
    if os.geteuid():
        pytest.skip("only root can act as another user, who may read but not write")
    Path("secret").mkdir()
    before = tree()
    with closed(Path("secret")):
        assert f"cannot write {RUNS}: permission denied" in refusal(*tiny_flags, "--name", "b")
        assert f"cannot write {tiny_run}: permission denied" in refusal("--resume", "latest", "--epochs", 2)
    assert tree() == before


# What is left behind


def test_a_link_that_a_killed_process_had_begun_is_removed_and_latest_is_made_all_the_same():
    RUNS.mkdir(parents=True)
    begun = files.part(RUNS / "latest")  # of an earlier process with this number, as in containers
    begun.symlink_to("gone")
    _, lock = run_folder.create(tiny_script.Config(name="new"), lambda new: None)
    lock.close()
    assert sorted(path.name for path in RUNS.iterdir()) == ["latest", "new"]
    assert (RUNS / "latest").readlink() == Path("new")


def test_a_dream_that_fails_before_its_first_file_leaves_no_folder_and_no_link():
    config, data = tiny_script.Config(), {"name": "picture", "digest": "", "pictures": 1}
    with pytest.raises(UserError, match="fails"), run_folder.open_folder(config, data, devices.setup(config)):
        raise UserError("fails")
    assert list(RUNS.iterdir()) == []
