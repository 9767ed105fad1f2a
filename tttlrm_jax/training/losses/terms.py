"""Training losses of tttLRM: images, opacities, disparities.

Images are channels last. All terms are means, computed in at least float32. On a mesh they are of
the device's part, but `depth_loss` is of all views.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from tttlrm_jax.core.types import typechecked
from tttlrm_jax.parallel.mesh import average, total

MIN_DEPTH = 0.01
SPREAD_EPS = 1e-6


@typechecked
def mean_squared_error(
    rendering: Float[Array, "*image"], target: Float[Array, "*image"]
) -> Float[Array, ""]:
    """Over everything, unclipped."""
    return jnp.mean(jnp.square(rendering - target))


def psnr_of_mse(mse: Float[Array, "..."]) -> Float[Array, "..."]:
    """`-10 log10(mse)` in dB for values in [0, 1]."""
    return -10 * jnp.log10(mse)


@typechecked
def opacity_loss(opacity_logit: Float[Array, "..."]) -> Float[Array, ""]:
    """Mean opacity of all Gaussians before pruning."""
    return jnp.mean(jax.nn.sigmoid(opacity_logit))


@typechecked
def disparity_of_points(
    points: Float[Array, "*view height width 3"], camera_from_world: Float[Array, "*view 4 4"]
) -> Float[Array, "*view height width"]:
    """`1 / max(z, 0.01)` with z the depth of each pixel's point in its view's camera."""
    z_axis, offset = camera_from_world[..., 2, :3], camera_from_world[..., 2, 3]
    z = jnp.sum(points * z_axis[..., None, None, :], axis=-1) + offset[..., None, None]
    return 1 / jnp.maximum(z, MIN_DEPTH)


@typechecked
def relative_disparity(
    disparity: Float[Array, "*view height width"],
    valid: Bool[Array, "*view height width"] | None = None,
) -> Float[Array, "*view height width"]:
    """Shift- and scale-free disparity of each view: `(d - median) / (mean |d - median| + 1e-6)`.

    The median is the lower of the two middle values, and passes gradients to that pixel. Only
    `valid` pixels count; the others come out meaningless.
    """
    flat = disparity.reshape(*disparity.shape[:-2], -1)
    mask = jnp.ones(flat.shape, bool) if valid is None else valid.reshape(flat.shape)
    count = jnp.sum(mask, axis=-1, keepdims=True)
    ordered = jnp.sort(jnp.where(mask, flat, jnp.inf), axis=-1)
    middle = jnp.maximum(count - 1, 0) // 2
    median = jnp.take_along_axis(ordered, middle, axis=-1)
    median = jnp.where(count > 0, median, 0.0)
    deviation = jnp.where(mask, jnp.abs(flat - median), 0.0)
    spread = jnp.sum(deviation, axis=-1, keepdims=True) / jnp.maximum(count, 1).astype(flat.dtype)
    return ((flat - median) / (spread + SPREAD_EPS)).reshape(disparity.shape)


def smooth_l1(error: Float[Array, "..."]) -> Float[Array, "..."]:
    """`0.5 e^2` below 1, `|e| - 0.5` above."""
    size = jnp.abs(error)
    return jnp.where(size < 1, 0.5 * error * error, size - 0.5)


@typechecked
def depth_loss(
    points: Float[Array, "*view height width 3"],
    camera_from_world: Float[Array, "*view 4 4"],
    disparity: Float[Array, "*view height width"],
    valid: Bool[Array, "*view height width"] | None = None,
    valid_count: Float[Array, ""] | None = None,
    *,
    metric: bool = False,
) -> Float[Array, ""]:
    """Smooth L1 between the disparity of each pixel's Gaussian and a given one.

    Both are made free of shift and scale per view (the published loss, for disparities of a
    monocular network) unless `metric`, for exact depth in the units of the poses. Without
    `valid` every pixel counts; with none valid the loss is 0. `valid_count` (of this device)
    divides in place of the number of valid pixels.
    """
    predicted = disparity_of_points(points, camera_from_world)
    if not metric:
        predicted = relative_disparity(predicted, valid)
        disparity = relative_disparity(disparity, valid)
    if valid is None:
        return average(jnp.mean(smooth_l1(predicted - disparity)), "batch", "view")
    error = jnp.where(valid, predicted - disparity, 0.0)
    summed = total(jnp.sum(smooth_l1(error)), "batch", "view")
    if valid_count is not None:
        count = total(valid_count, "batch", "view")
        return summed / jnp.where(count > 0, count, 1)
    count = total(jnp.sum(valid), "batch", "view")
    return summed / jnp.maximum(count, 1).astype(error.dtype)
