"""Save and restore what a run consists of, exactly.

A checkpoint is one .npz file: NumPy's own format, with a checksum for each array, no pickle, and readable without
TensorFlow. It holds the variables of each saved object under `<name>/<position>`, all of them: weights, moving
statistics, optimizer state, and the states of random generators inside layers such as Dropout, which
tf.train.Checkpoint leaves out.
"""

from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from common.cli import UserError
from common.files import read_npz, told_in_one_line, whole

KEPT = 2


def save(folder: Path, step: int, saved: dict, needed: int = -1, **arrays: np.ndarray) -> None:
    """Write the checkpoint of `step` into `folder` and delete all but the newest two, and the one for step `needed`.

    saved: by name, objects that have `variables` (Keras models and optimizers) or are variables.
    needed: of what was saved until this step the newest is kept, too.
    arrays: further arrays to keep.
    Raises UserError, and keeps what was saved before, if a variable is not finite or the file cannot be written.
    """
    contents = {f"{name}/{index:03d}": value.numpy() for name, index, value in _variables(saved)}
    for name, array in contents.items():
        if not np.isfinite(array).all():
            raise UserError(
                f"{name.split('/')[0]} is not finite after step {step}; checkpoints before it are in {folder}"
            )
    with whole(_path(folder, step)) as file:
        np.savez(file, **contents, **arrays)
    paths = _newest_first(folder)
    resumable = [path for path in paths if path <= _path(folder, needed)][:1]
    for old in paths[KEPT:]:
        if old not in resumable:
            old.unlink(missing_ok=True)


def restore(folder: Path, saved: dict) -> dict[str, np.ndarray] | None:
    """Set the variables of `saved` to the newest checkpoint that is whole; None if there is no checkpoint.

    Returns the further arrays that were kept. A checkpoint may hold more objects than `saved` asks for.
    Raises UserError if no checkpoint is whole, or if it was made for another network.
    """
    paths = _newest_first(folder)
    for path in paths:
        try:
            contents = read_npz(path)
        except ValueError as error:
            print(f"{path} is damaged ({error}); trying the one before", flush=True)
            continue
        _assign(path, contents, saved)
        return {name: array for name, array in contents.items() if "/" not in name}
    if paths:
        raise UserError(f"every checkpoint in {folder} is damaged; start a new run")
    return None


def save_model(path: Path, model: keras.Model) -> None:
    """Write a finished network as the file `path`, which ends in .keras, for any Keras program."""
    temporary = path.with_name(f".{path.stem}.part.keras")  # Keras insists on the ending
    try:
        with told_in_one_line(path):
            model.save(temporary)
            temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _assign(path: Path, contents: dict[str, np.ndarray], saved: dict) -> None:
    variables = [(f"{name}/{index:03d}", variable) for name, index, variable in _variables(saved)]
    wanted = {key: (tuple(variable.shape), tf.as_dtype(variable.dtype).as_numpy_dtype) for key, variable in variables}
    found = {key: (array.shape, array.dtype.type) for key, array in contents.items() if key.rpartition("/")[0] in saved}
    if wanted != found:  # compared before anything is assigned, so that nothing is half restored
        different = sorted(key for key in wanted.keys() | found.keys() if wanted.get(key) != found.get(key))
        raise UserError(f"{path} was made for another network: {different[0]} and {len(different) - 1} more differ")
    for key, variable in variables:
        variable.assign(contents[key])


def _variables(saved: dict):
    for name, thing in saved.items():
        for index, variable in enumerate(getattr(thing, "variables", [thing])):
            yield name, index, variable


def step_of(path: Path) -> int:
    """Return the step after which a file such as step_00000500.npz was written."""
    return int(path.stem.removeprefix("step_"))


def _path(folder: Path, step: int) -> Path:
    """Return the checkpoint's path; paths are in the order of their steps, one of step -1 before all others."""
    return folder / f"step_{step:08d}.npz"


def _newest_first(folder: Path) -> list[Path]:
    return sorted(folder.glob("step_*.npz"), reverse=True)
