"""A reconstructed scene: Gaussians to save, render, score and refine."""

import dataclasses
import functools
from pathlib import Path
from typing import Any, Literal

import numpy as np

from tttlrm_jax.api.scenes import PosedScene, Scores, score
from tttlrm_jax.captures.capture import Capture
from tttlrm_jax.config import RasterConfig
from tttlrm_jax.config.surfaces import SurfaceConfig
from tttlrm_jax.core.arrays import on_device
from tttlrm_jax.core.errors import InputError
from tttlrm_jax.core.geometry.offsets import into_capture, moved_poses, offset_of
from tttlrm_jax.core.geometry.poses import PoseNormalisation
from tttlrm_jax.core.geometry.similarity import transform_gaussians
from tttlrm_jax.core.types import Cameras, Gaussians
from tttlrm_jax.export.splats.formats import write_splats
from tttlrm_jax.export.splats.writable import ExportCount
from tttlrm_jax.mesh import SurfaceMesh, mesh_of_gaussians
from tttlrm_jax.mesh.pipeline import Bar, silent
from tttlrm_jax.metrics.lpips import LPIPS
from tttlrm_jax.models.live_stream import filled_up
from tttlrm_jax.per_scene.anytime import OnMoment, improve
from tttlrm_jax.per_scene.loop import Optimised
from tttlrm_jax.per_scene.refine import refine
from tttlrm_jax.per_scene.settings import AnytimeConfig, RefineConfig, anytime_config
from tttlrm_jax.per_scene.starts import rising
from tttlrm_jax.rasterize import Renderer, Rendering
from tttlrm_jax.rasterize.eager import Renderers

MIN_OPACITY = 1.0 / 255.0  # fainter Gaussians cannot show


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Reconstruction:
    """Gaussians of one scene with the views they came from; see `SceneModel.reconstruct`."""

    posed: PosedScene  # input and held-out views, in the model's frame
    predicted: Gaussians  # in the model's frame, pruned
    made_at: tuple[int, int]  # height and width of the views that they are as sharp as
    raster: RasterConfig  # that renders them at this size
    background: tuple[float, float, float]  # RGB in [0, 1]
    renderers: Renderers  # keep compiled programs
    seconds: float  # to reconstruct, compiling excluded
    compile_seconds: float
    room: int = 0  # for as many Gaussians pictures are drawn, at least

    @functools.cached_property
    def drawn(self) -> Gaussians:
        """`predicted` and, up to `room`, Gaussians that no camera sees: so scenes that differ in
        their number are drawn by one program."""
        fits = len(self.predicted.mean) >= self.room
        return self.predicted if fits else filled_up(self.predicted, self.room)

    @property
    def renderer(self) -> Renderer:
        """Renders `predicted` at the size of the views, with cameras in the model's frame."""
        return self._renderer(self.posed.resolution)

    def at(self, resolution: tuple[int, int]) -> "Reconstruction":
        """The same Gaussians beside views read again with so many pixels (height, width).

        Pictures are rendered and scored there; above `made_at` they are as soft, in more pixels.
        """
        return dataclasses.replace(self, posed=self.posed.at(resolution))

    @property
    def offset(self) -> np.ndarray:
        """What is added to the means of `gaussians`, in float64, for the capture's coordinates.

        0 unless the capture lies so far from its origin (a map's coordinates) that float32 blurs.
        """
        return offset_of(self.posed.similarity)

    @functools.cached_property
    def gaussians(self) -> Gaussians:
        """The Gaussians [gaussian] in the capture's frame and scale, relative to `offset`."""
        return transform_gaussians(self.predicted, into_capture(self.posed.similarity, self.offset))

    def save(
        self, path: str | Path, *, min_opacity: float = MIN_OPACITY, **options: Any
    ) -> ExportCount:
        """Writes the Gaussians in the capture's frame, in the form the suffix names.

        `.ply` is the layout of 3D Gaussian splatting, `.glb` glTF with KHR_gaussian_splatting,
        `.spz` a tenth of their size (`version=4`: of the newest version), `.splat` the layout of
        web viewers (colours without view dependence); `.sog` and `.compressed.ply` are written by
        splat-transform, an npm program. docs/guides/formats.md says what each can hold. Positions
        are relative to `offset`, which a PLY file states in a comment. Those with an opacity below
        `min_opacity`, or with values that are not finite, are left out; the counts say how many.
        Raises InputError for another suffix, and for a scene beyond the format's range.
        """
        return write_splats(
            path, self.gaussians, min_opacity=min_opacity, offset=self.offset, **options
        )

    def render(self, cameras: Cameras | Capture | None = None) -> Rendering:
        """Renders the scene from cameras in the capture's frame; nothing is dropped.

        One camera, or cameras with a leading axis; a capture stands for all of its frames at the
        resolution of the reconstruction, None for the held-out frames; `offset` plays no part as
        long as poses are float64. Colours are [view, height,
        width, 3], depth is in the capture's units. Pictures larger than the views the model saw
        are as soft, in more pixels.

            picture = scene.render(capture.cameras([0])).rgb[0]
        """
        if cameras is None:
            return self._in_capture(self.renderer(self.drawn, self.posed.target_cameras))
        if isinstance(cameras, Capture):
            cameras = cameras.cameras(resolution=self.posed.resolution)
        posed = posed_cameras(cameras, self.posed.similarity)
        renderer = self._renderer((posed.height, posed.width))
        return self._in_capture(renderer(self.drawn, posed))

    def mesh(
        self,
        cameras: Cameras | Capture | None = None,
        *,
        voxel: float | None = None,
        resolution: int | None = None,
        depth: Literal["median", "expected"] = "median",
        watertight: bool = False,
        largest_component: bool = False,
        faces: int | None = None,
        memory_limit: float = SurfaceConfig().memory_limit,
        bar: Bar = silent,
    ) -> SurfaceMesh:
        """The scene's surface as triangles with colours, in the capture's frame, relative to
        `offset`; its `save` writes .ply, .obj or .glb.

        Depth is drawn from up to 64 cameras in the capture's frame, a capture standing for all of
        its frames (None: those of the inputs and of the held-out views), and fused in voxels
        of a side `voxel` in the capture's units, or `resolution` of them along the scene's longest
        side (None: 256). `watertight` closes the surface: what is hidden from half of the cameras
        and none sees to be empty is inside. `faces` is about how many triangles are kept,
        `memory_limit` GiB of voxels and depth; `bar(what, total)` gives a function that is told of
        progress. Needs the extra `mesh`. Raises InputError where that
        is not installed, where voxels do not fit into the limit and where there is no surface.

            scene.mesh(watertight=True, faces=50_000).save("mesh.glb")
        """
        config = SurfaceConfig(
            voxel=voxel, resolution=resolution, depth=depth, watertight=watertight,
            largest_component=largest_component, faces=faces, memory_limit=memory_limit,
        )  # fmt: skip
        return mesh_of_gaussians(
            self.gaussians, self._seen_by(cameras), config,
            frame=into_capture(self.posed.similarity, self.offset).inverse(), raster=self.raster,
            made_at=self.made_at, bar=bar,
        )  # fmt: skip

    def target_pictures(self) -> np.ndarray:
        """Pictures float32 [target, height, width, 3] of the held-out views."""
        return np.asarray(self.renderer(self.drawn, self.posed.target_cameras).rgb)

    def scores(self, lpips: LPIPS | None = None) -> Scores:
        """PSNR and SSIM on the held-out frames, and LPIPS where a network is given."""
        return score(self.target_pictures(), self.posed, lpips)

    def refine(
        self,
        steps: int | None = None,
        *,
        seconds: float | None = None,
        resolution: tuple[int, int] | None = None,
        max_gaussians: int | None = None,
        memory_limit: float | None = None,
        refine_cameras: bool = False,
        exposure: bool = False,
        on_moment: OnMoment | None = None,
    ) -> tuple["Reconstruction", Optimised]:
        """The scene after optimisation on its input views, and what is known of that (losses
        before each step, seconds). Held-out views are not seen.

        `steps` on all input views at once (table 2 of tttLRM's supplement takes 3 and 10), or
        single views with density control for so many `seconds`, compiling apart: then pictures
        grow from the size that the model saw to `resolution` (height, width; None: as they are
        here, see `at`), some input views are held back and say which Gaussians were the best so
        far, Ctrl-C ends it early, and `on_moment(moment, gaussians)` is told of every look at them.
        Pixels that show nothing of the scene (past a lens's edge, under masks of what is to be
        left out) do not count. There are no more than `max_gaussians` (None: as `AnytimeConfig`
        says), and no more than fit into `memory_limit` GiB, by estimate. `refine_cameras` also
        turns and moves each input's camera a little, `exposure` fits a gain and an offset of each
        photograph's colours: `record.photographs` has them, cameras in the frame of `posed.inputs`.
        Held-out views are drawn and scored as if neither were known. Where pictures have no
        transparency and nobody asked for a background, the scene's becomes the colour of their
        plain backdrop, or their mean colour.

        Raises InputError for views below 7 pixels, a negative number of steps, seconds of 0 or
        less, a memory limit that leaves room for too few, and unless one of steps and seconds is
        given.
        """
        if (steps is None) == (seconds is None):
            raise InputError.of(
                "steps, seconds", (steps, seconds), "are not one number and one None",
                "give one of them",
            )  # fmt: skip
        of_improving = {
            "max_gaussians": max_gaussians, "memory_limit": memory_limit,
            "refine_cameras": refine_cameras, "exposure": exposure,
        }  # fmt: skip
        for name, value in {**of_improving, "on_moment": on_moment}.items():
            if value and seconds is None:
                raise InputError.of(
                    name, value, "belongs to improving for some time", "give seconds, not steps"
                )
        scene = self if resolution is None else self.at(resolution)
        if steps is not None:
            return scene._stepped(steps)
        assert seconds is not None
        return scene._improved(anytime_config(seconds, **of_improving), on_moment)

    def _stepped(self, steps: int) -> tuple["Reconstruction", Optimised]:
        record = refine(
            self.predicted, self.posed.photographs, RefineConfig(steps=steps),
            background=self.background, raster=self.renderer.config,
        )  # fmt: skip
        return self._with(record), record

    def _improved(
        self, config: AnytimeConfig, on_moment: OnMoment | None
    ) -> tuple["Reconstruction", Optimised]:
        background = self.posed.fitted_on(self.background)
        record = improve(
            rising(self.posed.photographs, self.made_at), config, start=self.predicted,
            raster=self.raster, points=self.posed.read_points(), background=background,
            on_moment=on_moment,
        )  # fmt: skip
        room = 1 << (len(record.gaussians.mean) - 1).bit_length()
        made_at = self.posed.resolution
        return self._with(record, background=background, made_at=made_at, room=room), record

    def _with(self, record: Optimised, **changes: Any) -> "Reconstruction":
        return dataclasses.replace(
            self, predicted=record.gaussians, seconds=record.seconds,
            compile_seconds=record.compile_seconds, **changes,
        )  # fmt: skip

    def _seen_by(self, cameras: Cameras | Capture | None) -> list[Cameras]:
        """Cameras [view] of each size of pictures, in the frame of `gaussians`."""
        if cameras is None:
            own, back = self.posed.all_cameras, into_capture(self.posed.similarity, self.offset)
            poses: Any = back.apply_poses(np.asarray(own.world_from_camera))
            return [own.replace(world_from_camera=poses)]
        groups = cameras.cameras_by_size() if isinstance(cameras, Capture) else [cameras]
        return [moved_cameras(each, self.offset) for each in groups]

    def _renderer(self, size: tuple[int, int]) -> Renderer:
        raster = enlarged_blur(self.raster, self.made_at, size)
        return self.renderers(self.background, raster)

    def _in_capture(self, rendering: Rendering) -> Rendering:
        return dataclasses.replace(rendering, depth=rendering.depth / self.posed.similarity.scale)


def posed_cameras(cameras: Cameras, similarity: PoseNormalisation) -> Cameras:
    """Cameras of a capture's frame in the frame that `similarity` leads to, float32."""
    return Cameras(
        on_device(similarity.apply_poses(np.asarray(cameras.world_from_camera)), np.float32),
        on_device(cameras.intrinsics, np.float32),
        cameras.height,
        cameras.width,
    )


def moved_cameras(cameras: Cameras, offset: np.ndarray) -> Cameras:
    """Cameras of a capture's frame relative to `offset`, float64."""
    poses: Any = moved_poses(np.asarray(cameras.world_from_camera), offset)
    return cameras.replace(world_from_camera=poses)


def enlarged_blur(
    raster: RasterConfig, made_at: tuple[int, int], size: tuple[int, int]
) -> RasterConfig:
    """Settings that render a scene made at one size (height, width) as softly at a larger one."""
    grown = max(1.0, size[0] * size[1] / (made_at[0] * made_at[1]))
    return dataclasses.replace(raster, eps2d=raster.eps2d * grown)
