"""Least-squares alignment of corresponding points: Sim(3), weighted rigid, medians of pointmaps.

float64 NumPy on the host. Rotations are always proper: where the best orthogonal matrix mirrors,
the direction of least variance is turned round (Umeyama 1991).
"""

import numpy as np

from tttlrm_jax.core.errors import InputError
from tttlrm_jax.core.geometry.poses import PoseNormalisation

MIN_POINTS = 3  # below this a rotation is not determined


def umeyama(source: np.ndarray, target: np.ndarray, *, with_scale: bool = True):
    """The similarity that takes points `source` [point, 3] nearest to `target` [point, 3].

    Minimises the mean squared distance (Umeyama 1991, eq. 40-43); without `with_scale` the scale
    is 1. Returns a `PoseNormalisation`, which also maps poses. Raises InputError if the points
    are fewer than three, are not finite, or all of `source` is one point while a scale is wanted.
    """
    source, target = _checked_pair(source, target)
    source_mean, target_mean = source.mean(axis=0), target.mean(axis=0)
    from_source, from_target = source - source_mean, target - target_mean
    rotation, strength = _best_rotation(from_target.T @ from_source / len(source))
    scale = 1.0
    if with_scale:
        variance = float(np.mean(np.sum(from_source**2, axis=1)))
        if variance <= 1e-24 * max(1.0, float(np.sum(source_mean**2))):
            raise InputError.of(
                "predicted trajectory", "one point", "has no extent to take a scale from",
                "align a camera that moves",
            )  # fmt: skip
        scale = float(strength) / variance
    return PoseNormalisation(
        rotation=rotation, translation=target_mean - scale * rotation @ source_mean, scale=scale
    )


def weighted_rigid_fit(source: np.ndarray, target: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Rigid transforms [..., 4, 4] that take `source` to `target` [..., point, 3].

    Minimises sum_i w_i |R a_i + t - b_i|^2 with `weight` [..., point] >= 0, of any sum but 0.
    """
    source, target, weight = (np.asarray(x, np.float64) for x in (source, target, weight))
    share = (weight / weight.sum(axis=-1, keepdims=True))[..., None]
    source_mean = np.sum(share * source, axis=-2, keepdims=True)
    target_mean = np.sum(share * target, axis=-2, keepdims=True)
    covariance = np.swapaxes(share * (target - target_mean), -1, -2) @ (source - source_mean)
    rotation, _ = _best_rotation(covariance)
    out = np.zeros((*rotation.shape[:-2], 4, 4))
    out[..., :3, :3] = rotation
    out[..., :3, 3] = (target_mean - source_mean @ np.swapaxes(rotation, -1, -2))[..., 0, :]
    out[..., 3, 3] = 1.0
    return out


def transform_points(transform: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Rigid transforms [*batch, 4, 4] of points [*batch, ..., 3]."""
    transform, points = np.asarray(transform), np.asarray(points)
    between = (1,) * (points.ndim - transform.ndim)
    lead = transform.shape[:-2]
    rotation = transform[..., :3, :3].reshape(*lead, *between, 3, 3)
    offset = transform[..., :3, 3].reshape(*lead, *between, 1, 3)[..., 0, :]
    if points.ndim == transform.ndim - 1:
        return (rotation @ points[..., None])[..., 0] + offset
    return points @ np.swapaxes(rotation, -1, -2) + offset[..., None, :]


def median_frame(points: np.ndarray) -> tuple[float, float]:
    """Median z of points [point, 3], and median distance from their per-axis median.

    Medians are the lower of the two middle values. Raises InputError where there are no points.
    """
    centre = np.array([lower_median(points[:, axis]) for axis in range(3)], points.dtype)
    squared = np.zeros(len(points), points.dtype)
    for axis in range(3):
        squared += (points[:, axis] - centre[axis]) ** 2
    return float(centre[2]), lower_median(np.sqrt(squared))


def placed_by_medians(
    points: np.ndarray, own: tuple[float, float], wanted: tuple[float, float]
) -> np.ndarray:
    """Points [..., 3] whose `median_frame` is `own`, moved along z and scaled to have `wanted`."""
    placed = np.array(points, np.float64)
    placed[..., 2] -= own[0]
    placed *= wanted[1] / own[1]
    placed[..., 2] += wanted[0]
    return placed


def lower_median(values: np.ndarray) -> float:
    """The lower of the two middle values of any array; float32 takes constant extra memory.

    Floats order as their bits do once the sign is folded in, so two histograms of 16 bits each
    find the middle of a float32 array exactly, whatever its length.
    """
    flat = np.asarray(values).reshape(-1)
    if not flat.size:
        raise InputError.of("values", 0, "have no median", "give at least one")
    rank = (flat.size - 1) // 2
    if flat.dtype != np.float32:
        return float(np.partition(flat, rank)[rank])
    high = np.zeros(1 << 16, np.int64)
    for keys in _ordered_bits(flat):
        high += np.bincount(keys >> 16, minlength=1 << 16)
    top = int(np.searchsorted(np.cumsum(high), rank + 1))
    rank -= int(high[:top].sum())
    low = np.zeros(1 << 16, np.int64)
    for keys in _ordered_bits(flat):
        low += np.bincount(keys[(keys >> 16) == top] & 0xFFFF, minlength=1 << 16)
    key = np.uint32((top << 16) | int(np.searchsorted(np.cumsum(low), rank + 1)))
    bits = key ^ np.uint32(0x80000000) if key & np.uint32(0x80000000) else ~key
    return float(np.array(bits, np.uint32).view(np.float32))


def _ordered_bits(flat: np.ndarray, block: int = 1 << 20):
    """Blocks of float32 as uint32 that compare in the same order."""
    for start in range(0, flat.size, block):
        bits = np.ascontiguousarray(flat[start : start + block]).view(np.uint32)
        negative = (bits >> 31).astype(bool)
        yield np.where(negative, ~bits, bits | np.uint32(0x80000000))


def _best_rotation(covariance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The rotation R [..., 3, 3] of largest tr(R^T covariance), and that trace [...]."""
    left, strength, right = np.linalg.svd(covariance)
    sign = np.ones_like(strength)
    sign[..., 2] = np.where(np.linalg.det(left) * np.linalg.det(right) < 0, -1.0, 1.0)
    return (left * sign[..., None, :]) @ right, np.sum(strength * sign, axis=-1)


def _checked_pair(source: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    source, target = np.asarray(source, np.float64), np.asarray(target, np.float64)
    if source.shape != target.shape or source.ndim != 2 or source.shape[1] != 3:
        raise InputError.of(
            "points", f"{source.shape} and {target.shape}", "are not two lists of as many points",
            "give [point, 3] twice",
        )  # fmt: skip
    if len(source) < MIN_POINTS:
        raise InputError.of(
            "frames", len(source), f"are fewer than the {MIN_POINTS} that alignment needs",
            "give a longer sequence",
        )  # fmt: skip
    for name, points in (("predicted", source), ("true", target)):
        if not np.isfinite(points).all():
            index = int(np.flatnonzero(~np.isfinite(points).all(axis=1))[0])
            raise InputError.of(
                f"{name} position[{index}]", points[index].tolist(), "is not finite",
                "leave that frame out",
            )  # fmt: skip
    return source, target
