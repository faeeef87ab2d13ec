"""One device and several give the same result for the same global batch; what devices.setup chooses."""

import json
import os
import socket
import subprocess
import sys
import types
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
import tiny_script
from conftest import ROOT, STEPS

import dcgan_mnist
from blocks.adam import Adam
from common import datasets, devices, environment, gpus

SMALL = {
    "generator_width": 4,
    "discriminator_width": 4,
    "latent_dim": 8,
    "batch_size": 16,
    "image_size": 16,
    "precision": "float32",
}
RUNS = Path("outputs/tiny_script")

# Trains a run and continues it, each with the flags in one argument. The chief's last files must be complete before
# the other worker reads them.
WORKER = """
import sys, time
from pathlib import Path
import tiny_script
first, second, index = *map(str.split, sys.argv[1:3]), sys.argv[3]
tiny_script.main(first)
Path(f"finished_{index}").touch()
while not all(Path(f"finished_{other}").exists() for other in "01"):
    time.sleep(0.05)
tiny_script.main(second)
"""


def test_two_mirrored_devices_equal_one(assert_two_devices_equal_one):
    def found(train, strategy):
        data = datasets.load("digits", 16)
        batches = [(data.images[start : start + 16], data.labels[start : start + 16]) for start in range(0, 80, 16)]
        config = dcgan_mnist.Config(**SMALL, strategy=strategy)
        networks, losses = train(dcgan_mnist, config, 1, 0, batches=batches, classes=0)
        variables = [*networks["generator"].variables, *networks["averaged_generator"].variables]
        # On two devices the discriminator's moving statistics, which nothing uses, see each batch once more.
        variables += networks["discriminator"].trainable_variables
        return [*losses.values(), *(np.abs(variable.numpy()).sum() for variable in variables)]

    assert_two_devices_equal_one(found, rtol=1e-4)


def test_two_workers_train_a_run_and_resume_it_like_one_device(tiny_flags):
    """A whole script: the first worker writes the run's folder, and both resume from its checkpoint."""
    first = [*tiny_flags, "--dropout", "0"]
    second = ["--resume", str(RUNS / "workers"), "--epochs", "2"]
    with socket.socket() as one, socket.socket() as two:
        for free in (one, two):
            free.bind(("127.0.0.1", 0))
        addresses = [f"127.0.0.1:{free.getsockname()[1]}" for free in (one, two)]
    workers = []
    for index in (0, 1):
        cluster = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
        environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}", "TF_CONFIG": json.dumps(cluster)}
        command = [sys.executable, "-c", WORKER, " ".join([*first, "--name", "workers"]), " ".join(second), str(index)]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        workers.append(subprocess.Popen(command, env=environment, text=True, **pipes))
    tiny_script.main([*first, "--epochs", "2", "--name", "alone"])
    outputs = [worker.communicate(timeout=300)[0] for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0], outputs
    assert all(f"resumed after {STEPS} steps" in output for output in outputs)
    assert sorted(path.name for path in RUNS.iterdir() if not path.is_symlink()) == ["alone", "workers"]
    checkpoint = f"checkpoints/step_{2 * STEPS:08d}.npz"
    alone, together = (np.load(RUNS / name / checkpoint) for name in ("alone", "workers"))
    assert alone.files == together.files
    for name in set(alone.files) - {"seconds", "losses"}:
        np.testing.assert_allclose(together[name], alone[name], rtol=1e-3, atol=1e-5, err_msg=name)
    tables = [(RUNS / name / "metrics.csv").read_text().splitlines() for name in ("alone", "workers")]
    assert len(tables[0]) == len(tables[1]) == 1 + 3


@pytest.mark.parametrize(
    ("cluster", "task", "expected"),
    [
        ({"worker": ["a:1", "b:1"]}, ("worker", 0), True),
        ({"worker": ["a:1", "b:1"]}, ("worker", 1), False),
        ({"chief": ["a:1"], "worker": ["b:1", "c:1"]}, ("chief", 0), True),
        ({"chief": ["a:1"], "worker": ["b:1", "c:1"]}, ("worker", 0), False),
    ],
)
def test_only_the_chief_writes_files(cluster, task, expected):
    spec = tf.train.ClusterSpec(cluster)
    resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(spec, task_type=task[0], task_id=task[1])
    strategy = types.SimpleNamespace(cluster_resolver=resolver)
    assert devices.Device(strategy, False, "").is_chief == expected


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ("fpu avx2 avx512f", "float32"),
        ("fpu avx512f avx512_bf16", "float32"),  # TensorFlow is slower in bfloat16 there
        ("fpu avx512f avx512_bf16 amx_bf16 amx_tile", "mixed_bfloat16"),
    ],
)
def test_the_precision_suits_the_processor(flags, expected, monkeypatch):
    monkeypatch.setattr(environment.Path, "exists", lambda path: True)
    monkeypatch.setattr(environment.Path, "read_text", lambda path: f"processor\t: 0\nflags\t\t: {flags}\n")
    assert devices._precision("auto", gpus=[])[0] == expected
    assert devices._precision("float32", gpus=[])[0] == "float32"


def test_a_gpu_that_is_not_used_is_reported(monkeypatch, tmp_path, capsys):
    if tf.config.list_physical_devices("GPU"):
        pytest.skip("it is used")
    monkeypatch.setattr(gpus, "NVIDIA_DRIVER", tmp_path)
    devices.setup(tiny_script.Config())
    assert "does not use the NVIDIA GPU: --verbose shows why" in capsys.readouterr().out


def test_adam_takes_the_steps_of_keras_adam_and_has_its_state():
    random = np.random.default_rng(0)
    rows = tf.IndexedSlices(random.normal(size=(2, 3)).astype(np.float32), [1, 4], (5, 3))  # as of an embedding
    gradients = [random.normal(size=shape).astype(np.float32) for shape in ((4, 3), (3,))]

    def trained(optimizer_class):
        rate = keras.optimizers.schedules.CosineDecay(0.01, 10)
        optimizer = optimizer_class(rate, beta_1=0.5, beta_2=0.99)
        variables = [keras.Variable(np.ones(shape, np.float32)) for shape in ((4, 3), (3,), (5, 3))]
        optimizer.build(variables)
        apply = tf.function(lambda scale: optimizer.apply([*(scale * it for it in gradients), rows], variables))
        for scale in (1.0, -0.3, 0.0, 2.0):
            apply(tf.constant(scale))
        return [*variables, *optimizer.variables]

    for ours, theirs in zip(trained(Adam), trained(keras.optimizers.Adam), strict=True):
        np.testing.assert_allclose(ours.numpy(), theirs.numpy(), rtol=1e-6, atol=1e-8)
