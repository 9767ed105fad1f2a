"""A coloured point cloud that grows on disk: binary PLY, valid after every frame.

Vertices are `x y z` float and `red green blue` uchar, little endian. Points go to the file as
they come; the number in the header is put right after them, so a program that is stopped leaves a
file that can be read. When the file has reached its limit every second point is taken out and
from then on only every second one is written: the cloud stays even over the whole sequence, and
neither memory nor disk grows without end.
"""

import os
from pathlib import Path

import numpy as np

from tttlrm_jax.export.ply import ply_header

VERTEX = np.dtype([("xyz", "<f4", 3), ("rgb", "u1", 3)])
COLOURS = ("red", "green", "blue")
COUNT_DIGITS = 12
BLOCK = 1 << 16  # vertices at a time while thinning


class PointStream:
    """An open point file. `seed` fixes which points stay when there are too many."""

    def __init__(self, path: Path, max_points: int, seed: int = 0):
        self._path, self._max_points, self._seed = path, max_points, seed
        self._every, self._offered, self.num_points = 1, 0, 0
        self._frames = 0
        self._file = path.open("w+b")
        self._append(np.empty(0, VERTEX))

    def add(self, points: np.ndarray, colours: np.ndarray) -> None:
        """Adds points float [point, 3] with colours uint8 [point, 3]; those not finite are left."""
        finite = np.isfinite(points).all(axis=1)
        points, colours = points[finite], colours[finite]
        # pixels come in rows: without shuffling every second one makes stripes
        order = np.random.default_rng([self._seed, self._frames]).permutation(len(points))
        self._frames += 1
        chosen = order[-self._offered % self._every :: self._every]
        self._offered += len(points)
        table = np.empty(len(chosen), VERTEX)
        table["xyz"], table["rgb"] = points[chosen], colours[chosen]
        self._append(table)
        while self.num_points > self._max_points:
            self._thin()

    def sample(self, count: int) -> np.ndarray:
        """At most `count` vertices, evenly from the file, as a structured array."""
        if not self.num_points:
            return np.empty(0, VERTEX)
        stored = np.memmap(self._path, VERTEX, "r", len(_header(0)), (self.num_points,))
        step = max(1, -(-self.num_points // count))
        return np.array(stored[::step])

    def close(self) -> None:
        self._file.close()

    def _append(self, table: np.ndarray) -> None:
        self._file.seek(0, os.SEEK_END)
        self._file.write(table.tobytes())
        self._file.flush()
        self.num_points += len(table)
        self._file.seek(0)
        self._file.write(_header(self.num_points))
        self._file.flush()

    def _thin(self) -> None:
        """Keeps every second vertex, in a new file that takes the old one's place."""
        draft = self._path.with_suffix(".thinned")
        kept = -(-self.num_points // 2)
        self._file.seek(len(_header(0)))
        with draft.open("wb") as out:
            out.write(_header(kept))
            for start in range(0, self.num_points, BLOCK):
                count = min(BLOCK, self.num_points - start)
                block = np.frombuffer(self._file.read(count * VERTEX.itemsize), VERTEX)
                out.write(block[::2].tobytes())
        self._file.close()
        draft.replace(self._path)
        self._file = self._path.open("r+b")
        self.num_points, self._every = kept, 2 * self._every


def _header(count: int) -> bytes:
    """Of one length whatever the count: blanks fill up."""
    columns = [*((name, "float") for name in "xyz"), *((name, "uchar") for name in COLOURS)]
    return ply_header(columns, str(count).ljust(COUNT_DIGITS))
