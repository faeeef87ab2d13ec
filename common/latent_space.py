"""Latents, the random numbers that generators start from, and walks between them."""

import numpy as np


def draw(count: int, latent_dim: int, seed: int) -> np.ndarray:
    """Draw standard normal latents: float32 (count, latent_dim)."""
    return np.random.default_rng(seed).standard_normal((count, latent_dim), np.float32)


def spherical_walk(start: np.ndarray, end: np.ndarray, steps: int) -> np.ndarray:
    """Return `steps` latents along the great circle from each start to its end, without the end.

    A straight line would pass near zero, where no latent of training ever was (White 2016, arXiv:1609.04468).
    start, end: (count, latent_dim). Returns (steps, count, latent_dim).
    """
    norms = np.linalg.norm(start, axis=-1) * np.linalg.norm(end, axis=-1)
    angle = np.arccos(np.sum(start * end, axis=-1) / norms)[:, None]
    part = np.linspace(0.0, 1.0, steps, endpoint=False, dtype=np.float32)[:, None, None]
    return (np.sin((1.0 - part) * angle) * start + np.sin(part * angle) * end) / np.sin(angle)


def round_trips(count: int, latent_dim: int, seed: int) -> np.ndarray:
    """Return the latents of `count` walkers on their way to four stations and back to the first.

    Returns (64, count, latent_dim): sixteen steps from each station to the next.
    """
    stations = [draw(count, latent_dim, seed + number) for number in range(4)]
    return np.concatenate([spherical_walk(stations[k], stations[(k + 1) % 4], 16) for k in range(4)])
