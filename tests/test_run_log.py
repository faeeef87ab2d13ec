"""The rows of metrics.csv, as means over steps."""

import numpy as np
import pytest

from common import run_log


def test_a_lazy_loss_has_the_mean_of_the_steps_at_which_it_was_computed():
    """With a penalty at every 16th step, 50 steps hold three or four; its row must not depend on which."""
    losses = run_log.PendingLosses(lambda: "", {"penalty": 16})
    found = []
    for first in (0, 50, 100, 150):
        steps = np.arange(first, first + 50)
        penalty = np.where(steps % 16 == 0, 16 * 0.25, 0.0).astype(np.float32)
        assert penalty.mean() in (np.float32(0.24), np.float32(0.32))
        losses.add({"loss": np.ones(20, np.float32), "penalty": penalty[:20]})
        losses.add({"loss": np.full(30, 2.0, np.float32), "penalty": penalty[20:]})
        found.append(losses.take_means(last_step=first + 50))
        assert len(losses) == 0
    assert [row["penalty"] for row in found] == pytest.approx([0.25] * 4)
    assert [row["loss"] for row in found] == pytest.approx([1.6] * 4)


def test_a_lazy_loss_may_be_missing():
    losses = run_log.PendingLosses(lambda: "", {"penalty": 16})
    losses.add({"loss": np.ones(50, np.float32)})
    assert losses.take_means(last_step=50) == {"loss": 1.0}
