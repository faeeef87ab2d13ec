"""Save and restore the whole state of a run, exactly.

A checkpoint is one .npz file: NumPy's own format, with a checksum for each array, without pickle, readable without
TensorFlow. It holds every variable of each saved object as `<name>/<position>`: weights, moving statistics, optimizer
state, and the random state of layers such as Dropout, which tf.train.Checkpoint leaves out.
"""

from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from common.errors import UserError
from common.files import as_user_error, entries, part, read_npz, replace, write_npz

KEPT = 2
MOST = 10**12  # more than the steps and the seconds of any run


def save(folder: Path, step: int, saved: dict, needed: int = -1, **arrays: np.ndarray) -> None:
    """Write the checkpoint of `step` into `folder` and delete all but the newest two.

    saved: objects by name that have `variables` (Keras models and optimizers) or are variables.
    needed: a step; the newest checkpoint up to this step is kept, too.
    arrays: further arrays to keep.
    Raises UserError, and keeps the earlier checkpoints, if a variable is not finite or the file cannot be written.
    """
    contents = {f"{name}/{index:03d}": value.numpy() for name, index, value in _variables(saved)}
    for name, array in contents.items():
        if not np.isfinite(array).all():
            what = f"{name.split('/')[0]} is not finite after step {step}"
            raise UserError(f"{what}; {kept_in(folder)}; a smaller --learning_rate may help")
    write_npz(_path(folder, step), **contents, **arrays)
    paths = _newest_first(folder)
    resumable = [path for path in paths if path <= _path(folder, needed)][:1]
    for old in paths[KEPT:]:
        if old not in resumable:
            old.unlink(missing_ok=True)


def kept_in(folder: Path) -> str:
    """Return a clause that says whether there are checkpoints in a folder."""
    return f"earlier checkpoints are kept in {folder}" if _newest_first(folder) else "there is no earlier checkpoint"


def restore(folder: Path, saved: dict, check: Callable | None = None) -> dict[str, np.ndarray] | None:
    """Set the variables of `saved` from the newest checkpoint that is undamaged.

    A checkpoint may hold more objects than `saved` names; one with numbers that are not finite is damaged.
    check: raises ValueError if the arrays of a checkpoint cannot be what was saved, which then counts as damage.
    Returns the further arrays that were saved; None, and changes nothing, if there is no checkpoint.
    Raises UserError if all checkpoints are damaged or one may not be read, or if it was made for another network.
    """
    paths = _newest_first(folder)
    for path in paths:
        try:
            contents = read_npz(path)
            for name, array in contents.items():
                if array.dtype.kind == "f" and not np.isfinite(array).all():
                    raise ValueError(f"{name} is not finite")
            if check:
                check(path, contents)
        except ValueError as error:
            print(f"{path} is damaged ({error}); trying the one before", flush=True)
            continue
        except UserError:
            if path in _newest_first(folder):
                raise
            return restore(folder, saved, check)  # the run is being trained, and newer ones have replaced it
        _assign(path, contents, saved)
        return {name: array for name, array in contents.items() if "/" not in name}
    if paths:
        raise UserError(f"every checkpoint in {folder} is damaged; start a new run")
    return None


def check_run(path: Path, contents: dict[str, np.ndarray]) -> None:
    """Raise ValueError unless a checkpoint's arrays are a possible state of a run after the step in its name."""
    step, seconds, losses, pending = (contents.get(it) for it in ("step/000", "seconds", "losses", "pending"))
    for name, array, kinds in (("step/000", step, "iu"), ("seconds", seconds, "iuf")):
        if array is None or array.shape != () or array.dtype.kind not in kinds:
            raise ValueError(f"it has no number {name.split('/')[0]}")
        if not 0 <= array < MOST:
            raise ValueError(f"its {name.split('/')[0]} is {array}")
    if path.stem.removeprefix("step_").isdecimal() and step != step_of(path):
        raise ValueError(f"its step is {step}")
    if losses is None or pending is None or losses.ndim != 1 or losses.dtype.kind != "U" or pending.dtype.kind != "f":
        raise ValueError("it lacks the losses since the last row of metrics.csv")
    if pending.size and pending.shape[1:] != losses.shape:
        raise ValueError(f"it has losses of shape {pending.shape}")


def save_model(path: Path, model: keras.Model) -> None:
    """Write a network as the file `path`, which ends in .keras, for any Keras program."""
    temporary = part(path.with_suffix("")).with_suffix(".part.keras")  # Keras insists on the ending
    try:
        with as_user_error(path):
            model.save(temporary)
            replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def step_of(path: Path) -> int:
    """Return the step in the name of a file such as step_00000500.npz."""
    return int(path.stem.removeprefix("step_"))


def _assign(path: Path, contents: dict[str, np.ndarray], saved: dict) -> None:
    variables = {f"{name}/{index:03d}": variable for name, index, variable in _variables(saved)}
    wanted = {key: (tuple(it.shape), tf.as_dtype(it.dtype).as_numpy_dtype) for key, it in variables.items()}
    found = {key: (array.shape, array.dtype.type) for key, array in contents.items() if key.rpartition("/")[0] in saved}
    if wanted != found:  # compared before the first assignment, so that nothing is half restored
        different = sorted(key for key in wanted.keys() | found.keys() if wanted.get(key) != found.get(key))
        made = "was made for another network or by another version"
        raise UserError(f"{path} {made}: {different[0]} and {len(different) - 1} more differ")
    for key, variable in variables.items():
        variable.assign(contents[key])


def _variables(saved: dict):
    for name, thing in saved.items():
        for index, variable in enumerate(getattr(thing, "variables", [thing])):
            yield name, index, variable


def _path(folder: Path, step: int) -> Path:
    """Return the checkpoint's path; paths sort as their steps do, that of step -1 before all others."""
    return folder / f"step_{step:08d}.npz"


def _newest_first(folder: Path) -> list[Path]:
    return sorted(entries(folder, "step_*.npz"), reverse=True)
