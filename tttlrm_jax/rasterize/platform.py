"""Which backend of the rasterizer suits the device."""

from tttlrm_jax.core.devices import target_device

AUTO = "auto"


def chosen_backend(name: str) -> str:
    """`auto` is `tiled` on CPU, whose loops suit caches, and `balanced` elsewhere."""
    if name != AUTO:
        return name
    return "tiled" if target_device().platform == "cpu" else "balanced"
