"""Parts of `benchmarks.ttt3r_length`."""
