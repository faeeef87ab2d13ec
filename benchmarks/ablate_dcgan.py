"""What did each choice in dcgan_mnist.py buy? Fréchet distance after equal seconds, one choice undone at a time.

All variants train on MNIST in one process, in turns, each on a clock of its own.
Writes outputs/benchmarks/ablate_dcgan.json.

    python -m benchmarks.ablate_dcgan --seconds 60
"""

import argparse
import dataclasses

import dcgan_mnist
from benchmarks import compare_dcgan, quality, race
from common import cli, datasets

DEFAULT = dcgan_mnist.Config()
VARIANTS = {
    "default": {},
    "batch of 128 (paper)": {"batch_size": 128},
    "learning rate 2e-4 (paper)": {"learning_rate": 2e-4},
    "100 latents (paper)": {"latent_dim": 100},
    "twice the widths": {"generator_width": 64, "discriminator_width": 48},
    "no weight averaging (paper)": {"average_decay": 0.0},
    "with XLA": {"jit": "on"},
}


@cli.one_line_errors
def main(argv=None):
    """Train every variant for the given seconds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60, help="of training for each (%(default)s)")
    seconds = parser.parse_args(argv).seconds
    judge = quality.Judge()
    data = datasets.load("mnist", 28)
    variants = [
        compare_dcgan.ours(dcgan_mnist, data, dataclasses.replace(DEFAULT, **changes), name, "ablate_dcgan")
        for name, changes in VARIANTS.items()
    ]
    while any(variant.seconds < seconds for variant in variants):
        for variant in variants:
            variant.train(min(race.TURN_SECONDS, seconds - variant.seconds))
    for variant in variants:
        variant.measure(judge)
    rows = [{"variant": variant.name, **variant.points[-1]} for variant in variants]
    quality.write_json("ablate_dcgan", {"floor": judge.floor, "rows": rows})


if __name__ == "__main__":
    main()
