"""What every decoder offers: how tokens that have read the fast weights become a scene."""

from typing import Any, ClassVar, Literal, Protocol

from jaxtyping import Array, Float

from tttlrm_jax.config import ModelConfig
from tttlrm_jax.core.types import Cameras, Views

# Gaussians are drawn by the rasterizer, pruned, refined and written; other scenes draw themselves.
Gives = Literal["gaussians", "scenes"]


class Decoder(Protocol):
    """A Flax module, made as `Decoder(config, rngs=rngs)`."""

    gives: ClassVar[Gives]

    def __init__(self, config: ModelConfig, *, rngs: Any): ...

    def queries(self, batch: int) -> Float[Array, "batch group token d_model"] | None:
        """Tokens of its own that read the fast weights; window attention joins those of a group.
        None: tokens of views (the inputs, or virtual ones) do."""
        ...

    def __call__(
        self, tokens: Float[Array, "batch group token d_model"], views: Views | None
    ) -> Any:
        """The scenes, from tokens that have read; `views` are those of the tokens, if of views.
        Gaussians, or a pytree with a leading batch axis."""
        ...


class SceneDecoder(Decoder, Protocol):
    """A decoder of scenes that draw themselves."""

    def render(
        self,
        scene: Any,
        cameras: Cameras,
        background: Float[Array, "batch 3"],
        keys: Array | None = None,
    ) -> Float[Array, "batch view height width 3"]:
        """Pictures RGB in [0, 1] of cameras [batch, view] over `background`; `keys` [batch] where
        a step of training draws anything at random."""
        ...
