"""Newton-Schulz orthogonalisation, the matrix sign of Muon (Jordan et al. 2024).

A step maps each singular value `s` to `a s + b s^3 + c s^5`; coefficients are one `(a, b, c)` per
step, the last one repeated for further steps.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from tttlrm_jax.core.precision import einsum, round_to, safe_norm
from tttlrm_jax.core.types import typechecked

Coefficients = tuple[tuple[float, float, float], ...]

QUINTIC: Coefficients = ((3.4445, -4.7750, 2.0315),)  # the published coefficients
# Minimax polynomials of the Polar Express (arXiv 2505.16932) for singular values in [1e-3, 1].
POLAR_EXPRESS: Coefficients = (
    (8.28721201814563, -23.595886519098837, 17.300387312530933),
    (4.107059111542203, -2.9478499167379106, 0.5448431082926601),
    (3.9486908534822946, -2.908902115962949, 0.5518191394370137),
    (3.3184196573706015, -2.488488024314874, 0.51004894012372),
    (2.300652019954817, -1.6689039845747493, 0.4188073119525673),
    (1.891301407787398, -1.2679958271945868, 0.37680408948524835),
    (1.875, -1.25, 0.375),
)
NORM_EPS = 1e-7


@typechecked
def newton_schulz(
    matrix: Float[Array, "*batch row column"],
    steps: int,
    dtype=jnp.bfloat16,
    coefficients: Coefficients = QUINTIC,
) -> Float[Array, "*batch row column"]:
    """Moves the singular values of each matrix towards 1.

    Divides by the Frobenius norm (plus 1e-7), then iterates `X <- a X + (b A + c A A) X` with
    `A = X X^T` on the orientation with fewer rows than columns. `steps=0` therefore still
    normalises; a zero matrix stays zero. With `dtype=bfloat16` every intermediate is rounded
    where the published implementation rounds; products accumulate in float32. The result has
    the dtype of the input.
    """
    transposed = matrix.shape[-2] > matrix.shape[-1]
    x = round_to(jnp.swapaxes(matrix, -1, -2) if transposed else matrix, dtype)

    def rounded(value):
        return round_to(value, dtype)

    product_dtype = dtype if jnp.finfo(dtype).bits < 32 else x.dtype

    def product(spec, left, right):
        return einsum(spec, left, right, dtype=product_dtype).astype(x.dtype)

    norm = rounded(safe_norm(x, axis=(-1, -2)))
    x = rounded(x / rounded(norm + NORM_EPS))
    for a, b, c in _per_step(coefficients, steps):
        gram = product("...ik,...jk->...ij", x, x)
        quartic = product("...ij,...jk->...ik", rounded(c * gram), gram)
        polynomial = rounded(rounded(b * gram) + quartic)
        x = rounded(rounded(a * x) + product("...ij,...jk->...ik", polynomial, x))
    return jnp.swapaxes(x, -1, -2) if transposed else x


@typechecked
def gram_newton_schulz(
    matrix: Float[Array, "*batch row column"],
    steps: int,
    coefficients: Coefficients = QUINTIC,
    restart: int = 2,
) -> Float[Array, "*batch row column"]:
    """The same iteration on `A = X X^T`, in the precision of the input.

    With `P = a I + b A + c A A` a step is `X <- P X`, hence `A <- P A P`; the product of all `P`
    meets `X` once. Squaring loses small singular values to rounding, so `A` is formed anew after
    `restart` steps; 0 never does (Zhang, Amsel, Chen and Dao 2026).
    """
    transposed = matrix.shape[-2] > matrix.shape[-1]
    x = jnp.swapaxes(matrix, -1, -2) if transposed else matrix
    x = x / (safe_norm(x, axis=(-1, -2)) + NORM_EPS)
    schedule = _per_step(coefficients, steps)
    for phase in (schedule[:restart], schedule[restart:]):
        if phase:
            x = _product(_gram_polynomial(_product(x, jnp.swapaxes(x, -1, -2)), phase), x)
    return jnp.swapaxes(x, -1, -2) if transposed else x


def _gram_polynomial(gram: Array, schedule: Coefficients) -> Array:
    """The product of all steps' polynomials, starting from the Gram matrix of `X`."""
    identity = jnp.eye(gram.shape[-1], dtype=gram.dtype)
    identity = jnp.broadcast_to(identity, gram.shape)
    whole = identity
    for number, (a, b, c) in enumerate(schedule):
        polynomial = a * identity + b * gram + c * _product(gram, gram)
        whole = polynomial if number == 0 else _product(polynomial, whole)
        if number + 1 < len(schedule):
            gram = _product(_product(polynomial, gram), polynomial)
    return whole


def _product(left: Array, right: Array) -> Array:
    return einsum("...ij,...jk->...ik", left, right, dtype=left.dtype)


def _per_step(coefficients: Coefficients, steps: int) -> Coefficients:
    return (*coefficients, *coefficients[-1:] * steps)[:steps]
