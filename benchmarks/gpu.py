"""How fast does each script train on this machine's GPU? In each precision, with XLA, and with many steps in one graph.

Each row trains at default settings on random data that are on the device already: first one step a call, then as many
as the scripts take at that speed. Busy is the share of the time in which the GPU computed, as nvidia-smi reports it;
memory is the most that TensorFlow held. Rows that no longer fit into --seconds are left out. Without a GPU it measures
the CPU. Writes outputs/benchmarks/gpu.json after each row.

    python -m benchmarks.gpu
    python -m benchmarks.gpu --only vae char_rnn --seconds 60
"""

import contextlib
import dataclasses
import functools
import importlib
import inspect
import itertools
import shutil
import statistics
import subprocess
import threading
import time

import keras
import numpy as np
import tensorflow as tf

from benchmarks import results, workers
from common import cli, devices, progress
from common.run_schedule import steps_per_call

NAME = "gpu"
CHARACTERS = 65  # as in tiny Shakespeare
MOST_STEPS = 50  # a call, as in a run


def section(result: dict) -> list[str]:
    """Return the lines of docs/results.md."""
    lines = results.opening("Speed on a GPU", "benchmarks.gpu", f"Device: {result['device']}. Default settings.")
    columns = {
        "": "{script}.py",
        "precision": "{precision}",
        "XLA": "{jit}",
        "one step a call": "{one:,.0f}",
        "many": "{many:,.0f}",
        "ratio": "{ratio:.1f}",
        "steps a call": "{steps}",
        "busy": "{busy}",
        "memory": "{megabytes}",
    }
    units = "Images, for char_rnn.py characters, a second; memory in MB."
    left_out = f" Left out for lack of time: {', '.join(result['left_out'])}." if result["left_out"] else ""
    return [*lines, "", *results.paragraph(units + left_out), *results.table_of(result["rows"], columns)]


class Trainer:
    """A script's training step at default settings, with random data for MOST_STEPS steps."""

    def __init__(self, script: str, config):
        """config: that of the script."""
        module = importlib.import_module(script)
        keras.backend.clear_session()
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

    def rate(self, steps: int, seconds: float) -> float:
        """Return the steps a second at this number of steps a call, measured for some seconds."""
        seconds_per_call, _ = workers.timed(functools.partial(self, steps))(seconds)
        return steps / seconds_per_call

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


class Utilization(threading.Thread):
    """Asks nvidia-smi again and again in which share of the time the GPU computed, until `stop`."""

    def __init__(self):
        super().__init__(daemon=True)
        self._is_over, self._percents = threading.Event(), []
        self.start()

    def run(self) -> None:
        """Ask; called by the thread."""
        command = ["nvidia-smi", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits"]
        while shutil.which(command[0]) and not self._is_over.wait(0.2):
            with contextlib.suppress(subprocess.SubprocessError, ValueError):
                answer = subprocess.run(command, capture_output=True, text=True, timeout=5).stdout
                self._percents.append(float(answer.split()[0]))

    def stop(self) -> str:
        """Return the mean, for people to read; "" without nvidia-smi."""
        self._is_over.set()
        self.join()
        return f"{statistics.mean(self._percents):.0f} %" if self._percents else ""


def measure(script: str, precision: str, jit: str, seconds: float, **changes) -> dict:
    """Return a row of the table; seconds: of each of its two measurements. changes: settings of the script."""
    config = importlib.import_module(script).Config(precision=precision, jit=jit, strategy="one_device")
    config = dataclasses.replace(config, **changes)
    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        tf.config.experimental.reset_memory_stats("GPU:0")
    trainer = Trainer(script, config)
    one = trainer.rate(1, seconds)
    steps = min(steps_per_call(one), MOST_STEPS)
    utilization = Utilization()
    many = trainer.rate(steps, seconds)
    row = {"script": script, "precision": precision, "jit": jit, "steps": steps, "busy": utilization.stop()}
    peak = tf.config.experimental.get_memory_info("GPU:0")["peak"] / 1e6 if gpus else 0
    rates = {"one": one * trainer.per_step, "many": many * trainer.per_step, "ratio": many / one}
    return {**row, **rates, "megabytes": f"{peak:,.0f}" if gpus else ""}


@cli.one_line_errors
def main(argv=None):
    """Measure, print and write the result."""
    parser = results.parser(__doc__)
    parser.add_argument("--only", nargs="+", default=results.SCRIPTS, choices=results.SCRIPTS, help="these scripts")
    parser.add_argument("--seconds", type=float, default=230, help="after which no row is begun (%(default)s)")
    parser.add_argument("--turn", type=float, default=1.5, help="seconds of a measurement (%(default)s)")
    options = parser.parse_args(argv)
    begin, rows, left_out = time.monotonic(), [], []
    for jit, precision, script in itertools.product(("off", "on"), ("float32", "mixed_bfloat16"), options.only):
        title = f"{script}.py in {precision}, XLA {jit}"
        if time.monotonic() - begin > options.seconds:
            left_out.append(title)
            continue
        try:
            with progress.phase(title):
                rows.append(measure(script, precision, jit, options.turn))
        except tf.errors.OpError as error:  # XLA does not know every operation
            left_out.append(f"{title} ({type(error).__name__})")
        gpu = tf.config.list_physical_devices("GPU")
        device = tf.config.experimental.get_device_details(gpu[0]).get("device_name", "GPU") if gpu else "CPU"
        results.write_json(NAME, {"device": device, "rows": rows, "left_out": left_out})
    results.publish(NAME, {"device": device, "rows": rows, "left_out": left_out}, section)


if __name__ == "__main__":
    main()
