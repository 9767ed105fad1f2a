"""What models are shown: captures (photographs with cameras) and sequences (pictures in order)."""

from pathlib import Path

from tttlrm_jax.captures.capture import Capture, find_camera_file, read_capture
from tttlrm_jax.captures.outliers import checked_outliers
from tttlrm_jax.core.errors import InputError
from tttlrm_jax.core.files.packaged_files import capture_path
from tttlrm_jax.sequences.readers import open_sequence
from tttlrm_jax.sequences.sequence import Sequence


def open_capture(
    path: str | Path | None = None,
    *,
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

    Raises InputError where there is nothing of a known form, and for cameras or lists that break
    their limits.

        capture = tj.open_capture("desk")        # desk/transforms.json and desk/images/
        sequence = tj.open_capture("walk.mp4")
    """
    path = capture_path(path)
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
            "use tj.load('ttt3r_small').stream(), or give a capture with cameras",
        )  # fmt: skip
    return capture
