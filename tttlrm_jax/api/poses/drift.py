"""Drift of a sequence taken away: a Sim(3) pose graph over its frames (`--pose-graph`).

Frames are nodes; a step from one to the next is an edge. Where the state started over, the frame
that both chunks have seen says by how much the units of their depth differ. Loops are looked for
among pictures that resemble each other (small grey thumbnails, normalised) and lie apart in time;
each is measured by showing the network the two pictures alone, in both orders. It counts where both
orders agree and the points of one picture lie on those of the other. Nothing closes: poses stay.
"""

import dataclasses
import tempfile

import numpy as np
from PIL import Image
from scipy.spatial import cKDTree

from tttlrm_jax.api.sequences import FrameModel, FrameResult, Prediction
from tttlrm_jax.core.geometry.alignment import transform_points
from tttlrm_jax.core.geometry.pose_graph import Edges, optimise
from tttlrm_jax.core.geometry.poses import matrix_from_encoding, rigid_inverse
from tttlrm_jax.core.geometry.sim3 import Similarities
from tttlrm_jax.metrics.trajectory import orthogonal_poses, rotation_angle

THUMBNAIL = (16, 12)  # width, height
LEAST_LIKENESS = 0.8  # correlation of thumbnails
LEAST_GAP = 20  # frames between the ends of a loop
MOST_LOOPS = 30  # pairs that are shown to the network
APART = 2  # frames between loops: neighbours say the same
MAX_TURN = 5.0  # degrees by which the two orders may differ
MAX_SHIFT = 0.1  # of the median depth, likewise
NEAR_DEPTH = 0.1  # relative depth within which points lie on each other
LEAST_OVERLAP = 0.3  # share of points that do
# standard deviations: translation in median depths, rotation in radians, log of the scale. Drift
# goes on in one direction, so a step has to give more than its noise, or loops lose against it
STEP_DEVIATION = (0.05, 0.03, 0.05)
LOOP_DEVIATION = (0.05, 0.03, 0.05)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Closed:
    """Poses without drift, and what was found."""

    world_from_camera: np.ndarray  # [frame, 4, 4]
    loops: list[tuple[int, int]]  # numbers of frames that were believed to overlap
    tried: int  # pairs that were shown to the network


class LoopCloser:
    """Takes results one by one; `close` gives poses. Pictures wait in a file without a name."""

    def __init__(self) -> None:
        self._pictures = tempfile.TemporaryFile()  # noqa: SIM115 (closed by `discard`)
        self._shape: tuple[int, ...] = ()
        self._thumbnails: list[np.ndarray] = []
        self._poses: list[np.ndarray] = []
        self._depths: list[float] = []
        self._units: list[float] = []

    def add(self, result: FrameResult) -> None:
        self._shape = result.image.shape
        self._pictures.write(np.ascontiguousarray(result.image).tobytes())
        self._thumbnails.append(thumbnail(result.image))
        self._poses.append(result.world_from_camera)
        self._depths.append(median_depth(result.prediction))
        self._units.append(result.unit)

    def close(self, model: FrameModel) -> Closed:
        """Poses that agree with loops. Restarts the model.

        Where no loop holds, or what the network said is not finite, poses stay.
        """
        poses, sizes = np.stack(self._poses), np.array([self._depths, self._units])
        unchanged = Closed(world_from_camera=poses, loops=[], tried=0)
        if not (np.isfinite(poses).all() and np.isfinite(sizes).all() and (sizes > 0).all()):
            return unchanged
        pairs = candidates(np.stack(self._thumbnails))
        measured = [(pair, measured_loop(model, *map(self._picture, pair))) for pair in pairs]
        loops = [(pair, loop) for pair, loop in measured if loop is not None]
        if not loops:
            return dataclasses.replace(unchanged, tried=len(pairs))
        steps = self._steps(orthogonal_poses(poses))
        made = optimise(chained(steps.measured), steps.joined(self._loops(loops)))
        believed = made.weight[len(steps.first) :] > 0.5
        kept = [pair for (pair, _), yes in zip(loops, believed, strict=True) if yes]
        closed = poses[0] @ made.nodes.poses() if kept else poses
        return Closed(world_from_camera=closed, loops=kept, tried=len(pairs))

    def discard(self) -> None:
        """Lets the pictures go."""
        self._pictures.close()

    def _picture(self, number: int) -> np.ndarray:
        size = int(np.prod(self._shape))
        self._pictures.seek(number * size)
        return np.frombuffer(self._pictures.read(size), np.uint8).reshape(self._shape)

    def _steps(self, poses: np.ndarray) -> Edges:
        """From each frame to the next, in units of the first of both."""
        between, units = rigid_inverse(poses[:-1]) @ poses[1:], np.array(self._units)
        scale = units[1:] / units[:-1]
        measured = Similarities(
            scale=scale, rotation=between[:, :3, :3],
            translation=between[:, :3, 3] * scale[:, None],
        )  # fmt: skip
        first = np.arange(len(scale))
        return self._edges(first, first + 1, measured, STEP_DEVIATION, robust=False)

    def _loops(self, loops: list[tuple[tuple[int, int], "Loop"]]) -> Edges:
        first, second = np.array([pair for pair, _ in loops]).T
        depths, poses = np.array(self._depths), np.stack([loop.pose for _, loop in loops])
        of_first, of_second = np.array([loop.depths for _, loop in loops]).T
        unit = depths[first] / of_first  # of the first frame's chunk in a unit of the pair
        measured = Similarities(
            scale=unit / (depths[second] / of_second), rotation=poses[:, :3, :3],
            translation=poses[:, :3, 3] * unit[:, None],
        )  # fmt: skip
        return self._edges(first, second, measured, LOOP_DEVIATION, robust=True)

    def _edges(self, first, second, measured, deviation, robust: bool) -> Edges:
        places, turn, scale = deviation
        row = np.array([places] * 3 + [turn] * 3 + [scale])
        deviations = np.tile(row, (len(first), 1))
        deviations[:, :3] *= np.array(self._depths)[first][:, None]
        return Edges(
            first=first, second=second, measured=measured, deviation=deviations,
            robust=np.full(len(first), robust),
        )  # fmt: skip


@dataclasses.dataclass(frozen=True, kw_only=True)
class Loop:
    """What the network says of two pictures alone, in a unit of its own."""

    pose: np.ndarray  # [4, 4] first camera from second
    depths: tuple[float, float]  # median of both


def chained(steps: Similarities) -> Similarities:
    """Nodes that follow from steps [frame - 1], the first being the world."""
    nodes = [Similarities.of_poses(np.eye(4)[None])]
    for number in range(len(steps)):
        nodes.append(nodes[-1] @ steps[slice(number, number + 1)])
    return Similarities.joined(nodes)


def thumbnail(image: np.ndarray) -> np.ndarray:
    """A small grey picture as a vector of mean 0 and length 1 (0 of an even one)."""
    grey = np.asarray(Image.fromarray(image).convert("L").resize(THUMBNAIL, Image.Resampling.BOX))
    vector = grey.astype(np.float32).ravel() - grey.mean(dtype=np.float32)
    return vector / max(float(np.linalg.norm(vector)), 1e-6)


def candidates(thumbnails: np.ndarray) -> list[tuple[int, int]]:
    """Pairs of frames that resemble each other and lie apart in time, likest first."""
    likeness = thumbnails @ thumbnails.T
    number = np.arange(len(thumbnails))
    likeness[number[None, :] - number[:, None] < LEAST_GAP] = -1.0
    pairs: list[tuple[int, int]] = []
    while len(pairs) < MOST_LOOPS:
        first, second = np.unravel_index(int(likeness.argmax()), likeness.shape)
        if likeness[first, second] < LEAST_LIKENESS:
            break
        pairs.append((int(first), int(second)))
        around = (slice(max(0, int(end) - APART), int(end) + APART + 1) for end in pairs[-1])
        likeness[tuple(around)] = -1.0
    return pairs


def measured_loop(model: FrameModel, first: np.ndarray, second: np.ndarray) -> Loop | None:
    """How two pictures lie to each other; None where that does not hold in both orders."""
    one, two, pose = _shown(model, first, second)
    back = _shown(model, second, first)[2]
    if not (np.isfinite(pose).all() and np.isfinite(back).all()):
        return None
    depths = (median_depth(one), median_depth(two))
    if not min(depths) > 0:
        return None
    round_trip = pose @ back
    turn = float(np.degrees(rotation_angle(round_trip[:3, :3])))
    if turn > MAX_TURN or np.linalg.norm(round_trip[:3, 3]) > MAX_SHIFT * depths[0]:
        return None
    if overlap(one.points_self, transform_points(pose, two.points_self)) < LEAST_OVERLAP:
        return None
    return Loop(pose=pose, depths=depths)


def overlap(points: np.ndarray, others: np.ndarray) -> float:
    """Share of points `others` that lie on `points` [height, width, 3], on every third pixel."""
    mine, theirs = (each[::3, ::3].reshape(-1, 3) for each in (points, others))
    near = NEAR_DEPTH * float(np.median(mine[:, 2]))
    return float((cKDTree(mine).query(theirs)[0] < near).mean())


def median_depth(prediction: Prediction) -> float:
    return float(np.median(prediction.points_self[..., 2]))


def _shown(model: FrameModel, first: np.ndarray, second: np.ndarray):
    """Predictions of two pictures alone, and first camera from second."""
    model.restart()
    one, two = (model(picture, reset=False, update=True) for picture in (first, second))
    start, end = (orthogonal_poses(matrix_from_encoding(x.camera_pose)[None]) for x in (one, two))
    return one, two, (rigid_inverse(start) @ end)[0]
