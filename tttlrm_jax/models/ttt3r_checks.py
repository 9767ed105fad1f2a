"""What is refused of the pixels that TTT3R is given."""

from typing import Any

import numpy as np
from jaxtyping import Array

from tttlrm_jax.config.ttt3r import TTT3RConfig
from tttlrm_jax.core.errors import InputError


def check_size(name: str, pixels: Array, channels: int, config: TTT3RConfig) -> None:
    """Raises InputError unless pixels are [batch, height, width, channel] in whole patches."""
    patch, shape = config.patch_size, tuple(pixels.shape)
    if len(shape) != 4 or shape[-1] != channels or shape[0] == 0:
        raise InputError.of(
            f"{name} shape", shape, f"is not (batch, height, width, {channels})",
            "add the missing axis, e.g. x[None] for one scene",
        )  # fmt: skip
    for side, value in zip(("height", "width"), shape[1:3], strict=True):
        if value % patch or value == 0:
            raise InputError.of(
                f"{name} {side}", value, f"is not a multiple of patch_size={patch}",
                f"resize or crop to {max(value // patch, 1) * patch}",
            )  # fmt: skip


def check_finite(name: str, pixels: Array, mask: Any) -> None:
    """Raises InputError if a sample in the mask, None for all, has non-finite pixels."""
    values = np.asarray(pixels)
    broken = ~np.isfinite(values).all(axis=tuple(range(1, values.ndim)))
    if mask is not None:
        broken &= np.asarray(mask)
    if broken.any():
        raise InputError.of(
            f"{name} of scene {np.argmax(broken)}", "non-finite",
            "would spoil the state for good", "leave the frame out or mask it",
        )  # fmt: skip
