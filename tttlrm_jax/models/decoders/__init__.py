"""Tokens to explicit 3D."""

from tttlrm_jax.models.decoders.gaussians import GaussianDecoder, pixel_grid_of_gaussians

DECODERS = {"gaussians": GaussianDecoder}

__all__ = ["DECODERS", "GaussianDecoder", "pixel_grid_of_gaussians"]
