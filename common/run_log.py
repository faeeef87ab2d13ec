"""What a training run records in its folder: tables of losses, samples, texts, curves and TensorBoard events."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from common import checkpoints, files, lettering, pictures, tables
from common.errors import UserError

TABLES = ("metrics.csv", "validation.csv")


class RunLog:
    """The records of a run in `folder`; every change reaches the disk at once."""

    def __init__(self, folder: Path, tensorboard: bool, row_names: Sequence[str] = ()):
        """tensorboard: also write TensorBoard events, once `check_tensorboard` has raised no error.

        row_names: those in the grids of samples.
        """
        self.folder, self._row_names = folder, row_names
        self._last_rows = {}  # by table
        self._board = tf.summary.create_file_writer(str(folder / "tensorboard")) if tensorboard else None

    def append(self, table: str, row: dict, scalars: dict[str, float]) -> None:
        """Append `row` and `scalars` as one row to a table, and the scalars to TensorBoard's events."""
        path = self.folder / table
        with files.as_user_error(path), path.open("ab") as file:
            file.write(tables.as_csv([{**row, **scalars}], header=file.tell() == 0))
        self._last_rows[table] = {**row, **scalars}
        if self._board:
            with self._board.as_default(step=row["step"]):
                for name, value in scalars.items():
                    tf.summary.scalar(name, value)

    def last_row(self, table: str) -> dict[str, float]:
        """Return the last row of a table; empty if there is none."""
        return {name: float(value) for name, value in self._last_rows.get(table, {}).items()}

    def show(self, step: int, sheet: np.ndarray, text: str | None) -> None:
        """Write a grid of samples, uint8 (height, width, 3), and a text as the numbered files of a step."""
        sample = self.folder / "samples" / f"step_{step:08d}"
        pictures.save_png(sample.with_suffix(".png"), sheet)
        if text is not None:
            files.write_text(sample.with_suffix(".txt"), text)
            self._join_texts()
            lettering.report_without_font(sample.with_suffix(".png"), [text])
        lettering.write_beside(self.folder / "samples.gif", self._row_names)  # of all grids
        if self._board:
            with self._board.as_default(step=step):
                tf.summary.image("samples", sheet[None])

    def draw(self) -> None:
        """Write samples.gif from the grids so far, and curves.png from the tables."""
        if grids := self._numbered("samples/step_*.png"):
            with _reporting_failure(self.folder / "samples.gif"):
                pictures.save_gif_of_files(self.folder / "samples.gif", grids)
        rows = [row for table in TABLES for row in tables.read(self.folder / table)]
        with _reporting_failure(self.folder / "curves.png"):
            pictures.save_curves(self.folder / "curves.png", rows)

    def go_back_to(self, step: int, rows: dict[str, list[dict]]) -> None:
        """Forget what was recorded after `step`; rows: what stays of each table."""
        for table, kept in rows.items():
            self._last_rows[table] = kept[-1] if kept else {}
            if (self.folder / table).exists():
                with files.atomic_write(self.folder / table) as file:
                    file.write(tables.as_csv(kept))
        for path in self._numbered("samples/step_*.*") + self._numbered("best/step_*.npz"):
            if checkpoints.step_of(path) > step:
                path.unlink()
        self._join_texts()

    def _join_texts(self) -> None:
        """Write the numbered texts, if there are any, one after the other as samples.txt."""
        if texts := self._numbered("samples/step_*.txt"):
            with files.atomic_write(self.folder / "samples.txt") as file:
                for path in texts:
                    file.write(f"--- {path.stem.replace('_', ' ')} ---\n".encode() + path.read_bytes() + b"\n\n")

    def _numbered(self, pattern: str) -> list[Path]:
        """Return the files of steps in order, without a file manager's "step_00000200 copy.png"."""
        return sorted(path for path in self.folder.glob(pattern) if path.stem.removeprefix("step_").isdecimal())


class PendingLosses:
    """The losses of the steps since the last row of metrics.csv."""

    def __init__(self, checkpoints_kept: Callable[[], str], lazy: dict[str, int]):
        """checkpoints_kept: says whether there are any, for the message about a loss that is not finite.

        lazy: by name, n for a loss that is n times its value at every n-th step, from step 0 on, and 0 at the others.
        """
        self._checkpoints_kept, self._lazy = checkpoints_kept, lazy
        self._calls: list[dict] = []

    def __len__(self) -> int:
        """The number of steps."""
        return sum(len(next(iter(losses.values()))) for losses in self._calls)

    def add(self, losses: dict) -> None:
        """Add the losses of some steps by name, each (steps,); they stay on their device until `values` reads them."""
        self._calls.append(losses)

    def take_means(self, last_step: int) -> dict[str, float]:
        """Return the mean of each loss, checked by `values`, and forget the losses.

        That of a lazy loss is the mean of its values at the steps that have one, however many there are.
        """
        values = self.values(last_step)
        means = dict(zip(self._calls[0], values.mean(axis=0).tolist(), strict=True))
        steps = np.arange(last_step - len(values), last_step)  # counted from 0
        for name in self._lazy.keys() & means.keys():
            every = self._lazy[name]
            means[name] *= len(values) / every / max((steps % every == 0).sum(), 1)
        self._calls.clear()
        return means

    def values(self, last_step: int) -> np.ndarray:
        """Return the losses, float32 (steps, losses); last_step: the number of the last of these steps.

        Raises UserError, which names the loss and its step, if one is not finite.
        """
        if not self._calls:
            return np.zeros((0, 0), np.float32)
        values = np.concatenate([np.stack(list(losses.values()), axis=1) for losses in self._calls])
        for index, losses in enumerate(values):
            if not np.isfinite(losses).all():
                name = list(self._calls[0])[np.flatnonzero(~np.isfinite(losses))[0]]
                step = last_step - len(values) + index + 1
                raise UserError(
                    f"{name} is not finite at step {step}; {self._checkpoints_kept()}; "
                    "a smaller --learning_rate may help"
                )
        return values

    def arrays(self, last_step: int) -> dict[str, np.ndarray]:
        """Return the losses, checked by `values`, as the arrays of a checkpoint, from which `restore` continues."""
        names = list(self._calls[0]) if self._calls else []
        return {"losses": np.array(names, dtype=str), "pending": self.values(last_step)}

    def restore(self, arrays: dict[str, np.ndarray]) -> None:
        """Continue from the arrays of a checkpoint."""
        if len(arrays["pending"]):
            self.add(dict(zip(arrays["losses"], arrays["pending"].T, strict=True)))


@contextlib.contextmanager
def _reporting_failure(path: Path) -> Iterator[None]:
    """Print a line, and raise no error, if the picture `path` cannot be drawn: nothing else depends on it."""
    try:
        yield
    except (UserError, MemoryError):  # a disk or a memory that is full concerns all the rest, too
        raise
    except Exception as error:  # a damaged grid, for example, can raise anything
        print(f"{path} cannot be drawn ({error or type(error).__name__}); continuing without it", flush=True)


def check_tensorboard() -> None:
    """Raise UserError if the package tensorboard is missing, without which tf.summary does not work."""
    try:
        import tensorboard  # noqa: F401
    except ImportError:
        raise UserError("--tensorboard: needs its package; install it with: pip install tensorboard") from None
