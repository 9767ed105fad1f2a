"""Cameras of pictures without any, from TTT3R's pointmaps.

The focal length follows from each picture's points in its own camera (Weiszfeld's algorithm), the
principal point being the middle of the picture. The pose is what the network regresses, or that of
the camera that sees the picture's points in the world where they are (PnP; section 3.1 of the
paper, arXiv 2509.26645). The world and its unit are the network's: the first camera, metres.
"""

import dataclasses
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import numpy as np

from tttlrm_jax.api.models import load_sequence_model
from tttlrm_jax.api.sequences import (
    DEFAULT_STATE_RULE,
    FrameModel,
    Prediction,
    check_picture,
)
from tttlrm_jax.checkpoints.provenance import provenance_of
from tttlrm_jax.core.errors import InputError
from tttlrm_jax.core.files.packaged_files import TTT3R_SMALL, packaged
from tttlrm_jax.core.geometry.absolute_pose import FoundPose, check_pycolmap, pose_from_points
from tttlrm_jax.core.geometry.alignment import MIN_POINTS, weighted_rigid_fit
from tttlrm_jax.core.geometry.pointmaps import weiszfeld_focal
from tttlrm_jax.core.geometry.poses import encoding_from_matrix, matrix_from_encoding
from tttlrm_jax.sequences.frame_images import Fit, check_patches, plan_fit
from tttlrm_jax.ttt.state_rules import STATE_RULES

PoseMethod = Literal["regression", "pnp"]
MOST_PIXELS = 4096  # of a picture that a pose is solved from: an even grid, its surer half
FEWEST_PICTURES = 2
# beyond these, what the network says of one sequence contradicts itself
MAX_TURN = 10.0  # degrees between a pose and the one that its two pointmaps say, median
MAX_SHIFT = 0.2  # of the median depth, likewise
MAX_SPREAD = 0.15  # of focal lengths about their median, standard deviation by quartiles
MIN_INLIERS = 0.5  # of the pixels that agree with a solved pose, median
AT_REST = 1e-2  # of the median depth: how little cameras move that stand still


@dataclasses.dataclass(frozen=True, kw_only=True)
class PictureMap:
    """What is kept of one picture's pointmaps: a grid of its pixels."""

    fit: Fit  # from the picture to what the network saw
    focal: float  # pixels of the picture
    pixels: np.ndarray  # float32 [pixel, 2] x, y of what the network saw, middles at +0.5
    points_self: np.ndarray  # float32 [pixel, 3] in its own camera
    points_world: np.ndarray  # float32 [pixel, 3]
    regressed: np.ndarray  # float64 [4, 4] world from camera


def cameras_from_ttt3r(
    images: Iterable[np.ndarray],
    checkpoint: Path | None = None,
    method: PoseMethod = "regression",
) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
    """Poses and intrinsics of pictures uint8 [height, width, 3] (sRGB), in order; any sizes.

    `checkpoint` is a model directory of TTT3R's (None: the small network in the package), `method`
    how poses are found (see the module; `pnp` needs pycolmap).
    Returns world_from_camera float64 [picture, 4, 4] (OpenCV axes), intrinsics float64
    [picture, 4] in pixels of these pictures, one focal length for all of one size, and notes:
    `focal` (pixels, the first picture's), `focal_spread`, `turn` and `shift` (how far poses are
    from what the pointmaps say: degrees, share of the median depth), `inliers` (pnp), `unsolved`
    (numbers of pictures without a solution, which keep the regressed pose) and `doubts`, sentences
    that say why the cameras are not to be trusted; none where nothing speaks against them.

    Raises InputError for fewer than two pictures, sizes that no multiple of the patch fits into,
    predictions that are not finite, no model at `checkpoint`, and where pycolmap is missing.
    """
    if method == "pnp":
        check_pycolmap()
    path = packaged(TTT3R_SMALL) if checkpoint is None else Path(checkpoint)
    model = load_sequence_model(path)
    live = model.live(STATE_RULES.complete(DEFAULT_STATE_RULE))
    maps = read_maps(images, live, model.picture_size())
    poses, intrinsics, notes = cameras_of(maps, method)
    seen = provenance_of(path)
    if seen:
        text = f"the weights were trained on {seen}: of other pictures their cameras are guesses"
        notes["doubts"].insert(0, f"{text} (convert published weights and give their directory)")
    return poses, intrinsics, notes


def read_maps(images: Iterable[np.ndarray], model: FrameModel, size: int) -> list[PictureMap]:
    """Shows the pictures to the model one after the other, at `size` pixels on the longer side."""
    maps = []
    for image in images:
        check_picture(image)
        height, width = image.shape[:2]
        fit = check_patches(plan_fit(height, width, size))
        prediction = model(fit.image(image), reset=False, update=True)
        maps.append(_picture_map(prediction, fit, len(maps)))
    if len(maps) < FEWEST_PICTURES:
        raise InputError.of(
            "pictures", len(maps), "say nothing of a camera's motion", "give at least two"
        )
    return maps


def cameras_of(
    maps: list[PictureMap], method: PoseMethod
) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
    """What `cameras_from_ttt3r` returns, from what is kept of each picture."""
    focals, spread = _shared_focals(maps)
    intrinsics = np.stack([_lens(each.fit, f) for each, f in zip(maps, focals, strict=True)])
    poses = np.stack([each.regressed for each in maps])
    notes: dict[str, Any] = {"method": method, "focal": focals[0], "focal_spread": spread}
    if method == "pnp":
        found = [
            pose_from_points(
                each.pixels, each.points_world, each.fit.intrinsics(lens), each.fit.output
            )
            for each, lens in zip(maps, intrinsics, strict=True)
        ]
        notes |= _solved(poses, found)
    turn, shift, motion = _contradiction(maps, poses)
    notes |= {"turn": turn, "shift": shift, "doubts": _doubts(notes, turn, shift, motion)}
    return poses, intrinsics, notes


class PosesFromPoints:
    """A model of frames whose poses are solved from its pointmaps (PnP), frame by frame.

    The focal length is the median over the frames so far. Where there is no solution the regressed
    pose stays; `num_unsolved` counts them. Raises InputError where pycolmap is not installed.
    """

    def __init__(self, model: FrameModel, fit: Fit):
        check_pycolmap()
        self._model, self._fit, self._focals = model, fit, list[float]()
        self.num_unsolved = 0

    def restart(self) -> None:
        self._model.restart()
        self._focals.clear()

    def __call__(self, image: np.ndarray, *, reset: bool, update: bool) -> Prediction:
        prediction = self._model(image, reset=reset, update=update)
        self._focals.append(picture_focal(prediction.points_self, self._fit))
        lens = self._fit.intrinsics(_lens(self._fit, float(np.median(self._focals))))
        chosen = _sure_pixels(prediction.confidence_self)
        points = prediction.points_world.reshape(-1, 3)[chosen]
        found = pose_from_points(_places(self._fit, chosen), points, lens, self._fit.output)
        if found is None:
            self.num_unsolved += 1
            return prediction
        pose = encoding_from_matrix(found.world_from_camera)
        return dataclasses.replace(prediction, camera_pose=pose)


def picture_focal(points: np.ndarray, fit: Fit) -> float:
    """The focal length in pixels of a picture whose points [height, width, 3] in its own camera
    are those of what the network saw of it; NaN where they say none."""
    across, down, x, y = fit.intrinsics(np.array([1.0, 1.0, *_middle(fit)]))
    scaled = points * np.array([across, down, 1.0])  # so that it is one of the picture's pixels
    return float(weiszfeld_focal(scaled, np.array([x, y]) - 0.5))


def _picture_map(prediction: Prediction, fit: Fit, number: int) -> PictureMap:
    pose = matrix_from_encoding(prediction.camera_pose)
    if not np.isfinite(pose).all():
        raise InputError.of(
            "pose", "NaN", f"is what the network says of picture {number}",
            "check the checkpoint and its --compute-dtype",
        )  # fmt: skip
    chosen = _sure_pixels(prediction.confidence_self)
    return PictureMap(
        fit=fit, focal=picture_focal(prediction.points_self, fit), pixels=_places(fit, chosen),
        points_self=prediction.points_self.reshape(-1, 3)[chosen],
        points_world=prediction.points_world.reshape(-1, 3)[chosen], regressed=pose,
    )  # fmt: skip


def _sure_pixels(confidence: np.ndarray) -> np.ndarray:
    """Numbers of pixels [pixel], row by row: of an even grid the half with most confidence."""
    height, width = confidence.shape
    step = int(np.ceil(np.sqrt(height * width / MOST_PIXELS)))
    grid = np.arange(height * width).reshape(height, width)[step // 2 :: step, step // 2 :: step]
    grid, flat = grid.ravel(), confidence.ravel()
    return grid[flat[grid] >= np.median(flat[grid])]


def _places(fit: Fit, chosen: np.ndarray) -> np.ndarray:
    row, column = np.divmod(chosen, fit.output[1])
    return (np.stack([column, row], axis=-1) + 0.5).astype(np.float32)


def _middle(fit: Fit) -> tuple[float, float]:
    height, width = fit.source
    return 0.5 * width, 0.5 * height


def _lens(fit: Fit, focal: float) -> np.ndarray:
    """fx, fy, cx, cy [4] of the whole picture."""
    return np.array([focal, focal, *_middle(fit)])


def median_focal(focals: np.ndarray, said: str) -> float:
    """Pixels, of those that are finite and positive. Raises InputError, with what is `said`, where
    none is."""
    known = focals[np.isfinite(focals) & (focals > 0)]
    if not len(known):
        raise InputError.of("focal length", "NaN", said, "check the checkpoint")
    return float(np.median(known))


def _shared_focals(maps: list[PictureMap]) -> tuple[list[float], float]:
    """A focal length for each picture, the median of all of its size, upright or turned; and how
    far single ones are from it, in shares of it."""
    sizes = [tuple(sorted(each.fit.source)) for each in maps]
    single = np.array([each.focal for each in maps])
    shared = []
    for size in sizes:
        alike = single[[other == size for other in sizes]]
        said = "is what the pointmaps say: no point is before its camera"
        shared.append(median_focal(alike, said))
    low, high = np.nanquantile(single / shared, [0.25, 0.75])
    return shared, float(high - low) / 1.349  # of a normal distribution


def _solved(poses: np.ndarray, found: list[FoundPose | None]) -> dict[str, Any]:
    """Puts solutions into `poses`; the notes on them. Raises InputError where there is none."""
    unsolved = [number for number, each in enumerate(found) if each is None]
    if len(unsolved) == len(found):
        raise InputError.of(
            "poses", "pnp", f"has no solution in any of {len(found)} pictures",
            "take the poses of the regression, or other weights",
        )  # fmt: skip
    shares = []
    for number, each in enumerate(found):
        if each is not None:
            poses[number] = each.world_from_camera
            shares.append(each.inliers)
    return {"inliers": float(np.median(shares)), "unsolved": unsolved}


def _contradiction(maps: list[PictureMap], poses: np.ndarray) -> tuple[float, float, float]:
    """Median angle (degrees) and shift between poses and the motions that take each picture's
    points in its own camera to those in the world, and how far cameras are from their middle; the
    lengths in shares of the median depth."""
    turns, shifts, depths = [], [], []
    for each, pose in zip(maps, poses, strict=True):
        known = np.isfinite(each.points_self).all(-1) & np.isfinite(each.points_world).all(-1)
        if known.sum() < MIN_POINTS:
            continue
        points = each.points_self[known], each.points_world[known]
        moved = weighted_rigid_fit(*points, np.ones(known.sum()))
        cosine = 0.5 * (np.trace(pose[:3, :3].T @ moved[:3, :3]) - 1)
        turns.append(np.degrees(np.arccos(np.clip(cosine, -1, 1))))
        shifts.append(np.linalg.norm(pose[:3, 3] - moved[:3, 3]))
        depths.append(np.median(points[0][:, 2]))
    depth = max(float(np.median(depths)), 1e-9)
    places = poses[:, :3, 3]
    motion = np.linalg.norm(places - np.median(places, axis=0), axis=-1).max()
    return float(np.median(turns)), float(np.median(shifts)) / depth, float(motion) / depth


def _doubts(notes: dict[str, Any], turn: float, shift: float, motion: float) -> list[str]:
    """A sentence for each sign that the network does not know such pictures."""
    doubts = []
    if notes["focal_spread"] > MAX_SPREAD:
        doubts.append(
            f"focal lengths of single pictures differ by {100 * notes['focal_spread']:.0f} % "
            "(standard deviation)"
        )
    if turn > MAX_TURN or shift > MAX_SHIFT:
        doubts.append(
            f"poses and points contradict each other, by {turn:.0f} degrees and "
            f"{100 * shift:.0f} % of the depth (medians)"
        )
    if notes.get("inliers", 1.0) < MIN_INLIERS:
        doubts.append(f"{100 * notes['inliers']:.0f} % of the pixels agree with their camera")
    if notes.get("unsolved"):
        doubts.append(
            f"{len(notes['unsolved'])} pictures have no solution: their pose is regressed"
        )
    if motion < AT_REST:
        doubts.append("the cameras hardly move")
    return doubts
