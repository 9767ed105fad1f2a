"""Camera poses in float64 NumPy: checks, inverses, look-at, normalisation of a scene's frame.

Poses are `world_from_camera` 4x4 matrices of OpenCV cameras (x right, y down, z forward). All
functions take leading axes `...` and return float64. `PoseNormalisation` remembers the similarity
that was applied, so that whatever is predicted in the normalised frame can be taken back.
"""

import dataclasses
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from tttlrm_jax.core.errors import InputError
from tttlrm_jax.core.geometry.rotations import (
    quaternion_from_rotation,
    rotation_from_unit_quaternion,
)

PoseMethod = Literal["mean_cam", "first_cam", "focus"]

RIGID_TOLERANCE = 1e-3  # largest entry of |R R^T - I| that still counts as a rotation
FARTHEST = 1e15  # of a camera's centre, in its own unit: its square is far from float32's end
DIRECTION_TOLERANCE = 1e-6  # below this length a mean of unit vectors has no direction
ROUNDING = 1e-12  # extents below this part of the largest coordinate are rounding
COINCIDENT = 1e-6  # reference centres this close, as a part of all cameras' extent, are one point


@dataclasses.dataclass(frozen=True, kw_only=True)
class PoseNormalisation:
    """The similarity `point_out = scale * rotation @ point_in + translation`.

    `rotation` [3, 3] is a rotation matrix, `translation` [3] is in output units, `scale` is output
    units per input unit. Built by `normalise_poses`; its `inverse` maps predictions back.
    """

    rotation: np.ndarray
    translation: np.ndarray
    scale: float

    def apply_points(self, points: np.ndarray) -> np.ndarray:
        """Maps points [..., 3]."""
        return self.scale * points @ self.rotation.T + self.translation

    def apply_poses(self, world_from_camera: np.ndarray) -> np.ndarray:
        """Maps poses [..., 4, 4]; camera axes are turned, centres moved and scaled."""
        out = np.array(world_from_camera, np.float64)
        out[..., :3, :3] = self.rotation @ out[..., :3, :3]
        out[..., :3, 3] = self.apply_points(out[..., :3, 3])
        return out

    def inverse(self) -> "PoseNormalisation":
        """The similarity that undoes this one."""
        scale = 1.0 / self.scale
        rotation = self.rotation.T
        return PoseNormalisation(
            rotation=rotation, translation=-scale * rotation @ self.translation, scale=scale
        )


def rigid_inverse(pose: Any) -> Any:
    """Inverts rigid transforms [..., 4, 4] by transposing the rotation: `[R^T, -R^T t]`.

    JAX arrays keep their dtype and are differentiated; anything else is inverted in float64 NumPy.
    """
    xp = jnp if isinstance(pose, jax.Array) else np
    pose = pose if xp is jnp else np.asarray(pose, np.float64)
    rotation = xp.swapaxes(pose[..., :3, :3], -1, -2)
    if xp is np:
        offset = rotation @ pose[..., :3, 3, None]
    else:  # no matrix product, whose precision a device may lower
        offset = jnp.sum(rotation * pose[..., None, :3, 3], axis=-1, keepdims=True)
    top = xp.concatenate([rotation, -offset], axis=-1)
    bottom = xp.asarray([0, 0, 0, 1], pose.dtype).reshape((1,) * (pose.ndim - 1) + (4,))
    return xp.concatenate([top, xp.broadcast_to(bottom, top[..., :1, :].shape)], axis=-2)


def matrix_from_encoding(encoding: np.ndarray) -> np.ndarray:
    """Poses [..., 4, 4] of translations and unit quaternions wxyz [..., 7]."""
    encoding = np.asarray(encoding, np.float64)
    matrix = np.broadcast_to(np.eye(4), (*encoding.shape[:-1], 4, 4)).copy()
    matrix[..., :3, :3] = rotation_from_unit_quaternion(encoding[..., 3:])
    matrix[..., :3, 3] = encoding[..., :3]
    return matrix


def encoding_from_matrix(matrix: np.ndarray) -> np.ndarray:
    """Translations and quaternions wxyz [..., 7] with w >= 0 of poses [..., 4, 4]."""
    matrix = np.asarray(matrix, np.float64)
    quaternion = quaternion_from_rotation(matrix[..., :3, :3])
    return np.concatenate([matrix[..., :3, 3], quaternion], axis=-1)


def pose_problem(pose: np.ndarray) -> str | None:
    """Says what keeps a [4, 4] matrix from being a rigid transform; None when nothing does."""
    pose = np.asarray(pose)
    if pose.shape != (4, 4):
        return f"has shape {pose.shape}, not (4, 4)"
    if not np.isfinite(pose).all():
        return "has entries that are not finite"
    if np.abs(pose).max() > FARTHEST:
        return f"has entries beyond {FARTHEST:g}"
    if np.abs(pose[3] - [0.0, 0.0, 0.0, 1.0]).max() > RIGID_TOLERANCE:
        return f"has the last row {pose[3].tolist()}, not [0, 0, 0, 1]"
    rotation = pose[:3, :3]
    with np.errstate(all="ignore"):  # of entries that are almost zero
        determinant = np.linalg.det(rotation)
    if not abs(determinant) >= RIGID_TOLERANCE:
        return "is singular (its rotation part has determinant 0)"
    if np.abs(rotation @ rotation.T - np.eye(3)).max() > RIGID_TOLERANCE:
        return "is not rigid (its rotation part is scaled or skewed)"
    if determinant < 0:
        return "is not rigid (its rotation part mirrors; determinant -1)"
    return None


def look_at(position: np.ndarray, target: np.ndarray, up: np.ndarray) -> np.ndarray:
    """Poses [..., 4, 4] at `position` [..., 3] with z towards `target` and y away from `up`.

    Where `up` is parallel to the viewing direction the nearest coordinate axis that is not takes
    its place.
    """
    position = np.asarray(position, np.float64)
    forward = _unit(np.asarray(target, np.float64) - position)
    up = np.broadcast_to(np.asarray(up, np.float64), forward.shape)
    parallel = np.linalg.norm(np.cross(forward, up), axis=-1, keepdims=True) < 1e-6
    substitute = np.eye(3)[np.argmin(np.abs(forward), axis=-1)]
    right = _unit(np.cross(forward, np.where(parallel, substitute, up)))
    down = np.cross(forward, right)
    out = np.zeros((*position.shape[:-1], 4, 4))
    out[..., :3, :] = np.stack([right, down, forward, position], axis=-1)
    out[..., 3, 3] = 1.0
    return out


def mean_pose(world_from_camera: np.ndarray) -> np.ndarray:
    """The pose [4, 4] in the middle of poses [view, 4, 4].

    z is the mean viewing direction, y as near to the mean y axis as orthogonality allows, the
    centre is the mean centre. Cameras in a regular ring have means that cancel or coincide; where
    that leaves an axis open, the first camera's stands in (the reference normalises rounding
    noise there).
    """
    poses = np.asarray(world_from_camera, np.float64)
    forward, down = poses[:, :3, 2].mean(axis=0), poses[:, :3, 1].mean(axis=0)
    if np.linalg.norm(forward) < DIRECTION_TOLERANCE:
        forward = poses[0, :3, 2]
    forward = _unit(forward)
    across = np.cross(down, forward)
    if np.linalg.norm(across) < DIRECTION_TOLERANCE:
        across = _across(poses[0], forward)
    right = _unit(across)
    out = np.eye(4)
    out[:3, :] = np.stack(
        [right, _unit(np.cross(forward, right)), forward, poses[:, :3, 3].mean(axis=0)], axis=-1
    )
    return out


def focus_point(world_from_camera: np.ndarray) -> np.ndarray:
    """The point [3] nearest to all viewing axes, never behind the mean camera.

    Least squares over the axes of poses [view, 4, 4]. Where the axes are (almost) parallel, or
    meet behind the cameras, it is the point one spread of the centres in front of their mean.
    """
    poses = np.asarray(world_from_camera, np.float64)
    centre, axis = poses[:, :3, 3], poses[:, :3, 2]
    across = np.eye(3) - axis[:, :, None] * axis[:, None, :]
    system = across.mean(axis=0)
    if np.linalg.eigvalsh(system)[0] > 1e-4:
        point = np.linalg.solve(system, np.mean(across @ centre[:, :, None], axis=0)[:, 0])
        if np.mean(np.sum((point - centre) * axis, axis=1)) > 0:
            return point
    return _ahead(poses, _spread(poses, poses) or 1.0)


def normalise_poses(
    world_from_camera: np.ndarray,
    method: PoseMethod = "mean_cam",
    reference: np.ndarray | None = None,
) -> tuple[np.ndarray, PoseNormalisation]:
    """Moves poses [view, 4, 4] into a frame and scale of their own.

    `mean_cam` and `first_cam` take the frame of the mean or first camera, and divide by the
    largest absolute coordinate of a centre; where all centres coincide there is no scale to read
    and it stays 1. `focus` turns as `mean_cam`, puts the origin at the point that the cameras
    look at (`focus_point`), and makes their mean distance from it 1. Frame and scale come from
    `reference` [view', 4, 4] when it is given, else from the poses.

    A reference whose centres coincide (a single camera, a panorama) has no scale. It then comes
    from all poses: for `mean_cam` and `first_cam` their largest coordinate in the frame of the
    reference, for `focus` the distance d of the farthest one, the origin lying d in front of the
    reference. Where these coincide too, d and the scale are 1. Returns the poses and the
    similarity applied.
    """
    poses = np.asarray(world_from_camera, np.float64)
    reference = poses if reference is None else np.asarray(reference, np.float64)
    if not len(reference):
        raise InputError("poses=0 cameras have no frame; give at least one")
    if method == "focus":
        rotation, origin, scale = _focus_frame(reference, poses)
    elif method in ("mean_cam", "first_cam"):
        anchor = mean_pose(reference) if method == "mean_cam" else reference[0]
        rotation, origin = anchor[:3, :3].T, anchor[:3, 3]
        measured = (poses if _coincide(reference, poses) else reference)[:, :3, 3]
        extent = float(np.abs((measured - origin) @ rotation.T).max())
        scale = 1.0 / extent if extent > ROUNDING * np.abs(measured).max() else 1.0
    else:
        raise InputError.of("method", method, "is unknown", "use mean_cam, first_cam or focus")
    similarity = PoseNormalisation(
        rotation=rotation, translation=-scale * rotation @ origin, scale=scale
    )
    return similarity.apply_poses(poses), similarity


def first_chunk_normalisation(
    world_from_camera: np.ndarray, method: PoseMethod = "mean_cam", distance: float = 1.0
) -> tuple[PoseNormalisation, bool]:
    """The similarity that a stream keeps, from the poses [view, 4, 4] of its first chunk alone, and
    whether these have a scale.

    It is that of `normalise_poses`. Where the centres coincide (one view, a camera that only
    turns) there is no scale to read: then `distance`, in input units, becomes 1.
    """
    poses = np.array(world_from_camera, np.float64)
    if not len(poses) or _spread(poses, poses) > 0:
        return normalise_poses(poses, method)[1], True
    poses[:, :3, 3] /= distance
    similarity = normalise_poses(poses, method)[1]
    return dataclasses.replace(similarity, scale=similarity.scale / distance), False


def _focus_frame(reference: np.ndarray, poses: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Rotation, origin and scale of the method `focus`."""
    if _coincide(reference, poses):
        focus = _ahead(reference, _spread(poses, reference) or 1.0)
    else:
        focus = focus_point(reference)
    distance = float(np.linalg.norm(reference[:, :3, 3] - focus, axis=1).mean())
    return mean_pose(reference)[:3, :3].T, focus, 1.0 / distance if distance > 0 else 1.0


def _coincide(reference: np.ndarray, poses: np.ndarray) -> bool:
    """Whether the centres of `reference` are one point, up to rounding or as seen from `poses`."""
    return _spread(reference, reference) <= COINCIDENT * _spread(poses, reference)


def _spread(poses: np.ndarray, reference: np.ndarray) -> float:
    """Largest distance of a centre of `poses` from the mean of `reference`; rounding is 0."""
    centres = poses[:, :3, 3]
    distance = np.linalg.norm(centres - reference[:, :3, 3].mean(axis=0), axis=1).max()
    return float(distance) if distance > ROUNDING * np.abs(centres).max() else 0.0


def _ahead(poses: np.ndarray, distance: float) -> np.ndarray:
    """The point at this distance in front of the mean camera; its centre if directions cancel."""
    forward = poses[:, :3, 2].mean(axis=0)
    length = np.linalg.norm(forward)
    return poses[:, :3, 3].mean(axis=0) + distance * forward / (length if length > 0 else 1.0)


def _across(pose: np.ndarray, forward: np.ndarray) -> np.ndarray:
    """The part of a camera's x axis at right angles to `forward`, or that of y cross forward."""
    right, down = pose[:3, 0], pose[:3, 1]
    rejection = right - (right @ forward) * forward
    return rejection if np.linalg.norm(rejection) > 1e-3 else np.cross(down, forward)


def _unit(vector: np.ndarray) -> np.ndarray:
    return vector / np.linalg.norm(vector, axis=-1, keepdims=True)
