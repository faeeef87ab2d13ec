"""Atomic files, locks, checkpoints and pictures."""

import shutil
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from common import checkpoints, files, pictures
from common.errors import UserError


def names(folder="."):
    return sorted(path.name for path in Path(folder).iterdir())


# Files


def test_a_file_appears_only_when_it_is_complete():
    path = Path("file")
    with files.atomic_write(path) as file:
        file.write(b"new")
        file.flush()
        assert not path.exists()
    assert path.read_bytes() == b"new"
    assert names() == ["file"]


@pytest.mark.parametrize("error", [KeyError, KeyboardInterrupt, SystemExit])
def test_an_exception_leaves_the_old_file_and_nothing_else(error):
    path = Path("file")
    path.write_bytes(b"old")
    with pytest.raises(error), files.atomic_write(path) as file:
        file.write(b"new")
        raise error
    assert path.read_bytes() == b"old"
    assert names() == ["file"]


def test_a_full_disk_leaves_the_old_file_and_nothing_else(limited_file_size):
    path = Path("file")
    path.write_bytes(b"old")
    refused = pytest.raises(UserError, match="cannot write file: file too large")
    with limited_file_size(2000), refused, files.atomic_write(path) as file:
        file.write(bytes(5000))
    assert path.read_bytes() == b"old"
    assert names() == ["file"]


def test_a_file_below_a_file_cannot_be_written():
    Path("file").touch()
    path = Path("file/inner")
    with pytest.raises(UserError, match="cannot write file/inner: not a directory"), files.atomic_write(path):
        pass


def test_a_folder_is_locked_for_other_processes_until_its_lock_is_closed():
    ask = "import sys; from pathlib import Path; from common import files; files.lock(Path(sys.argv[1]))"
    root = Path(files.__file__).parents[1]
    # Without TensorFlow, whose import takes seconds; the lock does not need it.
    ask = "import sys, types; sys.modules['tensorflow'] = types.ModuleType('tensorflow'); " + ask

    def other_process():
        command = [sys.executable, "-c", ask, str(Path.cwd())]
        return subprocess.run(command, cwd=root, capture_output=True, text=True)

    lock = files.lock(Path())
    assert "is in use by another process" in other_process().stderr
    lock.close()
    assert other_process().returncode == 0


# Checkpoints


def variables(*values, **more):
    """Two things to save: a variable and something that has variables, as models do."""
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2), keras.layers.Dropout(0.5, seed=0)])
    for variable in model.trainable_variables:
        variable.assign(tf.fill(variable.shape, float(values[0])))
    return {"model": model, "step": tf.Variable(values[0], dtype=tf.int64)}


def state(saved):
    return [variable.numpy().tolist() for variable in [*saved["model"].variables, saved["step"]]]


def save_three(folder=Path()):
    for step in (10, 20, 30):
        checkpoints.save(folder, step, variables(step), seconds=np.array(step / 2))


def test_a_file_managers_copy_of_a_checkpoint_is_ignored():
    checkpoints.save(Path(), 5, variables(5))
    shutil.copy("step_00000005.npz", "step_00000005 copy.npz")
    checkpoints.save(Path(), 6, variables(6), needed=5)
    checkpoints.restore(Path(), variables(6))


def test_the_checkpoint_from_which_a_run_would_resume_is_kept():
    for step in (1, 2, 3, 4, 5):
        checkpoints.save(Path(), step, variables(step), needed=2)
    assert sorted(path.name for path in Path().iterdir()) == [f"step_0000000{step}.npz" for step in (2, 4, 5)]


def test_a_checkpoint_that_a_training_process_replaces_while_it_is_read_is_left_for_a_newer_one(monkeypatch, capsys):
    """As for --sample of a run that is training."""
    read_npz, saved = checkpoints.read_npz, variables(0)
    save_three()

    def replace_and_read(path):
        if path.name == "step_00000030.npz":
            for step in (40, 50, 60):
                checkpoints.save(Path(), step, variables(step))
        return read_npz(path)

    monkeypatch.setattr(checkpoints, "read_npz", replace_and_read)
    checkpoints.restore(Path(), saved)
    assert int(saved["step"].numpy()) == 60
    assert capsys.readouterr().out == ""


def test_what_is_saved_is_restored():
    saved = variables(5)
    for _ in range(3):
        saved["model"](tf.ones((1, 3)), training=True)  # advances the random generator inside Dropout
    checkpoints.save(Path(), 5, saved, seconds=np.array(1.5), losses=np.array(["a", "bb"]))
    other = variables(6)
    kept = checkpoints.restore(Path(), other)
    assert state(other) == state(saved)
    assert any("seed" in variable.path for variable in other["model"].variables)
    assert float(kept["seconds"]) == 1.5
    assert kept["losses"].tolist() == ["a", "bb"]
    assert set(kept) == {"seconds", "losses"}


def test_a_part_of_what_was_saved_can_be_restored():
    checkpoints.save(Path(), 5, variables(5))
    other = variables(6)
    checkpoints.restore(Path(), {"model": other["model"]})
    assert state(other) == [*state(variables(5))[:-1], 6]


def test_the_newest_two_are_kept():
    save_three()
    assert names() == ["step_00000020.npz", "step_00000030.npz"]


def test_without_a_checkpoint_nothing_is_restored():
    assert checkpoints.restore(Path(), variables(1)) is None


@pytest.mark.parametrize("kept", [0, 1, 100, 0.5, 0.99, -1])
def test_a_truncated_checkpoint_is_replaced_by_the_one_before(capsys, kept):
    save_three()
    newest = Path("step_00000030.npz")
    whole = newest.read_bytes()
    newest.write_bytes(whole[: int(kept * len(whole)) if isinstance(kept, float) else kept])
    saved = variables(1)
    assert checkpoints.restore(Path(), saved)["seconds"] == 10
    assert state(saved) == state(variables(20))
    assert "step_00000030.npz is damaged" in capsys.readouterr().out


def test_no_damage_to_a_checkpoint_goes_unnoticed():
    save_three()
    newest, random, used = Path("step_00000030.npz"), np.random.default_rng(0), []
    whole = newest.read_bytes()
    saved, good = variables(1), [state(variables(20)), state(variables(30))]
    for _ in range(300):
        damaged = np.frombuffer(whole, np.uint8).copy()
        damaged[random.integers(len(damaged))] ^= 1 << random.integers(8)
        newest.write_bytes(damaged.tobytes())
        try:
            checkpoints.restore(Path(), saved)
        except UserError as error:  # a damaged name: an array seems to be missing
            assert "was made for another network" in str(error)
        used.append(good.index(state(saved)))
    assert used.count(0) > 200  # the others hit bytes that do not matter, such as times in the archive's directory


def test_weights_that_are_not_finite_are_not_saved():
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    checkpoints.save(Path(), 1, {"model": model})
    model.layers[0].bias.assign([np.nan])
    with pytest.raises(UserError, match="model is not finite after step 2"):
        checkpoints.save(Path(), 2, {"model": model})
    assert names() == ["step_00000001.npz"]


def test_all_damaged():
    save_three()
    for name in names():
        Path(name).write_bytes(b"PK")
    saved = variables(1)
    with pytest.raises(UserError, match=r"every checkpoint in \. is damaged; start a new run"):
        checkpoints.restore(Path(), saved)
    assert state(saved) == state(variables(1))


@pytest.mark.parametrize("change", ["shape", "type", "one more", "one less"])
def test_a_checkpoint_of_another_network_is_refused_before_anything_is_assigned(change):
    other = variables(7)
    if change == "shape":
        other["model"] = keras.Sequential([keras.Input((3,)), keras.layers.Dense(3), keras.layers.Dropout(0.5, seed=0)])
    elif change == "type":
        other["step"] = tf.Variable(7, dtype=tf.int32)
    elif change == "one more":
        other["model"].add(keras.layers.Dense(2))
    elif change == "one less":
        other["model"].pop()
    checkpoints.save(Path(), 7, other)
    saved = variables(1)
    before = state(saved)
    with pytest.raises(UserError, match=r"step_00000007\.npz was made for another network"):
        checkpoints.restore(Path(), saved)
    assert state(saved) == before


def test_a_checkpoint_that_cannot_be_written_leaves_the_earlier_ones(limited_file_size, contents, capfd):
    save_three()
    before = contents(".")
    big = {"big": tf.Variable(tf.zeros(1000))}
    capfd.readouterr()  # what TensorFlow prints when it starts
    with (
        limited_file_size(2000),
        pytest.raises(UserError, match=r"cannot write step_00000040\.npz: file too large"),
    ):
        checkpoints.save(Path(), 40, big)
    assert contents(".") == before
    assert capfd.readouterr().err == ""


# Pictures


def test_all_256_values_survive_scaling_to_tanhs_range_and_back():
    values = np.arange(256, dtype=np.uint8)
    signed = pictures.to_signed(values)
    assert signed.dtype == tf.float32
    assert (float(signed[0]), float(signed[-1])) == (-1.0, 1.0)
    assert np.array_equal(pictures.from_signed(signed), values)


def test_values_out_of_range_are_clipped():
    assert pictures.from_signed([-9.0, 9.0]).tolist() == [0, 255]


def test_all_256_values_survive_scaling_to_the_unit_range_and_back():
    values = np.arange(256, dtype=np.uint8)
    unit = pictures.to_unit(values)
    assert unit.dtype == tf.float32
    assert (float(unit[0]), float(unit[-1])) == (0.0, 1.0)
    assert np.array_equal(pictures.from_unit(unit), values)
    assert pictures.from_unit([-9.0, 0.499, 9.0]).tolist() == [0, 127, 255]


def test_a_grid_is_filled_by_rows_and_enlarged_by_a_whole_factor():
    images = np.arange(1, 6, dtype=np.uint8)[:, None, None, None] * np.full((28, 28, 3), 10, np.uint8)
    sheet = pictures.grid(images, 3)
    cell, border = 56, 2
    assert sheet.shape == (2 * (cell + border) + border, 3 * (cell + border) + border, 3)
    assert sheet.dtype == np.uint8
    for index in range(6):
        top, left = (border + position * (cell + border) for position in divmod(index, 3))
        inside = sheet[top : top + cell, left : left + cell]
        assert (inside == (10 * (index + 1) if index < 5 else 32)).all()
    assert (sheet[:2] == 32).all()
    assert (sheet[58:60] == 32).all()
    assert (sheet[:, 58:60] == 32).all()


def test_a_grid_shows_grey_as_grey_and_large_images_at_their_size():
    image = np.random.default_rng(0).integers(0, 256, (1, 64, 48, 1)).astype(np.uint8)
    sheet = pictures.grid(image, 1)
    assert sheet.shape == (68, 52, 3)
    assert np.array_equal(sheet[2:66, 2:50], image[0].repeat(3, axis=-1))


def test_row_names_stand_left_of_their_rows():
    images = np.zeros((4, 28, 28, 1), np.uint8)
    plain, named = pictures.grid(images, 2), pictures.grid(images, 2, ("cat", ""))
    margin = named.shape[1] - plain.shape[1]
    assert margin > 20
    assert np.array_equal(named[:, margin:], plain)
    assert named[:60, :margin].max() > 200  # letters
    assert named[60:, :margin].max() == 32  # none


def test_a_table_names_its_columns_above_and_its_rows_after_them_some_in_red():
    images = np.random.default_rng(0).integers(0, 256, (3, 2, 28, 28, 1)).astype(np.uint8)
    sheet = pictures.table(images, ["in", "out"], ["1.0 a.png", "", "9.0 b.png"], [False, False, True])
    grid = pictures.grid(images.reshape(6, 28, 28, 1), 2)
    height, width, _ = grid.shape
    assert np.array_equal(sheet[24:, :width], grid)
    assert sheet[:24, : width // 2].max() > 200  # "in"
    names = sheet[24:, width:].astype(int)
    first, second, third = names[: height // 3], names[height // 3 : 2 * height // 3], names[2 * height // 3 :]
    assert (first.max(axis=(0, 1)) > 200).all()
    assert (second == 32).all()
    assert third[..., 0].max() > 200 > third[..., 1].max()  # red


@pytest.mark.parametrize("identical", [True, False])
def test_a_gif_lasts_as_long_as_its_frames_and_rest_and_repeats(identical):
    frames = [np.full((20, 20, 3), 0 if identical else 20 * number, np.uint8) for number in range(5)]
    pictures.save_gif(Path("x.gif"), frames, milliseconds=100, rest=2000)
    total = 0
    with Image.open("x.gif") as image:
        assert image.info.get("loop") == 0
        for number in range(image.n_frames):
            image.seek(number)
            total += image.info["duration"]
    assert total == 5 * 100 + 2000


def test_a_gif_of_a_single_frame(tmp_path):
    pictures.save_gif(tmp_path / "one.gif", [np.full((8, 8, 3), 7, np.uint8)])
    with Image.open(tmp_path / "one.gif") as image:
        assert image.n_frames == 1
        assert image.convert("RGB").getpixel((3, 3)) == (7, 7, 7)


def test_a_gif_of_many_files_has_the_first_and_the_last():
    for number in range(250):
        pictures.save_png(Path(f"{number:03d}.png"), np.full((4, 4, 3), number, np.uint8))
    pictures.save_gif_of_files(Path("x.gif"), sorted(Path().glob("*.png")))
    with Image.open("x.gif") as image:
        assert image.n_frames == pictures.MOST_FRAMES
        assert np.asarray(image.convert("RGB"))[0, 0].tolist() == [0, 0, 0]
        image.seek(image.n_frames - 1)
        assert np.asarray(image.convert("RGB"))[0, 0].tolist() == [249, 249, 249]


@pytest.mark.parametrize("kind", ["png", "gif", "curves"])
def test_a_picture_that_cannot_be_written_is_a_user_error_and_leaves_nothing(limited_file_size, kind):
    noise = np.random.default_rng(0).integers(0, 256, (100, 100, 3)).astype(np.uint8)
    rows = [{"step": "50", "loss": "0.5"}, {"step": "100", "loss": "0.4"}]
    write = {
        "png": lambda path: pictures.save_png(path, noise),
        "gif": lambda path: pictures.save_gif(path, [noise, noise[::-1]]),
        "curves": lambda path: pictures.save_curves(path, rows),
    }
    with limited_file_size(2000), pytest.raises(UserError, match="cannot write picture: file too large"):
        write[kind](Path("picture"))
    assert names() == []


def test_letters_of_other_scripts_are_drawn():
    pages = [pictures.page(letter, "") for letter in "éЖλ\N{REPLACEMENT CHARACTER}א"]
    drawn = {page.tobytes() for page in pages}
    assert len(drawn) == 5  # not the same empty box for each


def test_curves_of_no_rows_are_not_drawn():
    pictures.save_curves(Path("curves.png"), [])
    assert names() == []


def test_curves_with_values_that_cannot_be_drawn():
    pictures.save_curves(Path("curves.png"), [{"step": "1", "loss": "inf"}, {"step": "2", "loss": "9" * 400}])
    assert names() == ["curves.png"]
