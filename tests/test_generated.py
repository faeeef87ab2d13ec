"""Results of a trained run: in parts that fit into memory, in any folder, and never lost because of a file."""

import os
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import tiny_script

from common import cli, files, generated

RESULTS = {"grid.png", "samples.npz", "walk.gif", "walk.png"}


@pytest.fixture
def closed_run(tiny_run):
    """A run into which nothing can be written, also by root: a file is in the place of generated/."""
    (tiny_run / "generated").touch()
    return tiny_run


def samples_of(folder):
    with np.load(folder / "samples.npz", allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def test_results_go_to_another_folder_which_is_made(closed_run, contents, monkeypatch, tmp_path, capsys):
    before = contents(closed_run)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    tiny_script.main(["--sample", "5", "--interpolate", "--to", "~/new/results"])
    folder = tmp_path / "home/new/results"
    assert {path.name for path in folder.iterdir()} == RESULTS
    assert contents(closed_run) == before
    assert f"see {folder / 'grid.png'}, walk.gif, walk.png\n" in capsys.readouterr().out


def test_another_folder_needs_a_use_of_a_run(refusal, tiny_flags, tiny_run):
    assert "--to there: needs --sample or another use of the run" in refusal(*tiny_flags, "--to", "there")
    assert "--to there: needs --sample or another use" in refusal("--resume", tiny_run, "--to", "there")
    assert "--to '': needs a value" in refusal("--sample", 3, "--to=")
    assert not Path("there").exists()


def test_the_folder_of_results_is_cleared_of_what_killed_commands_left_and_of_nothing_else(tiny_run):
    with subprocess.Popen([sys.executable, "-c", "pass"]) as dead:
        pass
    folder = Path("mine")
    folder.mkdir()
    gone = folder / f".samples.npz.{files._machine()}-{dead.pid}.part"
    kept = [folder / ".video.mp4.part", folder / "samples.npz.part", folder / ".part"]
    for path in (gone, *kept):
        path.touch()
        os.utime(path, (0, 0))
    tiny_script.main(["--sample", "3", "--to", "mine"])
    assert not gone.exists()
    assert all(path.exists() for path in kept)


def test_results_that_cannot_be_written_are_named_in_one_line_with_what_to_do(closed_run, refusal, capsys):
    line = refusal("--sample", 5, "--interpolate")
    assert f"cannot write samples.npz, grid.png, walk.gif, walk.png in {closed_run}/generated: file exists; " in line
    assert line.endswith("; name another folder with --to\n")


def test_on_a_full_disk_what_fits_is_written_and_the_rest_is_named(tiny_run, refusal, limited_file_size, capsys):
    with limited_file_size(150_000):
        line = refusal("--sample", 8000)
    assert f"cannot write samples.npz in {tiny_run}/generated: file too large; name another folder with --to" in line
    assert [path.name for path in (tiny_run / "generated").iterdir()] == ["grid.png"]


@pytest.mark.parametrize("flags", [[], ["--conditional"]])
def test_samples_do_not_depend_on_the_parts_in_which_they_are_made(tiny_flags, monkeypatch, flags):
    tiny_script.main([*tiny_flags, *flags])
    found = []
    for size in (500, 750, 1500):
        monkeypatch.setattr(generated, "PART", size)
        tiny_script.main(["--sample", "1201", "--seed", "3", "--to", f"parts_{size}"])
        found.append(samples_of(Path(f"parts_{size}")))
    assert found[0]["images"].shape == (1201, 8, 8, 1)
    assert found[0]["images"].dtype == np.uint8
    if flags:
        np.testing.assert_array_equal(found[0]["labels"], np.resize(np.arange(10), 1201))
    for other in found[1:]:
        assert other.keys() == found[0].keys()
        for name, array in other.items():
            np.testing.assert_array_equal(array, found[0][name])


def test_ctrl_c_between_two_parts_leaves_what_was_there(tiny_run, monkeypatch, contents):
    tiny_script.main(["--sample", "3"])
    before, sample, calls = contents(tiny_run), tiny_script.sample, []

    def interrupted_sample(*arguments):
        calls.append(arguments)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return sample(*arguments)

    monkeypatch.setattr(tiny_script, "sample", interrupted_sample)
    with pytest.raises(SystemExit) as leaving:
        tiny_script.main(["--sample", "100000"])
    assert leaving.value.code == 130
    assert contents(tiny_run) == before


def test_many_samples_show_progress(tiny_run, monkeypatch):
    shown = []
    monkeypatch.setattr(cli, "progress", lambda items, title, total=None: shown.append((title, total)) or items)
    tiny_script.main(["--sample", "5001"])
    assert shown == [("sampling", 11)]


def test_memory_does_not_grow_with_the_number_of_samples():
    parts = (np.full((1000, 28, 28, 1), number, np.uint8) for number in range(100))  # 78 MB
    tracemalloc.start()
    files.write_npz_in_parts(Path("samples.npz"), 100_000, images=parts)
    assert tracemalloc.get_traced_memory()[1] < 10_000_000
    tracemalloc.stop()
    images = samples_of(Path())["images"]
    assert images.shape == (100_000, 28, 28, 1)
    np.testing.assert_array_equal(images[:, 3, 4, 0], np.arange(100).repeat(1000))
