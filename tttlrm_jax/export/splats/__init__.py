"""Gaussians as files of 3D Gaussian splatting, by the suffix of the name; see `formats`."""
