"""A density of codes, estimated after training, from which an autoencoder is sampled."""

import warnings
from collections.abc import Iterator

import numpy as np

from common import cli, memory

ITERATIONS = 50  # of expectation maximisation, at most
AT_ONCE = 5  # iterations; from one call to the next the fit continues


def fit_mixture(codes: np.ndarray, seed: int) -> dict[str, np.ndarray]:
    """Fit a mixture of at most 20 Gaussians to codes (N, code_size): its weights, means and covariances.

    Ghosh et al. 2020 (arXiv:1903.12436), section 4. Of more than 20,000 codes, 20,000 drawn at random are used.
    """
    from sklearn.mixture import GaussianMixture  # takes a second to import
    from threadpoolctl import threadpool_limits

    drawn = np.random.default_rng(seed).permutation(codes)[:20_000]
    drawn = np.resize(drawn, (max(len(drawn), 2), codes.shape[-1]))  # repeats a single code: scikit-learn needs two
    components = min(20, max(1, len(drawn) // (2 * codes.shape[-1])))  # fewer for few codes
    # One thread: for matrices this small several threads cost more than they gain, most of all on a busy machine.
    # The warning concerns a fit that has not converged, which matters little here.
    with threadpool_limits(1), warnings.catch_warnings(action="ignore"):
        mixture = GaussianMixture(components, reg_covar=1e-3, max_iter=AT_ONCE, warm_start=True, random_state=seed)
        for _ in cli.progress(range(ITERATIONS // AT_ONCE), "fitting a mixture of Gaussians to the codes"):
            if mixture.fit(drawn).converged_:
                break
    return {"weights": mixture.weights_, "means": mixture.means_, "covariances": mixture.covariances_}


def draw_from_mixture(weights, means, covariances, count: int, seed: int, size: int) -> Iterator[np.ndarray]:
    """Draw `count` codes from a mixture of Gaussians, and yield them in parts: float32 (size, code_size) at most.

    weights: (components,). means: (components, code_size). covariances: (components, code_size, code_size).
    """
    memory.check(24 * count, f"the components of {count:,} codes")
    random = np.random.default_rng(seed)
    chosen = random.choice(len(weights), count, p=np.divide(weights, np.sum(weights)))
    for start in range(0, count, size):
        components = chosen[start : start + size]
        codes = random.standard_normal((len(components), means.shape[-1]))
        for number, (mean, covariance) in enumerate(zip(means, covariances, strict=True)):
            rows = components == number
            codes[rows] = mean + codes[rows] @ np.linalg.cholesky(covariance).T
        yield codes.astype(np.float32)
