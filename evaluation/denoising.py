"""Denoising, compared with clipping, with filters of SciPy at their best setting, and with a learned linear filter."""

from collections.abc import Callable

import numpy as np

from common import cli
from evaluation.compression import psnr

TRAINED_ON, NOISES = 15_000, 4  # training images from which the linear filter is learned, each with this many noises
CHOSEN_ON = 2_000  # other training images, on which each filter's setting is chosen
MOST_PIXELS = 3_072  # of an image, channels included, for the linear filter, whose matrix has their square


def blurred(noisy: np.ndarray, sigma: float) -> np.ndarray:
    """Return images after a Gaussian blur of standard deviation `sigma`, in pixels."""
    from scipy.ndimage import gaussian_filter  # each filter is imported here, as SciPy takes a while

    return gaussian_filter(noisy, (0, sigma, sigma, 0))


def median_filtered(noisy: np.ndarray, size: int) -> np.ndarray:
    """Return images, each pixel the median of size x size pixels: for a few pixels that are far off."""
    from scipy.ndimage import median_filter

    return median_filter(noisy, (1, size, size, 1))


def locally_wiener_filtered(noisy: np.ndarray, size: int) -> np.ndarray:
    """Return images, each pixel nearer to the mean of size x size pixels the less these vary (Lee 1980)."""
    from scipy.signal import wiener

    with np.errstate(divide="ignore", invalid="ignore"):  # where they do not vary at all
        return np.nan_to_num(wiener(noisy, (1, size, size, 1)))


def closed(noisy: np.ndarray, size: int) -> np.ndarray:
    """Return images after a grey closing by size x size pixels, which fills black holes."""
    from scipy.ndimage import grey_closing

    return grey_closing(noisy, (1, size, size, 1))


FILTERS = {  # by a name that ends with what the setting is
    "Gaussian blur of sigma": (blurred, (0.6, 0.8, 1.0, 1.2, 1.5)),
    "median filter of size": (median_filtered, (3, 5, 7)),
    "local Wiener filter of size": (locally_wiener_filtered, (3, 5, 7)),
    "grey closing of size": (closed, (2, 3, 4)),
}


def denoised_psnr(
    images: np.ndarray, noisy: np.ndarray, denoised: np.ndarray, training_images: np.ndarray, add_noise: Callable
) -> dict[str, float]:
    """Return the PSNR, in dB, of noisy images, of denoised ones, and of the outputs of filters, by name.

    images, noisy, denoised: float32 (N, height, width, channels), the clean ones in [0, 1]. training_images: clean ones
    like them, from which the linear filter is learned and on which the others' settings are chosen. add_noise: maps
    images and the number of a draw, which is not that of `noisy`, to noisy images. Filters' outputs are clipped.
    """
    found = {"noisy": psnr(images, noisy), "this run": psnr(images, denoised), "clipping": _clipped_psnr(images, noisy)}
    learned_from, chosen_on = np.split(training_images, [-min(CHOSEN_ON, len(training_images) // 2)])
    noisy_chosen_on = np.asarray(add_noise(chosen_on, 1))
    for name, (apply, settings) in cli.progress(FILTERS.items(), "filters", len(FILTERS)):
        scores = {setting: _clipped_psnr(chosen_on, apply(noisy_chosen_on, setting)) for setting in settings}
        best = max(scores, key=scores.get)
        found[f"{name} {best:g}"] = _clipped_psnr(images, apply(noisy, best))
    if np.prod(images.shape[1:]) <= MOST_PIXELS:
        apply = learned_filter(learned_from[:TRAINED_ON], add_noise)
        found[f"linear filter, learned from {len(learned_from[:TRAINED_ON]):,}"] = _clipped_psnr(images, apply(noisy))
    return found


def learned_filter(images: np.ndarray, add_noise: Callable) -> Callable[[np.ndarray], np.ndarray]:
    """Return the linear function with the least squared error, in which each output depends on all pixels.

    It is the Wiener filter without the assumption that all places of an image are alike, and with an offset. images,
    add_noise: as for `denoised_psnr`.
    """
    pixels = int(np.prod(images.shape[1:]))
    products, mixed = np.zeros((pixels + 1, pixels + 1)), np.zeros((pixels + 1, pixels))
    for draw in cli.progress(range(2, 2 + NOISES), "learning a linear filter"):
        inputs = _with_ones(np.asarray(add_noise(images, draw)))
        products += inputs.T @ inputs
        mixed += inputs.T @ images.reshape(len(images), -1)
    weights = np.linalg.solve(products + np.eye(pixels + 1), mixed)  # the identity: for pixels that never change
    return lambda noisy: (_with_ones(noisy) @ weights.astype(np.float32)).reshape(noisy.shape)


def _with_ones(images: np.ndarray) -> np.ndarray:
    """Return the pixels of each image, and a 1 for the offset, (N, pixels + 1)."""
    return np.pad(images.reshape(len(images), -1), ((0, 0), (0, 1)), constant_values=1.0)


def _clipped_psnr(images: np.ndarray, outputs: np.ndarray) -> float:
    return psnr(images, outputs.clip(0.0, 1.0))
