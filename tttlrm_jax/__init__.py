"""Feed-forward and streaming 3D reconstruction with test-time training, in JAX."""

from tttlrm_jax.errors import ConfigError, InputError
from tttlrm_jax.types import Cameras, Gaussians, Splats, Views

__all__ = ["Cameras", "ConfigError", "Gaussians", "InputError", "Splats", "Views"]
