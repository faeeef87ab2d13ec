"""Everything that depends on hardware: memory, precision, XLA and tf.distribute."""

import contextlib
import dataclasses
import json
import math
import os
from collections.abc import Callable, Iterator

import keras
import numpy as np
import tensorflow as tf

from common import cores, environment, late_import, memory, progress
from common.errors import UserError
from common.gpus import prepare_gpus

PREDICTED_AT_ONCE = 250
KERAS_DEFAULTS = {"floatx": "float32", "epsilon": 1e-7, "image_data_format": "channels_last"}


@dataclasses.dataclass(frozen=True)
class Device:
    """The hardware that a run uses, chosen by `setup`; gathers_data: batches are gathered in its memory."""

    strategy: tf.distribute.Strategy
    jit_compile: bool
    description: str
    gathers_data: bool = False

    @property
    def replicas(self) -> int:
        """The number of devices among which each batch is divided, on all machines."""
        return self.strategy.num_replicas_in_sync

    @property
    def machines(self) -> int:
        """The number of processes that train together."""
        resolver = self.strategy.cluster_resolver
        return sum(map(len, resolver.cluster_spec().as_dict().values())) if resolver else 1

    @property
    def is_chief(self) -> bool:
        """Whether this process is the one whose files are kept."""
        resolver = self.strategy.cluster_resolver
        if resolver is None or resolver.task_type in (None, "chief"):
            return True
        return resolver.task_id == 0 and "chief" not in resolver.cluster_spec().as_dict()

    @contextlib.contextmanager
    def scope(self) -> Iterator[None]:
        """Build networks in the block: in the strategy's scope, and with `progress.phase`, as it may take seconds."""
        with self.strategy.scope(), progress.phase("building the networks"):
            yield

    def compile(self, step: Callable[..., dict]) -> Callable[..., dict]:
        """Compile a training step into a graph that takes several steps, one after the other, on every replica.

        step: takes the tensors of one batch and returns a dict of scalars whose sum over the replicas is the mean over
        the global batch, such as those of `tf.nn.compute_average_loss`.
        Returns a function of the same tensors with a leading axis, one row for each step, as `Run.batches` yields them.
        It returns the losses of all steps by name, (steps,).
        """
        names = []
        if self.jit_compile:
            step = tf.function(step, jit_compile=True)

        def take_one(index, *arguments):
            return step(*(argument[index] for argument in arguments))

        @tf.function(autograph=False)
        def take_all(*arguments):
            def take_next(index, rows):
                losses = self.strategy.run(take_one, (index, *arguments))
                names[:] = losses
                losses = [self.strategy.reduce("SUM", loss, axis=None) for loss in losses.values()]
                return index + 1, rows.write(index, tf.stack(losses))

            count = tf.shape(arguments[-1])[0]  # not divided among the replicas, unlike the batches
            start = 0, tf.TensorArray(tf.float32, count)
            _, rows = tf.while_loop(lambda index, rows: index < count, take_next, start, parallel_iterations=1)
            return dict(zip(names, tf.unstack(rows.stack(), len(names), axis=1), strict=True))

        return trace_first(take_all, "the training step", any_number=self.replicas == 1)

    def shard(self, *arrays: np.ndarray) -> tuple:
        """Divide the arrays (steps, batch, …) of global batches among the replicas, along their second axis."""
        if self.replicas == 1:
            return tuple(tf.convert_to_tensor(array) for array in arrays)
        size = arrays[0].shape[1] // self.replicas

        def part(array):
            def of_replica(context):
                start = context.replica_id_in_sync_group * size
                return tf.convert_to_tensor(array[:, start : start + size])

            return self.strategy.experimental_distribute_values_from_function(of_replica)

        return tuple(part(array) for array in arrays)


def setup(config, side_by_side: float = 1) -> Device:
    """Choose devices, precision and XLA from `config`, print the choice, and return it.

    side_by_side: the number of operations among which the CPU's cores are divided: about as many as do not wait for one
    another; infinity gives one core to each.
    Also sets the seeds of Python, NumPy and TensorFlow, from which initial weights are drawn.
    Raises UserError if this machine cannot do what `config` requests.
    """
    if config.uses_trained_run:  # needs neither the devices nor the machines that trained it
        config = dataclasses.replace(config, strategy="one_device", jit="off")
    late_import.finish(config.verbose)
    use_keras_defaults()
    memory.check_networks()
    cores.divide(side_by_side)
    gpus = prepare_gpus()
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
    onednn = "off, as set" if os.environ.get(environment.ONEDNN) == "0" else "on"
    description = f"{where}, {precision} ({why}), oneDNN {onednn}, XLA {'on' if jit_compile else 'off'}"
    print(f"device: {description}", flush=True)
    return Device(strategy, jit_compile, description, bool(gpus) and strategy.num_replicas_in_sync == 1)


def trace_first(function: Callable, name: str, any_number: bool = False) -> Callable:
    """Return a `tf.function` whose first call shows, by `progress.phase`, that it is compiled.

    The graph is built before anything is computed, so that a signal need not wait for it. name: for people to read.
    any_number: the graph is for first axes of any length; otherwise another length takes a graph of its own.
    """
    is_first = True

    def call(*arguments):
        nonlocal is_first
        if not is_first:
            return function(*arguments)
        traced = arguments
        if any_number:
            traced = [tf.TensorSpec((None, *argument.shape[1:]), argument.dtype) for argument in arguments]
        with progress.phase(f"compiling {name}"):
            function.get_concrete_function(*traced)
        is_first = False
        with progress.phase(f"running {name} for the first time", is_stoppable=False):  # TensorFlow optimises the graph
            return function(*arguments)

    return call


def use_keras_defaults() -> None:
    """Undo what the user's keras.json changes, and print a line if it changes anything."""
    ignored = []
    for name, usual in KERAS_DEFAULTS.items():
        if (value := getattr(keras.config, name)()) != usual:
            getattr(keras.config, f"set_{name}")(usual)
            ignored.append(f"{name} {value}")
    if ignored:
        print(f"ignoring Keras's settings {', '.join(ignored)}: the scripts need Keras's defaults", flush=True)


def predict(network: Callable, inputs, size: int = PREDICTED_AT_ONCE) -> np.ndarray:
    """Return a network's outputs for any number of inputs (N, …), in inference mode, as an array (N, …)."""
    outputs, starts = [], range(0, len(inputs), size)
    for start in progress.progress(starts, "computing") if len(starts) > 4 else starts:  # else it takes a moment
        outputs.append(network(inputs[start : start + size], training=False))
        if start == 0:  # twice: the parts, and all of them together
            memory.check(2 * len(inputs) * math.prod(outputs[0].shape[1:]) * outputs[0].dtype.size, "the outputs")
    return np.concatenate(outputs)


def normal(shape: tuple[int, ...], seed: int, step, stream: int = 0) -> tf.Tensor:
    """Draw standard normal numbers for one training step; the global batch's do not depend on the number of devices.

    Stateless: a function of `seed`, `step` and `stream`, so that a resumed run draws the same numbers.
    shape: that of this replica's part, its first axis the batch. stream: a different one for each use in a step.
    """
    return _of_replica(tf.random.stateless_normal, shape, seed, step, stream)


def uniform(shape: tuple[int, ...], seed: int, step, stream: int = 0) -> tf.Tensor:
    """Draw numbers uniformly from [0, 1) for one training step; otherwise like `normal`."""
    return _of_replica(tf.random.stateless_uniform, shape, seed, step, stream)


def local_shard(rows) -> tf.Tensor:
    """Return this replica's rows of a tensor that has a row for each example of the global batch.

    The inverse of `all_gather`.
    """
    context = tf.distribute.get_replica_context()
    size = rows.shape[0] // context.num_replicas_in_sync
    if size == rows.shape[0]:
        return tf.convert_to_tensor(rows)
    start = tf.cast(context.replica_id_in_sync_group, tf.int32) * size
    return tf.convert_to_tensor(rows)[start : start + size]


def all_gather(rows: tf.Tensor) -> tf.Tensor:
    """Return the rows of all replicas, in the order of the replicas; the inverse of `local_shard`."""
    context = tf.distribute.get_replica_context()
    if context.num_replicas_in_sync == 1:
        return rows
    size = rows.shape[0] * context.num_replicas_in_sync
    return tf.ensure_shape(context.all_gather(rows, axis=0), (size, *rows.shape[1:]))


def all_reduce(value) -> tf.Tensor:
    """Return the sum over all replicas of a scalar, such as a loss from `tf.nn.compute_average_loss`."""
    context = tf.distribute.get_replica_context()
    return value if context.num_replicas_in_sync == 1 else context.all_reduce("SUM", value)


def clip_by_global_norm(gradients: list, norm: float) -> list[tf.Tensor]:
    """Scale gradients down if their joint norm exceeds `norm`, as if the global batch were on one device.

    Pascanu et al. 2013 (arXiv:1211.5063), algorithm 1.
    """
    context = tf.distribute.get_replica_context()
    gradients = [tf.convert_to_tensor(it) for it in gradients]  # an embedding's are sparse
    if context.num_replicas_in_sync > 1:  # the optimizer sums over the replicas
        gradients = [it / context.num_replicas_in_sync for it in context.all_reduce("SUM", gradients)]
        norm = norm / context.num_replicas_in_sync
    return tf.clip_by_global_norm(gradients, norm)[0]


def _of_replica(draw: Callable, shape: tuple[int, ...], seed: int, step, stream: int) -> tf.Tensor:
    memory.check(4 * math.prod(shape), f"random numbers of shape {shape}")
    context = tf.distribute.get_replica_context()
    if stream:  # here, not in the graph: TensorFlow's own way makes the host wait for a GPU at each step
        seed = int(np.random.SeedSequence([seed, stream]).generate_state(1)[0] >> 1)
    seeds = tf.stack([seed, tf.cast(step, tf.int32)])
    return local_shard(draw((shape[0] * context.num_replicas_in_sync, *shape[1:]), seed=seeds))


def _strategy(requested: str, gpus: list) -> tuple[tf.distribute.Strategy, str]:
    try:
        machines = json.loads(os.environ.get("TF_CONFIG") or "{}").get("cluster", {})
    except (ValueError, AttributeError) as error:
        raise UserError(f"the environment variable TF_CONFIG cannot be read: {error}") from None
    if requested == "multi_worker" and not machines:
        raise UserError("--strategy multi_worker: needs the environment variable TF_CONFIG, which lists the machines")
    if requested == "multi_worker" or (requested == "auto" and machines):
        try:
            strategy = tf.distribute.MultiWorkerMirroredStrategy()
        except (ValueError, TypeError) as error:
            raise UserError(f"the environment variable TF_CONFIG names no cluster and task: {error}") from None
        return strategy, f"{strategy.num_replicas_in_sync} devices on several machines"
    if requested == "mirrored" or (requested == "auto" and len(gpus) > 1):
        devices = tf.config.list_logical_devices("GPU" if gpus else "CPU")
        return tf.distribute.MirroredStrategy([device.name for device in devices]), f"{len(devices)} devices"
    name = tf.config.experimental.get_device_details(gpus[0]).get("device_name", "GPU") if gpus else "CPU"
    return tf.distribute.get_strategy(), f"one {name}" if gpus else f"CPU with {cores.count()} cores"


def _precision(requested: str, gpus: list) -> tuple[str, str]:
    if requested != "auto":
        return requested, "as requested"
    if gpus:
        capability = min(
            tf.config.experimental.get_device_details(gpu).get("compute_capability", (0, 0)) for gpu in gpus
        )
        if capability >= (8, 0):
            return "mixed_bfloat16", "the GPU multiplies bfloat16"
        return "float32", "the GPU does not multiply bfloat16"
    # avx512_bf16 is not enough: with it alone, convolutions take 1.3 to 1.8 times as long as in float32.
    if "amx_bf16" in environment.cpu_flags():
        return "mixed_bfloat16", "the CPU multiplies matrices of bfloat16"
    return "float32", "the CPU does not multiply matrices of bfloat16"
