"""Moving Gaussians by a similarity (rotation, uniform scale, translation).

Predictions live in the normalised frame of their cameras; files are written in the frame of the
input. Colour depends on direction, so spherical harmonics turn with the scene: within one degree
they mix by a (2 l + 1) x (2 l + 1) orthogonal matrix, degree 0 stays.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from tttlrm_jax.core.geometry.poses import PoseNormalisation
from tttlrm_jax.core.geometry.rotations import quaternion_from_rotation
from tttlrm_jax.core.geometry.spherical_harmonics import sh_basis, sh_degree
from tttlrm_jax.core.types import Gaussians, typechecked


def transform_gaussians(gaussians: Gaussians, similarity: PoseNormalisation) -> Gaussians:
    """The same Gaussians in the frame that `similarity` leads to; any leading axes.

    Rendering the result with cameras `similarity.apply_poses(...)` gives the same picture up to
    rounding, and depths times the scale. Computed in the dtype of the means.
    """
    dtype = jnp.asarray(gaussians.mean).dtype
    rotation = jnp.asarray(similarity.rotation, dtype)
    turn = jnp.asarray(quaternion_from_rotation(similarity.rotation), dtype)
    leading = (1,) * (np.ndim(gaussians.mean) - 1)  # no implicit promotion of ranks
    offset = jnp.asarray(similarity.translation, dtype).reshape(*leading, 3)
    mixing = sh_rotation(rotation, sh_degree(gaussians.sh.shape[-2]))
    rotated = jnp.einsum("ij,...j->...i", rotation, gaussians.mean, precision="highest")
    return Gaussians(
        mean=jnp.asarray(similarity.scale, dtype) * rotated + offset,
        sh=jnp.einsum("kl,...lc->...kc", mixing, gaussians.sh, precision="highest"),
        log_scale=gaussians.log_scale + jnp.asarray(np.log(similarity.scale), dtype),
        quaternion=quaternion_product(turn, gaussians.quaternion),
        opacity_logit=gaussians.opacity_logit,
    )


@functools.partial(jax.jit, static_argnames="degree")
@typechecked
def sh_rotation(
    rotation: Float[Array, "3 3"], degree: int
) -> Float[Array, "coefficient coefficient"]:
    """Matrix M that turns coefficients with the scene: sh(M c, R d) = sh(c, d) for all d.

    Per degree l, B_l(y) M_l = B_l(R^T y) is solved over fixed directions y; the basis is closed
    under rotation, so the solution is exact. Block diagonal and orthogonal.
    """
    size = (degree + 1) ** 2
    directions = _spread_directions(4 * size)
    basis = sh_basis(jnp.asarray(directions, rotation.dtype), degree)
    turned = sh_basis(
        jnp.matmul(jnp.asarray(directions, rotation.dtype), rotation, precision="highest"), degree
    )
    mixing = jnp.zeros((size, size), rotation.dtype)
    for order in range(degree + 1):
        block = slice(order**2, (order + 1) ** 2)
        inverse = jnp.linalg.pinv(basis[:, block])
        solution = jnp.matmul(inverse, turned[:, block], precision="highest")
        mixing = mixing.at[block, block].set(solution)
    return mixing


@jax.jit
@typechecked
def quaternion_product(
    first: Float[Array, "4"], second: Float[Array, "*batch 4"]
) -> Float[Array, "*batch 4"]:
    """Hamilton product: the rotation `second`, then `first`."""
    w, x, y, z = first
    left = jnp.stack([
        jnp.stack([w, -x, -y, -z]),
        jnp.stack([x, w, -z, y]),
        jnp.stack([y, z, w, -x]),
        jnp.stack([z, -y, x, w]),
    ])  # fmt: skip
    return jnp.einsum("ij,...j->...i", left, second, precision="highest")


def _spread_directions(count: int) -> np.ndarray:
    """Fibonacci lattice on the unit sphere, [count, 3]."""
    index = np.arange(count) + 0.5
    z = 1 - 2 * index / count
    azimuth = np.pi * (1 + np.sqrt(5)) * index
    radius = np.sqrt(1 - z * z)
    return np.stack([radius * np.cos(azimuth), radius * np.sin(azimuth), z], axis=-1)
