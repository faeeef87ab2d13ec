"""What would run on a GPU, as the graphs have it: cuDNN's recurrent layers, and nothing that leaves its memory."""

import collections
import importlib

import gpu_kernels
import keras
import pytest
import small_network
import tensorflow as tf

import char_rnn
import deep_dream
from blocks.feature_extraction import FeatureExtractor
from common import text

pytestmark = pytest.mark.skipif(not gpu_kernels.ARE_KNOWN, reason="this TensorFlow has no kernels for GPUs")
# The layers of Keras keep the state of their random numbers on the device, where the host must fetch it; the assertion
# is one of tf.nn.compute_average_loss about constants, which TensorFlow removes.
OF_KERAS = {"Cast to StatelessRandomGetKeyCounter", "All to Assert", "Const to Assert"}
RECURRENT = ("CudnnRNNV3", "CudnnRNNBackpropV3", "While", "StatelessWhile")


@pytest.fixture
def on_a_gpu(monkeypatch):
    """Lets Keras and the scripts take this machine for one with a GPU, as far as graphs are built, not run."""
    monkeypatch.setattr(importlib.import_module("keras.src.backend.tensorflow.rnn"), "_is_gpu_available", lambda: True)
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind=None: ["a GPU"])


def graph_of(function, *arguments):
    return tf.function(function).get_concrete_function(*arguments)


def recurrent_operations(function):
    counts = collections.Counter(it.type for it in gpu_kernels.operations(function))
    return {name: counts[name] for name in RECURRENT if counts[name]}


@pytest.mark.parametrize("precision", ["float32", "mixed_bfloat16"])
@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_char_rnn_trains_and_reads_with_cudnn_and_writes_on_the_gpu(cell, precision, on_a_gpu):
    keras.config.set_dtype_policy(precision)
    config = char_rnn.Config(cell=cell, width=16, embedding=8, batch_size=4, window=8)
    parts, alphabet = char_rnn.build(config, 5), text.Alphabet("\nabc" + text.UNKNOWN)
    network, states = parts["network"], [tf.TensorSpec((4, 16))] * char_rnn.state_count(config)

    batch = tf.TensorSpec((4, 9), tf.int32), tf.TensorSpec((4,)), tf.TensorSpec((), tf.int32)
    training = graph_of(char_rnn.make_train_step(**parts, config=config), *batch, tf.TensorSpec((), tf.float64))
    assert recurrent_operations(training) == {"CudnnRNNV3": 2, "CudnnRNNBackpropV3": 2}
    assert gpu_kernels.copied_to_host(training) <= OF_KERAS

    reading = graph_of(lambda *inputs: network(list(inputs)), tf.TensorSpec((4, 9), tf.int32), *states)
    assert recurrent_operations(reading) == {"CudnnRNNV3": 2}

    write = char_rnn.make_writer(network, config, alphabet)
    writing = write.get_concrete_function(tf.TensorSpec((4,), tf.int64), states, tf.TensorSpec((), tf.int32))
    assert gpu_kernels.on_cpu_only(writing) == gpu_kernels.copied_to_host(writing) == set()


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_xla_compiles_no_kernels_of_cudnn(cell, on_a_gpu):
    config = char_rnn.Config(cell=cell, width=16, embedding=8, jit="on")
    network = char_rnn.build_network(config, 5)
    states = [tf.TensorSpec((4, 16))] * char_rnn.state_count(config)
    reading = graph_of(lambda *inputs: network(list(inputs)), tf.TensorSpec((4, 9), tf.int32), *states)
    assert set(recurrent_operations(reading)) == {"StatelessWhile" if cell == "lstm" else "While"}


@pytest.mark.parametrize("guides", [[], [tf.ones((7, 14))]], ids=["plain", "guided"])
def test_a_step_of_deep_dream_stays_on_the_gpu(guides):
    features = FeatureExtractor(small_network.build(), ["mixed0"])
    ascend = deep_dream.make_gradient_ascent_step(features, {"mixed0": 1.0}, [], guides, deep_dream.Config())
    step = graph_of(ascend, tf.TensorSpec((700, 60, 3)), tf.TensorSpec((2,), tf.int32))
    assert gpu_kernels.on_cpu_only(step) == set()
    shapes_of_sums = {"DynamicStitch to Reshape"} if guides else set()
    assert gpu_kernels.copied_to_host(step) == shapes_of_sums
    resize = graph_of(lambda image: tf.image.resize(image, (3, 3), "area"), tf.TensorSpec((1, 9, 9, 3)))
    assert gpu_kernels.on_cpu_only(resize) == {"ResizeArea"}
