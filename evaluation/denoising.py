"""Denoising, compared with median filters."""

import numpy as np

from common import cli
from evaluation.compression import psnr


def denoised_psnr(images: np.ndarray, noisy: np.ndarray, denoised: np.ndarray) -> dict[str, float]:
    """Return the PSNR, in dB, of noisy images, of denoised ones, and of the outputs of three median filters, by name.

    images: the clean images, in [0, 1]. All three are float32 (N, height, width, channels).
    """
    found = {"noisy": psnr(images, noisy), "this run": psnr(images, denoised)}
    for size in cli.progress((3, 5, 7), "median filters"):
        found[f"median of {size}x{size}"] = psnr(images, median_filtered(noisy, size))
    return found


def median_filtered(noisy: np.ndarray, size: int) -> np.ndarray:
    """Return images (N, height, width, channels), each pixel the median of size x size pixels, clipped to [0, 1]."""
    from scipy.ndimage import median_filter

    return median_filter(noisy, (1, size, size, 1)).clip(0.0, 1.0)
