"""Nearest neighbours of points that move a little, again and again (ICP), exactly.

A point keeps a few candidates from its last search, and the distance beyond which everything else
lay. While it has moved so little that no other point can have come nearer, its partner is among the
candidates, and the tree is not searched.
"""

import numpy as np
from scipy.spatial import cKDTree

CANDIDATES = 4
MARGIN = 1.25  # searches reach this far beyond the threshold, so that far points rest as well
BLOCK = 1 << 18  # points that are looked at at a time


class Partners:
    """Partners of moving points within `threshold`, as a fresh search would find them."""

    def __init__(self, tree: cKDTree, threshold: float):
        self._tree, self._threshold = tree, threshold
        self._anchor = np.empty((0, 3))  # where each point was searched from
        self.searched = 0  # how many searches there were

    def find(self, moved: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Indices of points [point, 3] with a partner, those partners, and their distances."""
        if len(self._anchor) != len(moved):
            self._begin(moved)
        parts = [self._block(moved, start) for start in range(0, len(moved), BLOCK)]
        near, partner, distance = (np.concatenate(each) for each in zip(*parts, strict=True))
        return near, partner, distance

    def _begin(self, moved: np.ndarray) -> None:
        self._anchor = np.full(moved.shape, np.inf)
        self._candidate = np.full((len(moved), CANDIDATES), self._tree.n, np.int64)
        self._beyond = np.zeros(len(moved))  # other points are at least so far from the anchor

    def _block(self, moved: np.ndarray, start: int):
        part = slice(start, start + BLOCK)
        points = moved[part]
        distance, index = self._nearest(points, self._candidate[part])
        shift = np.linalg.norm(points - self._anchor[part], axis=1)
        stale = np.flatnonzero(
            ~(np.minimum(distance, self._threshold) < self._beyond[part] - shift)
        )
        if len(stale):
            distance[stale], index[stale] = self._search(points[stale], stale + start)
        near = np.flatnonzero(distance < self._threshold)
        return near + start, index[near], distance[near]

    def _nearest(self, points: np.ndarray, candidate: np.ndarray):
        """Distance and index of the nearest candidate; infinity where there is none."""
        known = candidate < self._tree.n
        place = np.asarray(self._tree.data)[np.where(known, candidate, 0)]
        distance = np.linalg.norm(place - points[:, None], axis=2)
        distance = np.where(known, distance, np.inf)
        best, every = distance.argmin(axis=1), np.arange(len(points))
        return distance[every, best], candidate[every, best]

    def _search(self, points: np.ndarray, number: np.ndarray):
        self.searched += len(points)
        reach = MARGIN * self._threshold
        distance, index = self._tree.query(
            points, CANDIDATES, distance_upper_bound=reach, workers=-1
        )
        self._anchor[number], self._candidate[number] = points, index
        self._beyond[number] = np.minimum(distance[:, -1], reach)
        return distance[:, 0], index[:, 0]
