"""Training of the LVSM: target images come from the network itself, without Gaussians."""

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from tttlrm_jax.config import RunConfig
from tttlrm_jax.config.validation import require
from tttlrm_jax.models import gives, merge_model
from tttlrm_jax.parallel.mesh import average
from tttlrm_jax.training.losses.perceptual import perceptual_loss
from tttlrm_jax.training.losses.terms import mean_squared_error, psnr_of_mse
from tttlrm_jax.training.objectives.batches import VGG19, Batch, Rendered, StaticParts
from tttlrm_jax.training.objectives.gaussians import weighted_sum

OF_GAUSSIANS = ("opacity", "depth", "mask")  # terms of the loss that need them


def synthesis_loss(
    params: Any, static: StaticParts, batch: Batch, key: Array, vgg19: VGG19 | None,
    chunk_views: int,
) -> tuple[Float[Array, ""], dict[str, Array]]:  # fmt: skip
    """Squared error and, with a weight, perceptual distance; nothing is drawn at random.

    On a mesh (of scenes alone) they are means over the scenes of all devices.
    """
    del key
    rgb = _synthesised(params, static, batch, chunk_views)
    terms = {"mse": mean_squared_error(rgb, batch.targets.image)}
    weights = static.config.loss
    if weights.perceptual:
        assert vgg19 is not None, "the loop loads the weights the configuration names"
        terms["perceptual"] = perceptual_loss(vgg19, rgb, batch.targets.image)
    terms = average(terms, "batch")
    loss = weighted_sum(terms, weights)
    return loss, dict(terms, loss=loss, psnr=psnr_of_mse(terms["mse"]), **nothing_lost())


def synthesised_images(
    params: Any, static: StaticParts, batch: Batch, key: Array, chunk_views: int
) -> Rendered:
    """The targets as the network draws them."""
    del key
    return Rendered(_synthesised(params, static, batch, chunk_views)[None], nothing_lost())


def _synthesised(
    params: Any, static: StaticParts, batch: Batch, chunk_views: int
) -> Float[Array, "batch view height width 3"]:
    """Images in [0, 1] of a batch's targets."""
    model = merge_model(static.graph, params)
    plan = static.config.train.plan
    return model(batch.inputs, batch.targets.cameras, plan=plan, chunk_views=chunk_views)


def nothing_lost() -> dict[str, Array]:
    """The counts of renderings, 0 each."""
    return {name: jnp.zeros((), jnp.int32) for name in ("num_dropped", "num_invalid")}


def check_without_gaussians(config: RunConfig) -> None:
    """Raises ConfigError for settings of a run that a model without Gaussians cannot have."""
    model, train, over = config.model, config.train, config.mesh
    given = gives(model)
    who = "model.kind=lvsm" if given == "images" else f"model.decoder={model.decoder}"
    limit = f"needs Gaussians, which {who} has not"
    for term in OF_GAUSSIANS:
        weight = getattr(config.loss, term)
        require(weight == 0, f"loss.{term}", weight, limit, f"set loss.{term} to 0")
    kept = config.pruning_ratios()[0]
    require(
        kept == 1, "train.keep_ratio", kept, f"prunes Gaussians, which {who} has not",
        "set it to 1, without train.published_pruning",
    )  # fmt: skip
    virtual = config.data.num_virtual_views
    require(virtual is None, "data.num_virtual_views", virtual, limit, "leave it out")
    limit = f"is not trained for {who}"
    require(train.plan != "causal", "train.plan", train.plan, limit, "use full or sequential")
    require(
        model.across_views == "ttt" or given == "images", "model.across_views",
        model.across_views, f"keeps nothing that the tokens of {who} could read", "use ttt",
    )  # fmt: skip
    require(
        over.seq == over.fsdp == 1, "mesh.seq, mesh.fsdp", (over.seq, over.fsdp),
        f"part views, which {who} cannot", "use mesh.data alone",
    )  # fmt: skip


def check_crop(config: RunConfig) -> None:
    """Raises ConfigError for a crop where whole pictures are drawn."""
    given, crop = gives(config.model), config.train.crop
    require(
        crop is None or given == "scenes", "train.crop", crop,
        f"is of decoders that draw rays, and this model gives {given}", "leave it out",
    )  # fmt: skip
