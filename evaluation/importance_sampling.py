"""The log-likelihood of images under a latent variable model, by importance sampling, and a classifier based on it."""

import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tensorflow as tf

from common import cli, devices, files, pictures
from common.datasets import Images

DECODED_AT_ONCE = 5_000  # latents; more need more memory and are no faster
LEAST_VARIANCE = 0.01  # of the mean of an active unit, over images

# Negative log-likelihood of MNIST's test images in nats, with one layer of latents and dynamic binarization; Burda et
# al. use 5,000 importance samples.
BURDA_TABLE_1 = {"VAE": (86.76, 19), "IWAE": (84.78, 25)}  # nats, and active units
PUBLISHED_FIGURES = {
    "VAE, two dense layers of 200 (Burda et al. 2016, table 1)": BURDA_TABLE_1["VAE"][0],
    "IWAE, the same with 50 samples (Burda et al. 2016, table 1)": BURDA_TABLE_1["IWAE"][0],
    "convolutional VAE, normal posterior (Kingma et al. 2016, table 1)": 81.08,
    "the same, autoregressive flow as posterior (same table, the best)": 79.10,
}


def make_estimator(terms: Callable, latent_dim: int, samples: int, seed: int = 0) -> Callable:
    """Return a function that estimates the log-likelihood of images with `samples` latents per image.

    terms: maps pixels, uint8 (batch, height, width, channels), labels (batch,) and standard normal noise (batch, n,
    latent_dim) to log p(x|z) and log q(z|x) - log p(z), float32 (batch, n) each; it is compiled.

    The returned function maps pixels (N, …), labels (N,) and the title of its progress bar to three arrays, float64
    (N,), in nats: the means of the two terms, whose difference is the ELBO (the evidence lower bound, which a VAE
    maximises), and the importance-weighted bound (Burda et al. 2016, arXiv:1509.00519, equation 8), which is nearer to
    log p(x). It decodes at most 5,000 latents at a time, so its memory does not grow with `samples` or N.
    """
    most = min(samples, 500)
    sizes = [min(most, samples - start) for start in range(0, samples, most)]
    rows = max(1, DECODED_AT_ONCE // most)

    @tf.function
    def draw_terms(pixels, labels, number, size):
        return terms(pixels, labels, devices.normal((pixels.shape[0], size, latent_dim), seed, number))

    def estimate(pixels, labels, title: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        numbers, figures = itertools.count(), []
        for start in cli.progress(range(0, len(pixels), rows), title):
            block = pixels[start : start + rows], labels[start : start + rows]
            parts = [draw_terms(*block, tf.constant(next(numbers)), size) for size in sizes]
            parts = [np.concatenate(part, axis=1).astype(np.float64) for part in zip(*parts, strict=True)]
            reconstruction, divergence = parts  # (rows, samples)
            bound = np.logaddexp.reduce(reconstruction - divergence, axis=1) - np.log(samples)
            figures.append((reconstruction.mean(axis=1), divergence.mean(axis=1), bound))
        return tuple(np.concatenate(figure) for figure in zip(*figures, strict=True))

    return estimate


def active_units(codes: np.ndarray) -> int:
    """Return the number of latents that depend on the image (Burda et al. 2016, section 5).

    codes: the mean latents of N images, (N, latent_dim). A latent is active if its variance over them exceeds 0.01.
    """
    return int((codes.var(axis=0) > LEAST_VARIANCE).sum())


def evaluate(
    path: Path,
    test: Images,
    codes: np.ndarray,
    terms: Callable,
    samples: int,
    seed: int,
    *,
    likelihood: str,
    binarization: str,
    conditional: bool,
) -> None:
    """Estimate the log-likelihood of the test images, print it beside published figures, and write it to `path`.

    codes: the mean latents of the test images, or their base variables if the prior is a flow, (N, latent_dim).
    terms, samples, seed: as for `make_estimator`.
    likelihood: the distribution of a pixel. binarization: how the images became black and white, for bernoulli.
    conditional: whether the model is given the classes.
    """
    estimate = make_estimator(terms, codes.shape[-1], samples, seed)
    reconstructions, divergences, bounds = estimate(test.images, test.labels, "evaluating")
    reconstruction, divergence = reconstructions.mean(), divergences.mean()
    result = {
        "data": test.name,
        "test_images": len(test.images),
        "likelihood": likelihood,
        "binarization": binarization if likelihood == "bernoulli" else "none",
        "given_the_class": conditional,
        "elbo": reconstruction - divergence,
        "reconstruction": reconstruction,
        "kl_divergence": divergence,
        "importance_samples": samples,
        "importance_weighted_bound": bounds.mean(),
        "standard_error": bounds.std() / np.sqrt(len(bounds)),
        "active_units": active_units(codes),
    }
    is_comparable = test.has_published_figures and result["binarization"] == "dynamic" and not conditional
    print_result(result, codes.shape[-1], PUBLISHED_FIGURES if is_comparable else {})
    files.write_json(path, result)


def print_result(result: dict, latent_dim: int, published: dict[str, float]) -> None:
    """Print the result of `evaluate`, and below it the published negative log-likelihoods by name."""
    print(f"{result['data']}, binarization: {result['binarization']}; all figures in nats")
    terms = f"log p(x|z) {result['reconstruction']:.2f} - KL divergence {result['kl_divergence']:.2f}"
    print(f"  ELBO {result['elbo']:.2f} = {terms}")
    print(f"  {result['active_units']} of {latent_dim} latents are active")
    print(f"upper bound of the negative log-likelihood, with {result['importance_samples']:,} importance samples:")
    bound, error = -result["importance_weighted_bound"], result["standard_error"]
    for name, figure in {"this run": f"{bound:.2f} ± {error:.2f}", **published}.items():
        print(f"  {name:66} {figure}")
    if result["given_the_class"]:
        print("  (given the classes; up to log(number of classes) lower than without them)")


def classify(
    path: Path, train_labels: np.ndarray, test: Images, terms: Callable, latent_dim: int, samples: int, seed: int
) -> None:
    """Classify test images by their likelihood; print the accuracy; write the result to `path`, and confusion.png.

    Bayes' rule: an image belongs to the class with the highest log p(x|class) + log p(class). The first term is the
    importance-weighted bound, the second comes from the frequency of the class among `train_labels`, (N,).
    terms, latent_dim, samples, seed: as for `make_estimator`; the model must be conditional on the class.
    """
    from sklearn.metrics import confusion_matrix  # takes a second to import

    estimate = make_estimator(terms, latent_dim, samples, seed)
    counts = np.bincount(train_labels, minlength=len(test.class_names))
    scores = np.empty((len(test.labels), len(counts)))
    for label, name in enumerate(test.class_names):
        _, _, bounds = estimate(test.images, np.full_like(test.labels, label), f"class {name}")
        scores[:, label] = bounds + np.log(counts[label] / len(train_labels))
    predicted = scores.argmax(axis=-1)
    matrix = confusion_matrix(test.labels, predicted, labels=np.arange(len(test.class_names)))
    accuracy = float((predicted == test.labels).mean())
    result = {"data": test.name, "accuracy": accuracy, "samples": samples, "confusion": matrix.tolist()}
    print(f"classifies {accuracy:.2%} of {test.name} correctly", flush=True)
    files.write_json(path, result)
    pictures.save_confusion(path.with_name("confusion.png"), matrix, test.class_names)
