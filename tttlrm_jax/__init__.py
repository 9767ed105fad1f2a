"""Feed-forward and streaming 3D reconstruction with test-time training, in JAX."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tttlrm_jax.core.errors import ConfigError, InputError
    from tttlrm_jax.core.types import Cameras, Gaussians, Splats, Views

__all__ = ["Cameras", "ConfigError", "Gaussians", "InputError", "Splats", "Views"]
_MODULES = ("errors", "types")


def __getattr__(name: str) -> Any:
    """Public names and the modules they are from, imported when asked for: a command listens for
    signals before it imports JAX."""
    if name in _MODULES:
        return importlib.import_module(f"{__name__}.core.{name}")
    if name not in __all__:
        raise AttributeError(f"module {__name__} has no attribute {name}")
    module = "errors" if name.endswith("Error") else "types"
    value = globals()[name] = getattr(importlib.import_module(f"{__name__}.core.{module}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULES, *__all__})
