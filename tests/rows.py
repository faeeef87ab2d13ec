"""What a benchmark measures in another process, where all kinds of things go wrong; needs no TensorFlow."""

import os
import time


def prepare():
    """Do nothing: this process needs nothing."""


def row_of(script, precision, jit, seconds, changes):
    """Measure a row as benchmarks.gpu does; which scripts fail, and how, is in their names."""
    if script == "raises":
        raise ValueError(
            f"Graph execution error:\n\nDetected at node x\n  File y\nOOM when allocating | {precision}\n[[x]]"
        )
    if script == "crashes":
        os.abort()
    if script == "hangs":
        time.sleep(60)
    print("for nobody")
    rates = {"one": 4.5, "many": 9000.4, "ratio": 2000.1, "steps": 50, "busy": "97 %", "megabytes": "812"}
    return {"script": script, "precision": precision, "jit": jit, **rates, "device": "a GPU"}
