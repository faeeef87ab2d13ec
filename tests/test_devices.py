"""One device and several give the same result for the same global batch."""

import csv
import json
import os
import socket
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from common import devices

ROOT = Path(__file__).parent.parent

# Trains a little and prints the last losses and a weight; in a process of its own, as devices are set up once.
PROGRAM = """
import json, sys
import tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * int(sys.argv[1]))
import dcgan_mnist
from common import datasets, devices
import numpy as np
config = dcgan_mnist.Config(
    generator_width=4, discriminator_width=4, latent_dim=8, batch_size=16, precision="float32",
    strategy=sys.argv[2],
)
device = devices.setup(config)
with device.strategy.scope():
    networks = dcgan_mnist.build(config, 1, 0)
step = device.compile(dcgan_mnist.make_train_step(**networks, config=config, classes=0))
data = datasets.load("digits", 28)
for number in range(5):
    part = slice(number * 16, number * 16 + 16)
    losses = step(*device.share(data.images[part], data.labels[part]), tf.constant(number, tf.int64))
models = [networks[name] for name in ("generator", "averaged_generator", "discriminator")]
sums = [float(np.abs(variable.numpy()).sum()) for model in models for variable in model.variables]
print("RESULT", json.dumps([device.replicas, *(float(loss) for loss in losses.values()), *sums]))
"""


def start(devices, strategy, cluster=None):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}
    if cluster:
        environment["TF_CONFIG"] = json.dumps(cluster)
    command = [sys.executable, "-c", PROGRAM, str(devices), strategy]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def result(process):
    output, _ = process.communicate(timeout=240)
    lines = [line for line in output.splitlines() if line.startswith("RESULT")]
    assert lines, output[-2000:]
    replicas, *numbers = json.loads(lines[0].removeprefix("RESULT"))
    return replicas, np.array(numbers)


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


@pytest.fixture(scope="module")
def one_device():
    replicas, numbers = result(start(1, "one_device"))
    assert replicas == 1
    return numbers


def test_two_mirrored_devices_equal_one(one_device):
    replicas, numbers = result(start(2, "mirrored"))
    assert replicas == 2
    np.testing.assert_allclose(numbers, one_device, rtol=1e-4)


def test_two_workers_equal_one_device(one_device):
    addresses = [f"127.0.0.1:{port}" for port in free_ports(2)]
    clusters = [{"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}} for index in (0, 1)]
    processes = [start(1, "auto", cluster) for cluster in clusters]
    for process in processes:
        replicas, numbers = result(process)
        assert replicas == 2
        np.testing.assert_allclose(numbers, one_device, rtol=1e-4)


def test_two_workers_train_a_run_and_go_on_with_it(tiny_flags):
    """The whole script: the first worker writes the run's folder, and both go on from its checkpoint."""

    def run_both(*flags):
        addresses = [f"127.0.0.1:{port}" for port in free_ports(2)]
        processes = []
        for index in (0, 1):
            cluster = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
            environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "TF_CONFIG": json.dumps(cluster)}
            command = [sys.executable, str(ROOT / "dcgan_mnist.py"), *flags]
            pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
            processes.append(subprocess.Popen(command, env=environment, text=True, **pipes))
        outputs = [process.communicate(timeout=300)[0] for process in processes]
        assert [process.returncode for process in processes] == [0, 0], outputs
        return outputs

    folder = Path("outputs/dcgan_mnist")
    run_both(*tiny_flags, "--name", "workers")
    assert [path.name for path in folder.iterdir() if not path.is_symlink()] == ["workers"]
    outputs = run_both("--resume", str(folder / "workers"), "--epochs", "2")
    assert all("resumed after 93 steps" in output for output in outputs)
    subprocess.run(
        [sys.executable, str(ROOT / "dcgan_mnist.py"), *tiny_flags, "--epochs", "2", "--name", "alone"], check=True
    )
    rows = {}
    for name in ("workers", "alone"):
        with (folder / name / "metrics.csv").open() as file:
            rows[name] = [
                [float(row[f"{it}_loss"]) for it in ("generator", "discriminator")] for row in csv.DictReader(file)
            ]
    assert len(rows["alone"]) == 3
    np.testing.assert_allclose(rows["workers"], rows["alone"], rtol=0.05)  # rounding grows over 186 steps


@pytest.mark.parametrize(
    ("cluster", "task", "expected"),
    [
        ({"worker": ["a:1", "b:1"]}, ("worker", 0), True),
        ({"worker": ["a:1", "b:1"]}, ("worker", 1), False),
        ({"chief": ["a:1"], "worker": ["b:1", "c:1"]}, ("chief", 0), True),
        ({"chief": ["a:1"], "worker": ["b:1", "c:1"]}, ("worker", 0), False),
    ],
)
def test_one_machine_alone_writes(cluster, task, expected):
    spec = tf.train.ClusterSpec(cluster)
    resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(spec, task_type=task[0], task_id=task[1])
    strategy = types.SimpleNamespace(cluster_resolver=resolver)
    assert devices.Device(strategy, False, "").is_chief == expected


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ("fpu avx2 avx512f", "float32"),
        ("fpu avx512f avx512_bf16", "float32"),  # where TensorFlow is slower in bfloat16
        ("fpu avx512f avx512_bf16 amx_bf16 amx_tile", "mixed_bfloat16"),
    ],
)
def test_precision_that_suits_the_processor(flags, expected, monkeypatch):
    monkeypatch.setattr(devices.Path, "exists", lambda path: True)
    monkeypatch.setattr(devices.Path, "read_text", lambda path: f"processor\t: 0\nflags\t\t: {flags}\n")
    assert devices._precision("auto", gpus=[])[0] == expected
    assert devices._precision("float32", gpus=[])[0] == "float32"
