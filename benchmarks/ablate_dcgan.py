"""What did each choice in dcgan_mnist.py buy? Fréchet distance after equal seconds, one choice undone at a time.

All variants train on MNIST in one process, in turns, each on a clock of its own.
Writes outputs/benchmarks/ablate_dcgan.json. It may be interrupted, and goes on where it was.

    python -m benchmarks.ablate_dcgan --seconds 60
"""

import argparse
import dataclasses

import numpy as np

import dcgan_mnist
from benchmarks import quality
from benchmarks.compare_dcgan import TURN_SECONDS, ours
from common import datasets

DEFAULT = dcgan_mnist.Config()
VARIANTS = {
    "default": {},
    "batch of 128 (paper)": {"batch_size": 128},
    "learning rate 2e-4 (paper)": {"learning_rate": 2e-4},
    "100 latents (paper)": {"latent_dim": 100},
    "twice the widths": {"generator_width": 64, "discriminator_width": 48},
    "no weight averaging (paper)": {"average_decay": 0.0},
    "no XLA": {"jit": "off"},
}


def main(argv=None):
    """Train every variant for the given seconds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60, help="of training for each (%(default)s)")
    seconds = parser.parse_args(argv).seconds
    judge = quality.Judge()
    data = datasets.load("mnist", 28)
    variants = [
        ours(data, dataclasses.replace(DEFAULT, **changes), name.replace(" ", "_"))
        for name, changes in VARIANTS.items()
    ]
    while any(variant.seconds < seconds for variant in variants):
        for variant in variants:
            variant.train(min(TURN_SECONDS, seconds - variant.seconds), np.inf)
    rows = []
    for name, variant in zip(VARIANTS, variants, strict=True):
        variant.measure(judge)
        rows.append({"variant": name, **variant.points[-1]})
    quality.write_json("ablate_dcgan", {"floor": judge.floor, "rows": rows})


if __name__ == "__main__":
    main()
