"""The one place that knows about hardware: memory, precision, XLA and tf.distribute."""

import contextlib
import dataclasses
import json
import os
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from common import cli
from common.cli import UserError


@dataclasses.dataclass(frozen=True)
class Device:
    """What a run computes on, as `setup` chose it."""

    strategy: tf.distribute.Strategy
    jit_compile: bool
    description: str

    @property
    def replicas(self) -> int:
        """Devices that share each batch, over all machines."""
        return self.strategy.num_replicas_in_sync

    @property
    def machines(self) -> int:
        """Processes that train together."""
        resolver = self.strategy.cluster_resolver
        return sum(map(len, resolver.cluster_spec().as_dict().values())) if resolver else 1

    @property
    def is_chief(self) -> bool:
        """Whether this process is the one that writes files."""
        resolver = self.strategy.cluster_resolver
        if resolver is None or resolver.task_type in (None, "chief"):
            return True
        return resolver.task_id == 0 and "chief" not in resolver.cluster_spec().as_dict()

    def compile(self, step: Callable[..., dict]) -> Callable[..., dict]:
        """Turn a training step into a graph that runs on every replica and returns its losses' sums over replicas.

        step: takes tensors, returns a dict of scalars that add up to the global batch's mean, as those of
        `tf.nn.compute_average_loss` do.
        """
        step = tf.function(step, jit_compile=self.jit_compile)
        if self.replicas == 1:
            return step

        @tf.function
        def distributed_step(*arguments):
            losses = self.strategy.run(step, arguments)
            return {name: self.strategy.reduce("SUM", loss, axis=None) for name, loss in losses.items()}

        return distributed_step

    def share(self, *arrays: np.ndarray) -> tuple:
        """Cut the arrays of a global batch along their first axis, a part for each replica."""
        if self.replicas == 1:
            return tuple(tf.convert_to_tensor(array) for array in arrays)
        size = len(arrays[0]) // self.replicas

        def part(array):
            def of_replica(context):
                start = context.replica_id_in_sync_group * size
                return tf.convert_to_tensor(array[start : start + size])

            return self.strategy.experimental_distribute_values_from_function(of_replica)

        return tuple(part(array) for array in arrays)


def setup(config) -> Device:
    """Choose devices, precision and XLA as `config` says, tell the choice in a line, and return it.

    Also sets all of Python's, NumPy's and TensorFlow's seeds, from which initial weights are drawn.
    Raises UserError if `config` asks for what this machine cannot do.
    """
    if config.uses_trained_run:  # which needs neither the devices nor the machines that trained it
        config = dataclasses.replace(config, strategy="one_device", jit="off")
    gpus = tf.config.list_physical_devices("GPU")
    for gpu in gpus:
        with contextlib.suppress(RuntimeError):  # too late: something has been computed, as benchmarks do before
            tf.config.experimental.set_memory_growth(gpu, True)  # leave room for the desktop and other programs
    strategy, where = _strategy(config.strategy, gpus)  # first: several machines must be joined before anything runs
    keras.utils.set_random_seed(config.seed)
    precision, why = _precision(config.precision, gpus)
    keras.config.set_dtype_policy(precision)
    jit_compile = config.jit == "on"
    if jit_compile and strategy.num_replicas_in_sync > 1:
        raise UserError("--jit on: works on one device only")
    if config.batch_size % strategy.num_replicas_in_sync:
        raise UserError(
            f"--batch_size {config.batch_size}: must be a multiple of the {strategy.num_replicas_in_sync} devices"
        )
    description = f"{where}, {precision} ({why}), XLA {'on' if jit_compile else 'off'}"
    print(f"device: {description}", flush=True)
    return Device(strategy, jit_compile, description)


def cores() -> int:
    """How many processor cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def limit_threads(of_operation: int) -> None:
    """Let one operation use so many of the CPU's cores, and others run beside it; without effect beside a GPU.

    To be called before anything is computed; later it changes nothing.
    """
    if not tf.config.list_physical_devices("GPU"):
        with contextlib.suppress(RuntimeError):
            tf.config.threading.set_intra_op_parallelism_threads(of_operation)


def threads_of_operation() -> int:
    """How many cores one operation may use."""
    return tf.config.threading.get_intra_op_parallelism_threads() or cores()


def in_batches(network: Callable, inputs, size: int = 250) -> np.ndarray:
    """Return the outputs of a network, not in training, for any number of inputs: as many rows as there are inputs."""
    starts = range(0, len(inputs), size)
    if len(starts) > 20:  # takes seconds; never within a training loop, which has a bar of its own
        starts = cli.progress(starts, "computing")
    return np.concatenate([network(inputs[start : start + size], training=False) for start in starts])


def normal(shape: tuple[int, ...], seed: int, step, stream: int = 0) -> tf.Tensor:
    """Standard normal numbers for one training step, the same whatever the number of devices.

    Stateless: a function of `seed` and `step` alone, so that a resumed run draws what it would have drawn.
    shape: that of this replica's part; its first axis is the batch. stream: another for each use in a step.
    """
    return _of_replica(tf.random.stateless_normal, shape, seed, step, stream)


def uniform(shape: tuple[int, ...], seed: int, step, stream: int = 0) -> tf.Tensor:
    """Numbers evenly distributed over [0, 1) for one training step; otherwise as `normal`."""
    return _of_replica(tf.random.stateless_uniform, shape, seed, step, stream)


def part_of_batch(rows) -> tf.Tensor:
    """This replica's share of a tensor that has a row for each example of the whole batch; the inverse of
    `whole_batch`."""
    context = tf.distribute.get_replica_context()
    size = rows.shape[0] // context.num_replicas_in_sync
    if size == rows.shape[0]:
        return tf.convert_to_tensor(rows)
    start = tf.cast(context.replica_id_in_sync_group, tf.int32) * size
    return tf.convert_to_tensor(rows)[start : start + size]


def whole_batch(rows: tf.Tensor) -> tf.Tensor:
    """The rows of all replicas, one replica's after the other's; the inverse of `part_of_batch`."""
    context = tf.distribute.get_replica_context()
    if context.num_replicas_in_sync == 1:
        return rows
    size = rows.shape[0] * context.num_replicas_in_sync
    return tf.ensure_shape(context.all_gather(rows, axis=0), (size, *rows.shape[1:]))


def whole_sum(value) -> tf.Tensor:
    """The sum over all replicas of a scalar, such as a loss of `tf.nn.compute_average_loss`."""
    context = tf.distribute.get_replica_context()
    return value if context.num_replicas_in_sync == 1 else context.all_reduce("SUM", value)


def clipped(gradients: list, norm: float) -> list[tf.Tensor]:
    """Scale a step's gradients down, if they are longer than `norm`, as if the whole batch were on one device.

    The norm is that of all of them together (Pascanu et al. 2013, arXiv:1211.5063, algorithm 1).
    """
    context = tf.distribute.get_replica_context()
    gradients = [tf.convert_to_tensor(it) for it in gradients]  # of an embedding each character's are apart until here
    if context.num_replicas_in_sync > 1:  # the optimizer adds up what the replicas give it
        gradients = [it / context.num_replicas_in_sync for it in context.all_reduce("SUM", gradients)]
        norm = norm / context.num_replicas_in_sync
    return tf.clip_by_global_norm(gradients, norm)[0]


def _of_replica(draw: Callable, shape: tuple[int, ...], seed: int, step, stream: int) -> tf.Tensor:
    context = tf.distribute.get_replica_context()
    seeds = tf.stack([seed, tf.cast(step, tf.int32)])
    if stream:
        seeds = tf.random.experimental.stateless_fold_in(seeds, stream)
    return part_of_batch(draw((shape[0] * context.num_replicas_in_sync, *shape[1:]), seed=seeds))


def _strategy(asked: str, gpus: list) -> tuple[tf.distribute.Strategy, str]:
    try:
        machines = json.loads(os.environ.get("TF_CONFIG") or "{}").get("cluster", {})
    except (ValueError, AttributeError) as error:
        raise UserError(f"the environment variable TF_CONFIG cannot be read: {error}") from None
    if asked == "multi_worker" and not machines:
        raise UserError("--strategy multi_worker: needs the environment variable TF_CONFIG, which names the machines")
    if asked == "multi_worker" or (asked == "auto" and machines):
        try:
            strategy = tf.distribute.MultiWorkerMirroredStrategy()
        except (ValueError, TypeError) as error:
            raise UserError(f"the environment variable TF_CONFIG names no cluster and task: {error}") from None
        return strategy, f"{strategy.num_replicas_in_sync} devices on several machines"
    if asked == "mirrored" or (asked == "auto" and len(gpus) > 1):
        devices = tf.config.list_logical_devices("GPU" if gpus else "CPU")
        return tf.distribute.MirroredStrategy([device.name for device in devices]), f"{len(devices)} devices"
    name = tf.config.experimental.get_device_details(gpus[0]).get("device_name", "GPU") if gpus else "CPU"
    return tf.distribute.get_strategy(), f"one {name}" if gpus else f"CPU with {cores()} cores"


def _precision(asked: str, gpus: list) -> tuple[str, str]:
    if asked != "auto":
        return asked, "as asked"
    if gpus:
        capability = min(
            tf.config.experimental.get_device_details(gpu).get("compute_capability", (0, 0)) for gpu in gpus
        )
        if capability >= (8, 0):
            return "mixed_bfloat16", "the GPU multiplies bfloat16"
        return "float32", "the GPU does not multiply bfloat16"
    # Not avx512_bf16: with it alone convolutions are slower in bfloat16 than in float32, by 1.3 to 1.8 times.
    if cpu_has("amx_bf16"):
        return "mixed_bfloat16", "the CPU multiplies matrices of bfloat16"
    return "float32", "the CPU does not multiply matrices of bfloat16"


def cpu_has(flag: str) -> bool:
    """Whether the processor has an extension, by its name in /proc/cpuinfo; False where that file is missing."""
    cpuinfo = Path("/proc/cpuinfo")
    return cpuinfo.exists() and flag in cpuinfo.read_text().split()
