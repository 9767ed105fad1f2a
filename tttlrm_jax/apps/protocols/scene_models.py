"""What a model shows of a scene: pictures of any cameras, and what they took.

A protocol knows models by this only. Another kind is measured by another entry of `SHOWERS`.
"""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import jax
import numpy as np

from tttlrm_jax.api.decoded_scenes import DecodedSceneModel
from tttlrm_jax.api.models import Model, SceneModel
from tttlrm_jax.api.reconstruction import Reconstruction
from tttlrm_jax.api.request import Request
from tttlrm_jax.api.scenes import PosedScene
from tttlrm_jax.api.streams import SceneStream, chunks_of
from tttlrm_jax.api.view_synthesis import ViewSynthesisModel
from tttlrm_jax.core.arrays import on_device
from tttlrm_jax.core.errors import InputError
from tttlrm_jax.core.types import Cameras

# A program for rendering has room for so many times the intersections of the first scene: others
# rarely need a second one.
ROOM = 2.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Shown:
    """A scene as a model shows it, or as it is after steps of refinement on the inputs."""

    steps: int
    seconds: float  # to reconstruct and refine, without compiling and drawing
    num_gaussians: int | None
    # cameras [view] of the model's frame to their pictures [view, height, width, 3], and seconds
    draw: Callable[[Cameras], tuple[np.ndarray, float]]


class Shower(Protocol):
    """A model that goes through scene after scene."""

    def show(self, scene: PosedScene, request: Request, steps: Sequence[int]) -> Iterator[Shown]:
        """The scene after so many steps of refinement each, 0 among them as it is."""
        ...


class _Warmed:
    """Makes scenes with a model; each program runs once before its seconds count."""

    def __init__(self, make: Callable[[PosedScene, Request], Any]):
        self._make = make
        self._warm: set[Any] = set()

    def __call__(self, scene: PosedScene, request: Request) -> Any:
        program = (
            scene.inputs.image.shape, request.plan, request.chunk_views, request.accumulate,
            request.keep_ratio, request.random_ratio,
        )  # fmt: skip
        if program not in self._warm:
            self._make(scene, request)
            self._warm.add(program)
        return self._make(scene, request)


class GaussianShower:
    """tttLRM: Gaussians by one call, or by a stream of chunks with the causal plan."""

    def __init__(self, model: SceneModel):
        self._model = model
        self._made = _Warmed(self._reconstruct)

    def show(self, scene: PosedScene, request: Request, steps: Sequence[int]) -> Iterator[Shown]:
        """As `Shower`."""
        made = self._made(scene, request)
        for count in steps:
            refined = made.refine(count)[0] if count else made
            yield Shown(
                steps=count, seconds=made.seconds + (refined.seconds if count else 0.0),
                num_gaussians=len(refined.predicted.mean), draw=_drawn(refined),
            )  # fmt: skip

    def _reconstruct(self, scene: PosedScene, request: Request) -> Reconstruction:
        if request.plan == "causal":
            return self._streamed(scene, request)
        return self._model.reconstruct_scene(scene, request)

    def _streamed(self, scene: PosedScene, request: Request) -> Reconstruction:
        stream, seconds = SceneStream.of(self._model, request), 0.0
        views = jax.tree.map(np.asarray, scene.inputs)
        for chunk in chunks_of(views, request.chunk_views):
            cost = stream.advance(chunk)
            seconds += cost.step + cost.reread
        return Reconstruction(
            posed=scene, predicted=jax.tree.map(on_device, stream.scene.gaussians),
            background=request.background, made_at=scene.resolution,
            raster=self._model.run.raster, renderers=self._model.renderers, seconds=seconds,
            compile_seconds=stream.live(*request.resolution).compile_seconds,
        )  # fmt: skip


def _drawn(made: Reconstruction) -> Callable[[Cameras], tuple[np.ndarray, float]]:
    splats, renderer = made.predicted.activate(), made.renderer

    def draw(cameras: Cameras) -> tuple[np.ndarray, float]:
        pictures = np.asarray(renderer(splats, cameras, growth=ROOM).rgb)
        return pictures, renderer.seconds

    return draw


class ViewShower:
    """LVSM: the inputs are written into fast weights, and the network draws every picture."""

    def __init__(self, model: ViewSynthesisModel):
        self._made = _Warmed(model.reconstruct_scene)

    def show(self, scene: PosedScene, request: Request, steps: Sequence[int]) -> Iterator[Shown]:
        """As `Shower`. There is nothing to refine."""
        assert not any(steps), "refused when the protocol is read"
        made = self._made(scene, request)

        def draw(cameras: Cameras) -> tuple[np.ndarray, float]:
            pictures = made.renderer(cameras)
            return pictures, made.renderer.seconds

        for count in steps:
            yield Shown(steps=count, seconds=made.seconds, num_gaussians=None, draw=draw)


SHOWERS: dict[type, Callable[[Any], Shower]] = {
    SceneModel: GaussianShower,
    ViewSynthesisModel: ViewShower,
    DecodedSceneModel: ViewShower,
}


def shower_of(model: Model) -> Shower:
    """The model as a protocol takes it. Raises InputError for one that has no pictures to show."""
    maker = SHOWERS.get(type(model))
    if maker is None:
        raise InputError.of(
            "model.kind", getattr(model.config, "kind", "ttt3r"), "is not shown by protocols",
            "use another checkpoint",
        )  # fmt: skip
    return maker(model)
