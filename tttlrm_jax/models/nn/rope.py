"""Rotary position encoding in two dimensions (RoPE: arXiv 2104.09864, applied per axis)."""

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from tttlrm_jax.core.precision import accumulation_dtype, round_to
from tttlrm_jax.core.types import typechecked


def _angles(positions: Array, count: int, base: float, dtype) -> Array:
    """`position * base^(-j / count)` for y, then x, [*batch, token, 2, count]."""
    exponent = jnp.arange(count, dtype=dtype) / count
    frequency = jnp.asarray(base, dtype) ** -exponent
    return positions[..., None].astype(dtype) * frequency.reshape((1,) * positions.ndim + (-1,))


@typechecked
def apply_rope(
    x: Float[Array, "*batch token head d_head"],
    positions: Int[Array, "*batch token 2"],
    base: float,
    *,
    half: bool = False,
) -> Float[Array, "*batch token head d_head"]:
    """Rotates the first half of the channels by y and the second by x, at least in float32.

    Within a half, channel j and channel `j + d_head/4` are the two coordinates that turn; `d_head`
    is a multiple of 4, a position any integer. `half` rounds to float16 before and after, as the
    published image encoder does.
    """
    dtype = accumulation_dtype(x.dtype)
    angles = _angles(positions, x.shape[-1] // 4, base, dtype)[..., None, :, :]
    cosine, sine = jnp.cos(angles), jnp.sin(angles)
    x = x.astype(dtype)
    pairs = (round_to(x, jnp.float16) if half else x).reshape(*x.shape[:-1], 2, 2, -1)
    first, second = pairs[..., 0, :], pairs[..., 1, :]
    turned = jnp.stack(
        [first * cosine - second * sine, second * cosine + first * sine], axis=-2
    ).reshape(x.shape)
    return round_to(turned, jnp.float16) if half else turned


def grid_positions(rows: int, columns: int) -> Int[Array, "token 2"]:
    """(y, x) of every patch, row by row."""
    y, x = jnp.indices((rows, columns), jnp.int32)
    return jnp.stack([y.ravel(), x.ravel()], axis=-1)


def state_positions(count: int, kind: str) -> Int[Array, "state 2"] | None:
    """Positions of state tokens: a grid of even width near the root (`2d`), a diagonal, or none."""
    index = jnp.arange(count, dtype=jnp.int32)
    if kind == "none":
        return None
    if kind == "1d":
        return jnp.stack([index, index], axis=-1)
    width = int(count**0.5)
    width += width % 2
    return jnp.stack([index // width, index % width], axis=-1)


def pose_position() -> Int[Array, "1 2"]:
    """Where the pose token sits: outside of every grid."""
    return jnp.full((1, 2), -1, jnp.int32)
