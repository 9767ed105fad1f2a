"""What a run minimises and what it renders, by what its model gives and its plan."""

from collections.abc import Callable
from typing import Any, NamedTuple

from jaxtyping import Array, Float

from tttlrm_jax.config import RunConfig
from tttlrm_jax.models import gives
from tttlrm_jax.training.objectives.batches import VGG19, Batch, Rendered, StaticParts
from tttlrm_jax.training.objectives.causal import causal_images, causal_loss
from tttlrm_jax.training.objectives.decoded import decoded_images, decoded_loss
from tttlrm_jax.training.objectives.gaussians import gaussian_images, gaussian_loss
from tttlrm_jax.training.objectives.view_synthesis import synthesis_loss, synthesised_images

# (params, static, batch, key, vgg19, chunk_views) -> (loss, its terms, PSNR and counts by name)
Loss = Callable[..., tuple[Float[Array, ""], dict[str, Array]]]
# (params, static, batch, key, chunk_views) -> the targets
Images = Callable[..., Rendered]


class Objective(NamedTuple):
    """A loss and the pictures that evaluation scores."""

    loss: Loss
    images: Images


OF_GAUSSIANS = Objective(gaussian_loss, gaussian_images)
OF_EVERY_CHUNK = Objective(causal_loss, causal_images)
OF_SCENES = Objective(decoded_loss, decoded_images)
OF_IMAGES = Objective(synthesis_loss, synthesised_images)

OBJECTIVES: dict[tuple[str, str], Objective] = {
    ("gaussians", "full"): OF_GAUSSIANS,
    ("gaussians", "sequential"): OF_GAUSSIANS,
    ("gaussians", "causal"): OF_EVERY_CHUNK,
    ("scenes", "full"): OF_SCENES,
    ("scenes", "sequential"): OF_SCENES,
    ("images", "full"): OF_IMAGES,
    ("images", "sequential"): OF_IMAGES,
}


def objective_of(config: RunConfig) -> Objective:
    """The entry of `OBJECTIVES` for a run."""
    return OBJECTIVES[gives(config.model), config.train.plan]


def batch_loss(
    params: Any,
    static: StaticParts,
    batch: Batch,
    key: Array,
    vgg19: VGG19 | None = None,
    chunk_views: int | None = None,
) -> tuple[Float[Array, ""], dict[str, Array]]:
    """Loss of a run's objective, and every term with the PSNR by name.

    `chunk_views` stands in for `train.chunk_views`.
    """
    config = static.config
    chunk_views = config.train.chunk_views if chunk_views is None else chunk_views
    return objective_of(config).loss(params, static, batch, key, vgg19, chunk_views)
