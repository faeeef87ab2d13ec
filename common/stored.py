"""Runs as they lie on disk: found, their settings read, and what is made with them after training."""

import dataclasses
import json
from pathlib import Path

import numpy as np

from common import checkpoints, cli, files, pictures
from common.cli import UserError

MOST_SHOWN = 400  # samples in grid.png
MOST_ROWS = 100  # of reconstructions.png
ODD = 0.999  # a picture is odd if its error is above that of so many of the training pictures


def configure(config_class: type, argv: list[str] | None, description: str):
    """Read the command line; for a resumed or sampled run the run's own settings stand for flags not given.

    Returns the config, its `resume` or `run` replaced by the run's folder.
    Raises UserError if there is no such run, or if a flag contradicts its settings or another flag.
    """
    config = cli.parse(config_class, argv, description)
    if config.resume and config.uses_trained_run:
        raise UserError(f"--resume {config.resume}: goes on training; to make something with a run name it by --run")
    if not config.uses_trained_run and getattr(config, "run", "latest") != "latest":
        raise UserError(f"--run {config.run}: makes something with a run, by --sample and the like; --resume trains on")
    if not (config.resume or config.uses_trained_run):
        return config
    field = "run" if config.uses_trained_run else "resume"
    folder = _find(config_class, getattr(config, field), Path(config.output_dir))
    stored = read_config(config_class, folder)
    config = cli.parse(config_class, argv, description, defaults=stored)
    if different := cli.contradictions(config, stored):
        way_out = "name another run by --run, or train one" if config.uses_trained_run else "start a new run"
        raise UserError(f"{', '.join(different)}: cannot be changed for {folder}; leave it out, or {way_out}")
    return dataclasses.replace(config, **{field: str(folder)})


class StoredRun:
    """A run to make something with: no training data are needed for that.

    folder: where it lies. data_name, digest: what it was trained on; digests: of the network and of the guide that it
    dreamt with; channels, class_names: of pictures; alphabet: of text. settings: its config's, by name.
    """

    def __init__(self, folder: str | Path):
        """Read the config.json in `folder`. Raises UserError if it cannot be read."""
        self.folder = Path(folder)
        description = _description(self.folder)
        data, self.settings = description["data"], description["settings"]
        self.data_name, self.digest = data["name"], data["digest"]
        self.digests = {part: data.get(f"{part}_digest", "") for part in ("network", "guide")}
        self.extent = f"{data.get('pictures', 0):,} pictures"
        self.channels, self.class_names = data.get("channels", 0), tuple(data.get("class_names", ()))
        self.alphabet = data.get("alphabet", "")
        if self.alphabet:
            self.extent = f"{data['characters']:,} characters"

    def restore(self, kept: str = "checkpoints", **saved) -> None:
        """Set models, by name, to what the newest checkpoint holds; kept: the folder that it is in.

        Raises UserError if there is none.
        """
        if checkpoints.restore(self.folder / kept, saved) is None:
            raise UserError(f"{self.folder} has no checkpoint yet; train it further with --resume {self.folder}")

    def arrays(self, name: str) -> dict[str, np.ndarray]:
        """Return what the end of the training wrote as the .npz file `name`. Raises UserError if it cannot be read."""
        path = self.folder / name
        if not path.exists():
            raise UserError(f"{path} is written when the training ends; end it with --resume {self.folder}")
        try:
            return files.read_npz(path)
        except ValueError as error:
            raise UserError(f"{path} is damaged ({error}); write it anew with --resume {self.folder}") from None

    def check_data(self, data) -> None:
        """Raise UserError if `data` is not what the run was trained on."""
        if data.digest != self.digest:
            raise UserError(
                f"{self.folder} was trained on other data ({self.data_name}, {self.extent}) "
                f"than {data.name} ({data.extent}); {data.flag} can name the former"
            )

    def labels(self, config, count: int) -> np.ndarray:
        """Return `count` labels: all of the class that `--label` names, else of all classes in turn.

        All 0 without `--conditional`. Raises UserError if the run knows no such class.
        """
        known = self.class_names if config.conditional else ()
        if not config.label:
            return np.resize(np.arange(max(len(known), 1)), count)
        if config.label not in known:
            what = ", ".join(known) or "none, as it was trained without --conditional"
            raise UserError(f"--label {config.label}: the run's classes are: {what}")
        return np.full(count, known.index(config.label))

    @property
    def generated(self) -> Path:
        """The folder for what is made after training; it is made when asked for."""
        path = self.folder / "generated"
        with files.told_in_one_line(path):
            path.mkdir(exist_ok=True)
        return path

    def save_samples(self, images: np.ndarray, labels: np.ndarray | None = None) -> None:
        """Write uint8 images (N, height, width, channels), and labels if given, as samples.npz, and a grid of them.

        Of several classes the grid has a row for each, with its name.
        """
        shown = np.arange(min(len(images), MOST_SHOWN))
        columns, row_names = int(np.ceil(np.sqrt(len(shown)))), ()
        classes, counts = np.unique(labels[shown] if labels is not None else 0, return_counts=True)
        if len(classes) > 1:
            columns, row_names = counts.min(), [self.class_names[label] for label in classes]
            shown = np.concatenate([shown[labels[shown] == label][:columns] for label in classes])
        pictures.save_png(self.generated / "grid.png", pictures.grid(images[shown], columns, row_names))
        with files.whole(self.generated / "samples.npz") as file:
            np.savez_compressed(file, images=images, **({} if labels is None else {"labels": labels}))

    def save_reconstructions(self, paths, columns: dict[str, np.ndarray], errors, training_errors) -> None:
        """Write and tell the squared errors of the user's pictures, the largest first, and which of them are odd.

        paths: (N,). columns: what to show of each, uint8 (N, height, width, channels), by the columns' names.
        errors: (N,). training_errors: those of the training pictures, to compare with; None if they are of another
        kind.
        """
        is_comparable = training_errors is not None
        shares = np.searchsorted(np.sort(training_errors), errors) / len(training_errors) if is_comparable else None
        order, rows = np.argsort(-errors), []
        for index in order:
            row = {"file": str(paths[index]), "squared_error": round(float(errors[index]), 3)}
            if is_comparable:
                row["training_pictures_with_less"] = round(float(shares[index]), 4)
            rows.append({**row, "odd": is_comparable and bool(shares[index] >= ODD)})
        files.write_json(self.generated / "reconstructions.json", rows)
        print("squared error   more than that of   file")
        for row in rows:
            share = f"{row['training_pictures_with_less']:.1%} of training" if is_comparable else "-"
            print(f"{row['squared_error']:13.2f}   {share:>17}   {row['file']}{'   ODD' if row['odd'] else ''}")
        rows, order = rows[:MOST_ROWS], order[:MOST_ROWS]
        images = np.stack(list(columns.values()), axis=1)[order]
        names = [f"{row['squared_error']:.1f}  {Path(row['file']).name}{'  odd' if row['odd'] else ''}" for row in rows]
        table = pictures.table(images, list(columns), names, [row["odd"] for row in rows])
        pictures.save_png(self.generated / "reconstructions.png", table)

    def save_walk(self, frames: np.ndarray) -> None:
        """Write the images of 16 walkers, uint8 (64, 16, height, width, channels), as walk.gif and walk.png."""
        pictures.save_gif(self.generated / "walk.gif", [pictures.grid(images, 4) for images in frames])
        rows = frames[:17, :8].swapaxes(0, 1)  # (8 walkers, 17 steps, height, width, channels)
        pictures.save_png(self.generated / "walk.png", pictures.grid(np.concatenate(rows), 17))


def _description(folder: Path) -> dict:
    """Return what config.json holds, once it is known to have the form in which `_open` writes it."""
    path = folder / "config.json"
    try:
        description = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} cannot be read: {error}") from None
    is_text = isinstance(description, dict) and "alphabet" in (description.get("data") or ())
    for keys, kind in (_FORM | (_TEXT if is_text else _PICTURES)).items():
        value = description
        for key in keys:
            value = value.get(key) if isinstance(value, dict) else None
        if not isinstance(value, kind):
            raise UserError(f"{path} is damaged: its {'.'.join(keys)} is {value!r:.40}")
    return description


_FORM = {
    ("script",): str,
    ("settings",): dict,
    ("data", "name"): str,
    ("data", "digest"): str,
}
_PICTURES = {("data", "pictures"): int, ("data", "channels"): int, ("data", "class_names"): list}
_TEXT = {("data", "characters"): int, ("data", "alphabet"): str}


def _find(config_class: type, reference: str, output_dir: Path) -> Path:
    script = cli.script_name(config_class)
    if reference != "latest":
        if not files.exists(Path(reference) / "config.json"):
            raise UserError(f"{reference} holds no run: no config.json in it")
        path = Path(reference)  # of the link "latest" its target: the link moves when another run begins
        return path.parent / path.readlink() if path.is_symlink() else path
    parent = output_dir / script
    if files.exists(parent / "latest" / "config.json") and (parent / "latest").is_symlink():
        return parent / (parent / "latest").readlink()
    found = sorted(parent.glob("[!.]*/config.json"), key=lambda path: path.stat().st_mtime)
    if not found:
        raise UserError(f"there is no run in {parent} yet; start one with: python {script}.py")
    return found[-1].parent


def read_config(config_class: type, folder: Path):
    """Return the config of a run. Raises UserError if it is damaged, or one of another script or version."""
    description = _description(folder)
    script, settings = description["script"], description["settings"]
    if script != cli.script_name(config_class):
        raise UserError(f"{folder} is a run of {script}.py, not of {cli.script_name(config_class)}.py")
    known = {field.name: field.default for field in dataclasses.fields(config_class)}
    settings = {name: tuple(it) if isinstance(it, list) else it for name, it in settings.items()}  # JSON has no tuples
    if unknown := settings.keys() - known.keys():
        raise UserError(f"{folder} was made by another version of {script}.py, with --{sorted(unknown)[0]}")
    for field, value in settings.items():
        if type(value) is not type(known[field]) and (type(value), type(known[field])) != (int, float):
            raise UserError(f"{folder / 'config.json'} is damaged: its settings.{field} is {value!r:.40}")
    stored = config_class(**{name: it for name, it in settings.items() if name not in cli.of_one_command(config_class)})
    cli.check_values(stored)
    return stored
