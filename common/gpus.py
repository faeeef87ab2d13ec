"""NVIDIA's GPUs: their memory is shared with other programs, and nvidia-smi says how much of it is left."""

import contextlib
import math
import shutil
import subprocess
from pathlib import Path

import tensorflow as tf

NVIDIA_DRIVER = Path("/proc/driver/nvidia/version")
ASK = "nvidia-smi"


def prepare_gpus() -> list:
    """Return the GPUs, and let TensorFlow take no more of their memory than it needs; report one that is not used."""
    gpus = tf.config.list_physical_devices("GPU")
    if not gpus and NVIDIA_DRIVER.exists():
        print('TensorFlow does not use the NVIDIA GPU: --verbose shows why; try pip install "tensorflow[and-cuda]"')
    for gpu in gpus:
        with contextlib.suppress(RuntimeError):  # too late once anything has been computed
            tf.config.experimental.set_memory_growth(gpu, True)  # leave room for the desktop and other programs
    return gpus


def report(quantity: str) -> list[float]:
    """Return what nvidia-smi reports of each GPU, such as "memory.free" in MiB; empty if it reports nothing."""
    if not shutil.which(ASK):
        return []
    command = [ASK, f"--query-gpu={quantity}", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=5).stdout
        return [float(line) for line in answer.split()]
    except (subprocess.SubprocessError, OSError, ValueError):  # ValueError: "[N/A]"
        return []


def free_memory() -> float:
    """Return the bytes that are free on the fullest GPU; infinite where nobody knows."""
    return min(report("memory.free"), default=math.inf) * 2**20
