"""Newton-Schulz orthogonalisation, the matrix sign of Muon (Jordan et al. 2024)."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from tttlrm_jax.precision import einsum, round_to, safe_norm
from tttlrm_jax.types import typechecked

QUINTIC = (3.4445, -4.7750, 2.0315)  # the published coefficients
NORM_EPS = 1e-7


@typechecked
def newton_schulz(
    matrix: Float[Array, "*batch row column"], steps: int, dtype=jnp.bfloat16
) -> Float[Array, "*batch row column"]:
    """Moves the singular values of each matrix towards 1.

    Divides by the Frobenius norm (plus 1e-7), then iterates `X <- a X + (b A + c A A) X` with
    `A = X X^T` on the orientation with fewer rows than columns. `steps=0` therefore still
    normalises; a zero matrix stays zero. With `dtype=bfloat16` every intermediate is rounded
    where the published implementation rounds; products accumulate in float32. The result has
    the dtype of the input.
    """
    a, b, c = QUINTIC
    transposed = matrix.shape[-2] > matrix.shape[-1]
    x = round_to(jnp.swapaxes(matrix, -1, -2) if transposed else matrix, dtype)

    def rounded(value):
        return round_to(value, dtype)

    product_dtype = dtype if jnp.finfo(dtype).bits < 32 else x.dtype

    def product(spec, left, right):
        return einsum(spec, left, right, dtype=product_dtype).astype(x.dtype)

    norm = rounded(safe_norm(x, axis=(-1, -2)))
    x = rounded(x / rounded(norm + NORM_EPS))
    for _ in range(steps):
        gram = product("...ik,...jk->...ij", x, x)
        quartic = product("...ij,...jk->...ik", rounded(c * gram), gram)
        polynomial = rounded(rounded(b * gram) + quartic)
        x = rounded(rounded(a * x) + product("...ij,...jk->...ik", polynomial, x))
    return jnp.swapaxes(x, -1, -2) if transposed else x
