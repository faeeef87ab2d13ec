"""Log-likelihood under Parzen windows, the figure by which Goodfellow et al. 2014 compare models without a density.

A Gaussian window is placed around each of 10,000 samples; their mixture is the estimated density of the model
(arXiv:1406.2661, section 5, after Breuleux et al. 2011). It is a weak measure: in hundreds of dimensions, samples that
lie between the images score as well as good ones (Theis et al. 2016, arXiv:1511.01844).
"""

from pathlib import Path

import numpy as np
import tensorflow as tf

from common import cli, files
from common.datasets import Images

SAMPLES = 10_000
SIGMAS = np.geomspace(0.05, 0.8, 57).round(3)  # standard deviations of the windows, from which one is chosen
CHOSEN_ON = 1_000  # images, as in the authors' code
BLOCK = 500  # images compared with all samples at once

# The paper's Table 1: mean log-likelihood of MNIST's test images and its standard error, in nats.
PUBLISHED = {
    "adversarial nets (paper)": "225 ± 2",
    "deep belief network": "138 ± 2",
    "stacked CAE": "121 ± 1.6",
    "deep GSN": "214 ± 1.1",
}


def evaluate(path: Path, samples: np.ndarray, validation: Images, test: Images) -> None:
    """Print the log-likelihood of the test images beside the paper's Table 1, and write it to `path` as JSON.

    samples: uint8 (N, height, width, channels). validation: training images on which the windows' width is chosen.
    """
    result = {"data": test.name, **log_likelihood(samples, test.images, validation.images)}
    print_result(result, test.has_published_figures)
    files.write_json(path, result)


def print_result(result: dict, is_comparable: bool) -> None:
    """Print the result of `evaluate`, and below it, if they are for the same images, the paper's figures."""
    print(f"mean log-likelihood under Parzen windows around {result['samples']:,} samples, in nats:")
    print(f"  {'this run':25} {result['log_likelihood']:.1f} ± {result['standard_error']:.1f}  ({result['data']})")
    if result["sigma"] in (SIGMAS[0], SIGMAS[-1]):
        print(f"  perhaps too low: the best sigma lies at the edge of the range tried, {SIGMAS[0]} to {SIGMAS[-1]}")
    if not is_comparable:
        print("  (not comparable with the published figures, which are for MNIST's test images)")
        return
    for name, figure in PUBLISHED.items():
        print(f"  {name:25} {figure}")
    print("A weak measure: in hundreds of dimensions, samples that lie between the images score as well as good ones")
    print("(Theis et al. 2016, arXiv:1511.01844: centroids of k-means reach 313, true images 243).")


def log_likelihood(samples: np.ndarray, test_images: np.ndarray, validation_images: np.ndarray) -> dict:
    """Return the mean log-likelihood of test images, in nats, and its standard error.

    sigma, the width of the windows, is the one under which the first 1,000 validation images have the highest
    likelihood. All images: uint8 (N, height, width, channels).
    """
    samples, images, others = (
        pixels.reshape(len(pixels), -1) / 255.0 for pixels in (samples, test_images, validation_images[:CHOSEN_ON])
    )
    sigma = SIGMAS[log_densities(others, samples, SIGMAS).mean(axis=-1).argmax()]
    (of_images,) = log_densities(images, samples, [sigma])
    return {
        "test_images": len(images),
        "samples": len(samples),
        "sigma": float(sigma),
        "log_likelihood": float(of_images.mean()),
        "standard_error": float(of_images.std() / np.sqrt(len(images))),
    }


def log_densities(images: np.ndarray, samples: np.ndarray, sigmas) -> np.ndarray:
    """Return the log density of each image under Gaussian windows around the samples, in nats: (len(sigmas), M).

    images: (M, pixels) and samples: (N, pixels), both in [0, 1]. sigmas: standard deviations of the windows. Computed
    in float64.
    """
    samples = tf.constant(samples, tf.float64)
    squared_norms = tf.reduce_sum(samples**2, axis=-1)

    @tf.function
    def of_block(block):
        products = block @ tf.transpose(samples)
        distances = tf.reduce_sum(block**2, axis=-1, keepdims=True) + squared_norms - 2.0 * products
        sums = [tf.reduce_logsumexp(-distances / (2.0 * sigma**2), axis=-1) for sigma in sigmas]
        return tf.stack(sums) - np.log(len(samples))

    blocks = np.array_split(images.astype(np.float64), -(-len(images) // BLOCK))
    densities = [of_block(block).numpy() for block in cli.progress(blocks, "measuring")]
    normalizer = images.shape[-1] * 0.5 * np.log(2.0 * np.pi * np.square(sigmas))  # of a window, (len(sigmas),)
    return np.concatenate(densities, axis=-1) - normalizer[:, None]
