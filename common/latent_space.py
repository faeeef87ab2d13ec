"""Latents, the random numbers that generators start from, and walks between them."""

from collections.abc import Callable, Iterator
from statistics import NormalDist

import numpy as np

from common import memory


def draw(count: int, latent_dim: int, seed: int) -> np.ndarray:
    """Draw standard normal latents: float32 (count, latent_dim)."""
    memory.check(4 * count * latent_dim, f"{count:,} times {latent_dim:,} latents")
    return np.random.default_rng(seed).standard_normal((count, latent_dim), np.float32)


def draw_in_parts(count: int, latent_dim: int, seed: int, size: int) -> Iterator[np.ndarray]:
    """Yield the latents that `draw` returns in parts of at most `size`."""
    random = np.random.default_rng(seed)
    for start in range(0, count, size):
        yield random.standard_normal((min(size, count - start), latent_dim), np.float32)


def slerp(start: np.ndarray, end: np.ndarray, steps: int) -> np.ndarray:
    """Interpolate along the great circle from each start to its end: (steps, count, latent_dim), without the end.

    White 2016 (arXiv:1609.04468), section 2.1: a straight line would pass near 0, where almost no latents of the
    training lie. Where start and end have the same or opposite directions, the path is a straight line.
    start, end: (count, latent_dim).
    """
    norms = np.linalg.norm(start, axis=-1) * np.linalg.norm(end, axis=-1)
    angle = np.arccos(np.clip(np.sum(start * end, axis=-1) / norms, -1.0, 1.0))[:, None]
    part = np.linspace(0.0, 1.0, steps, endpoint=False, dtype=np.float32)[:, None, None]
    sine = np.sin(angle)
    curved = (np.sin((1.0 - part) * angle) * start + np.sin(part * angle) * end) / np.maximum(sine, 1e-6)
    return np.where(sine > 1e-3, curved, lerp(start, end, steps))


def lerp(start: np.ndarray, end: np.ndarray, steps: int) -> np.ndarray:
    """Interpolate along the straight line from each start to its end; shapes as for `slerp`."""
    part = np.linspace(0.0, 1.0, steps, endpoint=False, dtype=np.float32)[:, None, None]
    return (1.0 - part) * start + part * end


def round_trip(stations: np.ndarray, interpolate: Callable = slerp) -> np.ndarray:
    """Walk from each of four stations to the next and back to the first, in sixteen steps each.

    stations: (4, walkers, latent_dim). interpolate: `slerp` or `lerp`. Returns (64, walkers, latent_dim).
    """
    return np.concatenate([interpolate(stations[k], stations[(k + 1) % 4], 16) for k in range(4)])


def plane(columns: int) -> np.ndarray:
    """Return latents (columns^2, 2) on a square grid whose cells are equally probable, row by row from the top."""
    places = np.array([NormalDist().inv_cdf((n + 0.5) / columns) for n in range(columns)], np.float32)
    return np.stack(np.meshgrid(places, places[::-1]), axis=-1).reshape(-1, 2)


def axes(latent_dim: int, steps: int) -> np.ndarray:
    """Return latents (latent_dim * steps, latent_dim) along each axis in turn, from -3 to 3, with all others at 0."""
    along = np.linspace(-3.0, 3.0, steps, dtype=np.float32)
    return (np.eye(latent_dim, dtype=np.float32)[:, None] * along[:, None]).reshape(-1, latent_dim)
