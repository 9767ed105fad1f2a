"""Losses of pointmaps and poses (CUT3R, arXiv 2501.12387, section 3.4; DUSt3R, arXiv 2312.14132).

Lengths are metric: prediction and truth are both divided by the scale of the true scene, the mean
distance of its points from the first camera.
"""

import flax.struct
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from tttlrm_jax.core.precision import safe_norm
from tttlrm_jax.core.types import typechecked
from tttlrm_jax.models.ttt3r import FrameOutput


@flax.struct.dataclass
class FrameTruth:
    """What is true of one frame of every scene; stacked frames have a leading frame axis."""

    points_self: Float[Array, "batch height width 3"]
    points_world: Float[Array, "batch height width 3"]  # in the first camera's frame
    camera_pose: Float[Array, "batch 7"]
    valid: Bool[Array, "batch height width"]


@typechecked
def scene_scale(
    points_world: Float[Array, "frame batch height width 3"],
    valid: Bool[Array, "frame batch height width"],
) -> Float[Array, " batch"]:
    """Mean distance of each scene's valid points from the origin."""
    distance = jnp.where(valid, safe_norm(points_world, axis=-1)[..., 0], 0.0)
    count = jnp.sum(valid, axis=(0, 2, 3))
    return jnp.sum(distance, axis=(0, 2, 3)) / jnp.maximum(count, 1)


@typechecked
def confident_regression(
    points: Float[Array, "batch height width 3"],
    confidence: Float[Array, "batch height width"],
    truth: Float[Array, "batch height width 3"],
    valid: Bool[Array, "batch height width"],
    scale: Float[Array, " batch"],
    confidence_weight: float,
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Mean of `C |p - p*| / s - alpha log C` over valid pixels (DUSt3R Eq. 4), and of `|p - p*|/s`.

    A pixel of confidence 1 pays its error; a higher one pays more and earns `alpha log C`.
    """
    difference = (points - jnp.where(valid[..., None], truth, points)) / scale[:, None, None, None]
    error = safe_norm(difference, axis=-1)[..., 0]
    count = jnp.maximum(jnp.sum(valid), 1)
    terms = confidence * error - confidence_weight * jnp.log(confidence)
    return jnp.sum(jnp.where(valid, terms, 0.0)) / count, jnp.sum(error) / count


@typechecked
def pose_errors(
    pose: Float[Array, "batch 7"], truth: Float[Array, "batch 7"], scale: Float[Array, " batch"]
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """`|t - t*| / s` and `|q - q*|`, means over scenes; q* is the nearer of a rotation's two."""
    translation = safe_norm((pose[:, :3] - truth[:, :3]) / scale[:, None], axis=-1)
    near, far = (safe_norm(pose[:, 3:] - sign * truth[:, 3:], axis=-1) for sign in (1, -1))
    return jnp.mean(translation), jnp.mean(jnp.minimum(near, far))


def frame_terms(
    out: FrameOutput, truth: FrameTruth, scale: Array, confidence_weight: float
) -> dict[str, Array]:
    """Loss terms of one frame by name; `error_*` are unweighted and for reading only."""
    terms, errors = {}, {}
    for frame in ("self", "world"):
        points, confidence = getattr(out, f"points_{frame}"), getattr(out, f"confidence_{frame}")
        terms[f"points_{frame}"], errors[f"error_{frame}"] = confident_regression(
            points, confidence, getattr(truth, f"points_{frame}"), truth.valid, scale,
            confidence_weight,
        )  # fmt: skip
    translation, rotation = pose_errors(out.camera_pose, truth.camera_pose, scale)
    errors |= {"error_translation": translation, "error_rotation": rotation}
    return terms | {"pose": translation + rotation} | jax.lax.stop_gradient(errors)
