"""What needs more memory than there is, on the machine or in its container, is refused with the estimate."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf
import tiny_script

from common import devices, latent_space, memory
from common.errors import UserError

MEMINFO = "MemTotal: 9000000 kB\nMemAvailable: 8000000 kB\nSwapFree: 1000000 kB\n"
FREE = 9_000_000 * 1024


def machine(root, files):
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return memory.available(root)


def group(folder, limit, used, cache, version=2):
    names = memory.OF_VERSION_1 if version == 1 else memory.OF_VERSION_2
    return {
        f"{folder}/{names[0]}": f"{limit}\n",
        f"{folder}/{names[1]}": f"{used}\n",
        f"{folder}/memory.stat": f"anon 5\n{names[2]} {cache}\n",
    }


def test_without_a_limit_the_machines_free_memory_counts(tmp_path):
    assert machine(tmp_path, {"proc/meminfo": MEMINFO}) == FREE
    of_root = group("sys/fs/cgroup", "max", 5, 0)
    assert machine(tmp_path, {"proc/self/cgroup": "0::/\n", **of_root}) == FREE


@pytest.mark.parametrize("path", ["/", "/work/job", "/elsewhere"])
def test_the_limit_of_a_container_of_version_2(tmp_path, path):
    """Whether the process sees its own group as the root or by its path, or by one that it cannot see."""
    files = {"proc/meminfo": MEMINFO, "proc/self/cgroup": f"0::{path}\n", **group("sys/fs/cgroup", 4000, 3000, 500)}
    files |= group("sys/fs/cgroup/work", 3000, 2000, 100) | group("sys/fs/cgroup/work/job", "max", 10, 0)
    assert machine(tmp_path, files) == (1100 if path == "/work/job" else 1500)


def test_the_limit_of_a_container_of_version_1(tmp_path):
    lines = "9:name=systemd:/\n4:cpu,memory:/docker/abc\n0::/\n"
    files = {"proc/meminfo": MEMINFO, "proc/self/cgroup": lines, **group("sys/fs/cgroup/memory", 4000, 3000, 0, 1)}
    assert machine(tmp_path, files) == 1000


def test_a_container_that_uses_more_than_its_limit_has_nothing_left(tmp_path):
    files = {"proc/meminfo": MEMINFO, "proc/self/cgroup": "0::/\n", **group("sys/fs/cgroup", 10, 20, 0)}
    assert machine(tmp_path, files) == 0


def test_without_these_files_something_is_assumed(tmp_path):
    assert memory.available(tmp_path) > 0


def test_a_refusal_names_the_estimate_and_what_is_available(monkeypatch):
    monkeypatch.setattr(memory, "available", lambda: 2.5e9)
    memory.check(2.5e9, "the pictures")
    with pytest.raises(UserError, match=r"^the pictures need 2\.6 GB of memory, and 2\.5 GB are available"):
        memory.check(2.6e9, "the pictures")
    with pytest.raises(UserError, match=r"need 1\.25 TB of memory"):
        memory.check(1.25e12, "the pictures")
    monkeypatch.setattr(memory, "available", lambda: 0)
    memory.check(memory.SMALL, "small things")


def test_weights_and_latents_that_do_not_fit_are_refused(refusal, tiny_flags):
    line = refusal(*tiny_flags, "--latent_dim", 10**9)
    assert "weights of shape (1000000000, 64) need 256 GB of memory" in line
    assert "1,000,000,000 times 32 latents need 128 GB of memory" in refused(lambda: latent_space.draw(10**9, 32, 0))


def refused(function):
    with pytest.raises(UserError) as error:
        function()
    return str(error.value)


def test_an_optimizers_variables_are_counted_too(monkeypatch):
    devices.setup(tiny_script.Config())
    asked = []
    monkeypatch.setattr(memory, "check", lambda size, what: asked.append(size))
    network = keras.Sequential([keras.Input((30,)), keras.layers.Dense(20, use_bias=False)])
    keras.optimizers.Adam().build(network.trainable_variables)
    assert asked.count(4 * 30 * 20) == 3  # the weights, and their two moments


def test_random_numbers_of_a_training_step_that_do_not_fit_are_refused_without_tensorflows_call_stack():
    draw = tf.function(lambda step: devices.normal((10**5, 10**6), 0, step))
    message = refused(lambda: draw(tf.constant(1)))
    assert message.startswith("random numbers of shape (100000, 1000000) need 400 GB")


def test_outputs_that_do_not_fit_are_refused_after_the_first_part(monkeypatch):
    monkeypatch.setattr(memory, "available", lambda: 1e8)
    calls = []

    def network(inputs, training):
        calls.append(len(inputs))
        return tf.repeat(inputs, 10_000, axis=1)

    assert "the outputs need 320 MB" in refused(lambda: devices.predict(network, np.zeros((2000, 1))))
    assert len(calls) == 1


def test_pictures_that_do_not_fit_are_refused(refusal, tiny_flags, tiny_folder):
    for data in ("digits", tiny_folder(count=1)):
        assert "pictures need" in refusal(*tiny_flags, "--data", data, "--image_size", 10**8)
    assert math.isfinite(memory.available())
