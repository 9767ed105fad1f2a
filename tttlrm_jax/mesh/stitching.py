"""Closed surfaces of which four triangles or more share an edge: each edge made into several.

Triangles are paired through the inside (Gueziec et al. 2001, "Cutting and stitching"), so that what
touches itself along an edge no longer does; vertices that this separates are doubled, and each copy
is drawn a little towards its own triangles, so that readers which merge equal vertices keep them.
"""

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

DRAWN = 0.01  # of the way from a doubled vertex to the mean of its neighbours


def stitched(vertices: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Vertices float64 [vertex, 3] and faces int64 [face, 3] without shared edges.

    As they are where some edge has more triangles on one side than on the other: it is open.
    """
    pairs = _paired(vertices, faces)
    if pairs is None:
        return vertices, faces
    first, second = pairs  # half-edges that run in opposite directions; number 3 f + c from corner
    start = np.concatenate([first, _following(first)])
    end = np.concatenate([_following(second), second])
    graph = coo_array((np.ones(len(start), bool), (start, end)), shape=(faces.size,) * 2)
    corner = connected_components(graph, directed=False)[1]
    source = faces.reshape(-1)[np.unique(corner, return_index=True)[1]]
    made = corner.reshape(-1, 3).astype(np.int64)
    return _drawn_apart(vertices[source], made, np.bincount(source)[source] > 1), made


def _paired(vertices: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """Half-edges [pair] that belong together: upwards, and downwards in the numbers of vertices."""
    ends = faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2)
    low, high = ends.min(axis=1), ends.max(axis=1)
    key = low * (len(vertices) + 1) + high
    upwards = ends[:, 0] == low
    up, down = (each[np.argsort(key[each], kind="stable")]
                for each in (np.flatnonzero(upwards), np.flatnonzero(~upwards)))  # fmt: skip
    if not np.array_equal(key[up], key[down]):
        return None
    _, begin, count = np.unique(key[up], return_index=True, return_counts=True)
    for place, several in zip(begin[count > 1], count[count > 1], strict=True):
        part = slice(place, place + several)
        down[part] = down[part][_through_the_inside(vertices, faces, up[part], down[part])]
    return up, down


def _through_the_inside(vertices, faces, up: np.ndarray, down: np.ndarray) -> np.ndarray:
    """Places in `down` for each half-edge in `up`, of one edge: the next one around it, against the
    normal of the triangle of `up`, that is not taken."""
    low, high = faces.reshape(-1)[up[0]], faces.reshape(-1)[_following(up[0])]
    axis = vertices[high] - vertices[low]
    across = np.cross(axis, np.eye(3)[np.abs(axis).argmin()])
    beyond = np.cross(axis, across) / max(float(np.linalg.norm(axis)), 1e-30)
    halves = np.concatenate([up, down])
    third = vertices[faces.reshape(-1)[_following(_following(halves))]] - vertices[low]
    angle = np.arctan2(third @ beyond, third @ across)
    of_up, of_down = angle[: len(up)], angle[len(up) :]
    chosen, free = np.empty(len(up), int), np.ones(len(down), bool)
    for number in np.argsort(of_up):
        behind = np.where(free, (of_up[number] - of_down) % (2 * np.pi), np.inf)
        chosen[number] = behind.argmin()
        free[chosen[number]] = False
    return chosen


def _following(half_edges: np.ndarray) -> np.ndarray:
    """Of each half-edge the next one in its triangle."""
    return half_edges - half_edges % 3 + (half_edges + 1) % 3


def _drawn_apart(vertices: np.ndarray, faces: np.ndarray, doubled: np.ndarray) -> np.ndarray:
    middle, count = np.zeros_like(vertices), np.bincount(faces.reshape(-1), minlength=len(vertices))
    for step in (1, 2):
        np.add.at(middle, faces.reshape(-1), vertices[np.roll(faces, step, axis=1).reshape(-1)])
    middle /= 2 * np.maximum(count, 1)[:, None]
    return np.where(doubled[:, None], vertices + DRAWN * (middle - vertices), vertices)
