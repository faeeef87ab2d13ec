"""char_rnn.py against TensorFlow's tutorial and PyTorch's LSTM: validation loss over minutes of training.

All train on the same text, whose last tenth validates, in turns of some seconds, each in a process of its own. Ours is
the default network and schedule; the tutorial's is one GRU of 1,024, with sequences of 100 characters in random order.
PyTorch's is nn.LSTM of our width, on our windows, with Adam, a constant step size and no averaging: what one would
write first. The loss of each is measured in the same way.

Needs PyTorch: pip install -r benchmarks/requirements.txt. Writes outputs/benchmarks/compare_char_rnn_<minutes>.json and
.png. May be interrupted; started again, it continues. `--run` takes our curve from a run of the script, whose clock
includes its validations and samples.

    python -m benchmarks.compare_char_rnn --train tinyshakespeare.txt --minutes 10
    python char_rnn.py --train tinyshakespeare.txt --minutes 60 --width 512 --dropout 0.55 --learning_rate 6e-3
    python -m benchmarks.compare_char_rnn --train tinyshakespeare.txt --run outputs/char_rnn/<time>
"""

import argparse
import csv
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tensorflow as tf
from matplotlib.figure import Figure

import char_rnn
from benchmarks import peers, race, results, workers
from blocks import lstm
from common import cli, devices, flags, saved_runs, text
from common.errors import UserError
from evaluation import surprisal

TURN_SECONDS = 20.0
REPORTED = (10, 30, 60)  # minutes
TITLES = {"ours": "char_rnn.py", "tutorial": "TensorFlow's tutorial, a GRU", "pytorch": "PyTorch's LSTM"}
SETTINGS = ("width", "dropout", "learning_rate")


def section(result: dict) -> list[str]:
    """Return the lines of docs/results.md."""
    minutes = f"{result['minutes']:g}"
    words = " ".join(f"--{name} {value:g}" for name, value in {"minutes": result["minutes"], **result["ours"]}.items())
    is_run = any(point.get("is_run") for point in result["points"])
    lines = results.opening(
        f"char_rnn.py against TensorFlow's tutorial and PyTorch's LSTM, {minutes} minutes each",
        f"benchmarks.compare_char_rnn --train {result['text']} {words}",
        f"Each trains in a process of its own, in turns. The loss is that on the last tenth of {result['text']}, in "
        "nats a character, read in 32 parts, each from 256 characters before its beginning."
        + (" Ours is a run of the script (`--run`), whose minutes include its validations and samples." * is_run),
    )
    lines += ["", f"![validation loss over minutes]({file_name(result['minutes'])}.png)"]
    rows = []
    for contender in dict.fromkeys(point["contender"] for point in result["points"]):
        points = [point for point in result["points"] if point["contender"] == contender]
        for until in sorted(it for it in {*REPORTED, result["minutes"]} if it <= result["minutes"]):
            reached = [point for point in points if point["seconds"] <= until * 60 + 60]
            if reached and (last := reached[-1])["seconds"] > until * 60 - 120:
                lowest = min(point["validation_loss"] for point in reached)
                rows.append({**last, "title": TITLES[contender], "minutes": last["seconds"] / 60, "lowest": lowest})
    columns = {
        "": "{title}",
        "minutes": "{minutes:.0f}",
        "characters seen": "{characters:,}",
        "validation loss": "{validation_loss:.4f}",
        "lowest so far": "{lowest:.4f}",
    }
    return lines + results.table_of(rows, columns)


def ours(data: text.Text, config: char_rnn.Config) -> dict:
    """Return what the contender of char_rnn.py is made of."""
    device = devices.setup(config, side_by_side=lstm.most_parts(config.batch_size))  # as the script does
    parts = char_rnn.build(config, len(data.alphabet))
    train_step = race.one_step(device, char_rnn.make_train_step(**parts, config=config))
    read = char_rnn.make_reader(parts["averaged_network"], config)

    def step(number: int, progress: float) -> None:
        train_step(*race.batch(data, config, number), np.int32(number), np.float64(progress))["loss"].numpy()

    return {"step": step, "step_size": config.batch_size * config.window, "read": read, "saved": parts}


def tutorial(data: text.Text, config: char_rnn.Config) -> dict:
    """Return what the contender of TensorFlow's tutorial is made of."""
    saved = peers.gru(len(data.alphabet))
    train_step, windows = peers.make_gru_step(**saved), peers.gru_windows(data.training)
    alike = char_rnn.Config(cell="gru", layers=1, width=peers.GRU_UNITS)  # has the same state

    def step(number: int, progress: float) -> None:
        train_step(tf.constant(windows(number))).numpy()

    read = char_rnn.make_reader(saved["network"], alike)
    return {"step": step, "step_size": peers.GRU_BATCH * peers.GRU_WINDOW, "read": read, "saved": saved}


def pytorch(data: text.Text, config: char_rnn.Config) -> dict:
    """Return what the contender of PyTorch's LSTM, of the size of ours, is made of."""
    network = peers.PyTorchLSTM(
        len(data.alphabet), config.embedding, config.width, config.layers, rate=2e-3, dropout=config.dropout
    )

    def step(number: int, progress: float) -> None:
        network.train(*race.batch(data, config, number), clip=config.clip)

    kept = {"saved": {}, "dump": network.dump, "load": network.load}
    return {"step": step, "step_size": config.batch_size * config.window, "read": network.read, **kept}


CONTENDERS = {"ours": ours, "tutorial": tutorial, "pytorch": pytorch}


def contender(name: str, folder: Path, data: text.Text, config: char_rnn.Config, every: float) -> race.Contender:
    """Build the contender `name`, which is validated after every `every` seconds.

    folder: the race's, for checkpoints. config: ours, whose `minutes` all train.
    """
    parts = CONTENDERS[name](data, config)
    read = parts.pop("read")
    return race.Contender(
        name,
        folder,
        figures=lambda: {"validation_loss": surprisal.validation_loss(read, data.validation)},
        unit="characters",
        seconds_limit=config.minutes * 60,
        next_measurement=lambda last: last + every,
        **parts,
    )


def load(path: str) -> text.Text:
    """Return the text that all train on."""
    return text.load([path], "utf-8", 1, results.FOLDER / "texts")


def draw(name: str, points: list[dict]) -> None:
    """Draw the losses over minutes."""
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    axes.set(ylabel="validation loss, nats a character", ylim=(1.35, 2.2))
    race.plot(axes, points, "validation_loss", TITLES)
    results.save_figure(name, figure)


def points_of_run(run: saved_runs.SavedRun) -> list[dict]:
    """Return the measurements of a run of char_rnn.py, from its validation.csv."""
    with (run.folder / "validation.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    step_size = run.settings["batch_size"] * run.settings["window"]
    return [
        {
            "contender": "ours",
            "seconds": float(row["seconds"]),
            "characters": int(row["step"]) * step_size,
            "validation_loss": float(row["validation_loss"]),
            "is_run": True,  # for the report, since its clock includes more
        }
        for row in rows
    ]


def check_run(run: saved_runs.SavedRun) -> None:
    """Raise UserError for a run that cannot race: one without a time limit, or of another network than the peers'."""
    kept = saved_runs.read_config(char_rnn.Config, run.folder)
    if not kept.minutes:
        raise UserError(f"--run {run.folder}: was trained without --minutes, which the others need as their limit")
    usual = {name: getattr(kept, name) for name in (*SETTINGS, "seed", "precision")}
    if different := flags.contradictions(char_rnn.Config(**usual), kept):
        raise UserError(f"--run {run.folder}: may differ only in {', '.join(SETTINGS)}: {', '.join(different)}")


def file_name(minutes: float) -> str:
    """Return the name of a race's result."""
    return f"compare_char_rnn_{minutes:g}"


def run_workers(names: list[str], command: list[str]) -> list[dict]:
    """Train the contenders `names` in turns, each in a process of its own, and return their measurements."""
    crew = {name: workers.Worker(name, command) for name in names}
    points, finished = {}, set()
    while len(finished) < len(crew):
        for name in [name for name in crew if name not in finished]:
            points[name], is_finished = crew[name].turn(TURN_SECONDS)
            finished |= {name} if is_finished else set()
    for worker in crew.values():
        worker.end()
    return [point for name in names for point in points[name]]


def parser() -> argparse.ArgumentParser:
    """Return the parser of the flags."""
    parser = results.parser(__doc__)
    parser.add_argument("--train", required=True, help="the text")
    parser.add_argument("--minutes", type=float, default=60, help="of training for each (%(default)s)")
    parser.add_argument("--every", type=float, default=2, help="minutes between two validations (%(default)s)")
    parser.add_argument("--run", help="a finished run of char_rnn.py, for the curve, minutes and settings of ours")
    for name in SETTINGS:
        default = getattr(char_rnn.Config, name)
        parser.add_argument(f"--{name}", type=type(default), default=default, help="ours (%(default)s)")
    parser.add_argument("--work", choices=list(CONTENDERS), help=argparse.SUPPRESS)
    return parser


@cli.one_line_errors
def main(argv=None):
    """Train all contenders for the given number of minutes each."""
    arguments = parser().parse_args(argv)
    if arguments.minutes <= 0 or arguments.every <= 0:
        raise UserError("--minutes, --every: must be above 0")
    run = saved_runs.SavedRun(arguments.run) if arguments.run else None
    if run:
        check_run(run)
    chosen = {name: run.settings[name] if run else getattr(arguments, name) for name in SETTINGS}
    minutes = run.settings["minutes"] if run else arguments.minutes
    config = char_rnn.Config(minutes=minutes, precision="float32", **chosen)
    flags.check_values(config)

    def prepared() -> Callable[[float], object]:
        data = load(arguments.train)
        key = "_".join([data.digest[:8], f"{minutes:g}", *(f"{value:g}" for value in chosen.values())])
        folder = results.FOLDER / "compare_char_rnn" / key  # another race has other checkpoints
        return contender(arguments.work, folder, data, config, arguments.every * 60).turn

    if arguments.work:
        workers.work(prepared)
        return
    data = load(arguments.train)  # before the workers, which then find it encoded
    if run:
        run.check_data(data)
    setting = {"minutes": minutes, "text": Path(arguments.train).name, "digest": data.digest, "ours": chosen}
    points = points_of_run(run) if run else []
    names = [name for name in CONTENDERS if not (run and name == "ours")]
    points += run_workers(names, ["-m", "benchmarks.compare_char_rnn", *(sys.argv[1:] if argv is None else argv)])
    name = file_name(minutes)
    draw(name, points)
    results.publish(name, {**setting, "points": points}, section)


if __name__ == "__main__":
    main()
