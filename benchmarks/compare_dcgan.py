"""dcgan_mnist.py against the DCGAN of TensorFlow's tutorial: Fréchet distance over minutes of training on MNIST.

Ours is the network of the default command, trained as long as that trains; the tutorial's takes plain steps in float32.
Both train in one process, in turns of a few seconds. May be interrupted; started again, it continues.

Writes outputs/benchmarks/compare_dcgan.json and .png.

    python -m benchmarks.compare_dcgan
"""

import itertools

import numpy as np

import dcgan_mnist
from benchmarks import peers, quality, race, results
from common import cli, runs

NAME = "compare_dcgan"
MILESTONE = 409_600  # images after which the tutorial's samples first look like rough digits
FULL = 3_000_000  # images in the tutorial's 50 epochs


def seconds_to(distance: float, points: list[dict]) -> float:
    """Return when a curve first reaches a distance, interpolated between measurements over log time.

    If it is there at the first measurement, that one's time; nan if it never gets there.
    """
    points = [point for point in points if point["seconds"] > 0]
    if points[0]["frechet_distance"] <= distance:
        return points[0]["seconds"]
    for before, after in itertools.pairwise(points):
        if before["frechet_distance"] > distance >= after["frechet_distance"]:
            part = np.log(before["frechet_distance"] / distance)
            part /= np.log(before["frechet_distance"] / after["frechet_distance"])
            return float(before["seconds"] * (after["seconds"] / before["seconds"]) ** part)
    return float("nan")


def section(result: dict) -> list[str]:
    """Return the lines of docs/results.md."""
    curves = {name: [p for p in result["points"] if p["contender"] == name] for name in ("ours", "tutorial")}
    milestone = next((point for point in curves["tutorial"] if point["images"] == MILESTONE), None)
    best = min(curves["tutorial"], key=lambda point: point["frechet_distance"])
    rows = {"tutorial, first rough digits": milestone, "tutorial, at its end": curves["tutorial"][-1]}
    rows["ours, at its end"] = curves["ours"][-1]
    lines = results.opening(
        "dcgan_mnist.py against the DCGAN of TensorFlow's tutorial",
        f"benchmarks.compare_dcgan --images {curves['tutorial'][-1]['images']}",
        "Both train on MNIST in one process, in turns. The distance is that of 10,000 generated images to the 10,000 "
        f"test images; that of training images is {result['floor']:.2f}.",
    )
    lines += ["", "![distance over minutes](compare_dcgan.png)"]
    columns = {
        "": "{title}",
        "seconds of training": "{seconds:,.0f}",
        "of processor time": "{processor_seconds:,.0f}",
        "images seen": "{images:,}",
        "distance": "{frechet_distance:.2f}",
        "relative to training images": "{relative:.1f}",
    }
    lines += results.table_of(
        [
            {"title": title, "relative": point["frechet_distance"] / result["floor"], **point}
            for title, point in rows.items()
            if point
        ],
        columns,
    )
    for goal, which in ((milestone, "at its first rough digits"), (best, "at its best")):
        if goal:
            reached = seconds_to(goal["frechet_distance"], curves["ours"])
            text = results.paragraph(
                f"The tutorial's distance {which} is {goal['frechet_distance']:.1f}, after {goal['images']:,} images "
                f"and {goal['seconds']:,.0f} s. Ours reaches it after {reached:.0f} s, "
                f"{goal['seconds'] / reached:.0f} times sooner."
            )
            lines += ["", *text]
    return lines


@cli.one_line_errors
def main(argv=None):
    """Train both, ours as long as the default command does, the tutorial's until it has seen the given images."""
    parser = results.parser(__doc__)
    parser.add_argument(
        "--images",
        type=int,
        default=MILESTONE,
        help=f"that the tutorial's network sees (%(default)s; its 50 epochs are {FULL})",
    )
    images = parser.parse_args(argv).images
    data, test = quality.load("mnist", 28, "test")
    evaluator = quality.evaluator(data, test)
    config = dcgan_mnist.Config()
    epochs = runs.epochs_of(config, data.steps(config), dcgan_mnist.DEFAULT_STEPS)
    limit = epochs * data.steps(config) * config.batch_size  # images that the default command sees
    networks = peers.dcgan()
    sample = race.sampler(networks["generator"], peers.GAN_LATENTS)
    step = peers.make_gan_step(**networks)
    limits = {"limit": images, "stops": (MILESTONE,)}
    contenders = [
        race.script_contender(dcgan_mnist, config, "ours", NAME, data, evaluator, limit=limit),
        race.image_contender("tutorial", NAME, data, peers.GAN_BATCH, step, networks, sample, evaluator, **limits),
    ]
    points = race.run(contenders)
    race.draw(NAME, contenders, evaluator.floor)
    results.publish(NAME, {"seeds": 1, "floor": evaluator.floor, "points": points}, section)


if __name__ == "__main__":
    main()
