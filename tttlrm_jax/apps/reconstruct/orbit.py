"""The path around a scene that films show, and its pictures."""

from collections.abc import Iterator

import numpy as np

from tttlrm_jax.api.reconstruction import Reconstruction, enlarged_blur
from tttlrm_jax.api.scenes import PosedScene
from tttlrm_jax.api.view_synthesis import SynthesisedScene
from tttlrm_jax.apps.reconstruct.job import Job
from tttlrm_jax.config import RasterConfig
from tttlrm_jax.core.arrays import on_device
from tttlrm_jax.core.geometry.paths import orbit_path
from tttlrm_jax.core.pictures import enlargement
from tttlrm_jax.core.types import Cameras
from tttlrm_jax.rasterize import Renderer

ORBIT_SIDE = 256  # pixels the film's longer side shall at least have
ORBIT_CHUNK = 12  # frames rendered at a time, at most


def orbit_frames(made: Reconstruction | SynthesisedScene, job: Job) -> Iterator[np.ndarray]:
    """Pictures of a path around the scene; those of Gaussians by the targets' program."""
    count, at_a_time = job.config.orbit_frames, min(ORBIT_CHUNK, len(job.scene.target_names))
    if not isinstance(made, Reconstruction):
        return made.renderer.frames(path_cameras(job, made.posed.resolution, 1, count))
    cameras, renderer = orbit_cameras(job, made.posed, made.background, made.renderer.config, count)
    return renderer.frames(made.drawn, cameras, at_a_time)


def orbit_cameras(
    job: Job,
    posed: PosedScene,
    background: tuple[float, float, float],
    raster: RasterConfig,
    num_frames: int,
) -> tuple[Cameras, Renderer]:
    """`path_cameras` and their renderer.

    `raster` renders pictures of the size of `posed`. Small ones are rendered larger by a whole
    factor, with the screen-space blur grown likewise: the same Gaussians with the same softness,
    in more pixels.
    """
    size = posed.resolution
    cameras = path_cameras(job, size, enlargement(*size, ORBIT_SIDE), num_frames)
    blurred = enlarged_blur(raster, size, (cameras.height, cameras.width))
    return cameras, job.model.renderers(background, blurred)


def path_cameras(job: Job, size: tuple[int, int], factor: int, num_frames: int) -> Cameras:
    """A path around what the input cameras look at, in the normalised frame, for pictures of
    `factor` times `size`."""
    seen = job.cameras_seen
    poses = np.asarray(seen.world_from_camera, np.float64)
    path = on_device(orbit_path(poses, num_frames), np.float32)
    larger = np.array([size[1] / seen.width, size[0] / seen.height] * 2)
    lens = np.median(seen.intrinsics, axis=0) * larger * factor
    lenses = on_device(np.tile(lens, (len(path), 1)), np.float32)
    return Cameras(path, lenses, *(side * factor for side in size))
