"""LVSM at the front door: a scene is written into fast weights once, and read from any camera."""

import dataclasses
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import jax
import numpy as np

from tttlrm_jax.api.captures import as_capture
from tttlrm_jax.api.posed_images import PosedImageModel
from tttlrm_jax.api.reconstruction import posed_cameras
from tttlrm_jax.api.request import Request, resolve
from tttlrm_jax.api.scenes import PosedScene, Scores, pose_scene, score
from tttlrm_jax.api.streams import ViewStream, chunks_of
from tttlrm_jax.captures.capture import Capture
from tttlrm_jax.config import EvalConfig, Plan
from tttlrm_jax.core.errors import InputError
from tttlrm_jax.core.types import Cameras, Views
from tttlrm_jax.metrics.lpips import LPIPS
from tttlrm_jax.models import init_stream, merge_model
from tttlrm_jax.models.trunk import check_views
from tttlrm_jax.ttt import LayerState

AT_A_TIME = 4  # views read by one call


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class ViewSynthesisModel(PosedImageModel):
    """LVSM with fast weights (LaCT, arXiv 2505.23884): posed images in, images of new views out.

    An example:

        model = tj.load("lvsm")
        scene = model.reconstruct("desk", views=8)
        picture = scene.render(capture.cameras([0])).rgb[0]
    """

    def reconstruct(
        self,
        capture: Capture | str | Path,
        views: int | None = None,
        *,
        frames: str | None = None,
        plan: Plan | None = None,
        chunk_views: int | None = None,
        resolution: tuple[int, int] | None = None,
        background: tuple[float, float, float] | None = None,
    ) -> "SynthesisedScene":
        """Writes some frames of a capture (or of the one in a directory) into fast weights.

        Arguments are those of `SceneModel.reconstruct`; there are no Gaussians to prune. Raises
        InputError as it does, for fast weights that are not finite, and for a model that joins
        views by attention: it keeps no state.
        """
        capture = as_capture(capture)
        wishes = EvalConfig(
            views=views, frames=frames, plan=plan, chunk_views=chunk_views, resolution=resolution,
            background=background,
        )  # fmt: skip
        request = resolve(wishes, self.run, capture)
        return self.reconstruct_scene(pose_scene(capture, request, self.run.data), request)

    def reconstruct_scene(self, scene: PosedScene, request: Request) -> "SynthesisedScene":
        """`reconstruct` of a scene that is read and posed already."""
        write, compile_seconds = self.program(scene, request)
        start = time.perf_counter()
        state = jax.block_until_ready(write(self.params, scene.inputs))
        seconds = time.perf_counter() - start
        if not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state)):
            raise InputError(
                f"the model's {self.held} are not finite; use another checkpoint or update rule"
            )
        return SynthesisedScene(
            posed=scene, state=state, model=self, seconds=seconds, compile_seconds=compile_seconds
        )

    def program(
        self, scene: PosedScene, request: Request
    ) -> tuple[Callable[..., LayerState], float]:
        """Parameters and inputs to the fast weights after them, and the seconds of compiling.

        Every chunk of the causal plan goes through the same program, a shorter last one but for.
        """
        if self.config.across_views == "attention":
            raise InputError.of(
                "model.across_views", "attention", "keeps no state that views could be read from",
                "use a model with across_views=ttt",
            )  # fmt: skip
        begin, begin_seconds = self.compiled(("begin",), self._empty, self.params)
        empty = jax.eval_shape(self._empty, self.params)
        plan, size = "full" if request.plan == "causal" else request.plan, request.chunk_views

        def run(params, views, state) -> LayerState:
            return merge_model(self.graph, params).reconstruct(views, plan, size, state)

        def writer(chunk: Views) -> tuple[Callable, float]:
            name = ("write", plan, size, chunk.image.shape)
            return self.compiled(name, run, self.params, chunk, empty)

        writers = [writer(chunk) for chunk in _chunks(scene.inputs, request)]

        def write(params, inputs) -> LayerState:
            state = begin(params)
            for (run, _), chunk in zip(writers, _chunks(inputs, request), strict=True):
                state = run(params, chunk, state)
            return state

        return write, begin_seconds + sum(dict(writers).values())

    def _empty(self, params) -> LayerState:
        return init_stream(params, 1, graph=self.graph).layers

    def draw(self, network: Any, state: Any, cameras: Cameras) -> jax.Array:
        """Pictures [1, view, height, width, 3] of cameras [1, view]; `state` is the program's."""
        return network.render(state, cameras)

    @property
    def held(self) -> str:
        """What holds a scene, in words."""
        return "fast weights"

    @property
    def side_step(self) -> int:
        """What the sides of pictures must be a multiple of, in px."""
        return self.config.patch_size

    def described(self, num_numbers: int) -> str:
        """What holds a scene, and how it is drawn."""
        return (
            f"{num_numbers} numbers of fast weights, whatever the number of views; the network "
            "draws every picture from them, without Gaussians"
        )

    def stream(self, *, first_distance: float = 1.0) -> ViewStream:
        """A stream of one scene before its first view; `first_distance` as in `SceneModel`."""
        return ViewStream(self, first_distance=first_distance)


@dataclasses.dataclass(frozen=True)
class SynthesisedViews:
    """Pictures that a network drew: float32 [view, height, width, 3], or of one view, in [0, 1]."""

    rgb: np.ndarray


class ViewReader:
    """Draws cameras from fast weights, a few by one call of one program for a size of picture."""

    def __init__(self, model: ViewSynthesisModel, state: Any):
        self._model, self._state = model, state
        self.seconds = 0.0  # of the newest call of `__call__`, without compiling
        self.compile_seconds = 0.0  # of its program

    def __call__(self, cameras: Cameras) -> np.ndarray:
        """Pictures [view, height, width, 3] of cameras [view] in the model's frame.

        Raises InputError for ones that are not finite.
        """
        run, self.compile_seconds = self._program(cameras)
        start = time.perf_counter()
        pictures = np.stack(list(self._drawn(run, cameras)))
        self.seconds = time.perf_counter() - start
        if not np.isfinite(pictures).all():
            raise InputError("the model's pictures are not finite; use another checkpoint")
        return pictures

    def frames(self, cameras: Cameras) -> Iterator[np.ndarray]:
        """The same one by one; `AT_A_TIME` of them are held."""
        return self._drawn(self._program(cameras)[0], cameras)

    def _drawn(self, run: Callable, cameras: Cameras) -> Iterator[np.ndarray]:
        count = len(cameras.world_from_camera)
        for first in range(0, count, AT_A_TIME):
            pictures = np.asarray(run(self._model.params, self._state, _portion(cameras, first)))
            yield from pictures[: count - first]

    def _program(self, cameras: Cameras) -> tuple[Callable, float]:
        model, graph = self._model, self._model.graph
        check_views(cameras[None], model.side_step)

        def run(params, state, cameras):
            return model.draw(merge_model(graph, params), state, cameras[None])[0]

        name = ("read", cameras.height, cameras.width)
        return model.compiled(name, run, model.params, self._state, _portion(cameras, 0))


def _chunks(inputs: Views, request: Request) -> list[Views]:
    """What is written one after another: all views, or the chunks of the causal plan."""
    num_views = inputs.image.shape[1]
    return chunks_of(inputs, request.chunk_views if request.plan == "causal" else num_views)


def _portion(cameras: Cameras, first: int) -> Cameras:
    """`AT_A_TIME` cameras from the first on; the last one again where there are no more."""
    return cameras[np.minimum(np.arange(first, first + AT_A_TIME), len(cameras.intrinsics) - 1)]


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class SynthesisedScene:
    """Fast weights (or what a decoder made of them) that hold one scene, with the views they came
    from; there are no Gaussians.

    Its size does not depend on the number of views. See `ViewSynthesisModel.reconstruct`.
    """

    posed: PosedScene  # input and held-out views, in the model's frame
    state: Any = dataclasses.field(repr=False)  # what `ViewSynthesisModel.program` gives
    model: ViewSynthesisModel
    seconds: float  # to write the views, compiling excluded
    compile_seconds: float
    renderer: ViewReader = dataclasses.field(init=False, repr=False)  # cameras of the model's frame

    def __post_init__(self):
        object.__setattr__(self, "renderer", ViewReader(self.model, self.state))

    @property
    def num_numbers(self) -> int:
        """Fast weights of all layers with what the update rule remembers, or the decoded scene."""
        return sum(leaf.size for leaf in jax.tree.leaves(self.state))

    def render(self, cameras: Cameras | Capture | None = None) -> SynthesisedViews:
        """Draws the scene from cameras in the capture's frame.

        One camera, or cameras with a leading axis; a capture stands for all of its frames at the
        resolution of the inputs, None for the held-out frames. Raises InputError for a picture
        whose height or width is no multiple of the patch size.

            picture = scene.render(capture.cameras([0])).rgb[0]
        """
        if cameras is None:
            return SynthesisedViews(self.target_pictures())
        if isinstance(cameras, Capture):
            cameras = cameras.cameras(resolution=self.posed.resolution)
        posed = posed_cameras(cameras, self.posed.similarity)
        if posed.intrinsics.ndim == 1:
            return SynthesisedViews(self.renderer(posed[None])[0])
        return SynthesisedViews(self.renderer(posed))

    def target_pictures(self) -> np.ndarray:
        """Pictures float32 [target, height, width, 3] of the held-out views."""
        return self.renderer(self.posed.target_cameras)

    def scores(self, lpips: LPIPS | None = None) -> Scores:
        """PSNR and SSIM on the held-out frames, and LPIPS where a network is given."""
        return score(self.target_pictures(), self.posed, lpips)

    def save(self, path: str | Path, **options: Any) -> NoReturn:
        """Raises InputError: there are no Gaussians to write."""
        raise InputError.of(
            "path", path, "is a file of Gaussians, and this model gives none",
            "write the pictures of scene.render(cameras), or use a checkpoint of Gaussians",
        )  # fmt: skip
