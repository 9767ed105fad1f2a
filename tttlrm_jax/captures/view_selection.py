"""Which frames of a scene are inputs and which are targets.

A camera's feature is (centre, viewing direction), six numbers of its raw pose. `kmeans` repeats
scikit-learn's `KMeans(k, random_state=0, init="k-means++", n_init=1)` draw by draw (Arthur and
Vassilvitskii 2007, Lloyd 1982), so that selections equal those of evaluation protocols made with
it; it needs neither scikit-learn nor a global random state.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from tttlrm_jax.core.errors import InputError

TARGET_STRIDE = 8  # every 8th frame is a target of the evaluation protocol
MAX_ITERATIONS = 300
RELATIVE_TOLERANCE = 1e-4  # of the mean feature variance, on the squared shift of the centres


@dataclasses.dataclass(frozen=True)
class Clusters:
    """Result of `kmeans`: k clusters of n points with f features."""

    centres: np.ndarray  # [k, f]
    labels: np.ndarray  # [n] int32
    inertia: float  # sum of squared distances to the own centre
    num_iterations: int
    initial: np.ndarray  # [k] points taken as seeds, in order


def camera_features(world_from_camera: np.ndarray) -> np.ndarray:
    """Centre and viewing direction [view, 6] of poses [view, 4, 4], in their dtype."""
    return np.concatenate([world_from_camera[:, :3, 3], world_from_camera[:, :3, 2]], axis=1)


def kmeans(points: np.ndarray, num_clusters: int, seed: int = 0) -> Clusters:
    """Clusters points [n, f]; float32 points are clustered in float32, all others in float64."""
    if not 1 <= num_clusters <= len(points):
        raise InputError.of(
            "num_clusters", num_clusters, f"is not in 1..{len(points)}, the number of points",
            "ask for fewer clusters",
        )  # fmt: skip
    points = np.asarray(points)
    points = points if points.dtype == np.float32 else points.astype(np.float64)
    tolerance = RELATIVE_TOLERANCE * np.mean(np.var(points, axis=0))
    offset = points.mean(axis=0)
    points = points - offset
    initial = _plus_plus(points, num_clusters, np.random.RandomState(seed))
    centres, labels, iterations = _lloyd(points, points[initial], tolerance)
    inertia = float(np.sum((points - centres[labels]) ** 2))
    return Clusters(centres + offset, labels, inertia, iterations, initial)


def nearest_members(points: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """For each centre [k, f] the index of the nearest point [n, f], in the order of centres."""
    distance = np.sum((points[None] - centres[:, None]) ** 2, axis=-1)
    return np.argmin(distance, axis=1)


def select_kmeans(world_from_camera: np.ndarray, num_views: int) -> np.ndarray:
    """Positions [num_views] of well spread cameras among poses [view, 4, 4], ascending.

    No camera is chosen twice.
    """
    return np.sort(select_virtual(world_from_camera, num_views))


def select_virtual(world_from_camera: np.ndarray, num_views: int) -> np.ndarray:
    """As `select_kmeans`, in cluster order: the views that carry the Gaussians."""
    if num_views > len(world_from_camera):
        raise InputError.of(
            "num_views", num_views, f"exceeds the {len(world_from_camera)} cameras to choose from",
            "ask for fewer views",
        )  # fmt: skip
    features = camera_features(world_from_camera)
    return _distinct_members(features, kmeans(features, num_views).centres)


def _distinct_members(points: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """As `nearest_members`, but where several centres are nearest to one point, the first has it.

    Each of the others takes, in order, the nearest point that is still free; the reference takes
    the point again.
    """
    chosen = nearest_members(points, centres)
    first = np.unique(chosen, return_index=True)[1]
    taken = np.zeros(len(points), bool)
    taken[chosen] = True
    for cluster in np.setdiff1d(np.arange(len(centres)), first):
        distance = np.sum((points - centres[cluster]) ** 2, axis=-1)
        chosen[cluster] = np.argmin(np.where(taken, np.inf, distance))
        taken[chosen[cluster]] = True
    return chosen


def split_every(
    num_frames: int, stride: int = TARGET_STRIDE, frame_numbers: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Positions of frames that may be inputs, and of targets: those numbered 0, stride, ...

    `frame_numbers` [num_frames] are the frames' numbers in their file where some are left out.
    """
    numbers = np.arange(num_frames) if frame_numbers is None else np.asarray(frame_numbers)
    return np.flatnonzero(numbers % stride != 0), np.flatnonzero(numbers % stride == 0)


def evaluation_split(
    world_from_camera: np.ndarray,
    num_input_views: int,
    folds: Mapping[int, Sequence[int]] | None = None,
    frame_numbers: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Positions of input and target frames of a scene with raw poses [frame, 4, 4].

    Targets and `frame_numbers` are those of `split_every`; inputs are chosen by k-means among the
    rest. `folds` maps a number of inputs to the positions that a scene file prescribes, which win.
    Raises InputError for such a list that repeats a frame or names a target.
    """
    count = len(world_from_camera)
    numbers = np.arange(count) if frame_numbers is None else np.asarray(frame_numbers)
    candidates, targets = split_every(count, frame_numbers=numbers)
    if not len(targets):
        raise InputError(
            f"capture has none of its frames 0, {TARGET_STRIDE}, {2 * TARGET_STRIDE}, ..., which "
            "are the targets; restore their images"
        )
    if folds and num_input_views in folds:
        prescribed = np.asarray(folds[num_input_views], np.int64)
        _check_prescribed(numbers[prescribed])
        return prescribed, targets
    if num_input_views > len(candidates):
        raise InputError.of(
            "num_input_views", num_input_views,
            f"exceeds the {len(candidates)} frames left of {len(world_from_camera)} when every "
            f"{TARGET_STRIDE}th is a target", "use fewer input views or a longer capture",
        )  # fmt: skip
    chosen = select_kmeans(np.asarray(world_from_camera)[candidates], num_input_views)
    return candidates[chosen], targets


def _check_prescribed(numbers: np.ndarray) -> None:
    """Raises InputError unless the frame numbers differ and none is that of a target."""
    field = f"fold_8_kmeans_{len(numbers)}_input"
    different, counts = np.unique(numbers, return_counts=True)
    for wrong, limit in (
        (different[counts > 1], "more than once"),
        (different[different % TARGET_STRIDE == 0], f"which are targets (every {TARGET_STRIDE}th)"),
    ):
        if wrong.size:
            raise InputError.of(
                field, numbers.tolist(), f"lists the frames {wrong.tolist()} {limit}",
                "correct or remove the list, or use another number of input views",
            )  # fmt: skip


def frame_window(
    rng: np.random.Generator, num_frames: int, min_range: int, max_range: int
) -> np.ndarray:
    """Consecutive frame numbers: a window of random width in [min_range, max_range] and place.

    Widths are cut to the number of frames there are.
    """
    low, high = min(min_range, num_frames), min(max_range, num_frames)
    width = int(rng.integers(low, high + 1))
    start = int(rng.integers(num_frames - width + 1))
    return np.arange(start, start + width)


def _squared_distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """|a|^2 - 2 a.b + |b|^2 in float64, in the dtype of a, never negative: [a, b]."""
    dtype = a.dtype
    a, b = a.astype(np.float64), b.astype(np.float64)
    squared = -2.0 * (a @ b.T)
    squared += np.einsum("ij,ij->i", a, a)[:, None]
    squared += np.einsum("ij,ij->i", b, b)[None, :]
    return np.maximum(squared, 0.0).astype(dtype)


def _plus_plus(points: np.ndarray, num_clusters: int, random) -> np.ndarray:
    """k-means++ seeds, the best of 2 + int(ln k) draws each."""
    count = len(points)
    ones = np.ones(count, points.dtype)  # sums are products with it: the library's rounding
    trials = 2 + int(np.log(num_clusters))
    chosen = np.empty(num_clusters, np.int64)
    chosen[0] = random.choice(count, p=np.full(count, 1.0 / count))
    nearest = _squared_distances(points[chosen[:1]], points)[0]
    potential = nearest @ ones
    for cluster in range(1, num_clusters):
        draws = random.uniform(size=trials) * potential
        candidates = np.searchsorted(np.cumsum(nearest), draws)
        candidates = np.minimum(candidates, count - 1)
        reduced = np.minimum(nearest, _squared_distances(points[candidates], points))
        potentials = (reduced @ ones[:, None])[:, 0]
        best = int(np.argmin(potentials))
        potential, nearest = potentials[best], reduced[best]
        chosen[cluster] = candidates[best]
    return chosen


def _assign(points: np.ndarray, centres: np.ndarray) -> np.ndarray:
    score = np.einsum("ij,ij->i", centres, centres)[None] - 2.0 * (points @ centres.T)
    return np.argmin(score, axis=1).astype(np.int32)


def _lloyd(points, centres, tolerance) -> tuple[np.ndarray, np.ndarray, int]:
    """Lloyd iterations until labels repeat or centres rest: centres, labels, iterations."""
    previous = np.full(len(points), -1, np.int32)
    iteration = 0
    for iteration in range(1, MAX_ITERATIONS + 1):
        labels = _assign(points, centres)
        moved = _means(points, labels, centres)
        shift = np.sum((moved - centres) ** 2)
        centres = moved
        if np.array_equal(labels, previous):
            return centres, labels, iteration
        if shift <= tolerance:
            break
        previous = labels
    return centres, _assign(points, centres), iteration


def _means(points: np.ndarray, labels: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """Cluster means; an empty cluster takes over the point farthest from its own centre.

    With more clusters than distinct points some stay empty. Those go to the fullest cluster: to
    its mean or, where that comes later in the list, its sum, as in the library.
    """
    totals = np.zeros_like(centres)
    np.add.at(totals, labels, points)
    weights = np.bincount(labels, minlength=len(centres)).astype(centres.dtype)
    empty = np.flatnonzero(weights == 0)
    if empty.size:
        distance = np.sum((points - centres[labels]) ** 2, axis=1)
        farthest = np.argpartition(distance, -empty.size)[: -empty.size - 1 : -1]
        if distance.max() > 0:
            for cluster, point in zip(empty, farthest, strict=True):
                totals[labels[point]] -= points[point]
                weights[labels[point]] -= 1
                totals[cluster], weights[cluster] = points[point], 1
    scale = np.where(weights > 0, 1.0 / np.maximum(weights, 1.0), 1.0).astype(centres.dtype)
    means = totals * scale[:, None]
    fullest = int(np.argmax(weights))
    for cluster in np.flatnonzero(weights == 0):
        means[cluster] = means[fullest] if fullest < cluster else totals[fullest]
    return means
