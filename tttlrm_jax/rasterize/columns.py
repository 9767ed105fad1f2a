"""Between arrays [gaussian, column] and one array per column, in both directions of a derivative.

XLA:CPU fuses what computes the columns of a stack into one loop with a branch per element, which
costs the vector instructions and repeats shared work. Writing one column after another keeps both
a projection and its derivative several times faster, and compilation short.
"""

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from tttlrm_jax.core.devices import target_device
from tttlrm_jax.rasterize.transforms.forward_mode import linear_with_transpose


def join_columns(*columns: Float[Array, " gaussian"]) -> Float[Array, "gaussian column"]:
    """`jnp.stack(columns, axis=-1)`."""
    rows = jnp.zeros_like(columns[0], shape=(len(columns), columns[0].shape[0]))
    for i, column in enumerate(columns):
        rows = lax.dynamic_update_slice(rows, column[None], (i, 0))
    return rows.T


def split_columns(array: Float[Array, "gaussian column"]) -> tuple[Float[Array, " gaussian"], ...]:
    """`tuple(array.T)`, whose transpose is `join_columns`."""
    return linear_with_transpose(
        lambda _, columns: tuple(columns.T), lambda _, bars: join_columns(*bars), (), array
    )


def in_memory(*columns: Float[Array, " gaussian"]) -> tuple[Float[Array, " gaussian"], ...]:
    """The columns themselves, computed once on CPU: XLA would compute them again in every loop that
    reads them."""
    if target_device().platform != "cpu":
        return columns

    def written(_, columns):
        return tuple(join_columns(*columns).T)

    return linear_with_transpose(written, written, (), columns, like=columns)
