"""Colour transfer: one picture takes on the colour statistics of another."""

import numpy as np


def match_colors(image: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Return `image`, float (height, width, 3), with the mean and the covariance of the colours of `reference`.

    Of all linear maps of colours that achieve this, it is the one that changes them least: the optimal transport
    between two Gaussians (Pitié and Kokaram 2007, "The linear Monge-Kantorovitch linear colour mapping for
    example-based colour transfer"). A reference of one colour, or of one pixel, has a covariance of zero.
    """
    (mean, root, inverse), (reference_mean, reference_root, _) = map(_color_statistics, (image, reference))
    values, vectors = np.linalg.eigh(root @ reference_root @ reference_root @ root)
    transport = inverse @ (vectors * np.sqrt(values.clip(0))) @ vectors.T @ inverse
    return ((image - mean) @ transport + reference_mean).astype(image.dtype)


def _color_statistics(image: np.ndarray) -> tuple:
    """Return the mean of the colours (3,), the square root of their covariance (3, 3), and the inverse of that root."""
    pixels = image.reshape(-1, 3).astype(np.float64)
    covariance = np.cov(pixels, rowvar=False) if len(pixels) > 1 else np.zeros((3, 3))
    values, vectors = np.linalg.eigh(covariance)
    roots = np.sqrt(values.clip(1e-6))  # a grey picture's covariance has no inverse
    return pixels.mean(axis=0), (vectors * roots) @ vectors.T, (vectors / roots) @ vectors.T
