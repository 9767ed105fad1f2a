"""What models are shown: captures (photographs with cameras) and sequences (pictures in order)."""

from pathlib import Path

from tttlrm_jax.api.poses.cameras_found import KEPT_IN, capture_with_poses
from tttlrm_jax.captures.capture import Capture, find_camera_file, read_capture
from tttlrm_jax.captures.outliers import checked_outliers
from tttlrm_jax.config.evaluation import FILM_FRAMES, Poses
from tttlrm_jax.core.errors import InputError
from tttlrm_jax.core.files.packaged_files import capture_path
from tttlrm_jax.sequences.readers import open_sequence
from tttlrm_jax.sequences.sequence import Sequence


def open_capture(
    path: str | Path | None = None,
    *,
    poses: Poses | None = None,
    keep_in: str | Path = KEPT_IN,
    film_frames: int = FILM_FRAMES,
    poses_checkpoint: str | Path | None = None,
    skip_missing: bool = False,
    drop_outliers: bool = False,
    intrinsics_scale: float | None = None,
) -> Capture | Sequence:
    """Opens what `eval.py --capture` reads; None: the sample object in the package.

    `"toy"` is the package's other capture: 40 pictures of a scanned object, 256x256 pixels.

    A directory (or camera file) with `opencv_cameras.json`, nerfstudio's `transforms.json`, a
    COLMAP model or another form of `captures.forms.table` is a `Capture`: poses `world_from_camera`
    of OpenCV cameras, intrinsics in pixels of the stored images, lengths in the capture's own unit.
    A video, a folder of pictures or an RGB-D data set without such cameras is a `Sequence`, for
    TTT3R. Cameras are checked at once, pixels when they are read. `skip_missing` drops frames whose
    image does not exist, `drop_outliers` those of cameras far away from all others; `notes` say
    what was found.
    `intrinsics_scale` multiplies the intrinsics of the file, for pictures that are not of the size
    that it is for: 0.25 for a quarter of it.

    `poses="sfm"` finds the cameras of photographs or of a video, whatever files lie beside them, by
    structure from motion (extra `sfm`), `"ttt3r"` by TTT3R (of a model directory
    `poses_checkpoint`; None: the package's small network): a `Capture`, kept in `keep_in/NAME-sfm`
    and read from there for the same pictures; of a video `film_frames` are taken at most. `"file"`
    wants a camera file.

    Raises InputError where there is nothing of a known form, too few cameras are found, and for
    cameras or lists that break their limits.

        capture = tj.open_capture("desk")        # desk/transforms.json and desk/images/
        sequence = tj.open_capture("walk.mp4")
        capture = tj.open_capture("walk.mp4", poses="sfm")
    """
    path = capture_path(path)
    if poses is not None:
        capture = capture_with_poses(
            path, poses, keep_in=Path(keep_in), film_frames=film_frames,
            checkpoint=poses_checkpoint, skip_missing=skip_missing,
            intrinsics_scale=intrinsics_scale,
        )  # fmt: skip
        return checked_outliers(capture, drop_outliers)
    try:
        find_camera_file(Path(path))
    except InputError as no_cameras:
        if not Path(path).exists():
            raise
        try:
            return open_sequence(path, intrinsics_scale=intrinsics_scale)
        except InputError as no_sequence:
            raise InputError(f"{no_cameras}; as pictures in order: {no_sequence}") from None
    capture = read_capture(path, skip_missing, intrinsics_scale)
    return checked_outliers(capture, drop_outliers)


def as_capture(capture: Capture | Sequence | str | Path) -> Capture:
    """The capture, opened if it is a path. Raises InputError for a sequence: it has no cameras."""
    if isinstance(capture, str | Path):
        return checked_outliers(read_capture(capture_path(capture)), drop=False)
    if isinstance(capture, Sequence):
        raise InputError.of(
            "capture", capture.name, "is a sequence without camera file",
            "use tj.load('ttt3r_small').stream(), or open it with poses='sfm'",
        )  # fmt: skip
    return capture
