"""What a training run shows while it trains: a bar in a terminal, a line every ten seconds elsewhere."""

import sys
import time
from collections.abc import Iterator

from rich.console import RenderableType
from rich.progress import BarColumn, Progress, TextColumn
from rich.text import Text

from common.progress import SECONDS_BETWEEN_LINES


class Display(Progress):
    """The epoch, the step, a bar and the time left, and below them speed and losses: 80 columns cut none of them."""

    def __init__(self):
        self._is_terminal = sys.stdout.isatty()
        self._place = self._left = self._figures = ""
        self._printed_at = time.monotonic()
        columns = TextColumn("{task.description}"), BarColumn(bar_width=None), TextColumn("{task.fields[left]}")
        super().__init__(*columns, disable=not self._is_terminal)
        self._task = self.add_task("", total=1.0, left="")

    def get_renderables(self) -> Iterator[RenderableType]:
        """Yield what the terminal shows, from top to bottom."""
        yield self.make_tasks_table(self.tasks)
        yield Text(self._figures)

    def move(self, place: str, progress: float) -> None:
        """Show the place in the training, such as "epoch 1/8  step 50/15,000", and the fraction that is over."""
        self._place = place
        self.update(self._task, completed=progress, description=place, left=self._left)
        if not self._is_terminal and time.monotonic() - self._printed_at >= SECONDS_BETWEEN_LINES:
            self._print_line()

    def report(self, rate: str, losses: dict[str, float], time_left: str) -> None:
        """Show the speed, the mean losses, and the time left; "" while that is unknown."""
        self._left = f"{time_left} left" if time_left else ""
        self._figures = "  ".join([rate, *(f"{name} {mean:.3f}" for name, mean in losses.items())])

    def stop(self) -> None:
        """Stop the bar; elsewhere print the last figures. Does nothing the second time."""
        super().stop()
        if not self._is_terminal and self._figures:
            self._print_line()
        self._figures = ""

    def _print_line(self) -> None:
        self._printed_at = time.monotonic()
        print("  ".join(filter(None, (self._place, self._figures, self._left))), flush=True)
