"""Runs on disk: find them, read and check their settings, and restore their networks."""

import contextlib
import dataclasses
import json
import typing
from collections.abc import Callable
from pathlib import Path

import numpy as np

from common import checkpoints, cli, files, flags
from common.errors import UserError, reason_of

# The type of each entry that config.json must have, by its path in the file.
FORM = {("script",): str, ("settings",): dict, ("data", "name"): str, ("data", "digest"): str}
PICTURES_FORM = {("data", "pictures"): int, ("data", "channels"): int, ("data", "class_names"): list}
TEXT_FORM = {("data", "characters"): int, ("data", "alphabet"): str}
ALLOWED = {
    "channels": lambda channels: channels in (1, 3),
    "class_names": lambda names: all(isinstance(name, str) for name in names),
    "alphabet": lambda alphabet: 0 < len(alphabet) == len(set(alphabet)),
}


def configure(config_class: type, argv: list[str] | None, description: str):
    """Read the command line; when it resumes or uses a run, that run's settings replace the flags not given.

    Returns the config, with `resume` or `run` replaced by the run's folder.
    Raises UserError if there is no such run, or if a flag contradicts its settings or another flag.
    """
    config = cli.parse(config_class, argv, description)
    if config.resume and config.uses_trained_run:
        raise UserError(f"--resume {config.resume}: continues training; to use a trained run, name it with --run")
    for field in () if config.uses_trained_run else sorted(flags.fields_with(config_class, flags.NeedsUse)):
        if (value := getattr(config, field)) != getattr(config_class, field):  # its default
            needed = "needs --sample or another use of the run; --resume continues training"
            raise UserError(f"{flags.as_typed(field, value)}: {needed}")
    if not (config.resume or config.uses_trained_run):
        return config
    field = "run" if config.uses_trained_run else "resume"
    folder = _find(config_class, getattr(config, field), Path(config.output_dir))
    saved = read_config(config_class, folder)
    files.remove_abandoned(folder)
    if getattr(config, "to", ""):
        files.remove_abandoned(Path(config.to), files.PARTS_IN_FOLDER)
    config = cli.parse(config_class, argv, description, defaults=saved)
    if different := flags.contradictions(config, saved):
        advice = "name another run with --run, or train one" if config.uses_trained_run else "start a new run"
        raise UserError(f"{', '.join(different)}: cannot be changed for {folder}; leave it out, or {advice}")
    return dataclasses.replace(config, **{field: str(folder)})


def read_config(config_class: type, folder: Path):
    """Return the config of a run; one line names the settings that only an earlier version had, which are ignored.

    Another names those that its config.json lacks: today's defaults replace them.

    Raises UserError if it is damaged, or belongs to another script.
    """
    description = _description(folder)
    script, settings = description["script"], description["settings"]
    if script != cli.script_name(config_class):
        raise UserError(f"{folder} is a run of {script:.100}.py, not of {cli.script_name(config_class)}.py")
    known, path = typing.get_type_hints(config_class), folder / "config.json"
    if gone := sorted(settings.keys() - known.keys()):
        print(f"{folder} was made by another version; ignoring its --{', --'.join(gone)}", flush=True)
    settings = {name: tuple(it) if isinstance(it, list) else it for name, it in settings.items() if name in known}
    for field, value in settings.items():
        if not flags.has_type(value, known[field]):
            raise UserError(f"{path} is damaged: settings.{field} is {value!r:.40}")
    kept = settings.keys() - flags.fields_with(config_class, flags.PerCommand)
    saved = flags.expand_paths(config_class(**{name: settings[name] for name in kept}))
    try:
        flags.check_values(saved)
    except UserError as error:
        raise UserError(f"{path} is damaged: {error!s:.300}") from None
    of_run = known.keys() - flags.fields_with(config_class, flags.PerCommand, flags.UsesRun, flags.Changeable)
    if lacking := [flags.as_typed(name, getattr(saved, name)) for name in sorted(of_run - settings.keys())]:
        print(f"{path} lacks settings; continuing with today's defaults: {', '.join(lacking)}", flush=True)
    return saved


class SavedRun:
    """A run on disk, which can be used without its training data.

    settings: by name. data_name, digest, extent: name, SHA-256 and size of the training data. channels, class_names: of
    pictures. alphabet: of text. digests: of other files that the result depends on, as "<part>_digest" (`open_folder`).
    """

    def __init__(self, folder: str | Path, to: str = ""):
        """Read the config.json in `folder`; to: folder for results, "" for the run's generated/.

        Raises UserError if it cannot be read.
        """
        self.folder = Path(folder)
        self.generated = Path(to) if to else self.folder / "generated"
        self._written, self._unwritten = [], []
        description = _description(self.folder)
        data, self.settings = description["data"], description["settings"]
        self.data_name, self.digest = data["name"], data["digest"]
        self.digests = {name: it for name, it in data.items() if name.endswith("_digest")}
        self.extent = f"{data.get('pictures', 0):,} pictures"
        self.channels, self.class_names = data.get("channels", 0), tuple(data.get("class_names", ()))
        self.alphabet = data.get("alphabet", "")
        if self.alphabet:
            self.extent = f"{data['characters']:,} characters"

    def restore(self, folder: str = "checkpoints", /, **saved) -> None:
        """Set models, by name, from the newest checkpoint in a folder of the run, "checkpoints" or "best".

        Raises UserError if there is no checkpoint.
        """
        check = checkpoints.check_run if folder == "checkpoints" else None
        if checkpoints.restore(self.folder / folder, saved, check) is None:
            raise UserError(f"{self.folder} has no checkpoint yet; {self._what_to_do}")

    def arrays(self, name: str) -> dict[str, np.ndarray]:
        """Return the arrays of an .npz file that is written when training ends.

        Raises UserError if it is missing or damaged.
        """
        path = self.folder / name
        if not path.exists():
            raise UserError(f"{path} is written when training ends; {self._what_to_do}")
        try:
            return files.read_npz(path)
        except ValueError as error:
            raise UserError(f"{path} is damaged ({error}); write it again with --resume {self.folder}") from None

    @property
    def _what_to_do(self) -> str:
        return f"wait if it is still being trained, otherwise continue it with --resume {self.folder}"

    def check_data(self, data) -> None:
        """Raise UserError unless the run was trained on `data`."""
        if data.digest != self.digest:
            raise UserError(
                f"{self.folder} was trained on other data ({self.data_name}, {self.extent}) "
                f"than {data.name} ({data.extent}); name its data with {data.flag}"
            )

    def class_count(self, config) -> int:
        """Return the number of classes that the networks know: 0 without `--conditional`."""
        return len(self.class_names) if config.conditional else 0

    def labels(self, config, count: int, start: int = 0) -> np.ndarray:
        """Return `count` labels: the class that `--label` names, or all classes in turn; 0 without `--conditional`.

        start: how many labels precede these.

        Raises UserError if the run has no class of that name.
        """
        known = self.class_names if getattr(config, "conditional", False) else ()
        label = getattr(config, "label", "")
        if not label:
            return np.arange(start, start + count) % max(len(known), 1)
        if label not in known:
            classes = ", ".join(known) or "none, as it was trained without --conditional"
            raise UserError(f"--label {label}: the run's classes are: {classes}")
        return np.full(count, known.index(label))

    def write(self, name: str, save: Callable, *arguments, **options) -> None:
        """Call `save(path, *arguments, **options)` for a result of this name, which makes the folder for results.

        If the file cannot be written, `report` says so: what `save` prints before, and other results, are not lost.
        """
        folder_error = None
        try:
            self.generated.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            folder_error = reason_of(error)
        try:
            save(self.generated / name, *arguments, **options)
            self._written.append(name)
        except UserError as error:
            if not isinstance(error.__cause__, OSError):
                raise
            self._unwritten.append((name, folder_error or reason_of(error.__cause__)))

    def report(self) -> None:
        """Print which results to look at. Raises UserError if any of them could not be written."""
        if shown := [it for it in self._written if not it.endswith((".npz", ".json"))] or self._written:
            print(f"see {', '.join([str(self.generated / shown[0]), *shown[1:]])}", flush=True)
        if self._unwritten:
            names = ", ".join(name for name, _ in self._unwritten)
            reason = self._unwritten[0][1]
            raise UserError(f"cannot write {names} in {self.generated}: {reason}; name another folder with --to")


def _description(folder: Path) -> dict:
    """Return the contents of config.json. Raises UserError unless it has the form in which a run writes it."""
    path = folder / "config.json"
    try:
        description = json.loads(files.read_bytes(path, files.MOST_CONFIG_BYTES).decode("utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f"{folder} is not a run: it has no config.json; name a run's folder, or latest") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {reason_of(error)}") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is damaged: {error}") from None
    data = description.get("data") if isinstance(description, dict) else None
    is_text = isinstance(data, dict) and "alphabet" in data
    for keys, kind in (FORM | (TEXT_FORM if is_text else PICTURES_FORM)).items():
        value = description
        for key in keys:
            value = value.get(key) if isinstance(value, dict) else None
        if type(value) is not kind or not ALLOWED.get(keys[-1], lambda it: True)(value):
            raise UserError(f"{path} is damaged: {'.'.join(keys)} is {value!r:.40}")
    return description


def _find(config_class: type, reference: str, output_dir: Path) -> Path:
    """Return the folder of a run; "latest" is where the link of that name leads or, failing that, the newest run."""
    script = cli.script_name(config_class)
    parent, is_found = output_dir / script, reference != "latest"
    path = Path(reference) if is_found else parent / "latest"
    with contextlib.suppress(OSError):  # raised if it is no link
        path = path.parent / path.readlink()  # now, as "latest" moves when another run begins
        is_found = is_found or _time_of(path) is not None
    if is_found:
        return path
    times = {it: _time_of(it) for it in files.entries(parent, "[!.]*")}
    found = [it for it in times if times[it] is not None]
    if not found:
        raise UserError(f"there is no run in {parent} yet; start one with: python {script}.py")
    return max(found, key=times.get)


def _time_of(folder: Path) -> float | None:
    """Return when a run was started or resumed; 0 if its folder may not be entered, None if it is no run."""
    try:
        return (folder / "config.json").stat().st_mtime
    except PermissionError:
        return 0.0
    except OSError:
        return None
