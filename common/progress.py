"""What a command shows while something takes more than a moment: a bar in a terminal, lines elsewhere."""

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator

from rich import filesize
from rich.progress import BarColumn, Progress, ProgressColumn, TextColumn
from rich.table import Column
from rich.text import Text

SECONDS_WITHOUT_BAR = 0.4  # what takes less shows no bar in a terminal
SECONDS_UNNOTICED = 1.0  # what takes less prints no line elsewhere
SECONDS_BETWEEN_LINES = 10.0

_open: list["Phase"] = []  # those that have begun, the innermost last
_lock = threading.RLock()  # held while bars appear and disappear


class Phase:
    """A part of a command's work that has a title; `phase` and `progress` make them.

    Once it has taken more than a moment, the innermost phase shows a bar in a terminal; elsewhere it prints a line, and
    then at most one every ten seconds. A thread does so, because a phase may be a single call.
    """

    def __init__(self, title: str, total: int | None, is_stoppable: bool, is_bytes: bool, done: int = 0):
        """total, done: the number of parts in all, None if unknown, and of those that are over; as for `phase`."""
        self.title, self.is_stoppable = title, is_stoppable
        self._total, self._done, self._is_bytes = total, done, is_bytes
        self._began = self._advanced = time.monotonic()
        self._first = done
        self._is_over = threading.Event()
        self._is_noticed, self._bar = False, None

    def start(self) -> None:
        """Show the phase from now on; one that it is part of shows nothing meanwhile."""
        _open.append(self)
        show = self._show_bar_soon if sys.stdout.isatty() else self._print_lines
        threading.Thread(target=show, daemon=True).start()

    def stop(self) -> None:
        """Show nothing more of it."""
        self._is_over.set()
        with _lock:
            self._hide_bar()
            if self in _open:
                _open.remove(self)
            if _open and _open[-1]._is_noticed:
                _open[-1]._show_bar()

    def advance(self, parts: int = 1) -> None:
        """Count parts that are over."""
        self._done += parts
        self._advanced = time.monotonic()
        if bar := self._bar:
            bar.update(bar.task_ids[0], completed=self._done)

    @property
    def state(self) -> str:
        """How much is over, and how long the rest will take: "3 of 8, 0:12 left"; or the time so far."""
        now = time.monotonic()
        so_far = f"{clock(now - self._began)} so far"
        if self._total is None:
            return so_far
        written = filesize.decimal if self._is_bytes else "{:,}".format
        state = f"{written(self._done)} of {written(self._total)}"
        if self._done == self._first:
            return f"{state}, {so_far}"
        seconds_each = (self._advanced - self._began) / (self._done - self._first)
        left = seconds_each * (self._total - self._done) - (now - self._advanced)
        return f"{state}, {clock(max(left, 0.0))} left"

    def _show_bar_soon(self) -> None:
        self._is_over.wait(SECONDS_WITHOUT_BAR)
        with _lock:
            if self in _open and not self._is_over.is_set():
                self._is_noticed = True
                if _open[-1] is self:
                    for outer in _open[:-1]:
                        outer._hide_bar()
                    self._show_bar()

    def _show_bar(self) -> None:
        if self._bar:
            return
        # A new bar each time: one that is started again would move the cursor too far up.
        narrow = Column(max_width=48, no_wrap=True, overflow="ellipsis")
        title = TextColumn("{task.description}", table_column=narrow, markup=False)
        self._bar = Progress(title, BarColumn(20), _State(self), transient=True)
        self._bar.add_task(self.title, total=self._total, completed=self._done)
        self._bar.start()

    def _hide_bar(self) -> None:
        if self._bar:
            self._bar.stop()
            self._bar = None

    def _print_lines(self) -> None:
        seconds = SECONDS_UNNOTICED
        while not self._is_over.wait(seconds):
            if _open[-1:] == [self]:
                print(f"{self.title}: {self.state}", flush=True)
            seconds = SECONDS_BETWEEN_LINES


class _State(ProgressColumn):
    """The state of a phase, at the end of its bar."""

    def __init__(self, shown: Phase):
        super().__init__()
        self._phase = shown

    def render(self, task) -> Text:
        return Text(self._phase.state)


@contextlib.contextmanager
def phase(
    title: str, total: int | None = None, *, is_stoppable: bool = True, is_bytes: bool = False, done: int = 0
) -> Iterator[Callable[..., None]]:
    """Show what is being done while the block runs, and give it a function that counts parts that are over.

    total: the number of parts in all; done: of those that are over already. is_bytes: whether the parts are bytes.
    is_stoppable: whether the block may be left anywhere without a loss, so that a signal need not wait for its end.
    """
    shown = Phase(title, total, is_stoppable, is_bytes, done)
    shown.start()
    try:
        yield shown.advance
    finally:
        shown.stop()


def progress(items: Iterable, title: str, total: int | None = None) -> Iterator:
    """Yield `items`, and show how many are over, as a `phase` that lasts until the last one.

    total: the number of items; taken from `items` if these have a length.
    """
    if total is None and hasattr(items, "__len__"):
        total = len(items)
    with phase(title, total) as advance:
        for item in items:
            yield item
            advance()


def is_stoppable() -> bool:
    """Whether a phase has begun, and all that have may be left anywhere."""
    return bool(_open) and all(it.is_stoppable for it in _open)


def stop_all() -> None:
    """Stop all phases: an error or a signal has left the loops over them."""
    while _open:
        _open[-1].stop()


def clock(seconds: float) -> str:
    """Return a time as "minutes:seconds"."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"
