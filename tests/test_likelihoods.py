"""Distributions of a pixel, against scipy's."""

import numpy as np
import pytest
from scipy import stats

from blocks.likelihoods import discretized_logistic


@pytest.mark.parametrize(("mean", "log_scale"), [(0.4, -2.0), (0.0, -4.5), (1.3, -1.0), (0.5, np.log(1 / 256))])
def test_discretized_logistic_has_the_mass_of_each_grey_value(mean, log_scale):
    levels = np.arange(256, dtype=np.float32) / 255
    log_mass = discretized_logistic(levels, np.float32(mean), np.float32(log_scale))
    found = np.exp(log_mass.numpy().astype(np.float64))
    assert found.sum() == pytest.approx(1, abs=1e-4)
    edges = np.concatenate([[-np.inf], (np.arange(255) + 0.5) / 255, [np.inf]])
    np.testing.assert_allclose(found, np.diff(stats.logistic.cdf(edges, mean, np.exp(log_scale))), atol=1e-5)
