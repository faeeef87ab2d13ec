"""What native Windows lacks or refuses, imitated: no fcntl, few links, no renaming or deleting of open files."""

import ast
import dataclasses
import os
import signal
from pathlib import Path

import pytest
import tiny_script
from conftest import ROOT

from common import files, flags, interruption, run_folder, saved_runs
from common.errors import UserError

UNIX_ONLY = {"curses", "fcntl", "grp", "posix", "pty", "pwd", "resource", "syslog", "termios", "tty"}


def refused(*arguments, **options):
    raise PermissionError(13, "Access is denied")


def is_open(path: Path) -> bool:
    links = [Path("/proc/self/fd", number) for number in os.listdir("/proc/self/fd")]  # noqa: PTH208 - names only
    return os.path.realpath(path) in {os.path.realpath(it) for it in links}


@pytest.fixture
def windows(monkeypatch):
    """Imitates what of Windows concerns files and signals; a function that admits links, or refuses them again."""

    def unless_open(name):
        original = getattr(Path, name)

        def act(path, *arguments, **options):
            if not path.is_symlink() and any(map(is_open, (path, *map(Path, arguments)))):
                refused()
            if name == "replace" and Path(*arguments).is_dir():
                refused()
            return original(path, *arguments, **options)

        monkeypatch.setattr(Path, name, act)

    symlink_to = Path.symlink_to
    monkeypatch.setattr(files, "fcntl", None)
    monkeypatch.setattr(Path, "symlink_to", refused)
    monkeypatch.setattr(interruption, "SIGNALS", (signal.SIGINT, signal.SIGTERM))
    for name in ("sched_getaffinity", "sysconf", "getuid", "kill"):
        monkeypatch.delattr(os, name, raising=False)
    if Path("/proc/self/fd").exists():
        for name in ("replace", "rename", "unlink"):
            unless_open(name)
    return lambda are_admitted: monkeypatch.setattr(Path, "symlink_to", symlink_to if are_admitted else refused)


def test_modules_that_only_unix_has_are_imported_only_inside_try():
    for path in (
        *ROOT.glob("*.py"),
        *(it for folder in ("common", "blocks", "evaluation") for it in (ROOT / folder).glob("*.py")),
    ):
        statements = ast.parse(path.read_text(encoding="utf-8")).body
        names = [it.name for node in statements if isinstance(node, ast.Import) for it in node.names]
        assert not UNIX_ONLY & set(names), path


def test_a_run_is_trained_resumed_and_sampled(tiny_flags, windows):
    tiny_script.main([*tiny_flags, "--name", "first"])
    tiny_script.main([*tiny_flags, "--name", "second"])
    os.utime("outputs/tiny_script/first/config.json", (0, 0))
    tiny_script.main(["--resume", "latest", "--epochs", "2"])
    tiny_script.main(["--sample", "4"])
    assert Path("outputs/tiny_script/second/generated/grid.png").exists()
    assert not list(Path("outputs").rglob("*.part*"))


def test_latest_leads_to_the_newest_run_where_a_link_to_a_folder_cannot_be_replaced(windows):
    windows(True)
    for name in ("first", "second"):
        Path("runs", name).mkdir(parents=True)
        run_folder._link_latest(Path("runs", name))
    assert Path("runs/latest").readlink() == Path("second")
    assert sorted(os.listdir("runs")) == ["first", "latest", "second"]  # noqa: PTH208 - names only


def test_a_link_to_an_older_run_is_removed_where_no_new_one_can_be_made(tiny_flags, windows):
    windows(True)
    tiny_script.main([*tiny_flags, "--name", "first"])
    os.utime("outputs/tiny_script/first/config.json", (0, 0))
    windows(False)
    tiny_script.main([*tiny_flags, "--name", "second"])
    assert not Path("outputs/tiny_script/latest").is_symlink()
    assert saved_runs.configure(tiny_script.Config, ["--sample", "1"], "").run == "outputs/tiny_script/second"


@pytest.mark.parametrize("attempts", [3, 1000])
def test_a_file_that_another_program_has_open_is_replaced_when_that_is_over(monkeypatch, windows, attempts):
    replace, left, slept = Path.replace, [attempts], []

    def busy(path, target):
        left[0] -= 1
        return refused() if left[0] > 0 else replace(path, target)

    monkeypatch.setattr(Path, "replace", busy)
    monkeypatch.setattr(files.time, "sleep", slept.append)
    Path("old").write_text("old")
    if attempts == 3:
        files.write_text(Path("old"), "new")
        assert (Path("old").read_text(), len(slept)) == ("new", 2)
    else:
        with pytest.raises(UserError, match="cannot write old: renaming its part was refused: access is denied"):
            files.write_text(Path("old"), "new")
        assert (Path("old").read_text(), sum(slept)) == ("old", pytest.approx(1.0))


@dataclasses.dataclass(frozen=True)
class Paths:
    names: tuple[str, ...]


@pytest.mark.parametrize(
    ("given", "expected"), [("*.png", ["b[1].png", "c.png"]), ("b[1].png", ["b[1].png"]), ("*.jpg", ["*.jpg"])]
)
def test_patterns_that_the_shell_leaves_as_they_are_name_files(monkeypatch, given, expected):
    for name in ("c.png", "b[1].png"):
        Path(name).touch()
    assert flags.expand_paths(Paths((given,))).names == (given,)  # elsewhere the shell has the last word
    monkeypatch.setattr(flags, "SHELL_EXPANDS", False)
    assert list(flags.expand_paths(Paths((given,))).names) == expected


def test_a_download_that_fails_leaves_no_part(windows):
    with pytest.raises(RuntimeError), files.growing(Path("file"), seconds=1, keep=False) as file:
        file.write(b"beginning")
        raise RuntimeError
    assert not list(Path().iterdir())
