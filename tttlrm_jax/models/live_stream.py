"""A live stream of one scene: chunks of posed images in, Gaussians after every chunk.

The model's `step` and `query` are compiled once, for one size of image and one number of views;
smaller chunks are padded with masked views. What a stream hands on is a `StreamScene`, which never
changes: several streams can go on from one. Its state stays as large as it was at the start; its
Gaussians and cameras (and images, where all views are read again) grow and lie in host memory.
"""

import dataclasses
import functools
import math
import time
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from tttlrm_jax.config import Accumulate
from tttlrm_jax.core.errors import InputError
from tttlrm_jax.core.types import Cameras, Chunk, Gaussians, Views
from tttlrm_jax.models import merge_model, prune, split_model
from tttlrm_jax.models.streaming import (
    HIDDEN_OPACITY_LOGIT,
    StreamState,
    check_values,
    init_stream,
    query,
    step,
)


@flax.struct.dataclass
class StreamScene:
    """All that a stream has made of one scene, in the frame of its cameras."""

    state: StreamState  # of a batch of one scene
    gaussians: Gaussians  # NumPy, one scene; as shown after the last chunk
    cameras: Cameras  # NumPy [view, ...] of all views seen
    images: np.ndarray | None  # [view, height, width, 3] seen; None unless all are read again

    @property
    def num_views(self) -> int:
        return len(self.cameras.intrinsics)

    def sizes(self) -> dict[str, int]:
        """Bytes of each part."""
        parts = {
            "state": self.state, "gaussians": self.gaussians,
            "views": (self.cameras, self.images),
        }  # fmt: skip
        return {name: sum(x.nbytes for x in jax.tree.leaves(part)) for name, part in parts.items()}


@dataclasses.dataclass(frozen=True, kw_only=True)
class StreamSettings:
    """How a stream is read.

    After a chunk the scene shows the Gaussians of its views (`chunk`), those of all chunks as
    each was read when it came (`append`), or those of all views so far, read again with the newest
    state (`all`: time and memory grow with the stream).
    """

    height: int
    width: int
    chunk_views: int
    accumulate: Accumulate = "append"
    keep_ratio: float = 1.0
    random_ratio: float = 0.0
    seed: int = 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class ChunkCost:
    """Seconds of one chunk, compiling excluded."""

    step: float  # writing the chunk and reading it
    reread: float  # reading the earlier views again


class LiveStream:
    """The compiled programs of a stream, for any parameters of one model's shape."""

    def __init__(self, model: Any, settings: StreamSettings):
        """Compiles, and runs a step once on nothing.

        Raises InputError for a model that does not give Gaussians.
        """
        self.settings = settings
        self.graph, params = split_model(model)
        if model.config.kind != "tttlrm" or model.decoder.gives != "gaussians":
            raise InputError.of(
                "model.kind", model.config.kind, "gives no Gaussians to show as a scene",
                "use a tttlrm checkpoint, or query the state in Python (models.streaming)",
            )  # fmt: skip
        start = time.perf_counter()
        chunk, state = self._padded(_blank(settings)), self._fresh_state(params)

        write, read = (
            jax.jit(functools.partial(function, graph=self.graph)) for function in (step, query)
        )
        self._step = write.lower(params, state, chunk).compile()
        self._query = None
        if settings.accumulate == "all":
            self._query = read.lower(params, state, chunk.views).compile()
        self.compile_seconds = time.perf_counter() - start
        jax.block_until_ready(self._step(params, state, chunk))  # the first call is slower

    @property
    def step_bytes(self) -> int | None:
        """Peak memory of one step: parameters, state, chunk, results and all between."""
        analysis = self._step.memory_analysis()
        if analysis is None:
            return None
        sizes = ("argument_size_in_bytes", "output_size_in_bytes", "temp_size_in_bytes")
        return sum(getattr(analysis, name) for name in sizes)

    def start(self, params: Any) -> StreamScene:
        """A stream before its first view."""
        settings = self.settings
        size = (settings.height, settings.width)
        coefficients = (merge_model(self.graph, params).config.sh_degree + 1) ** 2

        def nothing(*shape: int) -> Any:
            return np.zeros((0, *shape), np.float32)

        return StreamScene(
            state=self._fresh_state(params),
            gaussians=Gaussians(
                mean=nothing(3),
                sh=nothing(coefficients, 3),
                log_scale=nothing(3),
                quaternion=nothing(4),
                opacity_logit=nothing(),
            ),
            cameras=Cameras(nothing(4, 4), nothing(4), *size),
            images=nothing(*size, 3) if settings.accumulate == "all" else None,
        )

    def advance(
        self, params: Any, scene: StreamScene, views: Views
    ) -> tuple[StreamScene, ChunkCost]:
        """The scene after one more chunk `[1, view, ...]`; `scene` itself is left as it is.

        Raises InputError for more views than a chunk holds or none, for values that `check_values`
        refuses, and where the state or every Gaussian of the chunk comes out not finite.
        """
        count = views.image.shape[1]
        if not 0 < count <= self.settings.chunk_views:
            raise InputError.of(
                "chunk views", count, f"are not in 1..{self.settings.chunk_views}",
                "hand the views over in chunks of that size",
            )  # fmt: skip
        check_values(views, None, "chunk")
        chunk = self._padded(views)
        begin = time.perf_counter()
        state, read = jax.block_until_ready(self._step(params, scene.state, chunk))
        newest = self._kept(read, count, scene.num_views)
        if not (_all_finite(state) and np.isfinite(newest.mean).all(axis=-1).any()):
            raise InputError.of(
                "chunk", f"{count} views after {scene.num_views}",
                "makes the model's state or its Gaussians not finite",
                "use pixels in [0, 1] and cameras of ordinary size, or another checkpoint",
            )  # fmt: skip
        stepped = time.perf_counter()
        earlier = self._earlier(params, state, scene)
        end = time.perf_counter()
        gaussians = jax.tree.map(lambda *parts: np.concatenate(parts), *earlier, newest)
        seen, images = scene.cameras, scene.images
        cameras = jax.tree.map(lambda a, b: np.concatenate([a, b[0]]), seen, views.cameras)
        if images is not None:
            images = np.concatenate([images, np.asarray(views.image[0])])
        grown = StreamScene(state=state, gaussians=gaussians, cameras=cameras, images=images)
        return grown, ChunkCost(step=stepped - begin, reread=end - stepped)

    def most_gaussians(self, scene: StreamScene, num_views: int) -> int:
        """No fewer than any scene on the way has, `num_views` after `scene`."""
        settings, earlier = self.settings, len(scene.gaussians.mean)

        def of_views(count: int) -> int:
            """At most so many are kept of views that are pruned chunk by chunk."""
            kept = settings.keep_ratio + (1 - settings.keep_ratio) * settings.random_ratio
            whole = count * settings.height * settings.width
            rounded_up = 2 * -(-count // settings.chunk_views)  # both shares, in every chunk
            return min(math.ceil(min(kept, 1.0) * whole) + rounded_up, whole)

        if settings.accumulate == "append":
            return earlier + of_views(num_views)
        if settings.accumulate == "chunk":
            return max(earlier, of_views(min(num_views, settings.chunk_views)))
        return max(earlier, of_views(scene.num_views) + of_views(num_views))

    def _fresh_state(self, params: Any) -> StreamState:
        return init_stream(params, 1, graph=self.graph)

    def _padded(self, views: Views) -> Chunk:
        """A chunk of full size; views beyond those given are masked."""
        count, missing = views.image.shape[1], self.settings.chunk_views - views.image.shape[1]

        def pad(x):
            x = np.asarray(x)
            return np.pad(x, [(0, 0), (0, missing)] + [(0, 0)] * (x.ndim - 2))

        mask: Any = np.arange(count + missing)[None] < count
        return Chunk(views=jax.tree.map(pad, views), mask=mask)

    def _earlier(self, params, state: StreamState, scene: StreamScene) -> list[Gaussians]:
        """Gaussians of the views before this chunk, as far as they are shown."""
        if self.settings.accumulate == "chunk":
            return []
        if self._query is None:
            return [scene.gaussians]
        images: Any = scene.images
        portions = []
        for first in range(0, scene.num_views, self.settings.chunk_views):
            where = slice(first, first + self.settings.chunk_views)
            views = Views(images[None, where], scene.cameras[None, where])
            read = self._query(params, state, self._padded(views).views)
            portions.append(self._kept(read, views.image.shape[1], first))
        return portions

    def _kept(self, read: Gaussians, num_views: int, first_view: int) -> Gaussians:
        """Gaussians of the first views on the host, pruned on their own."""
        settings = self.settings
        count = num_views * settings.height * settings.width
        gaussians = jax.tree.map(lambda x: np.asarray(x)[:, :count], read)
        if settings.keep_ratio < 1:
            key = jax.random.fold_in(jax.random.key(settings.seed), first_view)
            gaussians = prune(gaussians, settings.keep_ratio, settings.random_ratio, key)
        return jax.tree.map(lambda x: np.asarray(x)[0], gaussians)


def filled_up(gaussians: Gaussians, count: int) -> Gaussians:
    """The Gaussians of one scene and, up to `count`, ones that no camera sees.

    Scenes of one size are rendered by one program, whatever they hold.
    """
    missing = count - len(gaussians.mean)

    def fill(x, value=0.0) -> Any:
        x = np.asarray(x)
        return np.pad(x, [(0, missing)] + [(0, 0)] * (x.ndim - 1), constant_values=value)

    return Gaussians(
        mean=fill(gaussians.mean),
        sh=fill(gaussians.sh),
        log_scale=fill(gaussians.log_scale),
        quaternion=fill(gaussians.quaternion, 1.0),
        opacity_logit=fill(gaussians.opacity_logit, HIDDEN_OPACITY_LOGIT),
    )


@jax.jit
def _all_finite(tree: Any) -> jax.Array:
    return jnp.stack([jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(tree)]).all()


def _blank(settings: StreamSettings) -> Views:
    """A chunk of one black view, for the shapes."""
    size = (settings.height, settings.width)
    pose: Any = np.eye(4, dtype=np.float32)[None, None]
    lens: Any = np.ones((1, 1, 4), np.float32)
    image: Any = np.zeros((1, 1, *size, 3), np.float32)
    return Views(image, Cameras(pose, lens, *size))
