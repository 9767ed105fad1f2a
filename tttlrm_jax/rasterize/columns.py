"""Between arrays [gaussian, column] and one array per column, in both directions of a derivative.

XLA:CPU fuses what computes the columns of a stack into one loop with a branch per element, which
costs the vector instructions and repeats shared work. Writing one column after another keeps both
a projection and its derivative several times faster, and compilation short.
"""

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float


def join_columns(*columns: Float[Array, " gaussian"]) -> Float[Array, "gaussian column"]:
    """`jnp.stack(columns, axis=-1)`."""
    rows = jnp.zeros_like(columns[0], shape=(len(columns), columns[0].shape[0]))
    for i, column in enumerate(columns):
        rows = lax.dynamic_update_slice(rows, column[None], (i, 0))
    return rows.T


@jax.custom_vjp
def split_columns(array: Float[Array, "gaussian column"]) -> tuple[Float[Array, " gaussian"], ...]:
    """`tuple(array.T)`, with a derivative that is joined by `join_columns`."""
    return tuple(array.T)


split_columns.defvjp(
    lambda array: (tuple(array.T), None), lambda _, columns_bar: (join_columns(*columns_bar),)
)
