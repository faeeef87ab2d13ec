"""char_rnn.py against TensorFlow's tutorial and PyTorch's LSTM: validation loss over minutes of training.

All train on the same text, whose last tenth validates, in turns of some seconds, each in a process of its own. Ours is
the default network and schedule; the tutorial's is one GRU of 1,024, with sequences of 100 characters in random order.
PyTorch's is nn.LSTM of our width, on our windows, with Adam, a constant step size and no averaging: what one would
write first. Its step size is searched for: each of five trains for some minutes on the first nine tenths of the
training text, and the one with the lowest loss on the rest is taken. The loss of each is measured in the same way, and
quoted with its lowest value so far.

Needs PyTorch: pip install -r benchmarks/requirements.txt. Writes outputs/benchmarks/compare_char_rnn_<minutes>.json and
.png. May be interrupted; started again, it continues. `--run` takes our curves from runs of the script, one for each
seed, whose clock includes their validations and samples.

    python -m benchmarks.compare_char_rnn --train tinyshakespeare.txt --minutes 10
    python char_rnn.py --train tinyshakespeare.txt --minutes 60 --width 512 --dropout 0.55 --learning_rate 6e-3
    python -m benchmarks.compare_char_rnn --train tinyshakespeare.txt --run outputs/char_rnn/<time>
"""

import argparse
import csv
import dataclasses
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
RATES = (5e-4, 1e-3, 2e-3, 4e-3, 8e-3)  # step sizes that are tried for PyTorch's network


def section(result: dict) -> list[str]:
    """Return the lines of docs/results.md."""
    minutes = f"{result['minutes']:g}"
    words = " ".join(f"--{name} {value:g}" for name, value in {"minutes": result["minutes"], **result["ours"]}.items())
    is_run = any(point.get("is_run") for point in result["points"])
    chosen, search = f"PyTorch's step size is {result['rate']:g}", result["search"]
    if search:
        tried = ", ".join(f"{it['rate']:g}" for it in search["tried"])
        chosen += (
            f", the best of {tried} (the best first) after {search['minutes']:g} minutes each, within the training text"
        )
    lines = results.opening(
        f"char_rnn.py against TensorFlow's tutorial and PyTorch's LSTM, {minutes} minutes each",
        f"benchmarks.compare_char_rnn --train {result['text']} {words} --seeds {result['seeds']}",
        f"Each trains in a process of its own, in turns. The loss is that on the last tenth of {result['text']}, in "
        f"nats a character, read in 32 parts, each from 256 characters before its beginning. {chosen}."
        + (" Ours is a run of the script (`--run`), whose minutes include its validations and samples." * is_run),
    )
    lines += ["", f"![validation loss over minutes]({file_name(result['minutes'])}.png)"]
    rows = []
    for contender, of_seeds in race.by_contender(result["points"]).items():
        for until in sorted(it for it in {*REPORTED, result["minutes"]} if it <= result["minutes"]):
            reached = [[point for point in points if point["seconds"] <= until * 60 + 60] for points in of_seeds]
            if all(points and points[-1]["seconds"] > until * 60 - 120 for points in reached):
                last, lowest = [it[-1] for it in reached], [min(p["validation_loss"] for p in it) for it in reached]
                row = [TITLES[contender], f"{np.mean([it['seconds'] for it in last]) / 60:.0f}"]
                row += [f"{np.mean([it['characters'] for it in last]):,.0f}"]
                rows.append(
                    [*row, *(results.spread(it, ".4f") for it in ([p["validation_loss"] for p in last], lowest))]
                )
    return lines + results.table(("", "minutes", "characters seen", "validation loss", "lowest so far"), rows)


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
    saved = peers.gru(len(data.alphabet), config.seed)
    train_step, windows = peers.make_gru_step(**saved), peers.gru_windows(data.training, config.seed)
    alike = char_rnn.Config(cell="gru", layers=1, width=peers.GRU_UNITS)  # has the same state

    def step(number: int, progress: float) -> None:
        train_step(tf.constant(windows(number))).numpy()

    read = char_rnn.make_reader(saved["network"], alike)
    return {"step": step, "step_size": peers.GRU_BATCH * peers.GRU_WINDOW, "read": read, "saved": saved}


def pytorch(data: text.Text, config: char_rnn.Config, rate: float) -> dict:
    """Return what the contender of PyTorch's LSTM, of the size of ours, is made of; rate: Adam's step size."""
    sizes = len(data.alphabet), config.embedding, config.width, config.layers
    network = peers.PyTorchLSTM(*sizes, rate=rate, dropout=config.dropout, seed=config.seed)

    def step(number: int, progress: float) -> None:
        network.train(*race.batch(data, config, number), clip=config.clip)

    kept = {"saved": {}, "dump": network.dump, "load": network.load}
    return {"step": step, "step_size": config.batch_size * config.window, "read": network.read, **kept}


CONTENDERS = {"ours": ours, "tutorial": tutorial, "pytorch": pytorch}


def contender(
    name: str, folder: Path, data: text.Text, config: char_rnn.Config, every: float, rate: float
) -> race.Contender:
    """Build the contender `name`, which is validated after every `every` seconds.

    folder: the race's, for checkpoints. config: ours, whose `minutes` and seed all have. rate: PyTorch's step size.
    """
    parts = CONTENDERS[name](data, config, *([rate] if name == "pytorch" else []))
    read = parts.pop("read")
    return race.Contender(
        name,
        folder,
        figures=lambda: {"validation_loss": surprisal.validation_loss(read, data.validation)},
        unit="characters",
        seed=config.seed,
        seconds_limit=config.minutes * 60,
        next_measurement=lambda last: last + every,
        **parts,
    )


def load(path: str) -> text.Text:
    """Return the text that all train on."""
    return text.load([path], "utf-8", 1, results.FOLDER / "texts")


def without_end(data: text.Text) -> text.Text:
    """Return the training part of a text as a text of its own, whose last tenth validates: for choosing settings."""
    return text.Text(data.alphabet, data.training, f"{data.name} without its end", f"{data.digest} fit")


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
            "seed": run.settings["seed"],
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
    parser.add_argument(
        "--run", nargs="+", help="finished runs of char_rnn.py, for curves, minutes and settings of ours"
    )
    parser.add_argument("--seeds", type=int, default=3, help="of each contender (%(default)s)")
    parser.add_argument("--search_minutes", type=float, default=3, help="for each step size; 0: 2e-3 (%(default)s)")
    for name in SETTINGS:
        default = getattr(char_rnn.Config, name)
        parser.add_argument(f"--{name}", type=type(default), default=default, help="ours (%(default)s)")
    parser.add_argument("--work", choices=list(CONTENDERS), help=argparse.SUPPRESS)
    parser.add_argument("--rate", type=float, default=2e-3, help=argparse.SUPPRESS)  # these are for --work
    parser.add_argument("--of_seed", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--is_search", action="store_true", help=argparse.SUPPRESS)
    return parser


def search(minutes: float, command: list[str]) -> dict:
    """Try PyTorch's step sizes for `minutes` each; return the lowest loss of each, the best first."""
    tried = []
    for rate in RATES:
        points = run_workers(["pytorch"], [*command, "--rate", str(rate), "--is_search"])
        tried.append({"rate": rate, "validation_loss": min(point["validation_loss"] for point in points)})
    return {"minutes": minutes, "tried": sorted(tried, key=lambda it: it["validation_loss"])}


def settings(arguments, runs: list[saved_runs.SavedRun]) -> char_rnn.Config:
    """Return the config of ours, without its seed: that of the runs, if there are any, or of the flags."""
    kept = [{name: run.settings[name] for name in (*SETTINGS, "minutes")} for run in runs]
    if any(it != kept[0] for it in kept):
        raise UserError("--run: the runs differ in their settings; name runs that differ in --seed only")
    chosen = kept[0] if runs else {name: getattr(arguments, name) for name in (*SETTINGS, "minutes")}
    config = char_rnn.Config(precision="float32", seed=arguments.of_seed, **chosen)
    flags.check_values(config)
    return config


@cli.one_line_errors
def main(argv=None):
    """Train all contenders for the given number of minutes each, with each seed."""
    arguments = parser().parse_args(argv)
    if arguments.minutes <= 0 or arguments.every <= 0:
        raise UserError("--minutes, --every: must be above 0")
    runs = [saved_runs.SavedRun(folder) for folder in arguments.run or ()]
    for run in runs:
        check_run(run)
    config, every = settings(arguments, runs), arguments.every * 60
    chosen = {name: getattr(config, name) for name in SETTINGS}

    def prepared() -> Callable[[float], object]:
        data, limit = load(arguments.train), config.minutes
        key = "_".join([data.digest[:8], f"{limit:g}", *(f"{value:g}" for value in chosen.values())])
        if arguments.is_search:
            data, limit = without_end(data), arguments.search_minutes
            key += f"_search_{limit:g}_{arguments.rate:g}"
        elif arguments.work == "pytorch":
            key += f"_{arguments.rate:g}"
        folder = results.FOLDER / "compare_char_rnn" / key  # another race has other checkpoints
        own = dataclasses.replace(config, minutes=limit)
        return contender(arguments.work, folder, data, own, min(every, limit * 20), arguments.rate).turn

    if arguments.work:
        workers.work(prepared)
        return
    data = load(arguments.train)  # before the workers, which then find it encoded
    for run in runs:
        run.check_data(data)
    command = ["-m", "benchmarks.compare_char_rnn", *(sys.argv[1:] if argv is None else argv)]
    found = search(arguments.search_minutes, command) if arguments.search_minutes else None
    rate = found["tried"][0]["rate"] if found else arguments.rate
    points, seeds = [point for run in runs for point in points_of_run(run)], len(runs) or arguments.seeds
    for seed in [run.settings["seed"] for run in runs] or range(seeds):
        names = [name for name in CONTENDERS if not (runs and name == "ours")]
        points += run_workers(names, [*command, "--rate", str(rate), "--of_seed", str(seed)])
    name = file_name(config.minutes)
    draw(name, points)
    setting = {"minutes": config.minutes, "text": Path(arguments.train).name, "digest": data.digest, "ours": chosen}
    setting |= {"rate": rate, "search": found, "seeds": seeds}
    results.publish(name, {**setting, "points": points}, section)


if __name__ == "__main__":
    main()
