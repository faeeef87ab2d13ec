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
        "One choice is undone at a time. All variants train for the same number of seconds, in turns. "
        f"Distances are to {quality.IN_WORDS[result.get('split', 'test')]}. "
        "If all classes are equally frequent, their entropy is log 10 = 2.303.",
    )
    rows, columns = [], {"seconds": ".0f", "images": ",.0f", "frechet_distance": ".1f", "class_entropy": ".3f"}
    for name, of_seeds in race.by_contender(result["rows"]).items():
        ends = [points[-1] for points in of_seeds]
        rows.append([name, *(results.spread([end[it] for end in ends], form) for it, form in columns.items())])
    return lines + results.table(("variant", "seconds", "images seen", "Fréchet distance", "entropy of classes"), rows)


@cli.one_line_errors
def main(argv=None):
    """Train every variant with every seed for the given number of seconds, and measure it at the end."""
    parser = results.parser(__doc__)
    parser.add_argument("--seconds", type=float, default=60, help="of training for each (%(default)s)")
    parser.add_argument("--seeds", type=int, default=3, help="for each variant (%(default)s)")
    arguments = parser.parse_args(argv)
    limits = {"seconds_limit": arguments.seconds, "next_measurement": lambda last: np.inf}
    data, held_out = quality.load("mnist", 28, "validation")
    evaluator = quality.evaluator(data, held_out)
    variants = [
        race.script_contender(
            dcgan_mnist, dataclasses.replace(DEFAULT, **changes, seed=seed), name, NAME, data, evaluator, **limits
        )
        for name, changes in VARIANTS.items()
        for seed in range(arguments.seeds)
    ]
    race.run(variants)
    setting = {"split": "validation", "seeds": arguments.seeds, "floor": evaluator.floor}
    results.publish(NAME, {**setting, "rows": [variant.points[-1] for variant in variants]}, section)


if __name__ == "__main__":
    main()
