"""How long a run trains and how often it shows samples."""

import dataclasses

from common.progress import clock

UNTIL_TIME_IS_UP = 10**9  # steps, where only the minutes count
MOST_EPOCHS_SHOWN = 100_000  # a larger number of epochs is not shown: only the minutes count
LONGEST_WAIT = 1000  # steps between two samples, where an epoch has more
MOST_SAMPLES = 100  # of a run with short epochs
SHORTEST_WAIT = 20  # steps between two samples, where epochs are short and only the minutes count
CALL_SECONDS = 0.2  # of the steps between two returns to Python, which serves signals and the display


def epochs_of(config, steps_per_epoch: int, default_steps: int) -> int:
    """Return the number of epochs; with `--epochs 0` the smallest that holds `default_steps`."""
    return config.epochs or -(-default_steps // steps_per_epoch)


def steps_per_call(steps_per_second: float) -> int:
    """Return how many steps to take without a return to Python: it costs a tenth of a small step on a CPU."""
    return max(round(CALL_SECONDS * steps_per_second), 1)


@dataclasses.dataclass(frozen=True)
class Schedule:
    """The steps of a run.

    last_step: the number of steps of the whole training. minutes: its time limit, 0 for none. show_every: steps between
    two samples.
    """

    steps_per_epoch: int
    epochs: int
    last_step: int
    minutes: float
    show_every: int

    @classmethod
    def of(cls, config, steps_per_epoch: int, default_steps: int) -> "Schedule":
        """Return the schedule of `config`; default_steps: how long to train with `--epochs 0`, in whole epochs."""
        if config.minutes:
            default_steps = UNTIL_TIME_IS_UP
        epochs = epochs_of(config, steps_per_epoch, default_steps)
        last_step = epochs * steps_per_epoch
        if not config.epochs and epochs == 1:  # an epoch of a large data set is longer than the default
            last_step = min(steps_per_epoch, default_steps)
        # The epochs of a small text are so short that a sample after each would take most of the time.
        least = SHORTEST_WAIT if config.minutes else last_step // MOST_SAMPLES
        show_every = config.sample_every or max(min(steps_per_epoch, LONGEST_WAIT), least)
        return cls(steps_per_epoch, epochs, last_step, config.minutes, show_every)

    def progress(self, step: int, seconds: float) -> float:
        """Return the fraction of the training that is over: of its steps or of its minutes, whichever is larger."""
        return min(max(step / self.last_step, self.minutes and seconds / 60 / self.minutes), 1.0)

    def steps_until_due(self, step: int, checkpoint_every: int) -> int:
        """Return the number of steps until a sample, a checkpoint, or the end of the epoch or training is due."""
        left = (every - step % every for every in (checkpoint_every, self.show_every, self.steps_per_epoch))
        return min(*left, self.last_step - step)

    def is_out_of_time(self, seconds: float) -> bool:
        """Whether the time limit is reached."""
        return 0 < self.minutes * 60 <= seconds

    def advice_if_over(self, step: int, seconds: float) -> str:
        """Return why a run that is resumed has no steps left, and what continues it; "" if it has some."""
        if self.is_out_of_time(seconds):
            return (
                f"it has trained for {seconds / 60:.2g} of --minutes {self.minutes:g}, all sessions together; "
                f"to continue, give more, or --minutes 0 and --epochs"
            )
        return (
            f"its last epoch, {self.epochs}, is over; give more --epochs to continue" if step >= self.last_step else ""
        )

    def place(self, epoch: int, step: int) -> str:
        """Return where the training is, for people to read: "epoch 1/8  step 50/15,000"; epoch is counted from 0."""
        if self.epochs > MOST_EPOCHS_SHOWN:
            return f"epoch {epoch + 1}  step {step:,}"
        return f"epoch {epoch + 1}/{self.epochs}  step {step:,}/{self.last_step:,}"

    def time_left(self, step: int, seconds: float, steps_per_second: float) -> str:
        """Return the expected time until the end as "minutes:seconds"."""
        left = (self.last_step - step) / steps_per_second
        if self.minutes:
            left = min(left, self.minutes * 60 - seconds)
        return clock(left)
