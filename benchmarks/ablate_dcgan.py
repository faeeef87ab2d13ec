"""What does each choice in dcgan_mnist.py gain? Fréchet distance after equal time, with one choice undone at a time.

All variants train on MNIST in one process, in turns of a few seconds. As settings are chosen by the distances,
they are to training images that are held out. Writes outputs/benchmarks/ablate_dcgan.json.

    python -m benchmarks.ablate_dcgan --seconds 60
"""

import dataclasses

import numpy as np

import dcgan_mnist
from benchmarks import quality, race, results
from common import cli

NAME = "ablate_dcgan"
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


def section(result: dict) -> list[str]:
    """Return the lines of docs/results.md."""
    lines = results.opening(
        "What each choice in dcgan_mnist.py gains",
        "benchmarks.ablate_dcgan",
        "One choice is undone at a time. All variants train for the same number of seconds, in turns; one seed each. "
        f"Distances are to {quality.IN_WORDS[result.get('split', 'test')]}. "
        "If all classes are equally frequent, their entropy is log 10 = 2.303.",
    )
    columns = {
        "variant": "{variant}",
        "seconds": "{seconds:.0f}",
        "images seen": "{images:,}",
        "Fréchet distance": "{frechet_distance:.1f}",
        "entropy of classes": "{class_entropy:.3f}",
    }
    return lines + results.table_of(result["rows"], columns)


@cli.one_line_errors
def main(argv=None):
    """Train every variant for the given number of seconds, and measure it at the end."""
    parser = results.parser(__doc__)
    parser.add_argument("--seconds", type=float, default=60, help="of training for each (%(default)s)")
    limits = {"seconds_limit": parser.parse_args(argv).seconds, "next_measurement": lambda last: np.inf}
    data, held_out = quality.load("mnist", 28, "validation")
    evaluator = quality.evaluator(data, held_out)
    variants = [
        race.script_contender(
            dcgan_mnist, dataclasses.replace(DEFAULT, **changes), name, NAME, data, evaluator, **limits
        )
        for name, changes in VARIANTS.items()
    ]
    race.run(variants)
    rows = [{"variant": variant.name, **variant.points[-1]} for variant in variants]
    results.publish(NAME, {"split": "validation", "floor": evaluator.floor, "rows": rows}, section)


if __name__ == "__main__":
    main()
