"""Networks that train side by side in one process, in turns of a few seconds, each on a clock of its own.

So a noisy machine is noisy for all of them. A race may be interrupted, and goes on where it was: delete its folder in
outputs/benchmarks/ after changing a setting.
"""

import dataclasses
import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tensorflow as tf
from matplotlib.figure import Figure

from benchmarks import quality
from common import checkpoints, datasets, files

TURN_SECONDS = 5.0
SHOWN = 10  # images in the plot for each contender and time
SHOWN_AT = (30, 60, 120, 300, 600, 1800, 3600)  # seconds


@dataclasses.dataclass
class Contender:
    """A network in training, with its clock.

    folder: the race's, below outputs/benchmarks/. step: trains on uint8 images, labels and the step's number, and
    returns losses by name. sample: makes so many images, uint8. saved: all that its checkpoint must hold.
    further_figures: measures what is noted beside the distance. until, until_seconds: images or seconds after which it
    has arrived. stops: numbers of images at which it is measured in any case.
    """

    name: str
    folder: str
    data: datasets.Images
    batch_size: int
    step: Callable
    sample: Callable[[int], np.ndarray]
    saved: dict
    further_figures: Callable[[], dict[str, float]] = dict
    until: float = np.inf
    until_seconds: float = np.inf
    stops: tuple[int, ...] = ()

    def __post_init__(self):
        """Go on from the newest checkpoint, if there is one."""
        self.steps = tf.Variable(0, dtype=tf.int64)
        self.saved = {**self.saved, "steps": self.steps}
        self._checkpoints = quality.FOLDER / self.folder / self.name.replace(" ", "_")
        self._checkpoints.mkdir(parents=True, exist_ok=True)
        kept = checkpoints.restore(self._checkpoints, self.saved)
        self.seconds = float(kept["seconds"]) if kept else 0.0
        self.processor_seconds = float(kept["processor_seconds"]) if kept else 0.0
        self.points = json.loads(str(kept["points"])) if kept else []
        shown = zip(kept["shown_at"], kept["shown"], strict=True) if kept else ()
        self.shown = {int(seconds): images for seconds, images in shown}
        self._order = None

    @property
    def images(self) -> int:
        """Real images seen so far."""
        return int(self.steps.numpy()) * self.batch_size

    @property
    def has_arrived(self) -> bool:
        """Whether it has seen all images that it should, or had all its time."""
        return self.images >= self.until or self.seconds >= self.until_seconds

    def train(self, seconds: float) -> None:
        """Train for some seconds of its clock, or until its next stop."""
        per_epoch = len(self.data.images) // self.batch_size
        until = min([stop for stop in self.stops if stop > self.images] + [self.until])
        started, before = time.monotonic(), self.seconds
        processor_started = time.process_time()
        while self.seconds - before < seconds and self.images < until:
            epoch, batch = divmod(int(self.steps.numpy()), per_epoch)
            if batch == 0 or self._order is None:
                self._order = np.random.default_rng([0, epoch]).permutation(len(self.data.images))
            chosen = self._order[batch * self.batch_size : (batch + 1) * self.batch_size]
            pixels, labels = tf.constant(self.data.images[chosen]), tf.constant(self.data.labels[chosen])
            losses = self.step(pixels, labels, self.steps)
            next(iter(losses.values())).numpy()  # wait for the step to end
            self.steps.assign_add(1)
            self.seconds = before + time.monotonic() - started
        self.processor_seconds += time.process_time() - processor_started

    @property
    def measure_is_due(self) -> bool:
        """Whether to measure now: ever more rarely, as a plot over the logarithm of time needs it."""
        last = self.points[-1]["seconds"] if self.points else 0.0
        wait = min(max(0.4 * last, TURN_SECONDS), 600.0)
        is_shown = any(last < second <= self.seconds for second in SHOWN_AT)
        return self.has_arrived or is_shown or self.images in self.stops or self.seconds >= last + wait

    def measure(self, judge: quality.Judge) -> None:
        """Note the distance of 10,000 images, keep some for the plot, and save."""
        images = self.sample(10_000)
        point = {"contender": self.name, "seconds": round(self.seconds, 2), "images": self.images}
        point |= {"processor_seconds": round(self.processor_seconds, 2), **judge.measure(images)}
        point |= self.further_figures()
        self.points.append(point)
        print(
            f"{self.name:24} {point['seconds']:8.1f} s  {point['images']:9,} images  "
            f"distance {point['frechet_distance']:8.2f}  entropy {point['class_entropy']:.3f}",
            flush=True,
        )
        for second in SHOWN_AT:
            if self.seconds >= second and second not in self.shown:
                self.shown[second] = images[:SHOWN]
        checkpoints.save(
            self._checkpoints,
            int(self.steps.numpy()),
            self.saved,
            seconds=np.array(self.seconds),
            processor_seconds=np.array(self.processor_seconds),
            points=np.array(json.dumps(self.points)),
            shown_at=np.array(list(self.shown)),
            shown=np.array(list(self.shown.values())),
        )


def race(contenders: list[Contender], judge: quality.Judge) -> dict:
    """Train all until they have arrived; return the measured points and the floor."""
    print(f"training images against test images: {judge.floor:.3f}", flush=True)
    while not all(contender.has_arrived for contender in contenders):
        for contender in contenders:
            if not contender.has_arrived:
                contender.train(min(TURN_SECONDS, contender.until_seconds - contender.seconds))
                if contender.measure_is_due:
                    contender.measure(judge)
    return {"floor": judge.floor, "points": [point for contender in contenders for point in contender.points]}


def draw(contenders: list[Contender], floor: float, path: Path) -> None:
    """Draw the distances over minutes, and images of all at equal minutes."""
    times = [second for second in SHOWN_AT if any(second in contender.shown for contender in contenders)]
    figure = Figure(figsize=(10, 4 + 0.5 * len(times)), layout="constrained")
    upper, lower = figure.subfigures(2, 1, height_ratios=[4, 0.55 * len(times) or 0.01])
    axes = upper.subplots()
    for contender in contenders:
        points = [point for point in contender.points if point["seconds"] > 0]
        minutes = [point["seconds"] / 60 for point in points]
        axes.loglog(minutes, [point["frechet_distance"] for point in points], ".-", label=contender.name)
    axes.axhline(floor, color="grey", linestyle=":", label="real training images")
    axes.set(xlabel="minutes of training", ylabel="Fréchet distance")
    axes.grid(alpha=0.3, which="both")
    axes.legend()
    cells = lower.subplots(len(times), len(contenders), squeeze=False) if times else ()
    for row, second in zip(cells, times, strict=True):
        for cell, contender in zip(row, contenders, strict=True):
            cell.axis("off")
            if second in contender.shown:
                cell.set_title(f"{contender.name}, {second / 60:g} min", fontsize=8, loc="left", pad=2)
                cell.imshow(np.hstack(contender.shown[second]).squeeze(), cmap="gray", aspect="equal")
    with files.whole(path) as file:
        figure.savefig(file, format="png", dpi=120)
