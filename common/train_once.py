"""Runs that are trained once and then found by their names; and a run for each of several texts, for `--classify`."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

from common import cli, files, flags, run_folder
from common.errors import UserError
from common.interruption import Interrupted
from common.saved_runs import SavedRun, read_config
from common.text import Alphabet


def train_once(config, digest: str, train: Callable) -> SavedRun:
    """Return the finished run `config.name`; train it first if it is missing, or resume it if it was interrupted.

    digest: of the training data. train: trains a run, given its config.
    Raises UserError if the run exists with other settings or data.
    """
    folder = Path(config.output_dir) / cli.script_name(type(config)) / config.name
    if not files.exists(folder):
        print(f"training {folder}", flush=True)
        train(config)
    run = SavedRun(folder)
    if different := flags.contradictions(config, read_config(type(config), folder)):
        raise UserError(f"{', '.join(different)}: {folder} exists; choose another --name")
    if run.digest != digest:
        raise UserError(f"{folder} was trained on other data; choose another --name")
    if not any(folder.glob("*.keras")):  # written when training ends
        print(f"resuming {folder}, which was interrupted", flush=True)
        train(dataclasses.replace(config, resume=str(folder)))
    return run


def train_on_each(config, load: Callable, train: Callable) -> tuple[Alphabet, dict[str, SavedRun]]:
    """Train a run on each text of `config.train`, unless that has been done; return the alphabet and the runs by path.

    The alphabet is that of all texts together: only with a common one are the surprisals of the networks comparable.
    load, train: load the data of a config, or train a run with it, with the given alphabet instead of the data's own.
    Raises UserError for fewer than two texts, for two with the same name, and as `train_once` does.
    """
    configs = _config_of_each(config)
    alphabet = load(config).alphabet
    try:
        runs = {
            path: train_once(own, load(own, alphabet).digest, lambda it: train(it, alphabet))
            for path, own in configs.items()
        }
    except Interrupted:
        print("to continue with this and all further texts, give the same command again", flush=True)
        raise
    return alphabet, runs


def _config_of_each(config) -> dict[str, object]:
    """Return, by the path of each text in `config.train`, the config of a run that is trained on it alone.

    The run is named after `config.name` and the text.
    """
    names = [run_folder.as_name(Path(path).stem)[:60] for path in config.train]
    if len(names) < 2:
        raise UserError("--classify: needs two texts or more, --train a.txt b.txt …")
    if len(set(names)) < len(names):
        raise UserError(f"--train: two of the texts have the same name, {max(names, key=names.count)}; rename one")
    prefix = config.name or "classify"
    return {
        path: dataclasses.replace(config, train=(path,), classify="", name=f"{prefix}-{name}")
        for path, name in zip(config.train, names, strict=True)
    }
