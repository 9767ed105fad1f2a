"""Real spherical harmonics of degree 0 to 4, in the order and signs of 3D Gaussian splatting.

Coefficients run over degree l = 0..degree and, within one, over order m = -l..l: degree d has
(d + 1)^2 of them. Polynomials are those of Sloan, "Efficient Spherical Harmonic Evaluation"
(JCGT 2013), with the Condon-Shortley phase.
"""

from collections.abc import Sequence

import jax.numpy as jnp
from jaxtyping import Array, Float

from tttlrm_jax.core.errors import InputError
from tttlrm_jax.core.geometry.rotations import unit_components
from tttlrm_jax.core.types import typechecked

MAX_DEGREE = 4
SH_CONSTANT = 0.28209479177387814  # the basis function of degree 0
_DEGREE_OF_COUNT = {(degree + 1) ** 2: degree for degree in range(MAX_DEGREE + 1)}


def sh_degree(num_coefficients: int) -> int:
    """Degree whose basis has `num_coefficients` functions; InputError when there is none."""
    if num_coefficients not in _DEGREE_OF_COUNT:
        raise InputError.of(
            "spherical-harmonics coefficients",
            num_coefficients,
            "is not the size of a basis of degree 0 to 4",
            f"use one of {sorted(_DEGREE_OF_COUNT)}",
        )
    return _DEGREE_OF_COUNT[num_coefficients]


def sh_basis(
    direction: Float[Array, "*batch 3"], degree: int
) -> Float[Array, "*batch coefficient"]:
    """Values of the (degree + 1)^2 basis functions in directions of any non-zero length."""
    return jnp.stack(basis_components(tuple(jnp.moveaxis(direction, -1, 0)), degree), axis=-1)


def basis_components(direction: Sequence[Array], degree: int) -> list[Array]:
    """`sh_basis` from and to arrays of one component each."""
    x, y, z = unit_components(direction)
    xx, yy, zz = x * x, y * y, z * z
    basis = [jnp.full_like(x, SH_CONSTANT)]
    if degree >= 1:
        basis += [-0.4886025119029199 * y, 0.4886025119029199 * z, -0.4886025119029199 * x]
    if degree >= 2:
        basis += [
            1.0925484305920792 * x * y,
            -1.0925484305920792 * y * z,
            0.31539156525252005 * (3 * zz - 1),
            -1.0925484305920792 * x * z,
            0.5462742152960396 * (xx - yy),
        ]
    if degree >= 3:
        basis += [
            -0.5900435899266435 * y * (3 * xx - yy),
            2.890611442640554 * x * y * z,
            -0.4570457994644658 * y * (5 * zz - 1),
            0.3731763325901154 * z * (5 * zz - 3),
            -0.4570457994644658 * x * (5 * zz - 1),
            1.445305721320277 * z * (xx - yy),
            -0.5900435899266435 * x * (xx - 3 * yy),
        ]
    if degree >= 4:
        basis += [
            2.5033429417967046 * x * y * (xx - yy),
            -1.7701307697799304 * y * z * (3 * xx - yy),
            0.9461746957575601 * x * y * (7 * zz - 1),
            -0.6690465435572892 * y * z * (7 * zz - 3),
            0.10578554691520431 * (35 * zz * zz - 30 * zz + 3),
            -0.6690465435572892 * x * z * (7 * zz - 3),
            0.47308734787878004 * (xx - yy) * (7 * zz - 1),
            -1.7701307697799304 * x * z * (xx - 3 * yy),
            0.6258357354491761 * (xx * xx - 6 * xx * yy + yy * yy),
        ]
    return basis


@typechecked
def evaluate_sh(
    coefficients: Float[Array, "*batch coefficient channel"], direction: Float[Array, "*batch 3"]
) -> Float[Array, "*batch channel"]:
    """Plain sum of coefficients times basis functions; no offset, no clamp.

    The degree follows from the number of coefficients. Directions need not be normalised; their
    derivative passes through the normalisation.
    """
    basis = sh_basis(direction, sh_degree(coefficients.shape[-2]))
    return jnp.sum(basis[..., None] * coefficients, axis=-2)
