"""Quality and speed, measured; run from the project's folder as `python -m benchmarks.quality` and so on."""
