"""How fast does each script work on this machine's GPU? In each precision, with XLA, and with many steps in one graph.

Each row trains at default settings on random data that are on the device already: first one step a call, then as many
as the scripts take at that speed. deep_dream.py, which trains nothing, changes a picture: first its objective is read
after each step, then after ten. Busy is the share of the time in which the GPU computed, as nvidia-smi reports it;
memory is the most that TensorFlow held. Without a GPU it measures the CPU.

Each row is printed, and written to outputs/benchmarks/gpu.json, as soon as it is measured. A row that fails, even if it
ends its process, or takes too long, says so; the next ones follow. After --seconds everything is over.

    python -m benchmarks.gpu
    python -m benchmarks.gpu --only vae char_rnn --seconds 60
"""

import dataclasses
import functools
import importlib
import inspect
import itertools
import statistics
import threading
import time

import keras
import numpy as np
import tensorflow as tf

import deep_dream
from benchmarks import results, workers
from blocks.feature_extraction import FeatureExtractor
from common import cli, devices, gpus, progress
from common.run_schedule import steps_per_call

NAME = "gpu"
SCRIPTS = (*results.SCRIPTS, "deep_dream")
CHARACTERS = 65  # as in tiny Shakespeare
MOST_STEPS = 50  # a call, as in a run
DREAM_STEPS = 10  # of deep_dream.py until something is read; a GIF's frames are further apart
SHORTEST_ROW = 8  # seconds: with less left, no row is begun


def section(result: dict) -> list[str]:
    """Return the lines of docs/results.md."""
    text = f"Device: {result['device'] or 'unknown'}. Default settings."
    headings = ("", "precision", "XLA", "one step a call", "many", "ratio", "steps a call", "busy", "memory")
    units = (
        "Images a second; for char_rnn.py characters, for deep_dream.py steps on a picture of 1024x682 pixels. Memory "
        "in MB."
    )
    if result["left_out"]:
        units += f" Left out for lack of time: {', '.join(result['left_out'])}."
    table = results.table(headings, map(cells, result["rows"]))
    return [*results.opening("Speed on a GPU", "benchmarks.gpu", text), "", *results.paragraph(units), *table]


def cells(row: dict) -> list[str]:
    """Return the cells of a row of the table."""
    what = [f"{row['script']}.py", row["precision"], row["jit"]]
    if "failure" in row:
        return [*what, row["failure"].replace("|", "/"), "", "", "", "", ""]
    speeds = [f"{row[name]:,.{0 if row[name] >= 100 else 2}f}" for name in ("one", "many")]
    return [*what, *speeds, f"{row['ratio']:.1f}", row["steps"], row["busy"], row["megabytes"]]


class Trainer:
    """A script's training step at default settings, with random data for MOST_STEPS steps."""

    most_steps = MOST_STEPS

    def __init__(self, script: str, config):
        """config: that of the script."""
        module = importlib.import_module(script)
        device = devices.setup(config)
        of_data = {"channels": 3 if script == "gan_cifar10" else 1, "classes": 0, "characters": CHARACTERS}

        def needed(function) -> dict:
            return {name: value for name, value in of_data.items() if name in inspect.signature(function).parameters}

        with device.scope():
            networks = module.build(config, **needed(module.build))
        step = module.make_train_step(**networks, config=config, **needed(module.make_train_step))
        self._take_steps = device.compile(step)
        batches = self._random_batches(config, of_data["channels"])
        self._arguments = [batches[name] for name in inspect.signature(step).parameters]
        self.per_step = config.batch_size * getattr(config, "window", 1)

    def __call__(self, steps: int) -> None:
        """Take some steps in one call, and wait for their end."""
        losses = self._take_steps(*(argument[:steps] for argument in self._arguments))
        next(iter(losses.values())).numpy()

    def _random_batches(self, config, channels: int) -> dict[str, tf.Tensor]:
        random, size = np.random.default_rng(0), (MOST_STEPS, config.batch_size)
        batches = {
            "labels": np.zeros(size, np.int32),
            "carried": np.ones(size, np.float32),
            "progress": np.zeros(MOST_STEPS, np.float64),
            "step": np.arange(MOST_STEPS, dtype=np.int32),
        }
        if hasattr(config, "window"):
            batches["characters"] = random.integers(0, CHARACTERS, (*size, config.window + 1), np.int32)
        else:
            shape = (*size, config.image_size, config.image_size, channels)
            batches["pixels"] = random.integers(0, 256, shape, np.uint8)
        return {name: tf.convert_to_tensor(array) for name, array in batches.items()}


class Dreamer:
    """Gradient ascent with the bundled network and default settings, on a random picture."""

    most_steps, per_step = DREAM_STEPS, 1

    def __init__(self, config):
        """config: that of deep_dream.py."""
        devices.setup(config)
        network, _, weights = deep_dream.load_network(dataclasses.replace(config, model="bundled"))
        features = FeatureExtractor(network.model, list(weights), network.prepare)
        self._ascend = deep_dream.make_gradient_ascent_step(features, weights, [], [], config)
        shape = (config.max_size * 2 // 3, config.max_size, 3)
        self._picture = tf.convert_to_tensor(np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32))

    def __call__(self, steps: int) -> None:
        """Take some steps, and wait for their end."""
        for _ in range(steps):
            self._picture, value = self._ascend(self._picture, (3, 5))
        value.numpy()


class Utilization(threading.Thread):
    """Asks nvidia-smi again and again in which share of the time the GPU computed, until `stop`."""

    def __init__(self):
        super().__init__(daemon=True)
        self._is_over, self._percents = threading.Event(), []
        self.start()

    def run(self) -> None:
        """Ask; called by the thread."""
        while not self._is_over.wait(0.2):
            self._percents += gpus.report("utilization.gpu")[:1]

    def stop(self) -> str:
        """Return the mean, for people to read; "" without nvidia-smi."""
        self._is_over.set()
        self.join()
        return f"{statistics.mean(self._percents):.0f} %" if self._percents else ""


def rate(take: Trainer | Dreamer, steps: int, seconds: float) -> float:
    """Return the steps a second at this number of steps a call, measured for some seconds."""
    seconds_per_call, _ = workers.timed(functools.partial(take, steps))(seconds)
    return steps / seconds_per_call


def measure(script: str, precision: str, jit: str, seconds: float, changes: dict) -> dict:
    """Return a row of the table; seconds: of each of its two measurements. changes: settings of the script."""
    keras.backend.clear_session()  # frees the memory of the row before
    found = gpus.prepare_gpus()
    if found:
        tf.config.experimental.reset_memory_stats("GPU:0")
    if script == "deep_dream":
        take = Dreamer(deep_dream.Config(precision=precision, **changes))
    else:
        config = importlib.import_module(script).Config(precision=precision, jit=jit, strategy="one_device", **changes)
        take = Trainer(script, config)
    one = rate(take, 1, seconds)
    steps = min(steps_per_call(one), take.most_steps)
    utilization = Utilization()
    many = rate(take, steps, seconds)
    row = {"script": script, "precision": precision, "jit": jit, "steps": steps, "busy": utilization.stop()}
    rates = {"one": one * take.per_step, "many": many * take.per_step, "ratio": many / one}
    peak = tf.config.experimental.get_memory_info("GPU:0")["peak"] / 1e6 if found else 0
    device = tf.config.experimental.get_device_details(found[0]).get("device_name", "GPU") if found else "CPU"
    return {**row, **rates, "megabytes": f"{peak:,.0f}" if found else "", "device": device}


def measure_all(rows: list[tuple], options, row_of=measure, prepare=gpus.prepare_gpus) -> dict:
    """Measure rows of script, precision and XLA one after the other; return the result, which is written after each.

    row_of: what measures a row, in another process. prepare: what that process does first.
    """
    result, process = {"device": "", "rows": [], "left_out": []}, workers.Substitute(prepare)
    end = time.monotonic() + options.seconds
    for script, precision, jit in rows:
        row, left = {"script": script, "precision": precision, "jit": jit}, end - time.monotonic()
        if left < min(SHORTEST_ROW, options.longest):
            result["left_out"].append(f"{script}.py in {precision}, XLA {jit}")
        else:
            try:
                with progress.phase(f"{script}.py in {precision}, XLA {jit}"):
                    arguments = script, precision, jit, options.turn, {}
                    row |= process.call(row_of, *arguments, seconds=options.longest, until=end)
                result["device"] = row.pop("device")
            except RuntimeError as error:
                row["failure"] = str(error)
            result["rows"].append(row)
            print(" | ".join(map(str, cells(row))), flush=True)
        results.write_json(NAME, result)
    process.end()
    return result


@cli.one_line_errors
def main(argv=None):
    """Measure, print and write the result."""
    parser = results.parser(__doc__)
    parser.add_argument("--only", nargs="+", default=SCRIPTS, choices=SCRIPTS, help="these scripts")
    parser.add_argument("--seconds", type=float, default=230, help="of all rows together (%(default)s)")
    parser.add_argument("--longest", type=float, default=50, help="seconds after which a row fails (%(default)s)")
    parser.add_argument("--turn", type=float, default=1.5, help="seconds of a measurement (%(default)s)")
    options = parser.parse_args(argv)
    rows = itertools.product(("off", "on"), ("float32", "mixed_bfloat16"), options.only)  # XLA last: it compiles long
    rows = [it[::-1] for it in rows if it[::2] != ("on", "deep_dream")]  # which has no --jit
    results.publish(NAME, measure_all(rows, options), section)


if __name__ == "__main__":
    main()
