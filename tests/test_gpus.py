"""A GPU whose memory does not suffice: one line says so, and the data stay with the host."""

import numpy as np
import pytest
import tensorflow as tf

from common import cli, device_data, gpus

OOM = "OOM when allocating tensor with shape[512,64] and type float on /job:localhost/replica:0/task:0/device:{}"
MEMORY, LIBRARIES = "the GPU is out of memory; use smaller", "the GPU's libraries do not start"
FAILURES = [
    (tf.errors.ResourceExhaustedError, OOM.format("GPU:0 by allocator GPU_0_bfc [Op:Conv2D]"), MEMORY),
    (tf.errors.InternalError, "Failed to load in-memory CUBIN: CUDA_ERROR_OUT_OF_MEMORY: out of memory", MEMORY),
    (
        tf.errors.InternalError,
        "cuDevicePrimaryCtxRetain: CUDA_ERROR_OUT_OF_MEMORY: out of memory",
        MEMORY,
    ),
    (
        tf.errors.ResourceExhaustedError,
        "CUDA error (failed to allocate 2.00GiB from device)",
        MEMORY,
    ),
    (tf.errors.UnknownError, "Failed to get convolution algorithm: CUDNN_STATUS_ALLOC_FAILED", MEMORY),
    (tf.errors.FailedPreconditionError, "DNN library initialization failed. Look at the errors above.", LIBRARIES),
    (tf.errors.InternalError, "Could not create cudnn handle: CUDNN_STATUS_NOT_INITIALIZED", LIBRARIES),
    (tf.errors.NotFoundError, "No algorithm worked!  Error messages:", LIBRARIES),
    (tf.errors.InternalError, "No BLAS support for stream", LIBRARIES),
    (RuntimeError, "CUDA_ERROR_DEVICE_UNAVAILABLE: all CUDA-capable devices are busy or unavailable", LIBRARIES),
]


def made(kind, text):
    return kind(None, None, text) if issubclass(kind, tf.errors.OpError) else kind(text)


@pytest.mark.parametrize(("kind", "text", "line"), FAILURES)
def test_a_failure_for_lack_of_gpu_memory_is_one_line_with_what_to_do(kind, text, line, capsys):
    @cli.one_line_errors
    def main(argv):
        raise made(kind, text)

    with pytest.raises(SystemExit) as leaving:
        main([])
    assert leaving.value.code == 2
    printed = capsys.readouterr().err
    assert line in printed
    assert printed.endswith("or set CUDA_VISIBLE_DEVICES=-1 to compute on the CPU\n")
    assert printed.count("\n") == 1


@pytest.mark.parametrize("kind", [tf.errors.InvalidArgumentError, tf.errors.InternalError, RuntimeError])
def test_other_errors_keep_their_traceback(kind):
    @cli.one_line_errors
    def main(argv):
        raise made(kind, "Incompatible shapes: [2] vs. [3]")

    with pytest.raises(kind):
        main([])


def test_the_hosts_memory_is_no_gpus(capsys):
    @cli.one_line_errors
    def main(argv):
        raise tf.errors.ResourceExhaustedError(None, None, OOM.format("CPU:0 by allocator mklcpu"))

    with pytest.raises(SystemExit):
        main([])
    assert "error: out of memory; use smaller images or batches" in capsys.readouterr().err


def test_a_gpus_memory_grows_as_needed_so_that_programs_share_it(monkeypatch):
    growing = []
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [kind])
    monkeypatch.setattr(tf.config.experimental, "set_memory_growth", lambda gpu, grows: growing.append((gpu, grows)))
    assert gpus.prepare_gpus() == ["GPU"]
    assert growing == [("GPU", True)]


@pytest.fixture
def smi(tmp_path, monkeypatch):
    """A function that makes a command in place of nvidia-smi, which prints a text."""

    def make(text):
        path = tmp_path / "nvidia-smi"
        path.write_text(f"#!/bin/sh\ncat <<END\n{text}\nEND\n")
        path.chmod(0o755)
        monkeypatch.setattr(gpus, "ASK", str(path))

    return make


@pytest.mark.parametrize(("text", "free"), [("500\n81000", 500 * 2**20), ("[N/A]", np.inf), ("", np.inf)])
def test_the_free_memory_is_that_of_the_fullest_gpu(text, free, smi):
    smi(text)
    assert gpus.free_memory() == free


def test_without_nvidia_smi_nothing_is_known(monkeypatch):
    monkeypatch.setattr(gpus, "ASK", "no-such-command")
    assert gpus.report("utilization.gpu") == []


def test_data_that_do_not_fit_beside_the_networks_stay_with_the_host(smi):
    array, indices = np.arange(3 * 2**20, dtype=np.uint8).reshape(-1, 4), np.array([[3, 5], [0, 1]])
    for free, kind in ((12, tf.Tensor), (11, np.ndarray)):  # MiB, of which a quarter
        smi(str(free))
        found = device_data.Gatherer()(array, indices)
        assert isinstance(found, kind)
        np.testing.assert_array_equal(found, array[indices])


def test_data_that_another_program_displaces_stay_with_the_host(monkeypatch):
    def full(*arguments, **options):
        raise made(*FAILURES[0][:2])

    monkeypatch.setattr(tf, "Variable", full)
    gather, array = device_data.Gatherer(), np.arange(10)
    for _ in range(2):
        assert isinstance(gather(array, np.array([1])), np.ndarray)
