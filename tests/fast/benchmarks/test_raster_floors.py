"""Least times of a rendering, by hand."""

import jax.numpy as jnp
import pytest

from benchmarks.raster_floors import Rates, floors
from tttlrm_jax.core.types import Splats


@pytest.mark.parametrize(
    ("with_gradient", "bytes_moved", "exponentials"),
    [(False, 4 * (2 * 14 + 5 * 10), 7 * 64), (True, 4 * (3 * 2 * 14 + 2 * 5 * 10), 2 * 7 * 64)],
)
def test_floors(with_gradient, bytes_moved, exponentials):
    """Two Gaussians of 14 numbers, 10 pixels of 5, and 7 pairs with tiles of 64 pixels."""
    shapes = ((2, 3), (2, 4), (2, 3), (2,), (2, 3))
    splats = Splats(*(jnp.zeros(shape) for shape in shapes))
    least = floors(Rates(2.0, 4.0), splats, 10, 7, with_gradient)
    assert least == {"bytes": bytes_moved / 2, "exponentials": exponentials / 4}
