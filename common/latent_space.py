"""Latents, the random numbers that generators start from, and walks between them."""

import warnings
from statistics import NormalDist

import numpy as np


def draw(count: int, latent_dim: int, seed: int) -> np.ndarray:
    """Draw standard normal latents: float32 (count, latent_dim)."""
    return np.random.default_rng(seed).standard_normal((count, latent_dim), np.float32)


def spherical_walk(start: np.ndarray, end: np.ndarray, steps: int) -> np.ndarray:
    """Return `steps` latents along the great circle from each start to its end, without the end.

    A straight line would pass near zero, where no latent of training ever was (White 2016, arXiv:1609.04468); it is
    what is left where start and end lie in one direction.
    start, end: (count, latent_dim). Returns (steps, count, latent_dim).
    """
    norms = np.linalg.norm(start, axis=-1) * np.linalg.norm(end, axis=-1)
    angle = np.arccos(np.clip(np.sum(start * end, axis=-1) / norms, -1.0, 1.0))[:, None]
    part = np.linspace(0.0, 1.0, steps, endpoint=False, dtype=np.float32)[:, None, None]
    sine = np.sin(angle)
    curved = (np.sin((1.0 - part) * angle) * start + np.sin(part * angle) * end) / np.maximum(sine, 1e-6)
    return np.where(sine > 1e-3, curved, (1.0 - part) * start + part * end)


def straight_walk(start: np.ndarray, end: np.ndarray, steps: int) -> np.ndarray:
    """Return `steps` codes along the line from each start to its end, without the end; shapes as `spherical_walk`."""
    part = np.linspace(0.0, 1.0, steps, endpoint=False, dtype=np.float32)[:, None, None]
    return (1.0 - part) * start + part * end


def round_trips(count: int, latent_dim: int, seed: int) -> np.ndarray:
    """Return the latents of `count` walkers on their way to four stations and back to the first.

    Returns (64, count, latent_dim): sixteen steps from each station to the next.
    """
    return round_trip(draw(4 * count, latent_dim, seed).reshape(4, count, latent_dim), spherical_walk)


def round_trip(stations, walk) -> np.ndarray:
    """Return the way from each of four stations to the next, and from the last to the first.

    stations: four arrays (count, latent_dim). walk: `spherical_walk` or `straight_walk`.
    Returns (64, count, latent_dim): sixteen steps from each station to the next.
    """
    return np.concatenate([walk(stations[k], stations[(k + 1) % 4], 16) for k in range(4)])


def fit_mixture(codes, seed: int) -> dict[str, np.ndarray]:
    """Fit a mixture of at most 20 Gaussians to codes (N, code_size): its weights, means and covariances.

    Ghosh et al. 2020 (arXiv:1903.12436), section 4: a density of the codes, estimated after the training.
    """
    from sklearn.mixture import GaussianMixture  # takes a second to import

    few = np.random.default_rng(seed).permutation(codes)[:20_000]
    few = np.resize(few, (max(len(few), 2), codes.shape[-1]))  # of a single picture scikit-learn fits nothing
    components = min(20, max(1, len(few) // (2 * codes.shape[-1])))
    with warnings.catch_warnings(action="ignore"):  # it says so where it has not converged, which matters little
        mixture = GaussianMixture(components, reg_covar=1e-3, max_iter=50, random_state=seed).fit(few)
    return {"weights": mixture.weights_, "means": mixture.means_, "covariances": mixture.covariances_}


def draw_from_mixture(weights, means, covariances, count: int, seed: int) -> np.ndarray:
    """Draw codes, float32 (count, code_size), from a mixture of Gaussians."""
    random = np.random.default_rng(seed)
    chosen = random.choice(len(weights), count, p=np.divide(weights, np.sum(weights)))
    codes = random.standard_normal((count, means.shape[-1]))
    for number, (mean, covariance) in enumerate(zip(means, covariances, strict=True)):
        rows = chosen == number
        codes[rows] = mean + codes[rows] @ np.linalg.cholesky(covariance).T
    return codes.astype(np.float32)


def plane(columns: int) -> np.ndarray:
    """Return latents (columns^2, 2), a square of which each place is equally probable, row by row from the top."""
    places = np.array([NormalDist().inv_cdf((n + 0.5) / columns) for n in range(columns)], np.float32)
    return np.stack(np.meshgrid(places, places[::-1]), axis=-1).reshape(-1, 2)


def axes(latent_dim: int, steps: int) -> np.ndarray:
    """Return latents (latent_dim * steps, latent_dim): along each axis in turn from -3 to 3, the others being 0."""
    along = np.linspace(-3.0, 3.0, steps, dtype=np.float32)
    return (np.eye(latent_dim, dtype=np.float32)[:, None] * along[:, None]).reshape(-1, latent_dim)
