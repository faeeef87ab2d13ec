"""A run's folder: its settings, metrics, progress and pictures, and what happens when it is interrupted."""

import contextlib
import csv
import dataclasses
import io
import itertools
import os
import platform
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

import keras
import numpy as np
import tensorflow as tf
from rich.progress import BarColumn, Progress, TextColumn

from common import checkpoints, cli, files, pictures, stored
from common.cli import UserError
from common.devices import Device

LOG_EVERY = 50  # steps; a row of metrics.csv is the mean over them
UNTIL_TIME_IS_UP = 10**9  # steps, where only the minutes count
MOST_EPOCHS = 100_000  # more than are meant, where only the minutes count
MOST_STEPS_UNSEEN = 1000  # between two samples, if they come once an epoch
MOST_SAMPLES, LEAST_STEPS_UNSEEN = 100, 20  # of such a run; the second where only the minutes count


def epochs_of(config, steps_per_epoch: int, default_steps: int) -> int:
    """Return for how many epochs `config` trains: with `--epochs 0`, the fewest whole ones of `default_steps`."""
    return config.epochs or -(-default_steps // steps_per_epoch)


def steps_of(config, default_steps: int) -> int:
    """Return for how many steps `config` trains with `--epochs 0`: with `--minutes`, until they are over."""
    return UNTIL_TIME_IS_UP if config.minutes else default_steps


def create_folder(config, fill: Callable[[Path], None], is_chief: bool = True) -> tuple[Path, BinaryIO]:
    """Make the folder of a new run, which appears with all that `fill` writes into it; `latest` then points to it.

    Returns the folder and its lock, to be closed at the end. Raises UserError if it exists or cannot be written.
    """
    parent = Path(config.output_dir if is_chief else tempfile.mkdtemp()) / cli.script_name(type(config))
    folder = parent / (config.name or _unused_time(parent))
    taken = f"{folder} exists; go on with it by --resume {folder}, or choose another --name"
    if folder.parent != parent or folder.name.startswith(".") or folder.name == "latest":
        raise UserError(f"--name {config.name}: must be a plain name, and not 'latest'")
    with files.told_in_one_line(parent):
        if folder.exists():
            raise UserError(taken)
        parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=parent))
    lock = None
    try:
        lock = files.lock(partial)
        with files.told_in_one_line(folder):
            partial.chmod(0o755)
            fill(partial)
        try:
            partial.rename(folder)
        except OSError:
            raise UserError(taken) from None
    except BaseException:
        if lock:
            lock.close()
        shutil.rmtree(partial, ignore_errors=True)
        raise
    link = parent / f".latest.{os.getpid()}"
    with contextlib.suppress(OSError):  # Windows allows links to administrators only
        link.symlink_to(folder.name)
        link.replace(parent / "latest")
    return folder, lock


def _unused_time(parent: Path) -> str:
    """Return the time as a folder's name, with a number behind it if a run of the same second has it already."""
    name = datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    names = (f"{name}_{number}" if number > 1 else name for number in itertools.count(1))
    return next(name for name in names if not (parent / name).exists())


def write_config(folder: Path, config, data: dict, device: Device) -> None:
    """Write config.json: the settings, what is known of the data, the device, the versions."""
    description = {
        "script": cli.script_name(type(config)),
        "settings": dataclasses.asdict(dataclasses.replace(config, resume="")),
        "data": data,
        "device": device.description,
        "versions": {
            "python": platform.python_version(),
            "tensorflow": tf.__version__,
            "keras": keras.__version__,
        },
    }
    files.write_json(folder / "config.json", description)


@contextlib.contextmanager
def folder(config, data: dict, device: Device) -> Iterator[Path]:
    """The folder of a run without a training loop: a new one, or that of `config.resume`, locked until the block ends.

    data: what config.json tells of it. Raises UserError if it cannot be had, or was made from other data.
    """
    if config.resume:
        path = Path(config.resume)
        run = stored.StoredRun(path)
        if run.digest != data["digest"]:
            raise UserError(f"{path} was made from another picture ({run.data_name}) than {data['name']}")
        for part in ("network", "guide"):
            if run.digests[part] != data[f"{part}_digest"]:
                raise UserError(f"{path} was made with another {part}: its file has changed since; start a new dream")
        lock = files.lock(path)
        _remove_leftovers(path)
    else:
        path, lock = create_folder(config, lambda new: write_config(new, config, data, device))
    print(f"run: {path}", flush=True)
    try:
        yield path
    except KeyboardInterrupt:
        print(f"stopped; go on with --resume {path}", flush=True)
        raise
    except UserError:
        if not config.resume and {it.name for it in path.iterdir()} <= {"config.json", files.LOCK}:  # nothing was made
            shutil.rmtree(path, ignore_errors=True)
        raise
    finally:
        lock.close()


def _remove_leftovers(folder: Path) -> None:
    """Delete what a process that was killed had begun to write."""
    for path in folder.rglob(".*.part*"):
        path.unlink(missing_ok=True)


class Interrupted(SystemExit):
    """Leaves a training loop after Ctrl-C or SIGTERM, between two steps."""


class Run:
    """A training run: used as a context manager around the loop.

    folder: where its files are. step: a variable, the number of training steps done.
    """

    def __init__(self, config, device: Device, data, default_steps: int, *, keeps_start: bool = False, **saved):
        """Start a run, or go on with the one that `config.resume` names.

        default_steps: how long to train if `config.epochs` is 0, rounded up to whole epochs, unless one is longer.
        data: what it is trained on, pictures (datasets.Images) or text (text.Text).
        keeps_start: whether a new run begins with a checkpoint, as the settings alone do not tell how `saved` began.
        saved: the models and optimizers that make up its state, by name; all must be built.
        Raises UserError if the folder exists or cannot be written, or if its data or network are not these.
        """
        self.config, self.device, self.data = config, device, data
        self.step = tf.Variable(0, dtype=tf.int64, trainable=False)
        self.seconds = 0.0
        self._saved = {**saved, "step": self.step}
        self._pending: list[dict] = []
        self._warned: set[str] = set()
        self._signal, self._is_stopped = None, False
        self._steps_per_epoch = data.steps(config)
        self._default_steps = steps_of(config, default_steps)
        self._epochs = epochs_of(config, self._steps_per_epoch, self._default_steps)
        self._lock, self._saved_step, self._keeps_start = None, -1, keeps_start
        if config.minutes and device.machines > 1:
            raise UserError("--minutes: several machines would not stop at the same step; give --epochs")
        try:
            if config.resume:
                self.folder = Path(config.resume)
                self._resume()
            else:
                self.folder = self._create()
        except BaseException:
            if self._lock:
                self._lock.close()
            raise
        print(f"run: {self.folder}", flush=True)

    def __enter__(self) -> "Run":
        self._old_handlers = {number: signal.signal(number, self._on_signal) for number in _SIGNALS}
        self._bar = Progress(
            TextColumn("epoch {task.fields[epoch]}"),
            BarColumn(bar_width=None),
            TextColumn("{task.fields[status]}"),
            disable=not sys.stdout.isatty(),
        )
        self._bar.start()
        self._task = self._bar.add_task("", total=1.0, completed=self.progress, epoch="", status="")
        self._clock = self._logged_at = time.monotonic()
        self._logged_step = self._done
        return self

    def __exit__(self, kind, error, trace) -> None:
        self._bar.stop()
        try:
            if kind is None or kind is Interrupted:
                self._save()
                self._draw()
            if kind is Interrupted:
                print(f"stopped after {self._done} steps; go on with --resume {self.folder}", flush=True)
            elif kind is None:
                final = self.folder / "final.png"
                print(f"done: {self._done} steps in {self.seconds / 60:.1f} minutes; look at {final}", flush=True)
        finally:
            for number, handler in self._old_handlers.items():  # so late that a signal does not cut the saving short
                signal.signal(number, handler)
            self._lock.close()
        if kind is None and self._signal:  # it came when all was trained: nothing is lost, but the caller wants to know
            raise Interrupted(128 + self._signal)

    # The loop

    def epochs(self) -> Iterator[int]:
        """Yield the numbers of the epochs that are left, until the epochs or `config.minutes` are over."""
        for epoch in range(self._done // self._steps_per_epoch, self._epochs):
            if self._out_of_time or self._is_stopped or self._done >= self._last_step:
                break
            yield epoch
            if not sys.stdout.isatty():
                print(f"epoch {self._name(epoch)}  step {self._done}  {self._status}", flush=True)

    def batches(self, epoch: int) -> Iterator[tuple]:
        """Yield what is left of the batches of `epoch`: of pictures their images and labels, uint8 and int32.

        Between two batches it counts the step, saves what is due, and leaves the loop if a signal came.
        """
        for batch in self.data.batches(self.config, epoch, first=self._done - epoch * self._steps_per_epoch):
            yield self.device.share(*batch)
            self.step.assign_add(1)
            self._bar.update(self._task, completed=self.progress, epoch=self._name(epoch))
            if self._done % self.config.checkpoint_every == 0:
                self._save()
            if self._signal:
                raise Interrupted(128 + self._signal)
            if self._out_of_time or self._done >= self._last_step:
                return

    def log(self, losses: dict) -> None:
        """Take note of a step's losses, scalars by name; every 50 steps their means become a row of metrics.csv.

        Raises UserError at a loss that is not finite, and tells the step; no checkpoint is made of it.
        """
        self._pending.append(losses)
        if len(self._pending) < LOG_EVERY:
            return
        means = dict(zip(losses, self._pending_values().mean(axis=0).tolist(), strict=True))
        self._pending.clear()
        now, step = time.monotonic(), self._done + 1
        rate = (step - self._logged_step) * self.data.per_step(self.config) / (now - self._logged_at)
        self._logged_at, self._logged_step = now, step
        self._count_seconds()
        row = {
            "epoch": self._done // self._steps_per_epoch + 1,
            "step": step,
            "seconds": round(self.seconds, 2),
            f"{self.data.unit}_per_second": round(rate, 1),
            **means,
        }
        self._append("metrics.csv", row)
        self._status = self._describe(rate, means)
        self._bar.update(self._task, status=self._status)
        if self._board:
            with self._board.as_default(step=step):
                for name, mean in means.items():
                    tf.summary.scalar(name, mean)

    @property
    def show_is_due(self) -> bool:
        """Whether samples should be shown before the coming step: before the first, and each `sample_every`."""
        return self._done % self.show_every == 0

    @property
    def show_every(self) -> int:
        """Steps between two samples: with `sample_every` 0 about an epoch's."""
        if self.config.sample_every:
            return self.config.sample_every
        # Of a small text an epoch is soon over: no more than about a hundred samples, or one in twenty steps.
        least = LEAST_STEPS_UNSEEN if self.config.minutes else self._last_step // MOST_SAMPLES
        return max(min(self._steps_per_epoch, MOST_STEPS_UNSEEN), least)

    def validated(self, **figures: float) -> None:
        """Keep figures that were measured before the coming step as a row of validation.csv, unless they are there."""
        if any(int(row["step"]) == self._done for row in self._rows("validation.csv")[-1:]):
            return
        row = {"step": self._done, "seconds": round(self.seconds, 2), **figures}
        self._append("validation.csv", row)
        if self._board:
            with self._board.as_default(step=self._done):
                for name, figure in figures.items():
                    tf.summary.scalar(name, figure)

    def keep_best(self, **models: keras.Model) -> None:
        """Save models, by name, as the best that there were so far, in the folder best/."""
        with files.told_in_one_line(self.folder / "best"):
            (self.folder / "best").mkdir(exist_ok=True)
        # A run that is killed now goes on from its last checkpoint: what was the best then must still be there.
        checkpoints.save(self.folder / "best", self._done, models, needed=self._saved_step)

    def stop(self, why: str) -> None:
        """Let this epoch be the last, and tell why."""
        print(why, flush=True)
        self._is_stopped = True

    @property
    def progress(self) -> float:
        """How much of the training is over, from 0 to 1: of its steps or, if that is more, of its minutes."""
        minutes = self.config.minutes
        return min(max(self._done / self._last_step, minutes and self.seconds / 60 / minutes), 1.0)

    def show(self, sheet: np.ndarray, text: str | None = None) -> None:
        """Keep a grid of samples, uint8 (height, width, 3), as the numbered picture of this step, and a text."""
        pictures.save_png(self.folder / "samples" / f"step_{self._done:08d}.png", sheet)
        if text is not None:
            with files.whole(self.folder / "samples" / f"step_{self._done:08d}.txt") as file:
                file.write(text.encode("utf-8", "replace"))
            self._collect_texts()
        if self._board:
            with self._board.as_default(step=self._done):
                tf.summary.image("samples", sheet[None])

    def warn(self, kind: str, text: str) -> None:
        """Print a line about something that looks wrong, once a run for each kind."""
        if kind not in self._warned:
            self._warned.add(kind)
            self._bar.console.print(f"step {self._done}: {text}", highlight=False, soft_wrap=True)

    def look_for_trouble(
        self,
        images: np.ndarray,
        labels=None,
        loss: str | None = "discriminator_loss",
        alike: str = "mode collapse; another --seed or a smaller --learning_rate may help",
    ) -> None:
        """Tell the user of two ways of failing that look harmless in the losses.

        images: samples, uint8 (N, height, width, channels). labels: their classes (N,), if they were asked for. loss:
        which one means, near zero, that a network has nothing left to learn, and the other nothing to learn from it;
        None if none does. alike: what it is called, and what helps, if all images are alike.
        """
        metrics = self.metrics  # read from the file
        if loss and metrics.get(loss, 1.0) < 0.02:
            self.warn(
                "discriminator wins",
                f"the {loss.replace('_', ' ')} is near zero: the discriminator tells all images apart, and the "
                "generator learns nothing from it; a smaller --learning_rate or more pictures may help",
            )
        chosen = np.random.default_rng(0).permutation(len(self.data.images))[:1000]
        real_labels = None if labels is None else self.data.labels[chosen]
        if metrics and _variety(images, labels) < 0.25 * _variety(self.data.images[chosen], real_labels):
            self.warn("alike", f"the samples are all alike: {alike}")

    def finish(self, sheet: np.ndarray, text: str | None = None, **models: keras.Model) -> None:
        """Write final.png, and each model as `<name>.keras` for any Keras program."""
        self._pending_values()  # nothing is made of a network that has failed
        if self._saved_step != self._done:
            self._save()  # first: what follows may take long, or fail
        self.show(sheet, text)
        pictures.save_png(self.folder / "final.png", sheet)
        for name, model in models.items():
            checkpoints.save_model(self.folder / f"{name}.keras", model)

    @property
    def metrics(self) -> dict[str, float]:
        """The last row of metrics.csv; empty before the first."""
        rows = self._rows("metrics.csv")
        return {name: float(value) for name, value in rows[-1].items()} if rows else {}

    # Starting

    def _create(self) -> Path:
        def fill(folder: Path) -> None:
            self._open(folder)
            if self._keeps_start:
                self._write_checkpoint(folder)

        folder, self._lock = create_folder(self.config, fill, self.device.is_chief)
        return folder

    def _open(self, folder: Path) -> None:
        """Write the folder's config.json, and make what else it lacks."""
        for inner in ("samples", "checkpoints"):
            (folder / inner).mkdir(exist_ok=True)
        write_config(folder, self.config, self.data.description, self.device)
        self._board = _tensorboard(folder / "tensorboard") if self.config.tensorboard else None
        self._status = ""

    def _resume(self) -> None:
        if not self.device.is_chief:  # reads the chief's files, and writes into a folder that nobody looks at
            source, self.folder = self.folder, Path(tempfile.mkdtemp())
            shutil.copytree(source, self.folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns(".*", "*.png"))
        folder = self.folder
        run = stored.StoredRun(folder)
        run.check_data(self.data)
        if self.config.name != (name := run.settings.get("name", "")):
            raise UserError(f"--name {self.config.name}: {folder} keeps its name, {name or 'a time'}; leave it out")
        self._lock = files.lock(folder)
        _remove_leftovers(folder)
        kept = checkpoints.restore(folder / "checkpoints", self._saved)
        if kept:
            self.seconds, self._saved_step = float(kept["seconds"]), self._done
            self._pending = [dict(zip(kept["losses"], values, strict=True)) for values in kept["pending"]]
        # What was measured before the step that comes next is measured again.
        validated = self._done - 1 if self.show_is_due else self._done
        rows = {
            name: self._rows(name, until)
            for name, until in (("metrics.csv", self._done), ("validation.csv", validated))
        }
        self._open(folder)  # only now that nothing speaks against going on
        for name, kept_rows in rows.items():
            if (folder / name).exists():
                with files.whole(folder / name) as file:
                    file.write(_csv(kept_rows))
        for path in self._numbered("samples/step_*.*") + self._numbered("best/step_*.npz"):
            if checkpoints.step_of(path) > self._done:
                path.unlink()
        self._collect_texts()
        print(f"resumed after {self._done} steps", flush=True)
        if self._minutes_are_over:
            print(f"its {self.config.minutes:g} minutes are over; to train on give more --minutes, or 0 and --epochs")
        elif self.progress >= 1.0:
            print(f"its epochs, {self._epochs}, are over; to train on give more --epochs")

    # Saving

    def _save(self) -> None:
        self._count_seconds()
        self._write_checkpoint(self.folder)
        self._saved_step = self._done

    def _write_checkpoint(self, folder: Path) -> None:
        names = list(self._pending[0]) if self._pending else []
        checkpoints.save(
            folder / "checkpoints",
            self._done,
            self._saved,
            seconds=np.array(self.seconds),
            losses=np.array(names, dtype=str),
            pending=self._pending_values(),
        )

    def _pending_values(self) -> np.ndarray:
        """The losses not yet in metrics.csv (steps, losses), checked to be finite."""
        values = np.array([[float(value) for value in losses.values()] for losses in self._pending], np.float32)
        for index, losses in enumerate(values):
            if not np.isfinite(losses).all():
                step = self._done - len(values) + index + 1
                name = next(name for name, value in self._pending[index].items() if not np.isfinite(value))
                raise UserError(
                    f"{name} is not finite at step {step}; checkpoints before it are in {self.folder / 'checkpoints'}; "
                    "a smaller --learning_rate may help"
                )
        return values

    def _draw(self) -> None:
        """Make the GIF of the grids so far and the curves of the losses."""
        if samples := self._numbered("samples/step_*.png"):
            pictures.save_gif_of_files(self.folder / "samples.gif", samples)
        tables = [self.folder / name for name in ("metrics.csv", "validation.csv") if (self.folder / name).exists()]
        pictures.save_curves(self.folder / "curves.png", tables)

    def _collect_texts(self) -> None:
        """Write the numbered texts, if there are any, one after the other as samples.txt."""
        if texts := self._numbered("samples/step_*.txt"):
            with files.whole(self.folder / "samples.txt") as file:
                for path in texts:
                    file.write(f"--- {path.stem.replace('_', ' ')} ---\n".encode() + path.read_bytes() + b"\n\n")

    def _numbered(self, pattern: str) -> list[Path]:
        """The run's files of steps, in order, without such as a file manager's "step_00000200 copy.png"."""
        return sorted(path for path in self.folder.glob(pattern) if path.stem.removeprefix("step_").isdecimal())

    def _append(self, name: str, row: dict) -> None:
        path = self.folder / name
        with files.told_in_one_line(path), path.open("ab") as file:
            file.write(_csv([row], header=file.tell() == 0))

    def _rows(self, name: str, until: float = np.inf) -> list[dict]:
        """The whole rows of a table up to a step; a row that a killed process left unfinished is dropped.

        Raises UserError if the table is damaged.
        """
        path = self.folder / name
        if not path.exists():
            return []
        text = path.read_text()
        try:
            return [
                row for row in csv.DictReader(io.StringIO(text[: text.rfind("\n") + 1])) if int(row["step"]) <= until
            ]
        except (ValueError, KeyError, TypeError, csv.Error) as error:
            raise UserError(f"{path} is damaged ({error}); move it away to go on without") from None

    # Time

    @property
    def _done(self) -> int:
        return int(self.step.numpy())

    @property
    def _last_step(self) -> int:
        if not self.config.epochs and self._epochs == 1:  # an epoch of much data is longer than is asked for
            return min(self._steps_per_epoch, self._default_steps)
        return self._epochs * self._steps_per_epoch

    @property
    def _out_of_time(self) -> bool:
        self._count_seconds()
        return self._minutes_are_over

    @property
    def _minutes_are_over(self) -> bool:
        return 0 < self.config.minutes * 60 <= self.seconds

    def _count_seconds(self) -> None:
        now = time.monotonic()
        self.seconds += now - self._clock
        self._clock = now

    def _name(self, epoch: int) -> str:
        return f"{epoch + 1}" if self._epochs > MOST_EPOCHS else f"{epoch + 1}/{self._epochs}"

    def _describe(self, rate: float, means: dict) -> str:
        left = (self._last_step - self._done) * self.data.per_step(self.config) / rate
        if self.config.minutes:
            left = min(left, self.config.minutes * 60 - self.seconds)
        losses = "  ".join(f"{name} {mean:.3f}" for name, mean in means.items())
        return f"{rate:,.0f} {self.data.unit}/s  {losses}  {int(left) // 60}:{int(left) % 60:02d} left"

    def _on_signal(self, number, frame) -> None:
        if self._signal:  # asked twice: do not wait for the step
            raise KeyboardInterrupt
        self._signal = number


_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def _variety(images: np.ndarray, labels: np.ndarray | None) -> float:
    """Return by how much pixels differ between images (N, …), or between those of the same class: 0 to 128."""
    groups = [images] if labels is None else [images[labels == label] for label in np.unique(labels)]
    return float(np.mean([group.std(axis=0).mean() for group in groups if len(group) > 1] or [0.0]))


def _csv(rows: list[dict], header: bool = True) -> bytes:
    if not rows:
        return b""
    text = io.StringIO()
    writer = csv.DictWriter(text, rows[0].keys(), lineterminator="\n")
    if header:
        writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def _tensorboard(folder: Path):
    try:
        import tensorboard  # noqa: F401  # tf.summary works only where it is installed
    except ImportError:
        raise UserError("--tensorboard: needs its package; install it with: pip install tensorboard") from None
    return tf.summary.create_file_writer(str(folder))
