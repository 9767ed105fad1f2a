"""What a run says of its speed: time, FLOPs and their share of a chip's peak, memory, traces."""
