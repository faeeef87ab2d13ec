"""Comparisons with peers, ablations and speed, each run from the project's folder: `python -m benchmarks.speed`."""

import common.environment  # noqa: F401 - first: it sets what TensorFlow reads at its import

from common import environment, late_import

environment.check_machine()
late_import.begin()
