"""Camera paths for novel views and videos: float64 NumPy poses [frame, 4, 4], OpenCV axes."""

import numpy as np

from tttlrm_jax.core.errors import InputError
from tttlrm_jax.core.geometry.poses import focus_point, look_at, matrix_from_encoding
from tttlrm_jax.core.geometry.rotations import quaternion_from_rotation, slerp

LOOP_STEPS = 8  # poses per segment of a closed video path
FULL_CIRCLE_COVERAGE = np.radians(200.0)  # cameras spread wider than this are orbited fully
ARC_SHARE = 0.9  # of the cameras; the rest may be badly posed
SWING_ELEVATION = 15.0  # degrees a turntable rises and sinks


def interpolate_poses(world_from_camera: np.ndarray, steps: int) -> np.ndarray:
    """Slerped rotations and linear centres between consecutive poses [n, 4, 4].

    Each segment is sampled at `steps` parameters from 0 to 1 with both ends, so joints appear
    twice: [(n - 1) * steps, 4, 4].
    """
    poses = np.asarray(world_from_camera, np.float64)
    if len(poses) < 2:
        raise InputError.of("poses", len(poses), "are too few for a path", "give two or more")
    if steps < 1:
        raise InputError.of("steps", steps, "is below 1", "use 1 or more")
    fraction = np.linspace(0.0, 1.0, steps)
    quaternion = quaternion_from_rotation(poses[:, :3, :3])
    turned = slerp(quaternion[:-1, None], quaternion[1:, None], fraction[None]).reshape(-1, 4)
    centres = interpolate_linear(poses[:, :3, 3], steps)
    return matrix_from_encoding(np.concatenate([centres, turned], axis=-1))


def interpolate_linear(values: np.ndarray, steps: int) -> np.ndarray:
    """Values [n, ...] (intrinsics, centres) at the parameters of `interpolate_poses`."""
    return _between(np.asarray(values, np.float64), np.linspace(0.0, 1.0, steps))


def greedy_order(world_from_camera: np.ndarray) -> np.ndarray:
    """Visits poses [n, 4, 4] from pose 0, always the nearest centre not yet visited: [n]."""
    centres = np.asarray(world_from_camera, np.float64)[:, :3, 3]
    order, left = [0], np.ones(len(centres), bool)
    left[0] = False
    while left.any():
        distance = np.linalg.norm(centres - centres[order[-1]], axis=1)
        order.append(int(np.argmin(np.where(left, distance, np.inf))))
        left[order[-1]] = False
    return np.array(order)


def loop_path(
    world_from_camera: np.ndarray, intrinsics: np.ndarray, steps: int = LOOP_STEPS
) -> tuple[np.ndarray, np.ndarray]:
    """Through all poses and back to the first, `steps` per segment: poses and intrinsics."""
    closed = np.concatenate([world_from_camera, world_from_camera[:1]])
    lens = np.concatenate([intrinsics, intrinsics[:1]])
    return interpolate_poses(closed, steps), interpolate_linear(lens, steps)


def entrywise_path(values: np.ndarray, num_between: int) -> np.ndarray:
    """LaCT's interpolation: `num_between` values strictly between neighbours, entry by entry.

    Applied to poses [n, 4, 4] (whose rotations it leaves slightly non-orthogonal) and to
    intrinsics [n, 4] alike: [n + (n - 1) * num_between, ...].
    """
    values = np.asarray(values)
    steps = num_between + 1
    fraction = np.arange(steps, dtype=values.dtype) / values.dtype.type(steps)
    return np.concatenate([_between(values, fraction), values[-1:]])


def _between(values: np.ndarray, fraction: np.ndarray) -> np.ndarray:
    """Linear between neighbours of [n, ...] at fractions [step]: [(n - 1) * step, ...]."""
    weight = fraction.reshape((1, -1) + (1,) * (values.ndim - 1))
    between = values[:-1, None] * (1 - weight) + values[1:, None] * weight
    return between.reshape(-1, *values.shape[1:])


def turntable(
    num_frames: int,
    size: tuple[int, int],
    *,
    horizontal_fov: float = 50.0,
    elevation: float = 20.0,
    min_radius: float = 1.7,
    max_radius: float = 3.0,
) -> tuple[np.ndarray, np.ndarray]:
    """LaCT's turn around the origin, world z up: poses [frame, 4, 4], intrinsics [frame, 4].

    Angles in degrees, `size` is (height, width). Azimuth leaves out the end point; elevation
    (+- 15 degrees) and radius follow a sine that includes it, so the loop has a small seam.
    """
    height, width = size
    azimuth = 2 * np.pi * np.arange(num_frames) / num_frames
    swing = np.sin(np.linspace(0.0, 2 * np.pi, num_frames))
    rise = np.radians(elevation + SWING_ELEVATION * swing)
    radius = 0.5 * (max_radius + min_radius) + 0.5 * (max_radius - min_radius) * swing
    direction = np.stack(
        [np.cos(rise) * np.cos(azimuth), np.cos(rise) * np.sin(azimuth), np.sin(rise)], axis=-1
    )
    poses = look_at(radius[:, None] * direction, np.zeros(3), np.array([0.0, 0.0, 1.0]))
    focal = 0.5 * width / np.tan(0.5 * np.radians(horizontal_fov))
    lens = np.array([focal, focal, 0.5 * width, 0.5 * height])
    return poses, np.tile(lens, (num_frames, 1))


def up_direction(world_from_camera: np.ndarray) -> np.ndarray:
    """The unit vector [3] at right angles to the x axes of level cameras [view, 4, 4].

    Cameras that look down have y axes that lean, so the mean y axis only gives the sign; it also
    stands in where the x axes (almost) agree, or disagree with it by more than 60 degrees.
    """
    poses = np.asarray(world_from_camera, np.float64)
    mean = -poses[:, :3, 1].mean(axis=0)
    length = np.linalg.norm(mean)
    mean = mean / length if length > 1e-6 else -poses[0, :3, 1]
    right = poses[:, :3, 0]
    size, axes = np.linalg.eigh(right.T @ right / len(right))
    level = axes[:, 0] * np.sign(axes[:, 0] @ mean)
    return level if size[1] - size[0] > 1e-3 and level @ mean > 0.5 else mean


def orbit_path(world_from_camera: np.ndarray, num_frames: int) -> np.ndarray:
    """Poses [num_frames, 4, 4] that circle what the cameras [view, 4, 4] look at.

    Axis, height and radius are those of the cameras in the middle. Cameras that surround the
    focus give a full turn; a narrower arc is swung through back and forth, so that the path
    stays where something was seen. Either way the last frame leads back to the first.
    """
    poses = np.asarray(world_from_camera, np.float64)
    focus = focus_point(poses)
    up = up_direction(poses)
    first, second = _horizontal_axes(up, poses[0, :3, 0])
    offset = poses[:, :3, 3] - focus
    height = np.median(offset @ up)
    angles = np.arctan2(offset @ second, offset @ first)
    radius = np.median(np.hypot(offset @ first, offset @ second))
    start, coverage = _arc(angles)
    phase = np.arange(num_frames) / num_frames
    if coverage >= FULL_CIRCLE_COVERAGE:
        angle = start + 2 * np.pi * phase
    else:
        arc = max(coverage, np.radians(10.0))
        middle = start + 0.5 * coverage
        angle = middle + 0.5 * arc * np.sin(2 * np.pi * phase)
    circle = np.cos(angle)[:, None] * first + np.sin(angle)[:, None] * second
    return look_at(focus + radius * circle + height * up, focus, up)


def circle_path(
    centre: np.ndarray, radius: float, num_frames: int, *, up: np.ndarray, elevation: float
) -> np.ndarray:
    """Poses [num_frames, 4, 4] once around `centre` [3], which all look at from `radius` away and
    `elevation` degrees above; `up` [3] has any length but 0."""
    up = np.asarray(up, np.float64) / np.linalg.norm(up)
    first, second = _horizontal_axes(up, np.array([0.0, 0.0, -1.0]))
    angle = 2 * np.pi * np.arange(num_frames)[:, None] / num_frames
    rise = np.radians(elevation)
    direction = np.cos(rise) * (np.cos(angle) * first + np.sin(angle) * second) + np.sin(rise) * up
    return look_at(centre + radius * direction, np.asarray(centre, np.float64), up)


def _arc(angles: np.ndarray) -> tuple[float, float]:
    """Start and width (radians) of the smallest arc that holds `ARC_SHARE` of the angles."""
    ordered = np.sort(np.mod(angles, 2 * np.pi))
    held = int(np.ceil(ARC_SHARE * len(ordered)))
    ends = np.concatenate([ordered, ordered + 2 * np.pi])[held - 1 : held - 1 + len(ordered)]
    narrowest = int(np.argmin(ends - ordered))
    return float(ordered[narrowest]), float(ends[narrowest] - ordered[narrowest])


def _horizontal_axes(up: np.ndarray, hint: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Two unit vectors at right angles to `up` and each other, the first near `hint`."""
    first = hint - (hint @ up) * up
    if np.linalg.norm(first) < 1e-6:
        substitute = np.eye(3)[np.argmin(np.abs(up))]
        first = substitute - (substitute @ up) * up
    first = first / np.linalg.norm(first)
    return first, np.cross(up, first)
