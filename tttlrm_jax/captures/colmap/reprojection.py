"""Whether the cameras of a scene agree with its triangulated points, as training reads both.

Each observation of a COLMAP model is followed through the pipeline (undistorted, resized, cropped)
and compared with where the camera that training gets puts its point. A scale is fitted as well: by
how much the points would have to grow, and move, to meet the rays of the cameras. It is 1 where
both are of one reconstruction. Where translations were multiplied by 1.35 and the points were not,
it is 1.35: rays of the same point still meet one another, so that pictures and poses alone show
nothing, but every projected point is off by its parallax.
"""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tttlrm_jax.captures.capture import Capture
from tttlrm_jax.captures.colmap.models import find_model
from tttlrm_jax.captures.colmap.points import points_file
from tttlrm_jax.captures.colmap.tracks import SeenPoints, read_seen_points
from tttlrm_jax.captures.pictures.images import ResizeMode, after_resize, resize_intrinsics
from tttlrm_jax.captures.ply_points import applied_frame
from tttlrm_jax.core.geometry.poses import matrix_from_encoding, rigid_inverse

MOST_OBSERVATIONS = 200_000  # of a scene; of more a part is drawn
FEWEST_OBSERVATIONS = 20  # for a scale
ROUNDS, STEPS = 10, 20  # of weights of the fit, and of undoing a lens
UNDONE = 1e-4  # on the plane z = 1: what a lens may be off after these steps
BESIDE = ("", "../gaussian_splat")  # where DL3DV has models, seen from transforms.json


@dataclasses.dataclass(frozen=True)
class PoseCheck:
    """What a check found; errors are medians over observations, in pixels of what is read."""

    points: int = 0
    observations: int = 0  # that were compared
    frames: int = 0  # that have observations
    error: float | None = None
    error_95: float | None = None  # of 95 percent of the observations
    behind: int = 0  # observations whose point lies behind the camera
    scale: float | None = None  # of camera translations over the points
    error_scaled: float | None = None  # once the points have this scale
    model: str = ""  # the file of points
    world: str = ""  # how its world was taken to the cameras'
    unchecked: str = ""  # why there is no error


@dataclasses.dataclass(frozen=True)
class Reading:
    """How training reads the pictures of a capture: stored, then resized (None: as stored)."""

    sizes: Sequence[tuple[int, int]]  # stored, (height, width) by frame
    intrinsics: np.ndarray  # float64 [frame, 4], of the stored pictures
    size: tuple[int, int] | None = None
    mode: ResizeMode = "lact"


def check_poses(capture: Capture, reading: Reading, elsewhere: Sequence[Path] = ()) -> PoseCheck:
    """Compares cameras and points of a capture; `elsewhere` are further places of COLMAP models.

    Raises InputError for a broken model.
    """
    path = _find_points(capture, elsewhere)
    if path is None:
        return PoseCheck(unchecked="no COLMAP points3D with tracks")
    seen = read_seen_points(path)
    place = _places_of_names(capture, seen.names)
    kept = np.flatnonzero(place[seen.image] >= 0)
    found = PoseCheck(points=len(seen.xyz), model=str(path))
    if not len(kept):
        return dataclasses.replace(found, unchecked="none of the model's images is a frame")
    if len(kept) > MOST_OBSERVATIONS:
        kept = np.sort(np.random.default_rng(0).choice(kept, MOST_OBSERVATIONS, replace=False))
    frame, world = _world(capture, path, seen, place)
    points = seen.xyz[seen.point[kept]] @ frame[:, :3].T + frame[:, 3]
    views = place[seen.image[kept]]
    ideal, observed, sound = _observed(capture, reading, seen, kept, views)
    points, views = points[sound], views[sound]
    if not len(points):
        return dataclasses.replace(found, unchecked="no observation lies within its lens")
    lenses = _lenses(reading)
    poses = capture.world_from_camera
    error, behind = _errors(points, poses[views], lenses[views], observed)
    scale, moved = _fitted(points, poses[views], ideal)
    after = None if moved is None else _errors(moved, poses[views], lenses[views], observed)[0]
    return dataclasses.replace(
        found, observations=len(points), frames=len(np.unique(views)), world=world,
        error=float(np.median(error)), error_95=float(np.quantile(error, 0.95)), behind=behind,
        scale=scale, error_scaled=None if after is None else float(np.median(after)),
    )  # fmt: skip


def _find_points(capture: Capture, elsewhere: Sequence[Path]) -> Path | None:
    if capture.points_file is not None and capture.points_file.stem == "points3D":
        return capture.points_file
    for place in (*(capture.directory / each for each in BESIDE), *elsewhere):
        cameras = find_model(place) if place.is_dir() else None
        points = None if cameras is None else points_file(cameras)
        if points is not None:
            return points
    return None


def _places_of_names(capture: Capture, names: Sequence[str]) -> np.ndarray:
    """Of each of the model's images the place of the frame of its name, or -1.

    Full names come first, then names without folders where only one frame has them.
    """
    full = {frame.name: n for n, frame in enumerate(capture.frames)}
    bare: dict[str, int] = {}
    for n, frame in enumerate(capture.frames):
        key = Path(frame.name).stem
        bare[key] = -1 if key in bare else n
    return np.array([full.get(name, bare.get(Path(name).stem, -1)) for name in names], np.int64)


def _world(
    capture: Capture, path: Path, seen: SeenPoints, place: np.ndarray
) -> tuple[np.ndarray, str]:
    """[3, 4] from the model's world to the cameras', and how it was found."""
    if path == capture.points_file:
        frame = capture.points_frame
        return (np.eye(3, 4), "the same") if frame is None else (frame, "applied_transform")
    document = _document(capture.directory / "transforms.json")
    if document.get("applied_transform") is not None:
        return applied_frame(capture.directory / "transforms.json", document), "applied_transform"
    return _aligned(capture, seen, place), "turned and moved onto the model's own cameras"


def _document(path: Path) -> dict:
    try:
        document = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return document if isinstance(document, dict) else {}


def _aligned(capture: Capture, seen: SeenPoints, place: np.ndarray) -> np.ndarray:
    """The rotation and translation [3, 4], of scale 1, that fit the model's cameras to ours."""
    used = np.flatnonzero(place >= 0)
    theirs = np.stack([
        rigid_inverse(matrix_from_encoding(np.array([*pose[4:], *_unit(pose[:4])])))
        for pose in seen.poses[used]
    ])  # fmt: skip
    ours = capture.world_from_camera[place[used]]
    left, _, right = np.linalg.svd(np.einsum("vij,vkj->ik", ours[:, :3, :3], theirs[:, :3, :3]))
    turn = left @ np.diag([1.0, 1.0, np.linalg.det(left @ right)]) @ right
    offset = np.median(ours[:, :3, 3] - theirs[:, :3, 3] @ turn.T, axis=0)
    return np.concatenate([turn, offset[:, None]], axis=1)


def _unit(quaternion: np.ndarray) -> np.ndarray:
    return quaternion / max(float(np.linalg.norm(quaternion)), 1e-12)


def _lenses(reading: Reading) -> np.ndarray:
    """Intrinsics [frame, 4] of the pictures as they are read."""
    if reading.size is None:
        return np.asarray(reading.intrinsics)
    return np.stack([
        resize_intrinsics(lens, stored, reading.size, reading.mode)
        for lens, stored in zip(reading.intrinsics, reading.sizes, strict=True)
    ])  # fmt: skip


def _observed(
    capture: Capture, reading: Reading, seen: SeenPoints, kept: np.ndarray, views: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Ideal rays (x, y on the plane z = 1) [n, 2] and places in what is read [n, 2] of the sound
    ones among the kept observations; which are sound.

    The way of a picture's content: its lens is undone as the frame says, then it is resized. Of a
    model of other pictures, which were undistorted, the model's own lens gives the ray.
    """
    ideal = np.full((len(kept), 2), np.nan)
    places = np.full((len(kept), 2), np.nan)
    images = seen.image[kept]
    for image in np.unique(images):
        rows = np.flatnonzero(images == image)
        view = int(views[rows[0]])
        frame, lens = capture.frames[view], seen.lenses[image]
        height, width = capture.image_size(view)
        pixel = seen.pixel[kept[rows]]
        if bool(frame.distortion) and not lens["distortion"]:
            x, y = ((pixel - lens["intrinsics"][2:]) / lens["intrinsics"][:2]).T
        else:
            pixel = pixel * [width / lens["size"][1], height / lens["size"][0]]
            x, y = _undone(frame, (pixel - frame.intrinsics[2:]) / frame.intrinsics[:2])
        ideal[rows] = np.stack([x, y], axis=1)
        picture = frame.intrinsics[:2] * ideal[rows] + frame.intrinsics[2:]
        stored = reading.sizes[view]
        picture = picture * [stored[1] / width, stored[0] / height]
        if reading.size is not None:
            picture = after_resize(picture, stored, reading.size, reading.mode)
        places[rows] = picture
    sound = np.flatnonzero(np.isfinite(places).all(axis=1))
    return ideal[sound], places[sound], sound


def _undone(frame, seen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Ideal x and y of points [n, 2] that a lens shows; NaN where it cannot be undone."""
    x, y = seen.T
    if not frame.distortion:
        return x, y
    with np.errstate(over="ignore", invalid="ignore"):
        for _ in range(STEPS):
            u, v = frame.distortion.apply(x, y)
            x, y = x + (seen[:, 0] - u), y + (seen[:, 1] - v)
        u, v = frame.distortion.apply(x, y)
        sound = np.hypot(u - seen[:, 0], v - seen[:, 1]) < UNDONE
    return np.where(sound, x, np.nan), np.where(sound, y, np.nan)


def _errors(
    points: np.ndarray, poses: np.ndarray, lenses: np.ndarray, observed: np.ndarray
) -> tuple[np.ndarray, int]:
    """Distances in pixels [n] of projected points, inf behind the camera, and how many are."""
    local = np.einsum("nji,nj->ni", poses[:, :3, :3], points - poses[:, :3, 3])
    front = local[:, 2] > 0
    depth = np.where(front, local[:, 2], 1.0)[:, None]
    place = lenses[:, :2] * local[:, :2] / depth + lenses[:, 2:]
    error = np.linalg.norm(place - observed, axis=1)
    return np.where(front, error, np.inf), int((~front).sum())


def _fitted(
    points: np.ndarray, poses: np.ndarray, ideal: np.ndarray
) -> tuple[float | None, np.ndarray | None]:
    """The scale with which points [n, 3], moved, meet the rays of their observations, and the
    points so; None for both where the cameras do not tell.

    Linear in scale a and offset t: a X + t lies on the ray from C along d, (I - d d^T)(a X + t - C)
    = 0, by weighted least squares whose weights make it a sum of angles, not of squares.
    """
    if len(points) < FEWEST_OBSERVATIONS:
        return None, None
    direction = np.concatenate([ideal, np.ones((len(ideal), 1))], axis=1)
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    direction = np.einsum("nij,nj->ni", poses[:, :3, :3], direction)
    across = np.eye(3) - direction[:, :, None] * direction[:, None]
    middle = points.mean(axis=0)
    unit = max(float(np.abs(points - middle).max()), 1e-12)
    start = (points - middle) / unit
    design = np.concatenate([np.einsum("nij,nj->ni", across, start)[..., None], across], axis=2)
    target = np.einsum("nij,nj->ni", across, (poses[:, :3, 3] - middle) / unit)
    weight = np.ones(len(points))
    solution = np.zeros(4)
    for _ in range(ROUNDS):
        normal = np.einsum("n,nik,nil->kl", weight, design, design)
        if not np.linalg.cond(normal) < 1e12:
            return None, None
        solution = np.linalg.solve(normal, np.einsum("n,nik,ni->k", weight, design, target))
        moved = solution[0] * start + solution[1:]
        distance = np.linalg.norm(moved - (poses[:, :3, 3] - middle) / unit, axis=1)
        angle = np.linalg.norm(design @ solution - target, axis=1) / np.maximum(distance, 1e-9)
        weight = 1.0 / (np.maximum(distance, 1e-9) ** 2 * np.maximum(angle, 1e-5))
        weight /= weight.mean()
    if not solution[0] > 0:
        return None, None
    return float(solution[0]), (solution[0] * start + solution[1:]) * unit + middle


def verdict(found: PoseCheck, max_error: float, max_scale_error: float) -> str | None:
    """What speaks against a scene, or None: an error in pixels, or a share of scale, too large."""
    if found.error is None:
        return None
    if found.scale is not None and abs(found.scale - 1.0) > max_scale_error:
        return (
            f"camera translations are {found.scale:.4g} times what its points say (limit "
            f"{max_scale_error:g} from 1): {found.error:.3g} pixels of reprojection error, "
            f"{found.error_scaled:.3g} once the points are scaled"
        )
    if found.error > max_error:
        known = found.error_scaled is not None
        more = f" ({found.error_scaled:.3g} with the best scale)" if known else ""
        return (
            f"its points are off by {found.error:.3g} pixels at the median{more}, more than "
            f"{max_error:g}"
        )
    return None
