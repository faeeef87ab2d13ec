"""Quality and speed, measured; run from the project's folder as `python -m benchmarks.quality` and so on."""

import os

# On CPUs without AVX-512 TensorFlow leaves oneDNN's convolutions off, though they make the larger networks that ours
# are compared with 1.2 to 1.6 times faster here. Set before TensorFlow is imported; the smaller ones run as before.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
