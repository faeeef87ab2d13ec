"""gan_cifar10.py against the DCGAN of TensorFlow's tutorial, widened to CIFAR-10: Fréchet distance over minutes.

Ours is the network of the default command, trained once for each number of minutes, since its step size falls by the
clock. The tutorial's is widened as its readers do (benchmarks/peers.py). All train in one process, in turns of a few
seconds; or, with --at_once, at the same time, each in a process of its own on its share of the cores. May be
interrupted; started again, it continues.

Writes outputs/benchmarks/compare_cifar10.json and .png.

    python -m benchmarks.compare_cifar10 --minutes 10 60
    python -m benchmarks.compare_cifar10 --minutes 60 --at_once
"""

import argparse
import functools
import os
import subprocess
import sys

import gan_cifar10
from benchmarks import peers, quality, race, results
from common import cli, datasets
from common.errors import UserError
from evaluation.frechet_distance import Evaluator

NAME = "compare_cifar10"


def section(result: dict) -> list[str]:
    """Return the lines of docs/results.md."""
    how = "All train in one process, in turns."
    if cores := result.get("cores"):
        how = f"All train at the same time, each on {cores} core{'s' if cores > 1 else ''} of its own."
    of_peer = [point for point in result["points"] if point["contender"] == "tutorial"]
    ends = {point["contender"]: point for point in result["points"] if point["contender"] != "tutorial"}
    minutes = " ".join(f"{point['seconds'] / 60:.0f}" for point in ends.values())
    lines = results.opening(
        "gan_cifar10.py against the DCGAN of TensorFlow's tutorial, widened to CIFAR-10",
        f"benchmarks.compare_cifar10 --minutes {minutes}{' --at_once' if cores else ''}",
        f"{how} The distance is that of 10,000 generated images to the 10,000 test images; that of training images is "
        f"{result['floor']:.2f}. Ours is trained anew for each number of minutes, since its step size falls towards "
        "their end.",
    )
    lines += ["", "![distance over minutes](compare_cifar10.png)"]
    rows = []
    for end in ends.values():
        peer = min(of_peer, key=lambda point: abs(point["seconds"] - end["seconds"]))
        rows.append(
            {
                "minutes": end["seconds"] / 60,
                "distance": end["frechet_distance"],
                "peer_distance": peer["frechet_distance"],
                "ratio": end["frechet_distance"] / peer["frechet_distance"],
                "rate": end["images"] / end["seconds"],
                "peer_rate": peer["images"] / peer["seconds"],
            }
        )
    columns = {
        "minutes": "{minutes:.0f}",
        "ours": "{distance:.1f}",
        "tutorial, widened": "{peer_distance:.1f}",
        "ratio": "{ratio:.2f}",
        "images a second, ours": "{rate:,.0f}",
        "tutorial": "{peer_rate:,.0f}",
    }
    return lines + results.table_of(rows, columns)


def ours(data: datasets.Images, evaluator: Evaluator, minutes: float) -> race.Contender:
    """Return the network of gan_cifar10.py, to be trained as with `--minutes`."""
    config = gan_cifar10.Config()
    name, limits = f"ours, {minutes:g} minutes", {"seconds_limit": minutes * 60}
    return race.script_contender(gan_cifar10, config, name, NAME, data, evaluator, **limits)


def tutorial(data: datasets.Images, evaluator: Evaluator, seconds: float) -> race.Contender:
    """Return the tutorial's two networks, widened, to be trained for this number of seconds."""
    networks = peers.wide_dcgan()
    sample = race.sampler(networks["generator"], peers.GAN_LATENTS)
    step, limits = peers.make_gan_step(**networks), {"seconds_limit": seconds}
    return race.image_contender("tutorial", NAME, data, peers.GAN_BATCH, step, networks, sample, evaluator, **limits)


def train_at_once(contenders: int, arguments: list[str]) -> int:
    """Train each contender in a process of its own, to its end; return how many cores each had."""
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


@cli.one_line_errors
def main(argv=None):
    """Train ours for each of the given numbers of minutes, and the tutorial's for the largest of them."""
    parser = results.parser(__doc__)
    parser.add_argument("--minutes", type=float, nargs="+", default=[10, 60], help="of training (10 60)")
    parser.add_argument("--at_once", action="store_true", help="at the same time, each on its share of the cores")
    parser.add_argument("--only", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args(argv)
    data, test = (datasets.load("cifar10", 32, split) for split in ("train", "test"))
    evaluator = quality.evaluator(data, test)
    builders = [functools.partial(ours, data, evaluator, minutes) for minutes in arguments.minutes]
    builders.append(functools.partial(tutorial, data, evaluator, max(arguments.minutes) * 60))
    if arguments.only is not None:
        race.run([builders[arguments.only]()])
        return
    how = {}
    if arguments.at_once:
        how["cores"] = train_at_once(len(builders), sys.argv[1:] if argv is None else argv)
    contenders = [build() for build in builders]
    points = race.run(contenders)
    race.draw(NAME, contenders, evaluator.floor)
    results.publish(NAME, {**how, "floor": evaluator.floor, "points": points}, section)


if __name__ == "__main__":
    main()
