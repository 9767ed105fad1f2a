"""The experiments of `python -m benchmarks.update_rules`, one module each, and its page."""
