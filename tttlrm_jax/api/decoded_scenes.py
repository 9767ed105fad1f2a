"""Models whose decoder draws its scenes itself (triplanes), at the front door."""

import dataclasses
from collections.abc import Callable
from typing import Any, NoReturn

import jax
import jax.numpy as jnp
import numpy as np

from tttlrm_jax.api.request import Request
from tttlrm_jax.api.scenes import PosedScene
from tttlrm_jax.api.view_synthesis import ViewSynthesisModel
from tttlrm_jax.core.errors import InputError
from tttlrm_jax.core.types import Cameras
from tttlrm_jax.models import merge_model


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class DecodedSceneModel(ViewSynthesisModel):
    """tttLRM with another decoder than that of Gaussians, such as triplanes (arXiv 2602.20160).

    An example:

        model = tj.load("runs/triplane_small")
        scene = model.reconstruct("desk", views=4)
        picture = scene.render(capture.cameras([0])).rgb[0]
    """

    def program(self, scene: PosedScene, request: Request) -> tuple[Callable[..., Any], float]:
        """Parameters and inputs to the decoded scene with its background; and the seconds of
        compiling."""
        plan, size = request.plan, request.chunk_views

        def run(params, inputs) -> Any:
            network = merge_model(self.graph, params)
            return network(inputs, plan=plan, chunk_views=size)

        name = ("decode", plan, size, scene.inputs.image.shape)
        decode, seconds = self.compiled(name, run, self.params, scene.inputs)
        background = np.asarray([request.background], np.float32)
        return lambda params, inputs: (decode(params, inputs), jnp.asarray(background)), seconds

    def draw(self, network: Any, state: Any, cameras: Cameras) -> jax.Array:
        """Pictures [1, view, height, width, 3] of cameras [1, view]."""
        scene, background = state
        return network.decoder.render(scene, cameras, background)

    @property
    def held(self) -> str:
        """What holds a scene, in words."""
        return "decoded scenes"

    @property
    def side_step(self) -> int:
        """1: rays draw pictures of any size."""
        return 1

    def described(self, num_numbers: int) -> str:
        """What holds a scene, and how it is drawn."""
        return (
            f"{num_numbers} numbers of decoder {self.config.decoder}, whatever the number of "
            "views; it draws every picture itself, without Gaussians"
        )

    def stream(self, *, first_distance: float = 1.0) -> NoReturn:
        """Raises InputError: streams at the front door are of Gaussians and of LVSM."""
        del first_distance
        raise InputError.of(
            "model.decoder", self.config.decoder, "is not streamed here",
            "use reconstruct(plan='causal'), or step of tttlrm_jax.models, which gives the scene "
            "after every chunk",
        )  # fmt: skip
