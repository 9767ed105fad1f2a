"""What no rasterizer on this device can beat: the bytes and exponentials that a rendering needs.

Bytes: every input read once and every output written once (with gradients: inputs and the image's
cotangent once more, and gradients out). Exponentials: one for each pixel of each Gaussian-tile pair
(8 px tiles) that can be seen, twice with gradients, since keeping them would take memory in
proportion. Both rates are measured on the device: a copy of 256 MiB, and a chain of exponentials.
"""

import statistics
import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from tttlrm_jax.core.types import Splats
from tttlrm_jax.rasterize.tile_lists import TILE

_COPY_BYTES = 2**28
_CHAIN, _CHAINED_ELEMENTS = 256, 2**22
_FLOAT_BYTES = 4
_IMAGE_CHANNELS = 5  # red, green, blue, depth, alpha


class Rates(NamedTuple):
    """Per second, on the device."""

    bytes_moved: float  # read plus written
    exponentials: float


def measure_rates(fraction: int = 1) -> Rates:
    """Medians of five runs each, on a `fraction`th of the arrays."""
    source = jnp.arange(_COPY_BYTES // _FLOAT_BYTES // fraction, dtype=jnp.float32)
    copied = 2 * source.nbytes / _seconds(jax.jit(lambda x: x + 1), source)
    start = jnp.linspace(0, 1, _CHAINED_ELEMENTS // fraction)

    def chain(x):
        return lax.fori_loop(0, _CHAIN, lambda _, x: jnp.exp(-x), x, unroll=_CHAIN)

    evaluated = _CHAIN * start.size / _seconds(jax.jit(chain), start)
    return Rates(copied, evaluated)


def floors(
    rates: Rates, splats: Splats, pixels: int, pairs: int, with_gradient: bool
) -> dict[str, float]:
    """Seconds that one view takes at least, by what limits it."""
    cloud = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(splats))
    image = _IMAGE_CHANNELS * pixels * _FLOAT_BYTES
    moved = 3 * cloud + 2 * image if with_gradient else cloud + image
    evaluated = pairs * TILE * TILE * (2 if with_gradient else 1)
    return {"bytes": moved / rates.bytes_moved, "exponentials": evaluated / rates.exponentials}


def _seconds(function: Any, *arguments) -> float:
    jax.block_until_ready(function(*arguments))
    seconds = []
    for _ in range(5):
        begin = time.perf_counter()
        jax.block_until_ready(function(*arguments))
        seconds.append(time.perf_counter() - begin)
    return statistics.median(seconds)
