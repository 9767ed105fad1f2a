"""The cameras that a run of TTT3R found, in the formats of other programs (`--write-cameras`)."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from tttlrm_jax.api.poses.pointmap_poses import median_focal, picture_focal
from tttlrm_jax.api.sequences import FrameResult
from tttlrm_jax.captures.camera_files import Frame
from tttlrm_jax.core.errors import InputError
from tttlrm_jax.export.cameras.formats import check_formats, write_frames
from tttlrm_jax.sequences.frame_images import Fit

CAMERAS, PICTURES = "cameras", "images"  # folders
MAX_POINTS = 100_000
QUALITY = 95  # of pictures that are no files yet: frames of films, and turned ones


class SequenceCameras:
    """Takes frame after frame; `write` gives them one focal length, the median of the frames'.

    Pictures that are no files as they are seen, of films or turned by their EXIF orientation, are
    written beside the cameras.
    """

    def __init__(self, directory: Path, formats: Sequence[str], fit: Fit):
        """Raises InputError for formats that are not known."""
        if formats:
            check_formats(formats)
        self._directory, self._formats, self._fit = directory / CAMERAS, formats, fit
        self._pictures: list[Path] = []
        self._focals: list[float] = []

    def add(self, result: FrameResult) -> None:
        if not self._formats:
            return
        path = result.frame.path
        if path is None:
            path = self._directory / PICTURES / f"{Path(result.frame.name).name}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(result.frame.image).save(path, quality=QUALITY, subsampling=0)
        self._pictures.append(path)
        self._focals.append(picture_focal(result.prediction.points_self, self._fit))

    def write(self, poses: Sequence[np.ndarray], points: np.ndarray) -> list[str]:
        """Writes the cameras [4, 4] of all frames and `points`, vertices of a `PointStream`.

        Returns notes. Frames whose pose is not finite are left out.
        """
        if not self._formats:
            return []
        try:
            return [self._written(poses, points)]
        except InputError as error:
            return [f"no cameras are written: {error}"]

    def _written(self, poses: Sequence[np.ndarray], points: np.ndarray) -> str:
        height, width = self._fit.source
        focal = self._focal()
        lens = np.array([focal, focal, 0.5 * width, 0.5 * height])
        frames = [
            Frame(number, path.name, path.absolute(), lens, pose, self._fit.source)
            for number, (path, pose) in enumerate(zip(self._pictures, poses, strict=True))
            if np.isfinite(pose).all()
        ]
        known = points[np.isfinite(points["xyz"]).all(axis=-1)]
        write_frames(self._formats, self._directory, frames, (known["xyz"], known["rgb"]))
        return (
            f"cameras in {CAMERAS}/ are of the whole pictures of {width}x{height}: focal length "
            f"{focal:.1f} pixels, the median over {len(frames)} frames"
        )

    def _focal(self) -> float:
        """Pixels of the sequence's pictures. Raises InputError where no frame has any."""
        return median_focal(np.array(self._focals), "is what the points of every frame say")
