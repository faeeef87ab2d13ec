"""The training run: its loop, its clock, and what happens when it is interrupted or resumed."""

import operator
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from common import checkpoints, files, interruption, pictures, progress, run_folder, run_log, streams, tables
from common.device_data import Gatherer
from common.devices import Device
from common.errors import UserError
from common.interruption import Interrupted
from common.run_display import Display
from common.run_schedule import Schedule, epochs_of, steps_per_call
from common.saved_runs import SavedRun

__all__ = ["Interrupted", "Run", "epochs_of"]

LOG_EVERY = 50  # steps; a row of metrics.csv is the mean over them


class Run:
    """A training run, used as a context manager around the loop.

    folder: its files. step: the number of steps done. seconds: the time spent in training.
    """

    def __init__(self, config, device: Device, data, default_steps: int, *, keeps_start=False, lazy=None, **saved):
        """Start a run, or continue the one that `config.resume` names.

        data: what it is trained on, datasets.Images or text.Text.
        default_steps: how long to train if `config.epochs` is 0, rounded up to whole epochs.
        keeps_start: whether a new run begins with a checkpoint, because `saved` does not start as the seed implies.
        lazy: by name, n for a loss that is computed at every n-th step only, as for `run_log.PendingLosses`.
        saved: the models and optimizers that make up its state, by name; all must be built.
        Raises UserError if the folder exists or cannot be written, or if the run has other data or networks.
        """
        self.config, self.device, self.data = config, device, data
        self.step, self.seconds, self._steps_per_call, self._saved_step = 0, 0.0, 1, -1
        self._saved = {**saved, "step": tf.Variable(0, dtype=tf.int64, trainable=False)}
        self._gather = Gatherer() if device.gathers_data else operator.getitem
        self._losses = run_log.PendingLosses(lambda: checkpoints.kept_in(self.folder / "checkpoints"), lazy or {})
        self._schedule = Schedule.of(config, data.steps(config), default_steps)
        self._signal, self._is_stopped, self._result, self._warned = None, False, "final.png", set()
        if config.minutes and device.machines > 1:
            raise UserError("--minutes: several machines would not stop at the same step; give --epochs")
        if config.tensorboard:
            run_log.check_tensorboard()
        if config.resume:
            self._resume()
        else:
            self._create(keeps_start)
        print(f"run: {self.folder}", flush=True)

    def __enter__(self) -> "Run":
        self._handling = interruption.handled_by(self._on_signal)
        self._handling.__enter__()
        self._display = Display()
        self._display.start()
        self._clock = self._logged_at = time.monotonic()
        self._first_step = self._logged_step = self.step
        return self

    def __exit__(self, kind, error, trace) -> None:
        progress.stop_all()
        self._display.stop()
        steps = "1 step" if self.step == 1 else f"{self.step:,} steps"
        try:
            if kind is None or kind is Interrupted:
                with progress.phase("saving, drawing samples.gif and curves.png", is_stoppable=False):
                    self._save()
                    self._records.draw()
            command = interruption.resume_command(self.config, self.folder)
            if kind is Interrupted:
                print(f"stopped after {steps}; continue with: {command}", flush=True)
            elif kind is None:
                print(f"done: {steps} in {self.seconds / 60:.1f} minutes; see {self.folder / self._result}", flush=True)
            elif self._saved_step > 0 and kind is not UserError:
                print(f"continue from step {self._saved_step:,} with: {command}", flush=True)
        finally:
            self._handling.__exit__(None, None, None)  # last, so that no signal cuts the saving short
            self._lock.close()
        if kind is None and self._signal:  # it arrived after the last step: everything is saved, exit with its status
            raise Interrupted(self._signal)

    # The loop

    def epochs(self) -> Iterator[int]:
        """Yield the numbers of the remaining epochs, until the last one or `config.minutes` are over."""
        for epoch in range(self.step // self._schedule.steps_per_epoch, self._schedule.epochs):
            if self._is_over() or self._is_stopped:
                break
            yield epoch
        self._display.stop()  # what follows, such as validating, shows itself
        if self._schedule.is_out_of_time(self.seconds) and self.step > self._first_step:
            print(f"--minutes {self.config.minutes:g}: the time is up; what follows finishes the run", flush=True)

    def batches(self, epoch: int) -> Iterator[tuple]:
        """Yield the remaining batches of `epoch`, several at a time, for `Device.compile`'s function to train on.

        For pictures, yields images, labels and the numbers of the steps: uint8 (steps, batch, height, width, channels),
        int32 (steps, batch) and int32 (steps,). Then it counts the steps, saves a checkpoint that is due, and leaves
        the loop after a signal.
        """
        begin = epoch * self._schedule.steps_per_epoch
        while self.step < begin + self._schedule.steps_per_epoch:
            until_due = self._schedule.steps_until_due(self.step, self.config.checkpoint_every)
            count = min(self._steps_per_call, LOG_EVERY - len(self._losses), until_due)
            self._coming = np.arange(self.step, self.step + count, dtype=np.int32)
            batches = self.data.batches(self.config, epoch, self.step - begin, count, self._gather)
            yield *self.device.shard(*batches), tf.convert_to_tensor(self._coming)
            self.step += count
            self._display.move(self._schedule.place(epoch, self.step), self._schedule.progress(self.step, self.seconds))
            if self.step % self.config.checkpoint_every == 0:
                self._save()
            if self._signal:
                raise Interrupted(self._signal)
            if self._is_over():
                return

    def log(self, losses: dict) -> None:
        """Record the losses of steps by name, each (steps,); every 50 steps their means become a row of metrics.csv.

        Raises UserError, which names the step, if a loss is not finite; no checkpoint is made of it.
        """
        self._losses.add(losses)
        if len(self._losses) < LOG_EVERY:
            return
        step = self.step + len(self._coming)
        means = self._losses.take_means(last_step=step)  # waits for the device, so that the time includes all steps
        now = time.monotonic()
        steps_per_second = (step - self._logged_step) / (now - self._logged_at)
        is_first = self._logged_step == self._first_step  # and so includes the compilation
        self._logged_at, self._logged_step = now, step
        if self.device.replicas == 1:
            self._steps_per_call = steps_per_call(steps_per_second)
        self._count_seconds()
        rate = steps_per_second * self.data.per_step(self.config)
        row = {
            "epoch": self.step // self._schedule.steps_per_epoch + 1,
            "step": step,
            "seconds": round(self.seconds, 2),
            f"{self.data.unit}_per_second": round(rate, 1),
        }
        self._records.append("metrics.csv", row, means)
        time_left = "" if is_first else self._schedule.time_left(self.step, self.seconds, steps_per_second)
        self._display.report(f"{rate:,.0f} {self.data.unit}/s", means, time_left)

    @property
    def show_is_due(self) -> bool:
        """Whether samples should be shown before the next step: before the first, and every `show_every` steps."""
        return self.step % self.show_every == 0

    @property
    def show_every(self) -> int:
        """Steps between two samples; with `sample_every` 0, about an epoch."""
        return self._schedule.show_every

    def show(self, sheet: np.ndarray, text: str | None = None) -> None:
        """Write a grid of samples, uint8 (height, width, 3), and a text as the numbered files of this step."""
        self._records.show(self.step, sheet, text)

    def validated(self, **figures: float) -> None:
        """Record figures measured before the next step as a row of validation.csv, unless it is there already."""
        if self._records.last_row("validation.csv").get("step") != self.step:
            self._records.append("validation.csv", {"step": self.step, "seconds": round(self.seconds, 2)}, figures)

    def keep_best(self, **models: keras.Model) -> None:
        """Save models, by name, as the best so far, in the folder best/."""
        with files.as_user_error(self.folder / "best"):
            (self.folder / "best").mkdir(exist_ok=True)
        # A killed run resumes from its last checkpoint: what was the best then must still be there.
        checkpoints.save(self.folder / "best", self.step, models, needed=self._saved_step)

    def stop(self, reason: str) -> None:
        """Make this epoch the last, and print the reason."""
        print(reason, flush=True)
        self._is_stopped = True

    def warn(self, warnings: dict[str, str]) -> None:
        """Print each warning, by its kind, once in a run."""
        for kind, text in warnings.items():
            if kind not in self._warned:
                self._warned.add(kind)
                self._display.console.print(f"step {self.step}: {text}", highlight=False, soft_wrap=True)

    def finish(self, sheet: np.ndarray, text: str | None = None, **models: keras.Model) -> None:
        """Write final.png, and each model as `<name>.keras` for any Keras program."""
        self._losses.values(self.step)  # raises an error if the network has failed
        with progress.phase("saving the networks", is_stoppable=False):
            if self._saved_step != self.step:
                self._save()  # first: what follows may take long, or fail
            self.show(sheet, text)
            pictures.save_png(self.folder / "final.png", sheet)
            for name, model in models.items():
                checkpoints.save_model(self.folder / f"{name}.keras", model)
        if text is not None:
            self._result = "samples.txt"

    @property
    def progress(self) -> np.ndarray:
        """The fraction of the training that is over before each of the coming steps, float64 (steps,)."""
        return tf.constant([self._schedule.progress(step, self.seconds) for step in self._coming], tf.float64)

    @property
    def metrics(self) -> dict[str, float]:
        """The last row of metrics.csv; empty before the first."""
        return self._records.last_row("metrics.csv")

    # Starting and saving

    def _create(self, keeps_start: bool) -> None:
        def fill(folder: Path) -> None:
            self._open(folder)
            if keeps_start:
                self._write_checkpoint(folder)

        self.folder, self._lock = run_folder.create(self.config, fill, self.device.is_chief)
        self._open_records()

    def _open(self, folder: Path) -> None:
        """Write the folder's config.json, and make the folders in it."""
        for name in ("samples", "checkpoints"):
            (folder / name).mkdir(exist_ok=True)
        run_folder.write_config(folder, self.config, self.data.description, self.device)

    def _resume(self) -> None:
        self.folder = Path(self.config.resume)
        if not self.device.is_chief:
            self.folder = run_folder.private_copy(self.folder)
        self._lock = run_folder.reopen(self.folder, self._check)
        try:
            self._restore()
        except BaseException:
            self._lock.close()
            raise
        print(f"resumed after {self.step:,} steps", flush=True)
        if advice := self._schedule.advice_if_over(self.step, self.seconds):
            print(advice)

    def _check(self, run: SavedRun) -> None:
        run.check_data(self.data)
        if self.config.name != (name := run.settings.get("name", "")):
            raise UserError(
                f"--name {self.config.name}: {run.folder} keeps its name, {name or 'a time stamp'}; leave it out"
            )

    def _restore(self) -> None:
        """Return to the state of the newest checkpoint, of the networks and of the folder."""
        kept = checkpoints.restore(self.folder / "checkpoints", self._saved, checkpoints.check_run)
        if kept:
            self.step = int(self._saved["step"].numpy())
            self.seconds, self._saved_step = float(kept["seconds"]), self.step
            self._losses.restore(kept)
        # A validation that precedes the next step is repeated, so its row is dropped.
        validated = self.step - 1 if self.show_is_due else self.step
        rows = {
            table: tables.read(self.folder / table, step)
            for table, step in (("metrics.csv", self.step), ("validation.csv", validated))
        }
        self._open(self.folder)  # only now that no error can prevent the run from continuing
        self._open_records()
        self._records.go_back_to(self.step, rows)

    def _open_records(self) -> None:
        row_names = self.data.class_names if getattr(self.config, "conditional", False) else ()
        self._records = run_log.RunLog(self.folder, self.config.tensorboard, row_names)

    def _save(self) -> None:
        self._count_seconds()
        self._write_checkpoint(self.folder)
        self._saved_step = self.step

    def _write_checkpoint(self, folder: Path) -> None:
        self._saved["step"].assign(self.step)
        arrays = {"seconds": np.array(self.seconds), **self._losses.arrays(self.step)}
        checkpoints.save(folder / "checkpoints", self.step, self._saved, **arrays)

    def _is_over(self) -> bool:
        self._count_seconds()
        return self.step >= self._schedule.last_step or self._schedule.is_out_of_time(self.seconds)

    def _count_seconds(self) -> None:
        now = time.monotonic()
        self.seconds += now - self._clock
        self._clock = now

    def _on_signal(self, number, frame) -> None:
        if number != signal.SIGINT:
            streams.drop_lost_terminal()
        if self._signal:  # the second one: do not wait for the step
            raise KeyboardInterrupt
        self._signal = number
        if progress.is_stoppable():  # no step is being made: the networks are as the last one left them
            raise Interrupted(number)
