"""Where a capture's cameras come from: its file, structure from motion, or TTT3R's pointmaps."""

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from tttlrm_jax.captures.capture import Capture, read_capture
from tttlrm_jax.captures.forms.table import find_camera_file
from tttlrm_jax.captures.pictures.images import flatten, read_image
from tttlrm_jax.config.evaluation import FILM_FRAMES, Poses
from tttlrm_jax.core.errors import InputError
from tttlrm_jax.core.files.packaged_files import TTT3R_SMALL, packaged
from tttlrm_jax.core.files.whole_files import write_whole
from tttlrm_jax.core.geometry.poses import rigid_inverse
from tttlrm_jax.structure_from_motion.captures import capture_by_sfm, opened
from tttlrm_jax.structure_from_motion.placing import place_pictures
from tttlrm_jax.structure_from_motion.sources import find_source
from tttlrm_jax.structure_from_motion.workplace import Workplace, workplace

KEPT_IN = Path("outputs")
CAMERAS = "opencv_cameras.json"


def capture_with_poses(
    path: Path,
    poses: Poses | None = None,
    *,
    keep_in: Path = KEPT_IN,
    film_frames: int = FILM_FRAMES,
    checkpoint: str | Path | None = None,
    skip_missing: bool = False,
    intrinsics_scale: float | None = None,
) -> Capture:
    """The capture at a path with the cameras that are asked for.

    None: those of its file where there is one, else by structure from motion, which is said.
    Cameras that are found are kept in `keep_in`. `checkpoint` is TTT3R's. Raises InputError where
    there are none, and where an option does not go with them.
    """
    if poses is None and _needs_cameras(path):
        poses = "sfm"
    if poses in (None, "file"):
        return read_capture(path, skip_missing, intrinsics_scale)
    if intrinsics_scale is not None:
        raise InputError.of(
            "intrinsics_scale", intrinsics_scale, f"is of a camera file, and poses={poses} reads "
            "none", "leave it out",
        )  # fmt: skip
    if poses == "sfm":
        return capture_by_sfm(path, keep_in, film_frames)
    if poses == "ttt3r":
        return capture_by_ttt3r(path, keep_in, film_frames, checkpoint)
    raise InputError.of("poses", poses, "is unknown", "use file, sfm or ttt3r")


def _needs_cameras(path: Path) -> bool:
    """Whether there are pictures without a camera file, which is said then.

    Raises InputError where there is neither.
    """
    try:
        find_camera_file(path)
    except InputError as no_cameras:
        if not path.exists():
            raise
        try:
            find_source(path)
        except InputError as no_pictures:
            raise InputError(f"{no_cameras}; as pictures without cameras: {no_pictures}") from None
        print(f"  {path} has no camera file: cameras by --poses sfm", file=sys.stderr)
        return True
    return False


def capture_by_ttt3r(
    path: str | Path,
    keep_in: Path = KEPT_IN,
    film_frames: int = FILM_FRAMES,
    checkpoint: str | Path | None = None,
) -> Capture:
    """The capture of photographs or a film with the cameras of TTT3R's pointmaps.

    Kept in `keep_in/NAME-ttt3r`, and read from there for the same pictures and weights.
    """
    source = find_source(path)
    weights = packaged(TTT3R_SMALL) if checkpoint is None else Path(checkpoint)
    settings = f"ttt3r {film_frames if source.film else ''} {_files(weights)}"
    digest = source.digest(settings)
    with workplace(keep_in, f"{source.name}-ttt3r", source.path) as place:
        place.begin(digest)
        if not (place.record.get("complete") and (place.directory / CAMERAS).is_file()):
            _predict(place, place_pictures(source, place, film_frames), weights)
        return opened(source, place)


def _files(weights: Path) -> list[tuple]:
    """Names, sizes and times of the files of a checkpoint."""
    found = ((path, path.stat()) for path in sorted(weights.rglob("*")) if path.is_file())
    return [(str(path), each.st_size, each.st_mtime_ns) for path, each in found]


def _predict(place: Workplace, names: list[str], weights: Path) -> None:
    from tttlrm_jax.api.poses import pointmap_poses  # which loads models, and those open captures

    start = time.perf_counter()
    bar = tqdm(names, "cameras by TTT3R", unit=" pictures")
    images = (flatten(read_image(place.images / name)) for name in bar)
    poses, lenses, notes = pointmap_poses.cameras_from_ttt3r(images, weights)
    frames = [
        _entry(place, *each) for each in zip(names, poses, lenses, strict=True)
    ]  # fmt: skip
    write_whole(place.directory / CAMERAS, json.dumps({"frames": frames}, indent=1) + "\n")
    found = [f"cameras by TTT3R's pointmaps (focal length {notes['focal']:.0f} pixels); kept in "
             f"{place.directory}", *notes["doubts"]]  # fmt: skip
    place.complete(found=found, seconds=time.perf_counter() - start)


def _entry(place: Workplace, name: str, pose: np.ndarray, lens: np.ndarray) -> dict[str, Any]:
    lens_names = ("fx", "fy", "cx", "cy")
    return {
        "file_path": f"images/{name}",
        **dict(zip(lens_names, map(float, lens), strict=True)),
        "w2c": rigid_inverse(pose).tolist(),
    }
