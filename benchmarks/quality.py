"""How good are generated images? Their Fréchet distance to real ones, and which classes they show.

evaluation/frechet_distance.py says what is measured, and what the figures can be compared with. The classifier is
trained once for each data set and kept in outputs/benchmarks/.

    python dcgan_mnist.py --sample 10000
    python -m benchmarks.quality --samples outputs/dcgan_mnist/latest/generated/samples.npz

Settings are chosen without the test images, by 10,000 training images that are held out:

    python dcgan_mnist.py --data mnist:fit
    python dcgan_mnist.py --sample 10000
    python -m benchmarks.quality --samples outputs/dcgan_mnist/latest/generated/samples.npz --split validation
"""

from pathlib import Path

import numpy as np

from benchmarks import results
from common import cli, datasets, files
from common.errors import UserError
from evaluation import frechet_distance

COMPARED = 10_000  # real images of each split, at most
SPLITS = {"test": ("train", "test"), "validation": ("fit", "validation")}  # trained on, and measured against
IN_WORDS = {"test": "the 10,000 test images", "validation": "10,000 training images that were held out"}
LEAST = 200  # images; fewer do not determine a covariance of 128 features


def load(data: str, image_size: int, split: str) -> tuple[datasets.Images, datasets.Images]:
    """Return the images to train on and those to measure against, for the "test" or for choices, "validation"."""
    return tuple(datasets.load(data, image_size, it) for it in SPLITS[split])


def evaluator(train: datasets.Images, test: datasets.Images) -> frechet_distance.Evaluator:
    """Return an Evaluator that compares images with `test`, in the features of a classifier trained on `train`.

    train, test: as `load` returns them.
    """
    path = results.FOLDER / f"classifier_{train.digest[:12]}.keras"
    classifier = frechet_distance.trained_classifier(path, train.images, train.labels, len(train.class_names))
    return frechet_distance.Evaluator(classifier, train.images[:COMPARED], test.images[:COMPARED])


def read_samples(path: Path) -> dict[str, np.ndarray]:
    """Return the images of a samples.npz, and its labels if it has any. Raises UserError if it is unusable."""
    try:
        samples = files.read_npz(path)
    except ValueError as error:
        raise UserError(f"--samples {path}: {error}") from None
    images = samples.get("images", np.empty(0))
    is_square = images.ndim == 4 and images.shape[1] == images.shape[2]
    if images.dtype != np.uint8 or not is_square or images.shape[3] not in (1, 3):
        raise UserError(f"--samples {path}: must hold `images`, uint8 (N, size, size, 1 or 3)")
    if len(images) < LEAST:
        raise UserError(f"--samples {path}: holds {len(images)} images; a distance needs {LEAST:,}")
    return samples


def section(result: dict) -> list[str]:
    """Return the figures, one a line."""
    figures = {name: f"{it:.4g}" if isinstance(it, float) else it for name, it in result.items()}
    lines = [f"{name.replace('_', ' '):20} {figure}" for name, figure in figures.items()]
    if "inception_distance" in result:
        lines.append("inception distance: in Keras's InceptionV3, so not comparable with published FID")
    return lines


@cli.one_line_errors
def main(argv=None):
    """Measure the samples that the command line names."""
    parser = results.parser(__doc__)
    parser.add_argument("--samples", type=Path, required=True, help="a samples.npz, as --sample writes it")
    parser.add_argument("--data", help="real images: mnist, cifar10, digits or patches (mnist; cifar10 for colour)")
    parser.add_argument("--split", choices=SPLITS, default="test", help="held-out images (%(default)s)")
    parser.add_argument("--inception_count", type=int, default=2500, help="images for InceptionV3 (%(default)s)")
    arguments = parser.parse_args(argv)
    samples = read_samples(arguments.samples)
    if arguments.inception_count < LEAST:
        raise UserError(f"--inception_count {arguments.inception_count}: must be at least {LEAST:,}")
    images, in_color = samples["images"], samples["images"].shape[-1] == 3
    data = arguments.data or ("cifar10" if in_color else "mnist")
    train, test = load(data, images.shape[1], arguments.split)
    if test.channels != images.shape[-1]:
        raise UserError(f"--samples {arguments.samples}: are {'colour' if in_color else 'grey'}, unlike {test.name}")
    measured = evaluator(train, test)
    accuracy = measured.measure(test.images, test.labels)["label_agreement"]
    result = {"samples": str(arguments.samples), "real_images": test.name}
    result |= {"real_count": min(COMPARED, len(test.images)), "sample_count": len(images)}
    result |= {"classifier_accuracy": accuracy, "floor": measured.floor}
    result |= measured.measure(images, samples.get("labels"))
    if in_color and (inception := frechet_distance.inception_network()):
        count = min(arguments.inception_count, len(images), result["real_count"])
        distances = {"inception_distance": images, "inception_floor": train.images}
        for name, compared in distances.items():
            real = test.images[:count]
            result[name] = frechet_distance.inception_distance(inception, compared[:count], real)
        result["inception_count"] = count
    results.publish("quality", result, section)


if __name__ == "__main__":
    main()
