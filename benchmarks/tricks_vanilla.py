"""What do losses, tricks and convolution do to vanilla_gan.py? Fréchet distance after equal numbers of images.

Every variant trains on MNIST as often as there are seeds, one after the other. Writes
outputs/benchmarks/tricks_vanilla.json; may be interrupted, and goes on with what is missing.

    python -m benchmarks.tricks_vanilla --images 256000 --seeds 3
"""

import argparse
import dataclasses

import numpy as np

import vanilla_gan
from benchmarks import quality
from benchmarks.race import Contender
from common import cli, datasets, devices, latent_space

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


def contender(data: datasets.Images, test: datasets.Images, name: str, seed: int, until: int) -> Contender:
    """Return vanilla_gan.py with a variant's settings and a seed, to be trained on so many images.

    test: the images whose log-likelihood is noted.
    """
    config = dataclasses.replace(vanilla_gan.Config(), seed=seed, **VARIANTS[name])
    device = devices.setup(config)
    state = vanilla_gan.build(config, data.channels)
    train_step = device.compile(vanilla_gan.make_train_step(**state, config=config))

    def sample(count: int) -> np.ndarray:
        normal = latent_space.draw(count, config.latent_dim, seed=1)
        return vanilla_gan.sample(state["averaged_generator"], normal, config.latents)

    def step(pixels, labels, number) -> dict:
        return train_step(pixels, number)

    def log_likelihood() -> dict[str, float]:
        return {"log_likelihood": vanilla_gan.evaluation(sample(10_000), test)["log_likelihood"]}

    folder, ends = "tricks_vanilla", {"until": until}
    return Contender(f"{name} {seed}", folder, data, config.batch_size, step, sample, state, log_likelihood, **ends)


@cli.one_line_errors
def main(argv=None):
    """Train all variants with all seeds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=256_000, help="that each sees (%(default)s)")
    parser.add_argument("--seeds", type=int, default=3, help="for each variant (%(default)s)")
    arguments = parser.parse_args(argv)
    judge = quality.Judge()
    data, test = datasets.load("mnist", 28), datasets.load("mnist", 28, "test")
    rows = []
    for name in VARIANTS:
        for seed in range(arguments.seeds):
            it = contender(data, test, name, seed, arguments.images)
            if not it.has_arrived:
                it.train(np.inf)
                it.measure(judge)
            rows.append({"variant": name, "seed": seed, **it.points[-1]})
    quality.write_json("tricks_vanilla", {"floor": judge.floor, "rows": rows})


if __name__ == "__main__":
    main()
