"""What do losses, tricks and convolution do to vanilla_gan.py? Fréchet distance after equal numbers of images.

Every variant trains on MNIST with several seeds, one after the other. As settings are chosen by the figures, they are
measured on training images that are held out. May be interrupted; started again, it continues.
Writes outputs/benchmarks/tricks_vanilla.json.

    python -m benchmarks.tricks_vanilla --images 256000 --seeds 3
"""

import dataclasses

import numpy as np

import vanilla_gan
from benchmarks import quality, race, results
from common import cli, datasets, devices, latent_space
from evaluation import parzen
from evaluation.frechet_distance import Evaluator

NAME = "tricks_vanilla"
VARIANTS = {
    "default": {},
    "no gradient penalty": {"gradient_penalty": 0.0},
    "no weight averaging": {"average_decay": 0.0},
    "label smoothing 0.1": {"label_smoothing": 0.1},
    "instance noise 0.1": {"instance_noise": 0.1},
    "latents from a sphere": {"latents": "sphere"},
    "latents from a cube": {"latents": "uniform"},
    "minimax loss": {"loss": "minimax"},
    "least squares loss": {"loss": "least_squares"},
    "hinge loss": {"loss": "hinge"},
    "Wasserstein loss with penalty": {"loss": "wasserstein_gp"},
    "transposed convolutions": {"generator": "transposed_conv"},
}


def section(result: dict) -> list[str]:
    """Return the lines of docs/results.md."""
    first = [row for row in result["rows"] if row["variant"] == result["rows"][0]["variant"]]
    lines = results.opening(
        "What losses, tricks and convolution do in vanilla_gan.py",
        "benchmarks.tricks_vanilla",
        f"Each variant trains on {first[0]['images']:,} images, with each of {len(first)} seeds. The table has the "
        "mean and the standard deviation over seeds of the Fréchet distance to "
        f"{quality.IN_WORDS[result.get('split', 'test')]}, of their log-likelihood under Parzen windows, and of the "
        "entropy of classes, which is at most log 10 = 2.303.",
    )
    rows = []
    for name in dict.fromkeys(row["variant"] for row in result["rows"]):
        own, cells = [row for row in result["rows"] if row["variant"] == name], [name]
        for figure, form in (("frechet_distance", ".1f"), ("log_likelihood", ".0f"), ("class_entropy", ".2f")):
            values = [row[figure] for row in own]
            cells.append(results.spread(values, form))
        rows.append([*cells, f"{np.mean([row['seconds'] for row in own]):.0f}"])
    headings = ("variant", "Fréchet distance", "log-likelihood, nats", "entropy of classes", "seconds")
    return lines + results.table(headings, rows)


def contender(
    data: datasets.Images, held_out: datasets.Images, evaluator: Evaluator, name: str, seed: int, images: int
) -> race.Contender:
    """Return vanilla_gan.py with a variant's settings and a seed, to be trained on this number of images.

    held_out: the images whose log-likelihood is measured, but for the first, on which the windows' width is chosen.
    """
    config = dataclasses.replace(vanilla_gan.Config(), seed=seed, **VARIANTS[name])
    device = devices.setup(config, side_by_side=2)  # as the script does
    networks = vanilla_gan.build(config, data.channels)
    train_step = race.one_step(device, vanilla_gan.make_train_step(**networks, config=config))

    def sample(count: int) -> np.ndarray:
        normal = latent_space.draw(count, config.latent_dim, seed=1)
        return vanilla_gan.sample(networks["averaged_generator"], normal, config.latents)

    def step(pixels, labels, number, progress) -> dict:
        return train_step(pixels, number)

    def log_likelihood(samples: np.ndarray) -> dict[str, float]:
        first, others = held_out.images[: parzen.CHOSEN_ON], held_out.images[parzen.CHOSEN_ON :]
        return {"log_likelihood": parzen.log_likelihood(samples, others, first)["log_likelihood"]}

    return race.image_contender(
        f"{name} {seed}",
        NAME,
        data,
        config.batch_size,
        step,
        networks,
        sample,
        evaluator,
        log_likelihood,
        limit=images,
        next_measurement=lambda last: np.inf,
    )


@cli.one_line_errors
def main(argv=None):
    """Train all variants with all seeds."""
    parser = results.parser(__doc__)
    parser.add_argument("--images", type=int, default=256_000, help="that each is trained on (%(default)s)")
    parser.add_argument("--seeds", type=int, default=3, help="for each variant (%(default)s)")
    arguments = parser.parse_args(argv)
    data, held_out = quality.load("mnist", 28, "validation")
    evaluator = quality.evaluator(data, held_out)
    rows = []
    for name in VARIANTS:
        for seed in range(arguments.seeds):
            points, _ = contender(data, held_out, evaluator, name, seed, arguments.images).turn(np.inf)
            rows.append({"variant": name, "seed": seed, **points[-1]})
    results.publish(
        NAME, {"split": "validation", "seeds": arguments.seeds, "floor": evaluator.floor, "rows": rows}, section
    )


if __name__ == "__main__":
    main()
