"""Reconstructed points against true ones: ICP, normals, accuracy, completion, consistency.

Point clouds are [point, 3] float64. Nearest neighbours come from SciPy's k-d tree, exactly: what is
fast here is the order of the questions and not asking twice. Where several neighbours are equally
far, any of them counts.
"""

import dataclasses

import numpy as np
from scipy.spatial import cKDTree

from tttlrm_jax.core.errors import InputError
from tttlrm_jax.core.geometry.alignment import transform_points, umeyama
from tttlrm_jax.metrics.least_axes import least_axes
from tttlrm_jax.metrics.partners import Partners

ICP_THRESHOLD = 0.1
ICP_STEPS = 30
ICP_STOP = 1e-6
NORMAL_NEIGHBOURS = 30
COVARIANCE_BLOCK = 1 << 16  # points whose neighbourhoods are held at a time
ORDER_BITS = 10  # per axis, of the curve along which clouds are sorted


@dataclasses.dataclass(frozen=True, kw_only=True)
class Registration:
    """What ICP found; `fitness` is the share of points with a partner within the threshold."""

    transform: np.ndarray  # [4, 4] target from source
    fitness: float
    inlier_rmse: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Distances:
    """One way from points to nearest neighbours: distances and |cosine| of normals."""

    mean: float
    median: float
    normal_mean: float
    normal_median: float

    def row(self) -> np.ndarray:
        return np.array([self.mean, self.median, self.normal_mean, self.normal_median])


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReconstructionErrors:
    """Both ways; lengths in units of the ground truth."""

    accuracy: Distances  # predicted to true
    completion: Distances  # true to predicted

    @property
    def chamfer(self) -> float:
        """Mean of accuracy and completion."""
        return 0.5 * (self.accuracy.mean + self.completion.mean)

    @property
    def normal_consistency(self) -> float:
        """Mean over both ways."""
        return 0.5 * (self.accuracy.normal_mean + self.completion.normal_mean)


def reconstruction_errors(
    predicted: np.ndarray, true: np.ndarray, threshold: float = ICP_THRESHOLD
) -> ReconstructionErrors:
    """The whole chain: ICP of predicted on true points, normals of both, distances both ways."""
    predicted, true = (
        points[spatial_order(points)]
        for points in (_checked("predicted", predicted), _checked("true", true))
    )
    tree = cKDTree(true)
    moved = transform_points(_registered(predicted, tree, threshold).transform, predicted)
    moved_tree = cKDTree(moved)
    normals, true_normals = _normals(moved_tree), _normals(tree)
    return ReconstructionErrors(
        accuracy=_distances(moved, normals, tree, true_normals),
        completion=_distances(true, true_normals, moved_tree, normals),
    )


def spatial_order(points: np.ndarray) -> np.ndarray:
    """An order [point] in which neighbours in space are near each other (Morton's curve).

    A tree is searched about twice as fast along it, for its nodes stay in the cache.
    """
    low, high = points.min(axis=0), points.max(axis=0)
    side = max(float((high - low).max()), np.finfo(float).tiny)
    cell = np.minimum((points - low) / side * 2**ORDER_BITS, 2**ORDER_BITS - 1).astype(np.int64)
    code = np.zeros(len(points), np.int64)
    for bit in range(ORDER_BITS):
        for axis in range(3):
            code |= ((cell[:, axis] >> bit) & 1) << (3 * bit + axis)
    return np.argsort(code, kind="stable")


def compare_clouds(
    predicted: np.ndarray,
    predicted_normals: np.ndarray,
    true: np.ndarray,
    true_normals: np.ndarray,
) -> ReconstructionErrors:
    """Distances both ways of clouds that are in one frame already, with unit normals."""
    return ReconstructionErrors(
        accuracy=_distances(predicted, predicted_normals, cKDTree(true), true_normals),
        completion=_distances(true, true_normals, cKDTree(predicted), predicted_normals),
    )


def f_score(predicted: np.ndarray, true: np.ndarray, distance: float) -> float:
    """Harmonic mean of precision and recall: the shares of predicted points with a true one within
    the distance, and of true points with a predicted one (Tanks and Temples)."""
    precision, recall = (
        float((cKDTree(others).query(points, workers=-1)[0] <= distance).mean())
        for points, others in ((predicted, true), (true, predicted))
    )
    return 2 * precision * recall / max(precision + recall, 1e-12)


def icp(source: np.ndarray, target: np.ndarray, threshold: float = ICP_THRESHOLD) -> Registration:
    """Rigid point-to-point ICP from the identity.

    At most 30 steps; ends when fitness and inlier RMSE both change by less than 1e-6. Where fewer
    than three points have a partner the transform stays as it is.
    """
    return _registered(source, cKDTree(target), threshold)


def _registered(source: np.ndarray, tree: cKDTree, threshold: float) -> Registration:
    """`icp` on the points of a tree."""
    target, partners = np.asarray(tree.data), Partners(tree, threshold)
    moved, transform = source, np.eye(4)
    near, partner, fitness, rmse = _inliers(partners, moved)
    for _ in range(ICP_STEPS):
        if len(near) < 3:
            break
        fit = umeyama(moved[near], target[partner], with_scale=False)
        update = np.eye(4)
        update[:3, :3], update[:3, 3] = fit.rotation, fit.translation
        transform, moved = update @ transform, transform_points(update, moved)
        before = fitness, rmse
        near, partner, fitness, rmse = _inliers(partners, moved)
        if abs(before[0] - fitness) < ICP_STOP and abs(before[1] - rmse) < ICP_STOP:
            break
    return Registration(transform=transform, fitness=fitness, inlier_rmse=rmse)


def estimate_normals(points: np.ndarray, neighbours: int = NORMAL_NEIGHBOURS) -> np.ndarray:
    """Unit normals [point, 3] of arbitrary sign: least principal axis of the nearest points.

    The point itself is among its `neighbours`; fewer than three give (0, 0, 1).
    """
    return _normals(cKDTree(points), neighbours)


def _normals(tree: cKDTree, neighbours: int = NORMAL_NEIGHBOURS) -> np.ndarray:
    """`estimate_normals` of the points of a tree."""
    points, count = np.asarray(tree.data), min(neighbours, tree.n)
    if count < 3:
        return np.tile([0.0, 0.0, 1.0], (len(points), 1))
    normals = np.empty((len(points), 3))
    for start in range(0, len(points), COVARIANCE_BLOCK):
        part = slice(start, start + COVARIANCE_BLOCK)
        _, index = tree.query(points[part], count, workers=-1)
        local = points[index]
        local -= local.mean(axis=1, keepdims=True)
        normals[part] = least_axes(np.swapaxes(local, 1, 2) @ local)
    return normals


def voxel_downsample(points: np.ndarray, size: float) -> np.ndarray:
    """The mean of the points in every occupied voxel, in order of voxels.

    Voxels are cubes of side `size` whose grid begins half a voxel below the least coordinates.
    """
    if not size > 0:
        raise InputError.of("voxel size", size, "is not positive", "use e.g. 0.02")
    points = _checked("cloud", points)
    cell = np.floor((points - (points.min(axis=0) - 0.5 * size)) / size).astype(np.int64)
    _, voxel, count = np.unique(cell, axis=0, return_inverse=True, return_counts=True)
    voxel = voxel.reshape(-1)
    sums = [np.bincount(voxel, points[:, axis], len(count)) for axis in range(3)]
    return np.stack(sums, axis=1) / count[:, None]


def _inliers(partners: Partners, moved: np.ndarray):
    """Points with a partner within the threshold, the partners, fitness and inlier RMSE."""
    near, partner, distance = partners.find(moved)
    rmse = float(np.sqrt(np.mean(distance**2))) if len(near) else 0.0
    return near, partner, len(near) / len(moved), rmse


def _distances(points, normals, others: cKDTree, other_normals) -> Distances:
    distance, index = others.query(points, workers=-1)
    cosine = np.abs(np.sum(normals * other_normals[index], axis=1))
    return Distances(
        mean=float(distance.mean()), median=float(np.median(distance)),
        normal_mean=float(cosine.mean()), normal_median=float(np.median(cosine)),
    )  # fmt: skip


def _checked(name: str, points: np.ndarray) -> np.ndarray:
    points = np.asarray(points, np.float64)
    if points.ndim != 2 or points.shape[1] != 3 or not len(points):
        raise InputError.of(
            f"{name} points", points.shape, "is not a cloud [point, 3] with at least one point",
            "check confidences and depth limits",
        )  # fmt: skip
    if not np.isfinite(points).all():
        raise InputError.of(
            f"{name} points", "NaN or infinity", "have no neighbours", "leave such points out"
        )
    return points
