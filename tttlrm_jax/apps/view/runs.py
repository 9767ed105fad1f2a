"""What a run of eval.py shows in the browser with `--view`.

A page is beside the run: a failure there is said, and the run goes on.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tttlrm_jax.api.reconstruction import Reconstruction
from tttlrm_jax.api.sequences import FrameResult
from tttlrm_jax.apps.view.frusta import ShownCamera
from tttlrm_jax.apps.view.live import POINT_SHARE, LiveView
from tttlrm_jax.config import EvalConfig
from tttlrm_jax.config.evaluation import SequenceEvalConfig
from tttlrm_jax.core.geometry.offsets import into_capture, moved_poses
from tttlrm_jax.core.geometry.pointmaps import weiszfeld_focal
from tttlrm_jax.core.geometry.similarity import transform_gaussians
from tttlrm_jax.core.pictures import to_uint8
from tttlrm_jax.core.types import Gaussians, Views
from tttlrm_jax.models.live_stream import StreamScene, filled_up
from tttlrm_jax.parallel.processes import is_first_process
from tttlrm_jax.per_scene import Moment
from tttlrm_jax.per_scene.anytime import OnMoment

if TYPE_CHECKING:
    from tttlrm_jax.apps.reconstruct.job import Job

MOST_FRAME_POINTS, MOST_POINTS = 4096, 2_000_000  # of a frame, and of all
FRUSTUM_EVERY = 4  # frames


class RunPage(LiveView):
    """A page that outlives its run until Ctrl-C."""

    def wait_after_run(self, directory: Path) -> None:
        """Until Ctrl-C; not for long where nobody looks."""
        self.wait(f"ended; `python -m tttlrm_jax.view {directory}` shows what was made")


@contextlib.contextmanager
def opened_page(config: EvalConfig | SequenceEvalConfig) -> Iterator[RunPage | None]:
    """The page of a run, None where it is not asked for.

    Raises InputError where no server can be started, before the run begins.
    """
    if not config.view or not is_first_process():
        yield None
        return
    page = RunPage(config, "eval.py")
    page.say("reading ...")
    try:
        yield page
    finally:
        page.close()


class ScenePage:
    """Models of posed pictures: their cameras, and the Gaussians at every moment."""

    def __init__(self, page: LiveView):
        self._page, self._into = page, None

    def begin(self, job: "Job") -> None:
        """The cameras that are used, with their pictures."""
        self._into = into_capture(job.scene.similarity, job.offset)
        self._page.set_background(job.request.background)
        poses = moved_poses(job.capture.world_from_camera, job.offset)
        scene, request = job.scene, job.request
        inputs = _shown(scene.inputs, poses[request.inputs], scene.input_names, "input")
        targets = _shown(scene.targets, poses[request.targets], scene.target_names, "target")
        self._page.show_cameras([*inputs, *targets])
        self._page.say(f"{scene.name}: {len(inputs)} views, being compiled ...")

    def show(self, made: Any, label: str = "reconstructed") -> None:
        """What has been made; nothing of a network that draws every picture itself."""
        if isinstance(made, Reconstruction):
            self._page.set_background(made.background)
            self._page.add_moment(label, made.gaussians)
        else:
            self._page.say("this network draws every picture itself: there are no Gaussians")

    def add_chunk(self, scene: StreamScene, count: int) -> None:
        """The scene after one more chunk of a stream, which will have `count` Gaussians."""
        self._add(f"{scene.num_views} views seen", filled_up(scene.gaussians, count))

    def beside(self, tell: OnMoment, made: Reconstruction) -> OnMoment:
        """`tell`, and the best Gaussians so far on the page."""
        self._page.set_background(made.posed.fitted_on(made.background))

        def both(moment: Moment, best: Gaussians) -> None:
            tell(moment, best)
            quality = "" if moment.psnr is None else f", {moment.psnr:.2f} dB on views held back"
            self._add(f"refining: {moment.seconds:.1f} s{quality}", best)

        return both

    def _add(self, label: str, gaussians: Gaussians) -> None:
        if not self._page.failed:
            assert self._into is not None
            self._page.add_moment(label, transform_gaussians(gaussians, self._into))


def _shown(views: Views, poses: np.ndarray, names: list[str], role: str) -> list[ShownCamera]:
    """Views [1, view, ...] with poses in the capture's frame."""
    lenses, size = np.asarray(views.cameras.intrinsics[0]), views.image.shape[2:4]
    pictures = np.asarray(views.image[0])
    return [
        ShownCamera(
            name=name,
            world_from_camera=pose,
            intrinsics=lens,
            size=(size[0], size[1]),
            picture=to_uint8(picture),
            role=role,
        )
        for name, pose, lens, picture in zip(names, poses, lenses, pictures, strict=True)
    ]


class FramesPage:
    """TTT3R: points and the path of the camera, growing frame by frame."""

    def __init__(self, page: LiveView, min_confidence: float):
        self._page, self._min_confidence = page, min_confidence
        self._places: list[np.ndarray] = []
        self._num_points, self._size = 0, 0.0

    def add(self, result: FrameResult) -> None:
        """One more frame."""
        if self._page.failed or not np.isfinite(result.world_from_camera).all():
            return
        number = len(self._places)
        self._places.append(result.world_from_camera[:3, 3])
        if number == 0:
            self._begin(result)
        points, colours = self._sure_points(result)
        if len(points) and self._num_points < MOST_POINTS:
            self._num_points += len(points)
            self._page.add_points(f"/points/{number:06d}", points, colours, self._size)
        self._page.add_cameras("/newest", [_camera_of(result, "target")])
        if number % FRUSTUM_EVERY == 0:
            self._page.add_cameras(f"/frames/{number:06d}", [_camera_of(result)])
        self._page.show_path(np.stack(self._places))
        self._page.say(
            f"frame {number + 1}: {result.frame.name}  \n{self._num_points:,} points shown"
        )

    def _begin(self, result: FrameResult) -> None:
        depth = float(np.median(result.prediction.points_self[..., 2])) or 1.0
        self._size = POINT_SHARE * depth
        pose = result.world_from_camera
        self._page.set_frustum_size(0.08 * depth)
        beside = pose @ np.array([0.5 * depth, -0.5 * depth, -0.6 * depth, 1.0])
        ahead = pose @ np.array([0.0, 0.0, 0.8 * depth, 1.0])
        self._page.look_from(beside[:3], ahead[:3], -pose[:3, 1], 1.0)

    def _sure_points(self, result: FrameResult) -> tuple[np.ndarray, np.ndarray]:
        sure = result.prediction.confidence_self >= self._min_confidence
        points, colours = result.points_world[sure], result.image[sure]
        fine = np.isfinite(points).all(axis=1)
        step = -(-int(fine.sum()) // MOST_FRAME_POINTS) or 1
        return points[fine][::step], colours[fine][::step]


def _camera_of(result: FrameResult, role: str = "input") -> ShownCamera:
    height, width = result.image.shape[:2]
    focal = float(weiszfeld_focal(result.prediction.points_self))
    return ShownCamera(
        name=result.frame.name, world_from_camera=result.world_from_camera,
        intrinsics=np.array([focal, focal, width / 2, height / 2]), size=(height, width),
        picture=result.image, role=role,
    )  # fmt: skip
