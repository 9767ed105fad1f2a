"""What `python -m benchmarks.ttt_layer` measures with: times, FLOPs, fits."""
