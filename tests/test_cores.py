"""How the CPU's cores are divided among operations, and batches among the cores."""

import math
import os

import keras
import numpy as np
import pytest
import tensorflow as tf

import autoencoder
import vae
from common import cores, devices


def test_cores_can_be_divided_only_before_anything_is_computed():
    tf.ones(1)
    threads = cores.threads_of_operation()
    cores.divide(2 * cores.count())
    assert cores.threads_of_operation() == threads


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="only Linux restricts a process to some cores")
def test_only_cores_that_the_process_may_use_count(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {3})
    assert cores.count() == 1


def test_setup_divides_the_cores_among_the_operations_of_a_step(monkeypatch):
    limits = []
    monkeypatch.setattr(tf.config.threading, "set_intra_op_parallelism_threads", limits.append)
    monkeypatch.setattr(cores, "count", lambda: 4)
    for side_by_side in (1, 2, 3, 4, math.inf):
        devices.setup(vae.Config(), side_by_side=side_by_side)
    assert limits == [4, 2, 1, 1, 1]


def test_a_batch_has_as_many_parts_as_can_be_computed_at_the_same_time(monkeypatch):
    monkeypatch.setattr(cores, "count", lambda: 4)
    monkeypatch.setattr(cores, "threads_of_operation", lambda: 4)
    assert cores.part_sizes(128) == 1
    monkeypatch.setattr(cores, "threads_of_operation", lambda: 2)
    assert cores.part_sizes(128) == [64, 64]
    assert cores.part_sizes(None) == 1
    monkeypatch.setattr(cores, "threads_of_operation", lambda: 1)
    assert cores.part_sizes(128) == [32, 32, 32, 32]
    assert cores.part_sizes(65) == [32, 33]
    assert cores.part_sizes(65, smallest=16) == [16, 16, 16, 17]
    assert cores.part_sizes(8) == 1


@pytest.mark.parametrize("script", [autoencoder, vae])
def test_a_training_step_does_the_same_with_the_batch_in_parts(script, monkeypatch):
    pixels = np.random.default_rng(0).integers(0, 256, (64, 28, 28, 1), dtype=np.uint8)
    weights, losses = [], []
    for count in (1, 2):
        monkeypatch.setattr(cores, "count", lambda count=count: count)
        monkeypatch.setattr(cores, "threads_of_operation", lambda: 1)
        keras.utils.set_random_seed(0)
        config = script.Config(batch_size=64)
        of_vae = {"classes": 0} if script is vae else {}
        networks = script.build(config, channels=1, **of_vae)
        step = script.make_train_step(**networks, config=config, **of_vae)
        labels = [tf.zeros(64, tf.int32)] if script is vae else []
        taken = step(tf.constant(pixels), *labels, tf.constant(0), tf.constant(0.0, tf.float64))
        losses.append({name: float(loss) for name, loss in taken.items()})
        weights.append([variable.numpy() for variable in networks["optimizer"].variables])
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    for one, other in zip(*weights, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-5 * np.abs(one).max())
