"""Networks that train in turns of a few seconds, each on a clock of its own, so that a noisy machine slows all alike.

A race may be interrupted; started again, it continues. After changing a setting, delete its folder in
outputs/benchmarks/.
"""

import dataclasses
import inspect
import json
import time
import types
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tensorflow as tf
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks import results
from common import checkpoints, datasets, devices, latent_space, pictures
from evaluation.frechet_distance import Evaluator

TURN_SECONDS = 5.0
COMPARED = 10_000  # generated images in each measurement
SHOWN = 10  # images in the plot, for each contender and time
SHOWN_AT = (30, 60, 120, 300, 600, 1800, 3600)  # seconds


def evenly_in_log_time(last: float) -> float:
    """Return when to measure after `last` seconds: 40 % later, but 5 to 600 seconds, and at the times SHOWN_AT."""
    next_shown = min((second for second in SHOWN_AT if second > last), default=np.inf)
    return min(last + min(max(0.4 * last, TURN_SECONDS), 600.0), next_shown)


@dataclasses.dataclass
class Contender:
    """A network in training, with a clock of its own, which stands still while another one trains or is measured."""

    name: str  # unique in its race, together with the seed
    folder: Path  # the race's, in which checkpoints are kept
    step: Callable[[int, float], None]  # trains once, given the step's number and the part of its limits that is over
    step_size: int  # examples in a step
    figures: Callable[[], dict[str, float]]  # measures, and returns the figures by name
    saved: dict  # what is trained, as for checkpoints.save
    dump: Callable[[], dict[str, np.ndarray]] = dict  # returns further state, under names that begin with more_
    load: Callable[[dict[str, np.ndarray]], None] = lambda arrays: None  # restores it
    sample: Callable[[int], np.ndarray] | None = None  # draws N images for the plot
    seed: int = 0
    unit: str = "images"  # or characters
    limit: float = np.inf  # examples after which it is finished
    seconds_limit: float = np.inf  # seconds of training after which it is finished
    stops: tuple[int, ...] = ()  # numbers of examples at which it is measured in any case
    next_measurement: Callable[[float], float] = evenly_in_log_time  # maps the seconds of one measurement to the next's

    def __post_init__(self):
        """Restore the newest checkpoint, if there is one."""
        self._checkpoints = self.folder / f"{self.name}{f' {self.seed}' * (self.seed > 0)}".replace(" ", "_")
        self._checkpoints.mkdir(parents=True, exist_ok=True)
        kept = checkpoints.restore(self._checkpoints, self.saved) or {}
        self.steps = int(kept.get("steps", 0))
        self.seconds = float(kept.get("seconds", 0.0))
        self.processor_seconds = float(kept.get("processor_seconds", 0.0))
        self.points = json.loads(str(kept.get("points", "[]")))
        self.shown = dict(zip(map(int, kept.get("shown_at", ())), kept.get("shown", ()), strict=True))
        if kept:
            self.load({name: array for name, array in kept.items() if name.startswith("more_")})

    @property
    def examples(self) -> int:
        """Examples trained on so far, each as often as it was used."""
        return self.steps * self.step_size

    @property
    def is_finished(self) -> bool:
        """Whether it has reached one of its limits."""
        return self.examples >= self.limit or self.seconds >= self.seconds_limit

    def turn(self, seconds: float) -> tuple[list[dict], bool]:
        """Train for some seconds, and measure if it is time; return all measurements, and whether it is finished."""
        if not self.is_finished:
            self.train(min(seconds, self.seconds_limit - self.seconds))
            last = self.points[-1]["seconds"] if self.points else 0.0
            if self.is_finished or self.examples in self.stops or self.seconds >= self.next_measurement(last):
                self.measure()
        return self.points, self.is_finished

    def train(self, seconds: float) -> None:
        """Train for some seconds of its clock, but not beyond its next stop."""
        until = min([stop for stop in self.stops if stop > self.examples] + [self.limit])
        started, before, processor_started = time.monotonic(), self.seconds, time.process_time()
        while self.seconds - before < seconds and self.examples < until:
            self.step(self.steps, min(max(self.seconds / self.seconds_limit, self.examples / self.limit), 1.0))
            self.steps += 1
            self.seconds = before + time.monotonic() - started
        self.processor_seconds += time.process_time() - processor_started

    def measure(self) -> None:
        """Measure, print the figures, keep images for the plot, and save."""
        figures = self.figures()
        times = {"seconds": round(self.seconds, 2), "processor_seconds": round(self.processor_seconds, 2)}
        who = {"contender": self.name, "seed": self.seed}
        self.points.append({**who, self.unit: self.examples, **times, **figures})
        shown = [f"{name.replace('_', ' ')} {it:.4g}" for name, it in figures.items() if isinstance(it, float)]
        print(f"{self.name:32} {self.seconds:8.1f} s {self.examples:12,} {self.unit}  {'  '.join(shown)}", flush=True)
        for second in SHOWN_AT:
            if self.sample and self.seconds >= second and second not in self.shown:
                self.shown[second] = self.sample(SHOWN)
        checkpoints.save(
            self._checkpoints,
            self.steps,
            self.saved,
            steps=np.array(self.steps),
            seconds=np.array(self.seconds),
            processor_seconds=np.array(self.processor_seconds),
            points=np.array(json.dumps(self.points)),
            shown_at=np.array(list(self.shown)),
            shown=np.array(list(self.shown.values())),
            **self.dump(),
        )


def batch(data, config, step: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the two arrays of the batch of a step; data: Images or Text; config: has what `data.batches` needs."""
    epoch, number = divmod(step, data.steps(config))
    return tuple(array[0] for array in data.batches(config, epoch, number, count=1))


def one_step(device: devices.Device, train_step: Callable) -> Callable[..., dict]:
    """Compile a script's training step; return a function that takes one step, from the arguments of one batch.

    Its arguments are those of the training step, and any more are left out, such as the progress.
    """
    compiled, count = device.compile(train_step), len(inspect.signature(train_step).parameters)

    def step(*arguments) -> dict:
        losses = compiled(*(tf.expand_dims(it, 0) for it in arguments[:count]))
        return {name: of_steps[0] for name, of_steps in losses.items()}

    return step


def image_contender(
    name: str,
    race: str,
    data: datasets.Images,
    batch_size: int,
    train_step: Callable,
    saved: dict,
    sample: Callable[[int], np.ndarray],
    evaluator: Evaluator,
    further_figures: Callable[[np.ndarray], dict[str, float]] = lambda images: {},
    seed: int = 0,
    **limits,
) -> Contender:
    """Return a contender that learns to generate images, and whose Fréchet distance is measured.

    race: the name of its folder in outputs/benchmarks/. train_step: takes images, labels, the number of the step and
    the fraction of the training that is over, and returns losses by name. sample: draws N images, always from the same
    latents. further_figures: measures more on the images whose distance is measured. seed: of the order of the images.
    limits: further fields of the Contender.
    """
    config = types.SimpleNamespace(batch_size=batch_size, seed=seed)

    def step(number: int, progress: float) -> None:
        pixels, labels = batch(data, config, number)
        over = tf.constant(progress, tf.float64)
        losses = train_step(tf.constant(pixels), tf.constant(labels), tf.constant(number), over)
        next(iter(losses.values())).numpy()  # wait for the step to end

    def figures() -> dict[str, float]:
        images = sample(COMPARED)
        return {**evaluator.measure(images), **further_figures(images)}

    of_images = {"sample": sample, "seed": seed, **limits}
    return Contender(name, results.FOLDER / race, step, batch_size, figures, saved, **of_images)


def script_contender(
    script: types.ModuleType,
    config,
    name: str,
    race: str,
    data: datasets.Images,
    evaluator: Evaluator,
    **limits,
) -> Contender:
    """Return the contender of a script, dcgan_mnist or gan_cifar10, without classes.

    name, race, data, evaluator, limits: as for `image_contender`.
    """
    device = devices.setup(config, side_by_side=2)  # as the script does
    networks = script.build(config, data.channels, classes=0)
    train_step = one_step(device, script.make_train_step(**networks, config=config, classes=0))
    sample = sampler(networks["averaged_generator"], config.latent_dim)
    limits["seed"] = config.seed
    return image_contender(name, race, data, config.batch_size, train_step, networks, sample, evaluator, **limits)


def sampler(generator, latent_dim: int) -> Callable[[int], np.ndarray]:
    """Return a function that draws N images, uint8, from a generator, always from the same normal latents."""

    def sample(count: int) -> np.ndarray:
        latents = latent_space.draw(count, latent_dim, seed=1)
        return pictures.from_signed(devices.predict(generator, latents))

    return sample


def run(contenders: list[Contender]) -> list[dict]:
    """Train all contenders in turns until they are finished, and return their measurements."""
    while not all(contender.is_finished for contender in contenders):
        for contender in contenders:
            contender.turn(TURN_SECONDS)
    return [point for contender in contenders for point in contender.points]


def by_contender(points: list[dict]) -> dict[str, list[list[dict]]]:
    """Return the measurements of each contender by its name, a list for each seed."""
    found = {}
    for point in points:
        found.setdefault(point["contender"], {}).setdefault(point.get("seed", 0), []).append(point)
    return {name: list(of_seeds.values()) for name, of_seeds in found.items()}


def best_until(points: list[dict], figure: str, minutes: float) -> float:
    """Return the lowest value of a figure that was measured in the first `minutes` of training, and a few seconds."""
    return min(point[figure] for point in points if point["seconds"] <= 60 * minutes + 2 * TURN_SECONDS)


def plot(axes: Axes, points: list[dict], figure: str, titles: dict[str, str] | None = None) -> None:
    """Draw a figure of all contenders over the minutes of their training, a line for each seed.

    titles: names for the legend, by contender, where they differ from the contender's own.
    """
    for number, (name, of_seeds) in enumerate(by_contender(points).items()):
        for index, own in enumerate(of_seeds):
            shown = [point for point in own if point["seconds"] > 0]
            label = "" if index else (titles or {}).get(name, name)
            minutes = [point["seconds"] / 60 for point in shown]
            axes.plot(minutes, [point[figure] for point in shown], ".-", color=f"C{number}", label=label)
    axes.set(xlabel="minutes of training")
    axes.grid(alpha=0.3, which="both")
    axes.legend()


def draw(name: str, contenders: list[Contender], floor: float) -> None:
    """Draw the Fréchet distances over minutes, and images of all contenders at equal times, those of the first seed."""
    points = [point for contender in contenders for point in contender.points]
    contenders = [contender for contender in contenders if contender.seed == 0]
    times = [second for second in SHOWN_AT if any(second in contender.shown for contender in contenders)]
    figure = Figure(figsize=(10, 4 + 0.5 * len(times)), layout="constrained")
    upper, lower = figure.subfigures(2, 1, height_ratios=[4, 0.55 * len(times) or 0.01])
    axes = upper.subplots()
    axes.set(xscale="log", yscale="log", ylabel="Fréchet distance")
    axes.axhline(floor, color="grey", linestyle=":", label="real training images")
    plot(axes, points, "frechet_distance")
    cells = lower.subplots(len(times), len(contenders), squeeze=False) if times else ()
    for row, second in zip(cells, times, strict=True):
        for cell, contender in zip(row, contenders, strict=True):
            cell.axis("off")
            if second in contender.shown:
                cell.set_title(f"{contender.name}, {second / 60:g} min", fontsize=8, loc="left", pad=2)
                cell.imshow(np.hstack(contender.shown[second]).squeeze(), cmap="gray", aspect="equal")
    results.save_figure(name, figure)
