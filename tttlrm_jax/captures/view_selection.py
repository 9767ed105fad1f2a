"""Which frames of a scene are inputs and which are targets.

A camera's feature is (centre, viewing direction), six numbers of its raw pose. They are clustered
by scikit-learn's `KMeans(k, random_state=0, init="k-means++", n_init=1)` (Arthur and Vassilvitskii
2007, Lloyd 1982), and each centre stands for the camera nearest to it: what published evaluation
protocols were made with.
"""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tttlrm_jax.core.errors import InputError

CLUSTERING: dict[str, Any] = {"init": "k-means++", "n_init": 1, "random_state": 0}
TARGET_STRIDE = 8  # every 8th frame is a target of the evaluation protocol


def camera_features(world_from_camera: np.ndarray) -> np.ndarray:
    """Centre and viewing direction [view, 6] of poses [view, 4, 4], in their dtype."""
    return np.concatenate([world_from_camera[:, :3, 3], world_from_camera[:, :3, 2]], axis=1)


def kmeans(points: np.ndarray, num_clusters: int) -> Any:
    """The fitted `sklearn.cluster.KMeans` of points [n, f]; float32 points stay float32.

    Raises InputError for fewer than 1 and for more clusters than points.
    """
    if not 1 <= num_clusters <= len(points):
        raise InputError.of(
            "num_clusters", num_clusters, f"is not in 1..{len(points)}, the number of points",
            "ask for fewer clusters",
        )  # fmt: skip
    from sklearn.cluster import KMeans  # takes about a second
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():  # of more clusters than different points
        warnings.simplefilter("ignore", ConvergenceWarning)
        return KMeans(num_clusters, **CLUSTERING).fit(points)


def nearest_members(points: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """For each centre [k, f] the index of the nearest point [n, f], in the order of centres.

    Both points of a pair are equally far from its centre: rounding decides, and roots that round
    alike leave it to the first. So distances, not their squares, choose as published.
    """
    return np.array([np.argmin(_distances(points, centre)) for centre in centres])


def select_kmeans(world_from_camera: np.ndarray, num_views: int) -> np.ndarray:
    """Positions [num_views] of well spread cameras among poses [view, 4, 4], ascending.

    As published: now and then a camera is nearest to two centres, and is chosen twice.
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
    centres = kmeans(features, num_views).cluster_centers_
    too_few = len(np.unique(features, axis=0)) < num_views
    return (_distinct_members if too_few else nearest_members)(features, centres)


def _distinct_members(points: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """As `nearest_members`, but where several centres are nearest to one point, the first has it.

    Each of the others takes, in order, the nearest point that is still free. For cameras of which
    so many coincide that fewer are left than views, where the published choice has to take the
    same ones again.
    """
    chosen = nearest_members(points, centres)
    first = np.unique(chosen, return_index=True)[1]
    taken = np.zeros(len(points), bool)
    taken[chosen] = True
    for cluster in np.setdiff1d(np.arange(len(centres)), first):
        distance = _distances(points, centres[cluster])
        chosen[cluster] = np.argmin(np.where(taken, np.inf, distance))
        taken[chosen[cluster]] = True
    return chosen


def _distances(points: np.ndarray, centre: np.ndarray) -> np.ndarray:
    return np.linalg.norm(points - centre, axis=1)


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
    rest. `folds` maps a number of inputs to the positions that a scene file prescribes, which win;
    they may repeat a frame, as what k-means chooses may. Raises InputError for such a list that
    names a target.
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
    """Raises InputError where a frame number is that of a target."""
    targets = np.unique(numbers[numbers % TARGET_STRIDE == 0])
    if targets.size:
        raise InputError.of(
            f"fold_8_kmeans_{len(numbers)}_input", numbers.tolist(),
            f"lists the frames {targets.tolist()}, which are targets (every {TARGET_STRIDE}th)",
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
