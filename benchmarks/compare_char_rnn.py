"""char_rnn.py against TensorFlow's tutorial and PyTorch's LSTM: validation loss over minutes of training.

All train on the same text, of which the last tenth validates, in turns of some seconds, each in a process and on a
clock of its own, so that a noisy machine is noisy for all. Ours is the default network and schedule; the tutorial's is
built here from its description (https://www.tensorflow.org/text/tutorials/text_generation): one GRU of 1,024, batches
of 64 sequences of 100 characters in random order, Adam. PyTorch's is nn.LSTM of our width, on our windows, with Adam,
its step size constant and without averaging: what one would write first. The loss of each is measured in the same way,
by `char_rnn.validate`.

Needs PyTorch: pip install -r benchmarks/requirements.txt. Writes outputs/benchmarks/compare_char_rnn_<minutes>.json and
.png; may be interrupted, and goes on where it was. An hour for each is long: `--contenders` names those that train now;
the others keep what the same race on the same machine has measured. `--run` takes the curve of ours from a run of the
script itself, whose clock counts its validations and samples, too.

    python -m benchmarks.compare_char_rnn --train tinyshakespeare.txt --minutes 10
    python char_rnn.py --train tinyshakespeare.txt --minutes 60 --width 512 --dropout 0.55 --learning_rate 6e-3
    python -m benchmarks.compare_char_rnn --train tinyshakespeare.txt --run outputs/char_rnn/<time>
"""

import argparse
import csv
import dataclasses
import io
import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from keras import layers
from matplotlib.figure import Figure

import char_rnn
from benchmarks import quality, workers
from common import checkpoints, cli, devices, files, recurrence, stored, text

TURN_SECONDS = 20.0
NANOGPT = 1.4697  # nats, a transformer trained on a GPU: https://github.com/karpathy/nanoGPT


@dataclasses.dataclass
class Contender:
    """A network in training, with its clock.

    folder: where the contenders of this race are kept, by name. step: trains once on the next batch, given how much of
    the time is over (0 to 1), and returns its characters. validate: returns nats a character. saved: all that a
    checkpoint must hold; `load` and `dump` are for what else.
    """

    folder: Path
    name: str
    step: Callable[[int, float], int]
    validate: Callable[[], float]
    saved: dict
    dump: Callable[[], dict] = dict
    load: Callable[[dict], None] = lambda arrays: None

    def __post_init__(self):
        """Go on from the newest checkpoint, if there is one."""
        self.folder /= self.name
        self.folder.mkdir(parents=True, exist_ok=True)
        kept = checkpoints.restore(self.folder, self.saved)
        self.seconds, self.steps = (float(kept["seconds"]), int(kept["steps"])) if kept else (0.0, 0)
        self.characters = int(kept["characters"]) if kept else 0
        self.points = json.loads(str(kept["points"])) if kept else []
        if kept:
            self.load({name: kept[name] for name in kept if name.startswith("more_")})

    def train(self, seconds: float, whole: float) -> None:
        """Train for some seconds of its clock, which ends at `whole`."""
        started, before = time.monotonic(), self.seconds
        while self.seconds - before < seconds and self.seconds < whole:
            self.characters += self.step(self.steps, min(self.seconds / whole, 1.0))
            self.steps += 1
            self.seconds = before + time.monotonic() - started

    def measure(self) -> None:
        """Validate, note it, and save."""
        loss = self.validate()
        self.points.append({"contender": self.name, "seconds": self.seconds, "characters": self.characters})
        self.points[-1]["validation_loss"] = loss
        print(f"{self.name:20} {self.seconds:7.0f} s  {self.characters:12,} characters  {loss:.4f} nats", flush=True)
        checkpoints.save(
            self.folder,
            self.steps,
            self.saved,
            seconds=np.array(self.seconds),
            steps=np.array(self.steps),
            characters=np.array(self.characters),
            points=np.array(json.dumps(self.points)),
            **self.dump(),
        )


def endless(data: text.Text, config, steps: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the batches of all epochs, from that of number `steps` on."""
    epoch, first = divmod(steps, data.steps(config))
    while True:
        yield from data.batches(config, epoch, first)
        epoch, first = epoch + 1, 0


class Feed:
    """Gives each step its batch, also to a contender that was interrupted."""

    def __init__(self, data: text.Text, config):
        self._data, self._config, self._batches, self._next = data, config, None, -1

    def __call__(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the batch of a step."""
        if step != self._next:
            self._batches = endless(self._data, self._config, step)
        self._next = step + 1
        return next(self._batches)


def ours(folder: Path, data: text.Text, config: char_rnn.Config) -> Contender:
    """Return char_rnn.py."""
    recurrence.share_cores(config.batch_size)  # as the script does
    device = devices.setup(config)
    parts = char_rnn.build(config, len(data.alphabet))
    train_step = device.compile(char_rnn.make_train_step(**parts, config=config))
    read, feed = char_rnn.make_reader(parts["averaged_network"], config), Feed(data, config)

    def step(number: int, progress: float) -> int:
        parts["optimizer"].learning_rate.assign(char_rnn.learning_rate(config, number, progress))
        train_step(*device.share(*feed(number)), tf.constant(number, tf.int64))["loss"].numpy()
        return config.batch_size * config.window

    return Contender(folder, "ours", step, lambda: char_rnn.validate(read, data.validation), parts)


def tutorial(folder: Path, data: text.Text, _config: char_rnn.Config) -> Contender:
    """Return the network and the step of TensorFlow's tutorial."""
    keras.utils.set_random_seed(0)
    characters, units, batch_size, window = len(data.alphabet), 1024, 64, 100
    numbers, state = keras.Input((None,), dtype="int32"), keras.Input((units,))
    x = layers.Embedding(characters, 256)(numbers)
    x, after = layers.GRU(units, return_sequences=True, return_state=True)(x, initial_state=state)
    network = keras.Model([numbers, state], [layers.Dense(characters)(x), after])
    optimizer = keras.optimizers.Adam()
    optimizer.build(network.trainable_variables)
    config = char_rnn.Config(cell="gru", layers=1, width=units)  # for the reader: one state of this width
    read = char_rnn.make_reader(network, config)

    @tf.function
    def train_step(windows):
        with tf.GradientTape() as tape:
            logits, _ = network([windows[:, :-1], tf.zeros((batch_size, units))], training=True)
            loss = char_rnn.mean_loss(logits, windows[:, 1:])
        optimizer.apply(tape.gradient(loss, network.trainable_variables), network.trainable_variables)
        return loss

    windows = np.lib.stride_tricks.sliding_window_view(data.training, window + 1)[::window]
    per_epoch = len(windows) // batch_size

    def step(number: int, progress: float) -> int:
        epoch, batch = divmod(number, per_epoch)
        order = np.random.default_rng([0, epoch]).permutation(len(windows))
        chosen = windows[np.sort(order[batch * batch_size : (batch + 1) * batch_size])]
        train_step(tf.constant(chosen, tf.int32)).numpy()
        return batch_size * window

    saved = {"network": network, "optimizer": optimizer}
    return Contender(folder, "tutorial", step, lambda: char_rnn.validate(read, data.validation), saved)


def pytorch(folder: Path, data: text.Text, config: char_rnn.Config) -> Contender:
    """Return PyTorch's LSTM of the same size, on the same windows."""
    torch = quality.needed("torch")

    torch.manual_seed(0)
    characters, feed = len(data.alphabet), Feed(data, config)
    embedding = torch.nn.Embedding(characters, config.embedding)
    lstm = torch.nn.LSTM(config.embedding, config.width, config.layers, batch_first=True, dropout=config.dropout)
    output = torch.nn.Linear(config.width, characters)
    network = torch.nn.ModuleList([embedding, lstm, output])
    optimizer = torch.optim.Adam(network.parameters(), 2e-3)
    carried_states = [torch.zeros(config.layers, config.batch_size, config.width) for _ in range(2)]

    def losses_of(windows, states):
        windows = torch.from_numpy(np.ascontiguousarray(windows)).long()
        outputs, states = lstm(embedding(windows[:, :-1]), states)
        logits = output(outputs).flatten(0, 1)
        losses = torch.nn.functional.cross_entropy(logits, windows[:, 1:].flatten(), reduction="none")
        return losses, [state.detach() for state in states]

    def step(number: int, progress: float) -> int:
        windows, carried = feed(number)
        network.train()
        optimizer.zero_grad()
        losses, carried_states[:] = losses_of(windows, [state * float(carried[0]) for state in carried_states])
        losses.mean().backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), config.clip)
        optimizer.step()
        return config.batch_size * config.window

    def read(numbers):
        network.eval()
        states = [torch.zeros(config.layers, len(numbers), config.width) for _ in range(2)]
        with torch.no_grad():
            losses, states = losses_of(numbers, states)
        return losses.reshape(len(numbers), -1).numpy(), states

    def dump() -> dict:
        content = {"network": network.state_dict(), "optimizer": optimizer.state_dict(), "states": carried_states}
        buffer = io.BytesIO()
        torch.save(content, buffer)
        return {"more_pytorch": np.frombuffer(buffer.getvalue(), np.uint8)}

    def load(arrays: dict) -> None:
        content = torch.load(io.BytesIO(arrays["more_pytorch"].tobytes()), weights_only=True)
        network.load_state_dict(content["network"])
        optimizer.load_state_dict(content["optimizer"])
        carried_states[:] = content["states"]

    return Contender(folder, "pytorch", step, lambda: char_rnn.validate(read, data.validation), {}, dump, load)


CONTENDERS = {"ours": ours, "tutorial": tutorial, "pytorch": pytorch}
TITLES = {"ours": "char_rnn.py", "tutorial": "TensorFlow's tutorial, a GRU", "pytorch": "PyTorch's LSTM"}
SETTINGS = ("width", "dropout", "learning_rate")


def load(path: str) -> text.Text:
    """Return the text that all train on."""
    return text.load([path], "utf-8", 1, quality.FOLDER / "texts")


def turns(contender: Contender, whole: float, every: float) -> Callable[[float], list[dict]]:
    """Return what takes a contender's turns, up to `whole` seconds, and answers with its points.

    every: seconds between two validations.
    """

    def turn(seconds: float) -> list[dict]:
        if contender.seconds < whole:
            contender.train(seconds, whole)
            last = contender.points[-1]["seconds"] if contender.points else 0.0
            if contender.seconds >= min(last + every, whole):
                contender.measure()
        return contender.points

    return turn


def draw(curves: dict[str, list[dict]], path: Path) -> None:
    """Draw the losses over minutes, of contenders by name."""
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    for name, points in curves.items():
        minutes = [point["seconds"] / 60 for point in points]
        axes.plot(minutes, [point["validation_loss"] for point in points], ".-", label=TITLES[name])
    axes.axhline(NANOGPT, color="grey", linestyle="--", label="nanoGPT's transformer (on a GPU)")
    axes.set(xlabel="minutes of training", ylabel="validation loss, nats a character", ylim=(1.35, 2.2))
    axes.grid(alpha=0.3)
    axes.legend()
    with files.whole(path) as file:
        figure.savefig(file, format="png", dpi=120)


def of_run(run: stored.StoredRun) -> list[dict]:
    """Return the points of a run of char_rnn.py, from its validation.csv."""
    with (run.folder / "validation.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    each = run.settings["batch_size"] * run.settings["window"]
    return [
        {
            "contender": "ours",
            "seconds": float(row["seconds"]),
            "characters": int(row["step"]) * each,
            "validation_loss": float(row["validation_loss"]),
            "is_run": True,  # for the report, as its clock counts more
        }
        for row in rows
    ]


def check_run(run: stored.StoredRun) -> None:
    """Raise UserError for a run that cannot race: one without a limit, or of a network that the others do not have."""
    kept = stored.read_config(char_rnn.Config, run.folder)
    if not kept.minutes:
        raise cli.UserError(f"--run {run.folder}: was trained without --minutes; the others would not know when to end")
    usual = {name: getattr(kept, name) for name in (*SETTINGS, "seed", "precision")}
    if different := cli.contradictions(char_rnn.Config(**usual), kept):
        raise cli.UserError(f"--run {run.folder}: a race has only other {', '.join(SETTINGS)}: {', '.join(different)}")


def file_name(minutes: float) -> str:
    """Return what a race's result is called."""
    return f"compare_char_rnn_{minutes:g}"


def earlier_points(race: dict) -> list[dict]:
    """Return what the last result has of the same race on the same machine: its points, or none."""
    path = quality.FOLDER / f"{file_name(race['minutes'])}.json"
    result = json.loads(path.read_text()) if path.exists() else {}
    same = all(result.get(name) == value for name, value in {**race, "measured_on": quality.machine()}.items())
    return result["points"] if same else []


@cli.one_line_errors
def main(argv=None):
    """Train all for as many minutes each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", required=True, help="the text")
    parser.add_argument("--minutes", type=float, default=60, help="of training for each (%(default)s)")
    parser.add_argument("--every", type=float, default=2, help="minutes between two validations (%(default)s)")
    parser.add_argument("--contenders", nargs="+", choices=list(CONTENDERS), help="those that train now (all)")
    parser.add_argument("--run", help="a finished run of char_rnn.py: minutes, settings and curve of ours are its own")
    for name in SETTINGS:
        default = getattr(char_rnn.Config, name)
        parser.add_argument(f"--{name}", type=type(default), default=default, help="ours (%(default)s)")
    parser.add_argument("--work", choices=list(CONTENDERS), help=argparse.SUPPRESS)
    arguments = parser.parse_args(argv)
    if arguments.minutes <= 0 or arguments.every <= 0:
        raise cli.UserError("--minutes, --every: must be above 0")
    run = stored.StoredRun(arguments.run) if arguments.run else None
    if run:
        check_run(run)
    chosen = {name: run.settings[name] if run else getattr(arguments, name) for name in SETTINGS}
    minutes = run.settings["minutes"] if run else arguments.minutes
    config = char_rnn.Config(minutes=minutes, precision="float32", **chosen)
    cli.check_values(config)
    whole = minutes * 60

    def prepared() -> Callable[[float], list[dict]]:
        data = load(arguments.train)
        key = "_".join([data.digest[:8], f"{minutes:g}", *(f"{value:g}" for value in chosen.values())])
        folder = quality.FOLDER / "compare_char_rnn" / key  # another race has other checkpoints
        return turns(CONTENDERS[arguments.work](folder, data, config), whole, arguments.every * 60)

    if arguments.work:
        workers.work(prepared)
        return
    data = load(arguments.train)  # before the workers, which then find it encoded
    if run:
        run.check_data(data)
    race = {"minutes": minutes, "text": Path(arguments.train).name, "digest": data.digest, "ours": chosen}
    curves = {name: [] for name in CONTENDERS}
    for point in earlier_points(race):
        curves[point["contender"]].append(point)
    if run:
        curves["ours"] = of_run(run)
    command = ["-m", "benchmarks.compare_char_rnn", *(sys.argv[1:] if argv is None else argv)]
    names = [name for name in arguments.contenders or CONTENDERS if not (run and name == "ours")]
    crew = {name: workers.Worker(name, command) for name in names}
    for name in crew:
        curves[name] = []
    while any(not curves[name] or curves[name][-1]["seconds"] < whole for name in crew):
        for name, worker in crew.items():
            curves[name] = worker.turn(TURN_SECONDS)
    for worker in crew.values():
        worker.end()
    points = [point for curve in curves.values() for point in curve]
    name = file_name(minutes)
    quality.write_json(name, {**race, "points": points})
    draw({name: curve for name, curve in curves.items() if curve}, quality.FOLDER / f"{name}.png")
    print(f"written to {quality.FOLDER / name}.json and .png")


if __name__ == "__main__":
    main()
