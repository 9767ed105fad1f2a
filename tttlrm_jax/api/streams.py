"""Streams of posed images: every chunk is written into the fast weights once, and read at once.

The cameras of the first chunk fix the frame of coordinates. Whatever comes later, in this process
or after `load_state`, is moved by that same similarity, and all that comes back is in the frame
and scale of the captures.
"""

import copy
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tttlrm_jax.api.reconstruction import MIN_OPACITY, enlarged_blur, posed_cameras
from tttlrm_jax.api.request import Request
from tttlrm_jax.checkpoints.streams import (
    STATE_FILES,
    SavedStream,
    StreamRecord,
    fingerprint,
    write_stream,
)
from tttlrm_jax.config import Accumulate
from tttlrm_jax.core.errors import InputError
from tttlrm_jax.core.files.output_directory import atomic_directory
from tttlrm_jax.core.geometry.offsets import into_capture, offset_of
from tttlrm_jax.core.geometry.poses import PoseNormalisation, first_chunk_normalisation
from tttlrm_jax.core.geometry.similarity import transform_gaussians
from tttlrm_jax.core.types import Cameras, Chunk, Gaussians, Views
from tttlrm_jax.export.splats.formats import write_splats
from tttlrm_jax.export.splats.writable import ExportCount
from tttlrm_jax.models import init_stream, live_query, live_step
from tttlrm_jax.models.live_stream import (
    ChunkCost,
    LiveStream,
    StreamScene,
    StreamSettings,
    filled_up,
)
from tttlrm_jax.rasterize import Renderer, Rendering

NOTHING_WRITTEN = "stream: nothing was written yet, so there is nothing to read; call step first"


def chunks_of(views: Views, size: int) -> list[Views]:
    """Views [1, view, ...] in chunks of `size`, in order; the last one may be smaller."""
    return [
        jax.tree.map(lambda x, n=first: x[:, n : n + size], views)
        for first in range(0, views.image.shape[1], size)
    ]


class PosedStream:
    """What streams of either model share: the frame that the first chunk fixes."""

    def __init__(self, model: Any, first_distance: float):
        self.model = model
        self.similarity: PoseNormalisation | None = None  # from the captures' frame
        self.has_scale = True  # else the first chunk's cameras stand in one place
        self._first_distance = first_distance

    def fork(self) -> Any:
        """Another stream that goes on from here; neither changes the other."""
        return copy.copy(self)

    def _posed_views(self, views: Views) -> Views:
        """The views `[1, view, ...]` in the model's frame, which is fixed here if it is not yet."""
        if np.ndim(views.image) == 4:  # of one scene, without a batch axis
            views = jax.tree.map(lambda x: x[None], views)
        if self.similarity is None:
            poses = np.asarray(views.cameras.world_from_camera[0], np.float64)
            method = self.model.run.data.pose_normalisation
            self.fix_frame(*first_chunk_normalisation(poses, method, self._first_distance))
        image = jnp.asarray(views.image, jnp.float32)
        return Views(image, posed_cameras(views.cameras, self._frame()))

    def _posed_queries(self, queries: Views | Cameras) -> Views | Cameras:
        """Queries with a batch axis, in the model's frame."""
        if isinstance(queries, Views):
            self._frame()
            return self._posed_views(queries)
        posed = posed_cameras(queries, self._frame())
        return posed if posed.intrinsics.ndim == 3 else posed[None]

    def fix_frame(self, similarity: PoseNormalisation, has_scale: bool) -> None:
        """Takes this similarity for good."""
        self.similarity, self.has_scale = similarity, has_scale

    def _frame(self) -> PoseNormalisation:
        if self.similarity is None:
            raise InputError(NOTHING_WRITTEN)
        return self.similarity


class SceneStream(PosedStream):
    """A stream of tttLRM: Gaussians after every chunk, and a state that does not grow.

        stream = model.stream(chunk_views=4)
        stream.step(model.views(capture, [1, 2, 3, 4]))
        stream.step(model.views(capture, [5, 6, 7]))
        stream.save("desk")

    `step` changes the stream; arrays that were handed out stay as they are. Programs are compiled
    at the first step, for its size of image.
    """

    def __init__(
        self, model: Any, *, chunk_views: int, accumulate: Accumulate = "append",
        keep_ratio: float = 1.0, random_ratio: float = 0.0,
        background: tuple[float, float, float] = (1.0, 1.0, 1.0), first_distance: float = 1.0,
        seed: int = 0,
    ):  # fmt: skip
        super().__init__(model, first_distance)
        self.background, self._seed = background, seed
        self._options: dict[str, Any] = {
            "chunk_views": chunk_views, "accumulate": accumulate, "keep_ratio": keep_ratio,
            "random_ratio": random_ratio,
        }  # fmt: skip
        self._scene: StreamScene | None = None
        self._frames: tuple[tuple[str, str], ...] = ()
        self._num_chunks = 0

    @classmethod
    def of(cls, model: Any, request: Request, saved: SavedStream | None = None) -> "SceneStream":
        """The stream that `request` describes, which goes on from `saved` where it is given."""
        assert request.similarity is not None
        stream = cls(model, seed=request.seed, **_options(request))
        stream.fix_frame(request.similarity, request.has_scale)
        return stream if saved is None else stream._after(saved)

    @classmethod
    def resumed(cls, model: Any, saved: SavedStream) -> "SceneStream":
        """The stream that was saved, as it was read."""
        return cls(model, **_options(saved.record))._after(saved)

    def _after(self, saved: SavedStream) -> "SceneStream":
        record = saved.record
        self.fix_frame(record.similarity, record.has_scale)
        self._scene, self._frames, self._num_chunks = saved.scene, record.frames, record.num_chunks
        return self

    @property
    def scene(self) -> StreamScene:
        """What the last chunk left, in the model's frame. Raises InputError before the first."""
        self._frame()
        if self._scene is None:
            raise InputError(NOTHING_WRITTEN)
        return self._scene

    @property
    def views_seen(self) -> int:
        """Views written so far."""
        return len(self._frames)

    @property
    def offset(self) -> np.ndarray:
        """What positions of Gaussians are relative to; as `Reconstruction.offset`."""
        return offset_of(self._frame())

    @property
    def gaussians(self) -> Gaussians:
        """What the scene shows after the last chunk [gaussian], in the captures' frame, relative
        to `offset`."""
        return self._in_captures(jax.tree.map(jnp.asarray, self.scene.gaussians))

    def _in_captures(self, gaussians: Gaussians) -> Gaussians:
        return transform_gaussians(gaussians, into_capture(self._frame(), self.offset))

    def step(self, views: Views, names: Sequence[tuple[str, str]] | None = None) -> Gaussians:
        """Writes a chunk of views and reads it; returns `gaussians` as they are then.

        Images [1, view, height, width, 3] (or without the first axis) in [0, 1], cameras in the
        captures' frame: what `model.views` gives. `names` are capture and image of each view, for
        the saved state. Raises InputError for more views than a chunk holds, another size of
        image than the first one's, values that are not finite, and a model that does not answer
        with finite Gaussians; then the stream stays as it was.
        """
        fixed = self.similarity, self.has_scale
        try:
            self.advance(self._posed_views(views), names)
        except InputError:
            self.similarity, self.has_scale = fixed
            raise
        return self.gaussians

    def advance(self, views: Views, names: Sequence[tuple[str, str]] | None = None) -> ChunkCost:
        """`step` on views in the model's own frame; returns the seconds it took."""
        live = self.live(views.image.shape[2], views.image.shape[3])
        scene = self.begun(live)
        count, seen = views.image.shape[1], scene.num_views
        self._scene, cost = live.advance(self.model.params, scene, views)
        given = [("", f"view {seen + n}") for n in range(count)] if names is None else names
        self._frames += tuple(given)
        self._num_chunks += 1
        return cost

    def begun(self, live: LiveStream) -> StreamScene:
        """`scene`, which is empty before the first chunk."""
        return live.start(self.model.params) if self._scene is None else self._scene

    def live(self, height: int, width: int) -> LiveStream:
        """The compiled programs for images of this size. Raises InputError for another size."""
        settings = StreamSettings(height=height, width=width, seed=self._seed, **self._options)
        if self._scene is not None:
            size = self._scene.cameras.height, self._scene.cameras.width
            if size != (height, width):
                raise InputError.of(
                    "views", f"{height}x{width} pixels", f"are not {size[0]}x{size[1]}, the size "
                    "of the stream", "resize them",
                )  # fmt: skip
        if settings not in self.model.programs:
            self.model.programs[settings] = LiveStream(self.model.network(), settings)
        return self.model.programs[settings]

    def query(self, views: Views | Cameras) -> Gaussians:
        """Gaussians [view x height x width] read from the fast weights for other views.

        Nothing is written. Views or cameras are in the captures' frame, and so is the answer,
        relative to `offset`; cameras alone count as images without content, on which tttLRM was
        not trained.
        """
        queries = self._posed_queries(views)
        state = self.scene.state
        read = live_query(self.model.params, state, queries, graph=self.model.graph)
        return self._in_captures(jax.tree.map(lambda x: x[0], read))

    def render(self, cameras: Cameras) -> Rendering:
        """As `Reconstruction.render`: the scene from cameras in the captures' frame."""
        posed = posed_cameras(cameras, self._frame())
        rendering = self._renderer(posed)(self._padded(), posed)
        return rendering.replace(depth=rendering.depth / self._frame().scale)

    def frames(self, cameras: Cameras, at_a_time: int = 8) -> Iterator[np.ndarray]:
        """Pictures [height, width, 3] of many cameras, one by one, from the captures' frame."""
        posed = posed_cameras(cameras, self._frame())
        return self._renderer(posed).frames(self._padded(), posed, at_a_time)

    def _renderer(self, posed: Cameras) -> Renderer:
        """For pictures of this size; those larger than the views are as soft, in more pixels."""
        seen = self.scene.cameras
        size = (posed.height, posed.width)
        raster = enlarged_blur(self.model.run.raster, (seen.height, seen.width), size)
        return self.model.renderers(self.background, raster)

    def _padded(self) -> Gaussians:
        """The scene filled up to a power of two: one program for many lengths."""
        gaussians = self.scene.gaussians
        return filled_up(gaussians, 1 << (len(gaussians.mean) - 1).bit_length())

    def save(self, directory: str | Path, *, overwrite: bool = False) -> None:
        """Writes the state, for `load_state` and `eval.py --load-state`; it appears complete.

        Raises InputError where `directory` exists (unless `overwrite`, and then only for a state)
        or cannot be written.
        """
        directory = Path(directory)
        check_state_target(directory, overwrite)
        with atomic_directory(directory, STATE_FILES, "save_state") as draft:
            self.write(draft)

    def save_scene(self, path: str | Path, *, min_opacity: float = MIN_OPACITY) -> ExportCount:
        """Writes the Gaussians as `Reconstruction.save` does."""
        return write_splats(path, self.gaussians, min_opacity=min_opacity, offset=self.offset)

    def write(self, directory: Path) -> None:
        """Writes the state into an empty directory."""
        scene = self.scene
        record = StreamRecord(
            model=self.model.run.model,
            parameters_sha256=fingerprint(self.model.params),
            similarity=self._frame(),
            has_scale=self.has_scale,
            resolution=(scene.cameras.height, scene.cameras.width),
            background=self.background,
            num_chunks=self._num_chunks,
            frames=self._frames,
            **self._options,
        )
        write_stream(directory, SavedStream(record=record, scene=scene))


class ViewStream(PosedStream):
    """A stream of LVSM: views are written, images of any camera are read."""

    def __init__(self, model: Any, *, first_distance: float = 1.0):
        super().__init__(model, first_distance)
        self._state = init_stream(model.params, 1, graph=model.graph)

    def step(self, views: Views) -> jax.Array:
        """Writes a chunk of views; returns what the state then shows from their cameras.

        Images [1, view, height, width, 3] in [0, 1] (or without the first axis), cameras in the
        captures' frame; the answer is [view, height, width, 3]. Raises InputError as
        `models.streaming.live_step` does.
        """
        chunk = Chunk(views=self._posed_views(views))
        self._state, images = live_step(
            self.model.params, self._state, chunk, graph=self.model.graph
        )
        return images[0]

    def query(self, cameras: Cameras | Views) -> jax.Array:
        """Images [view, height, width, 3] in [0, 1] from cameras in the captures' frame.

        Nothing is written; images of `Views` are not looked at.
        """
        queries = self._posed_queries(cameras)
        return live_query(self.model.params, self._state, queries, graph=self.model.graph)[0]

    def save(self, directory: str | Path, *, overwrite: bool = False) -> None:
        """Not there: states on disk hold Gaussians, which this model has none of."""
        raise NotImplementedError("states of LVSM streams are not written; keep the stream itself")


def _options(source: Request | StreamRecord) -> dict[str, Any]:
    """Options of a `SceneStream` that a request and a saved stream have alike."""
    names = ("chunk_views", "accumulate", "keep_ratio", "random_ratio", "background")
    return {name: getattr(source, name) for name in names}


def check_state_target(target: Path, overwrite: bool) -> None:
    """Raises InputError for a state that is there already and may not be replaced."""
    if os.path.lexists(target) and not overwrite:
        raise InputError.of(
            "save_state", target, "exists", "choose another directory or add --overwrite-state"
        )
