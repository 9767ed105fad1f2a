"""Parameters of a model with small patches as those of one with larger patches.

The layer that reads a patch takes the mean of `factor` x `factor` pixels where one pixel was, and
the layer that writes one gives all of them what that pixel had. So a picture of `factor` times
the size has the same tokens as its area-averaged reduction had before, but for rays, whose mean is
not quite the ray of the mean pixel.
"""

import math
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

# names of kernels [in, out] whose inputs or outputs are pixels of a patch, in row-major order
READS = ("tokenizer", "kernel")
WRITES = (("decoder", "linear", "kernel"), ("decoder_linear", "kernel"))

_Path = tuple[str, ...]


def patch_factor(name: _Path, small: tuple[int, ...], large: tuple[int, ...]) -> int | None:
    """How many times the side of a patch has grown between kernels of two shapes; None where the
    shapes are not those of a layer of patches that has grown by a whole number."""
    if name not in (READS, *WRITES) or len(small) != 2 or len(large) != 2:
        return None
    pixels, other = (0, 1) if name == READS else (1, 0)
    factor = math.isqrt(large[pixels] // small[pixels])
    grown = factor > 1 and small[pixels] * factor**2 == large[pixels]
    return factor if grown and small[other] == large[other] else None


def with_larger_patches(
    name: _Path, kernel: Float[Array, "in out"], patch_size: int, factor: int
) -> Any:
    """The kernel `name` of patches of `patch_size`, for patches of `factor` times that size."""
    reads = name == READS
    pixels_first = kernel if reads else kernel.T
    features = pixels_first.reshape(patch_size, patch_size, -1, pixels_first.shape[1])
    features = jnp.repeat(jnp.repeat(features, factor, axis=0), factor, axis=1)
    features = features / factor**2 if reads else features
    flat = features.reshape(-1, pixels_first.shape[1])
    return flat if reads else flat.T
