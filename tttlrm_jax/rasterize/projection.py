"""EWA projection of 3D Gaussians into one pinhole camera (Zwicker et al., "EWA Splatting", 2002).

Conventions: OpenCV camera (x right, y down, z forward), `point_camera = camera_from_world @
point_world`, pixel centres at +0.5, intrinsics (fx, fy, cx, cy) in pixels. Constants of the
configuration act as their float32 rounding, in float64 too.

Not differentiable: culling, radii, order. Culled Gaussians, and those marked `invalid`, read zero
in every output and receive exactly zero gradient.
"""

import functools
from typing import NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from tttlrm_jax.config import RasterConfig
from tttlrm_jax.core.geometry.rotations import rotation_entries
from tttlrm_jax.core.types import Splats, typechecked
from tttlrm_jax.rasterize.columns import in_memory, join_columns, split_columns

EXTENT = 3.33  # standard deviations a Gaussian reaches; sqrt(2 ln 255) = 3.329
FIELD_OF_VIEW_MARGIN = 0.15  # of the image size, beyond which the Jacobian's ratios are clamped
MIN_COMPENSATION = 0.005


@flax.struct.dataclass
class ProjectedGaussians:
    """Gaussians as one camera sees them; zero wherever `visible` is false.

    What compositing needs of a Gaussian beside its opacity and features: devices that hold a part
    of the cloud each can project their own and exchange these (see `screen_splats`).

    `covariance` is (A, B, C) of [[A, B], [B, C]] in px^2 including `eps2d`, `conic` its inverse
    in the same layout. `compensation` is the antialiasing factor of the opacity. `radius` is the
    half size of the box of 3.33 standard deviations; `radius_opacity_aware` that of the box
    outside of which alpha stays below `min_alpha`, (0, 0) where it never reaches it. `invalid`
    marks Gaussians with NaN or infinity in any field, or in the projection of one that is neither
    behind the near plane nor beyond the far plane.
    """

    mean: Float[Array, "gaussian 2"]  # px
    depth: Float[Array, " gaussian"]  # z in the camera frame, world units
    covariance: Float[Array, "gaussian 3"]
    conic: Float[Array, "gaussian 3"]
    compensation: Float[Array, " gaussian"]
    radius: Int[Array, "gaussian 2"]  # px
    radius_opacity_aware: Int[Array, "gaussian 2"]  # px
    visible: Bool[Array, " gaussian"]
    invalid: Bool[Array, " gaussian"]


class Judgement(NamedTuple):
    """Fields of `ProjectedGaussians` that have no derivative."""

    radius: Int[Array, "gaussian 2"]
    radius_opacity_aware: Int[Array, "gaussian 2"]
    visible: Bool[Array, " gaussian"]
    invalid: Bool[Array, " gaussian"]


def float32_constant(value: float, dtype) -> Array:
    """The float32 rounding of a constant: what the reference compares with, in any precision."""
    return jnp.asarray(np.float32(value), dtype=dtype)


@typechecked
def project(
    splats: Splats,
    camera_from_world: Float[Array, "4 4"],
    intrinsics: Float[Array, "4"],
    height: int,
    width: int,
    config: RasterConfig,
) -> ProjectedGaussians:
    """Projects Gaussians into one camera.

    `camera_from_world` counts as 12 free entries: its derivative is not confined to rotations.
    The culling decisions come from a first pass without derivatives; the second one sees a
    harmless Gaussian in place of every culled one, so that no derivative can overflow.
    """
    lens = (intrinsics, height, width, config)
    return show(splats, judge(splats, camera_from_world, *lens), camera_from_world, *lens)


def judge(splats, camera_from_world, intrinsics, height, width, config) -> Judgement:
    """What has no derivative."""
    splats, camera_from_world, intrinsics = lax.stop_gradient(
        (splats, camera_from_world, intrinsics)
    )
    everyone = jnp.ones(splats.mean.shape[0], dtype=bool)
    draft = _screen_values(splats, everyone, camera_from_world, intrinsics, height, width, config)
    radius = _radius(draft, jnp.asarray(np.float32(EXTENT), splats.mean.dtype))
    invalid, in_range = _validity(splats, draft, config)
    visible = in_range & ~invalid & _meets_image(draft, radius, height, width)

    opacity = splats.opacity * (draft["compensation"] if config.antialiased else 1)
    min_alpha = float32_constant(config.min_alpha, opacity.dtype)
    reach = jnp.sqrt(2 * jnp.log(jnp.maximum(opacity / min_alpha, 1)))
    aware = _radius(draft, reach[:, None])
    drawn = visible & (opacity >= min_alpha) & _meets_image(draft, aware, height, width)
    return Judgement(_pixels(radius, visible), _pixels(aware, drawn), visible, invalid)


def show(
    splats, judgement: Judgement, camera_from_world, intrinsics, height, width, config
) -> ProjectedGaussians:
    """What has derivatives, beside what was judged."""
    visible = judgement.visible
    values = _screen_values(splats, visible, camera_from_world, intrinsics, height, width, config)
    shown = jax.tree.map(
        lambda x: jnp.where(visible.reshape(-1, *[1] * (x.ndim - 1)), x, jnp.zeros_like(x)), values
    )
    return ProjectedGaussians(**shown, **judgement._asdict())


def _screen_values(splats, visible, camera_from_world, intrinsics, height, width, config):
    """Centre, depth, covariance, conic and compensation, with `visible` guarding every input.

    Components are arrays over Gaussians of their own: XLA vectorises along the last axis. Written
    out, too, because accelerators round the inputs of matrix products.
    """
    mean, quaternion, scale = (
        [jnp.where(visible, column, jnp.ones_like(column)) for column in split_columns(x)]
        for x in (splats.mean, splats.quaternion, splats.scale)
    )
    rotation, translation = camera_from_world[:3, :3], camera_from_world[:3, 3]
    x, y, z = (
        jnp.where(visible, _dot(rotation[i], mean) + translation[i], jnp.ones_like(mean[0]))
        for i in range(3)
    )
    fx, fy, cx, cy = intrinsics
    eps2d = float32_constant(config.eps2d, z.dtype)

    ratio_x = _clamp_ratio(x / z, cx, fx, width)
    ratio_y = _clamp_ratio(y / z, cy, fy, height)
    # Rows of J R_camera: derivative of the pixel position with respect to the world position.
    row_u = [fx / z * (rotation[0, i] - ratio_x * rotation[2, i]) for i in range(3)]
    row_v = [fy / z * (rotation[1, i] - ratio_y * rotation[2, i]) for i in range(3)]
    *row_u, v_x, v_y, v_z = in_memory(*row_u, *row_v)
    row_v = [v_x, v_y, v_z]
    # Rows of the 2x3 square root of the projected covariance.
    axes = list(zip(*rotation_entries(quaternion), strict=True))
    root_u = [_dot(row_u, axis) * s for axis, s in zip(axes, scale, strict=True)]
    root_v = [_dot(row_v, axis) * s for axis, s in zip(axes, scale, strict=True)]
    *root_u, v_x, v_y, v_z = in_memory(*root_u, *root_v)
    root_v = [v_x, v_y, v_z]
    s_uu, s_uv, s_vv = _dot(root_u, root_u), _dot(root_u, root_v), _dot(root_v, root_v)
    # Cauchy-Binet: a sum of squares, so that thin Gaussians lose no digits to cancellation.
    minors = [root_u[i] * root_v[j] - root_u[j] * root_v[i] for i, j in ((0, 1), (1, 2), (2, 0))]
    s_uu, s_uv, s_vv, *minors = in_memory(s_uu, s_uv, s_vv, *minors)
    det_s = _dot(minors, minors)
    det = det_s + eps2d * (s_uu + s_vv) + eps2d * eps2d
    a, c = s_uu + eps2d, s_vv + eps2d
    ratio = det_s / det
    floor = float32_constant(MIN_COMPENSATION, z.dtype) ** 2
    return {
        "mean": join_columns(fx * x / z + cx, fy * y / z + cy),
        "depth": z,
        "covariance": join_columns(a, s_uv, c),
        "conic": join_columns(c / det, -s_uv / det, a / det),
        "compensation": jnp.sqrt(jnp.where(ratio > floor, ratio, floor)),
    }


def _dot(a, b) -> Array:
    """Sum of three products of components."""
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


def _clamp_ratio(ratio, centre, focal, size):
    """Clamps x/z (or y/z) to the field of view plus its margin; the limits follow intrinsics."""
    margin = FIELD_OF_VIEW_MARGIN * size / focal
    low, high = -(centre / focal + margin), (size - centre) / focal + margin
    return jnp.where(ratio < low, low, jnp.where(ratio > high, high, ratio))


def _validity(splats: Splats, draft, config: RasterConfig) -> tuple[Array, Array]:
    """(invalid, strictly between the near and far planes), each [gaussian]."""

    def finite(*values):
        """NaN or infinity times 0 is NaN."""
        fine = [jnp.all(x * 0 == 0, axis=tuple(range(1, x.ndim))) for x in values]
        return functools.reduce(jnp.logical_and, fine)

    depth = draft["depth"]
    near = float32_constant(config.near, depth.dtype)
    far = float32_constant(config.far, depth.dtype)
    out_of_range = (depth <= near) | (depth >= far)
    given = (splats.mean, splats.quaternion, splats.scale, splats.opacity, splats.features)
    return ~finite(*given) | ~(finite(*draft.values()) | out_of_range), ~out_of_range


def _radius(draft, extent: Float[Array, "..."]) -> Float[Array, "gaussian 2"]:
    return jnp.ceil(extent * jnp.sqrt(draft["covariance"][:, ::2]))


def _meets_image(draft, radius, height: int, width: int) -> Bool[Array, " gaussian"]:
    size = jnp.asarray([[width, height]], dtype=radius.dtype)
    mean = draft["mean"]
    return jnp.all((mean + radius > 0) & (mean - radius < size), axis=-1)


def _pixels(radius, keep) -> Int[Array, "gaussian 2"]:
    limit = 2.0**30  # int32 holds it, and no image is wider
    return jnp.where(keep[:, None], jnp.minimum(radius, limit), 0).astype(jnp.int32)
