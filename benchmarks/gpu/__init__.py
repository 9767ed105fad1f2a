"""The rows of `python -m benchmarks.gpu_report`."""
