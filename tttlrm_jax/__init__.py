"""Feed-forward and streaming 3D reconstruction with test-time training, in JAX."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tttlrm_jax.errors import ConfigError, InputError
    from tttlrm_jax.types import Cameras, Gaussians, Splats, Views

__all__ = ["Cameras", "ConfigError", "Gaussians", "InputError", "Splats", "Views"]


def __getattr__(name: str) -> Any:
    """Public names and the modules they are from, imported when asked for: a command listens for
    signals before it imports JAX."""
    if name in ("errors", "types"):
        return importlib.import_module(f"{__name__}.{name}")
    if name not in __all__:
        raise AttributeError(f"module {__name__} has no attribute {name}")
    module = "errors" if name.endswith("Error") else "types"
    return getattr(importlib.import_module(f"{__name__}.{module}"), name)
