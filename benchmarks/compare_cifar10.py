"""gan_cifar10.py against the DCGAN of TensorFlow's tutorial, widened to CIFAR-10: Fréchet distance over minutes.

Ours is the network of the default command, trained once for each number of minutes, since its step size falls by the
clock. The tutorial's is widened as its readers do (benchmarks/peers.py). Its batch size and its step size are first
searched for: each pair trains for some minutes, and the one that comes nearest to held-out training images is taken. At
each time it is quoted with its best distance so far, not its last.

All train in one process, in turns of a few seconds; or, with --at_once, those of a seed at the same time, each in a
process of its own on its share of the cores. May be interrupted; started again, it continues.

Writes outputs/benchmarks/compare_cifar10.json and .png.

    python -m benchmarks.compare_cifar10 --minutes 10 60
    python -m benchmarks.compare_cifar10 --minutes 60 --at_once
"""

import argparse
import functools
import itertools
import os
import subprocess
import sys

import gan_cifar10
from benchmarks import peers, quality, race, results
from common import cli, datasets
from common.errors import UserError
from evaluation.frechet_distance import Evaluator

NAME = "compare_cifar10"
BATCH_SIZES, LEARNING_RATES = (32, 64, 256), (1e-4, 2e-4, 5e-4)  # that are tried for the tutorial's network


def section(result: dict) -> list[str]:
    """Return the lines of docs/results.md."""
    how = "All train in one process, in turns."
    if cores := result.get("cores"):
        how = f"All of a seed train at the same time, each on {results.counted(cores, 'core')} of its own."
    minutes = " ".join(f"{it:g}" for it in result["minutes"])
    best, search = result["setting"], result["search"]
    chosen = f"batches of {best['batch_size']} and a step size of {best['learning_rate']:g}"
    if search:
        chosen += (
            f", the best of {len(search['tried'])} settings ({', '.join(map(str, BATCH_SIZES))}; "
            f"{', '.join(f'{it:g}' for it in LEARNING_RATES)}) after {search['minutes']:g} minutes each, by their "
            "distance to held-out training images"
        )
    lines = results.opening(
        "gan_cifar10.py against the DCGAN of TensorFlow's tutorial, widened to CIFAR-10",
        f"benchmarks.compare_cifar10 --minutes {minutes}{' --at_once' if cores else ''} --seeds {result['seeds']}",
        f"{how} The distance is that of 10,000 generated images to the 10,000 test images; that of training images is "
        f"{result['floor']:.2f}. Ours is trained anew for each number of minutes, since its "
        f"step size falls towards their end. The tutorial's has {chosen}; it is quoted with its best distance so far.",
    )
    lines += ["", "![distance over minutes](compare_cifar10.png)"]
    of_seeds, rows = race.by_contender(result["points"]), []
    for until in result["minutes"]:
        ours = [points[-1] for points in of_seeds[f"ours, {until:g} minutes"]]
        distances = [point["frechet_distance"] for point in ours]
        peer = [race.best_until(points, "frechet_distance", until) for points in of_seeds["tutorial"]]
        ends = ours, [points[-1] for points in of_seeds["tutorial"]]
        rates = ([point["images"] / point["seconds"] for point in of_contender] for of_contender in ends)
        row = [f"{until:g}", results.spread(distances, ".1f"), results.spread(peer, ".1f")]
        row += [f"{sum(distances) / sum(peer):.2f}", *(f"{sum(it) / len(it):,.0f}" for it in rates)]
        rows.append(row)
    headings = ("minutes", "ours", "tutorial, widened", "ratio", "images a second, ours", "tutorial")
    return lines + results.table(headings, rows)


def ours(data: datasets.Images, evaluator: Evaluator, minutes: float, seed: int) -> race.Contender:
    """Return the network of gan_cifar10.py, to be trained as with `--minutes`."""
    config = gan_cifar10.Config(seed=seed)
    name, limits = f"ours, {minutes:g} minutes", {"seconds_limit": minutes * 60}
    return race.script_contender(gan_cifar10, config, name, NAME, data, evaluator, **limits)


def tutorial(
    data: datasets.Images,
    evaluator: Evaluator,
    minutes: float,
    batch_size: int,
    learning_rate: float,
    seed: int = 0,
    name: str = "tutorial",
    race_name: str = NAME,
) -> race.Contender:
    """Return the tutorial's two networks, widened, to be trained for this number of minutes."""
    networks = peers.wide_dcgan(learning_rate, seed)
    sample = race.sampler(networks["generator"], peers.GAN_LATENTS)
    step, limits = peers.make_gan_step(**networks, seed=seed), {"seconds_limit": minutes * 60, "seed": seed}
    return race.image_contender(name, race_name, data, batch_size, step, networks, sample, evaluator, **limits)


def search(minutes: float) -> dict:
    """Try settings of the tutorial's network for `minutes` each; return the best distance of each, the best first."""
    data, held_out = quality.load("cifar10", 32, "validation")
    evaluator, tried = quality.evaluator(data, held_out), []
    for batch_size, learning_rate in itertools.product(BATCH_SIZES, LEARNING_RATES):
        name = f"batches of {batch_size}, step size {learning_rate:g}"
        where = {"name": name, "race_name": f"{NAME}_search"}
        points = race.run([tutorial(data, evaluator, minutes, batch_size, learning_rate, **where)])
        distance = race.best_until(points, "frechet_distance", minutes)
        tried.append({"batch_size": batch_size, "learning_rate": learning_rate, "frechet_distance": distance})
    return {"minutes": minutes, "tried": sorted(tried, key=lambda it: it["frechet_distance"])}


def train_at_once(contenders: int, arguments: list[str]) -> int:
    """Train each contender of a seed in a process of its own, to its end; return how many cores each had."""
    cores = sorted(os.sched_getaffinity(0))
    share = len(cores) // contenders
    if share == 0:
        raise UserError(f"--at_once: needs a core for each of the {contenders} contenders")
    processes = []
    for number in range(contenders):
        own = ",".join(map(str, cores[number * share : (number + 1) * share]))
        command = [sys.executable, "-m", "benchmarks.compare_cifar10", *arguments, "--only", str(number)]
        processes.append(subprocess.Popen(["taskset", "-c", own, *command]))
    codes = [process.wait() for process in processes]
    if any(codes):
        raise SystemExit("a contender failed")
    return share


def parser() -> argparse.ArgumentParser:
    """Return the parser of the flags."""
    parser = results.parser(__doc__)
    parser.add_argument("--minutes", type=float, nargs="+", default=[10, 60], help="of training (10 60)")
    parser.add_argument("--seeds", type=int, default=3, help="of each contender (%(default)s)")
    parser.add_argument("--search_minutes", type=float, default=5, help="for each setting; 0 for none (%(default)s)")
    parser.add_argument("--at_once", action="store_true", help="at the same time, each on its share of the cores")
    parser.add_argument("--only", type=int, help=argparse.SUPPRESS)  # the number of a contender, in its own process
    parser.add_argument("--setting", type=float, nargs=2, help=argparse.SUPPRESS)  # of the tutorial's network
    parser.add_argument("--of_seed", type=int, default=0, help=argparse.SUPPRESS)
    return parser


@cli.one_line_errors
def main(argv=None):
    """Search the tutorial's setting; train ours for each number of minutes, and the tutorial's for the largest."""
    arguments = parser().parse_args(argv)
    found = None
    if arguments.setting:
        best = {"batch_size": int(arguments.setting[0]), "learning_rate": arguments.setting[1]}
    elif arguments.search_minutes:
        found = search(arguments.search_minutes)
        best = {name: found["tried"][0][name] for name in ("batch_size", "learning_rate")}
    else:
        best = {"batch_size": peers.GAN_BATCH, "learning_rate": peers.WIDE_RATE}
    data, test = quality.load("cifar10", 32, "test")
    evaluator = quality.evaluator(data, test)

    def builders(seed: int) -> list:
        of_ours = [functools.partial(ours, data, evaluator, it, seed) for it in arguments.minutes]
        return [*of_ours, functools.partial(tutorial, data, evaluator, max(arguments.minutes), **best, seed=seed)]

    if arguments.only is not None:
        race.run([builders(arguments.of_seed)[arguments.only]()])
        return
    how, contenders = {}, []
    for seed in range(arguments.seeds):
        if arguments.at_once:
            own = ["--setting", *map(str, best.values()), "--of_seed", str(seed)]
            words = [*(sys.argv[1:] if argv is None else argv), *own]
            how["cores"] = train_at_once(len(arguments.minutes) + 1, words)
        contenders += [build() for build in builders(seed)]
    points = race.run(contenders)
    race.draw(NAME, contenders, evaluator.floor)
    setting = {"minutes": arguments.minutes, "seeds": arguments.seeds, "setting": best, "search": found}
    results.publish(NAME, {**setting, **how, "floor": evaluator.floor, "points": points}, section)


if __name__ == "__main__":
    main()
