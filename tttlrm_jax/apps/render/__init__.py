"""`python -m tttlrm_jax.render`: pictures, depth and films of a file of Gaussians."""
