"""Training of models that give Gaussians: what these render to, and the terms of the loss."""

import math
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from tttlrm_jax.config import LossConfig, RunConfig
from tttlrm_jax.core.errors import ConfigError
from tttlrm_jax.core.geometry.poses import rigid_inverse
from tttlrm_jax.core.types import Cameras, Gaussians
from tttlrm_jax.models import merge_model, prune
from tttlrm_jax.models.decoders.gaussians import pixel_grid_of_gaussians
from tttlrm_jax.models.global_rank import hide_pruned
from tttlrm_jax.models.tttlrm import select_views
from tttlrm_jax.parallel.mesh import average, current_layout, total
from tttlrm_jax.rasterize import Rendering, render_views
from tttlrm_jax.rasterize.exchange import PartRendering, Parts, render_parts
from tttlrm_jax.training.losses.perceptual import perceptual_loss
from tttlrm_jax.training.losses.terms import (
    depth_loss,
    mean_squared_error,
    opacity_loss,
    psnr_of_mse,
)
from tttlrm_jax.training.objectives.batches import VGG19, Batch, DepthOfPart, Rendered, StaticParts


def gaussian_loss(
    params: Any, static: StaticParts, batch: Batch, key: Array, vgg19: VGG19 | None,
    chunk_views: int,
) -> tuple[Float[Array, ""], dict[str, Array]]:  # fmt: skip
    """Weighted sum of the terms of the Gaussians after all views; terms and PSNR by name."""
    config = static.config
    gaussians = _gaussians(params, static, batch, chunk_views)
    terms, rendering = loss_terms(gaussians, batch, config, key, vgg19)
    loss = weighted_sum(terms, config.loss)
    psnr_of_batch = psnr_of_mse(terms["mse"])
    return loss, dict(terms, loss=loss, psnr=psnr_of_batch, **lost_work(rendering))


def gaussian_images(
    params: Any, static: StaticParts, batch: Batch, key: Array, chunk_views: int
) -> Rendered:
    """The targets from the Gaussians after all views, pruned as in training."""
    gaussians = _gaussians(params, static, batch, chunk_views)
    shown = pruned_for_rendering(gaussians, static.config, key, batch)
    rendering = render_scenes(shown, batch.targets.cameras, static.config, batch.background)
    return Rendered(rendering.rgb[None], lost_work(rendering))


def _gaussians(params: Any, static: StaticParts, batch: Batch, chunk_views: int) -> Gaussians:
    model = merge_model(static.graph, params)
    return model(
        batch.inputs, virtual_indices=batch.virtual_index, plan=static.config.train.plan,
        chunk_views=chunk_views,
    )  # fmt: skip


def render_scenes(
    gaussians: Gaussians,
    cameras: Cameras,
    config: RunConfig,
    background: Float[Array, "batch 3"] | None = None,
) -> Rendering:
    """Renders each scene of a batch from its own cameras `[batch, view]`, one at a time.

    `background` [batch, 3] are RGB in [0, 1] of the scenes; None is `data.background` for all. On
    a mesh the result is this device's `PartRendering`.
    """
    common = jnp.asarray(config.data.background, gaussians.mean.dtype)
    parts, layout = target_parts(cameras, config), current_layout()
    bands = config.train.rendering_bands
    pictures = cameras.intrinsics.shape[1] if parts is None else parts.per_device
    deferred = _defers(config, cameras.intrinsics.shape[0] * pictures)

    def one_scene(scene):
        gaussians, cameras, own = scene
        background = common if own is None else own.astype(gaussians.mean.dtype)
        if parts is not None and layout is not None:
            held = gaussians.opacity_logit.shape[0]
            return render_parts(
                gaussians.activate(), cameras, parts, layout.table["part"],
                background=background, config=config.raster, exchange=config.mesh.exchange,
                capacity=math.ceil(config.mesh.exchange_capacity * held),
                remat=deferred, bands=bands,
            )  # fmt: skip
        return render_views(
            gaussians.activate(), cameras, background=background, config=config.raster,
            remat=deferred, bands=bands,
        )  # fmt: skip

    return jax.lax.map(one_scene, (gaussians, cameras, background))


def target_parts(cameras: Cameras, config: RunConfig) -> Parts | None:
    """How a mesh parts the targets `[batch, view]`; None on one device."""
    layout = current_layout()
    if layout is None:
        return None
    return parts_on(layout.size("part"), cameras, config)


def parts_on(devices: int, cameras: Cameras, config: RunConfig) -> Parts:
    """Parts of targets `[batch, view]` over so many devices; the perceptual loss needs whole
    images."""
    num_views, whole = cameras.intrinsics.shape[1], bool(config.loss.perceptual)
    return Parts.of(num_views, cameras.height, devices, whole=whole)


def pruned_for_rendering(
    gaussians: Gaussians, config: RunConfig, key: Array, batch: Batch
) -> Gaussians:
    """The Gaussians a run renders: all of them, or those its pruning keeps (on a mesh: shows)."""
    keep_ratio, random_ratio = config.pruning_ratios()
    if keep_ratio == 1:
        return gaussians
    if batch.input_number is not None:
        return hide_pruned(gaussians, keep_ratio, random_ratio, key, batch.input_number)
    return prune(gaussians, keep_ratio, random_ratio, key)


def loss_terms(
    gaussians: Gaussians,
    batch: Batch,
    config: RunConfig,
    key: Array,
    vgg19: VGG19 | None = None,
    arrived: Bool[Array, " view"] | None = None,
) -> tuple[dict[str, Float[Array, ""]], Rendering]:
    """Every term of the loss by name, unweighted, and the rendering of the targets.

    `gaussians` are those of all input views, or of the virtual ones. Views that have not `arrived`
    are to be hidden in them, and do not count in the terms of opacity and depth.
    """
    weights = config.loss
    rendering = render_scenes(
        pruned_for_rendering(gaussians, config, key, batch), batch.targets.cameras, config,
        batch.background,
    )  # fmt: skip
    parts = target_parts(batch.targets.cameras, config)

    def over_images(mean):
        return mean if parts is None else parts.excess * average(mean, "batch", "part")

    terms = {"mse": over_images(mean_squared_error(rendering.rgb, batch.targets.image))}
    if weights.opacity:
        terms["opacity"] = average(opacity_loss(gaussians.opacity_logit), "batch", "gaussian")
        if arrived is not None:
            terms["opacity"] /= jnp.mean(arrived.astype(terms["opacity"].dtype))
    if weights.depth:
        terms["depth"] = _input_depth_loss(gaussians, batch, config, arrived)
    if weights.mask:
        target_mask = _required(batch.target_mask, "mask", "foreground masks")
        terms["mask"] = over_images(mean_squared_error(rendering.alpha, target_mask))
    if weights.perceptual:
        assert vgg19 is not None, "the loop loads the weights the configuration names"
        distance = _perceptual(vgg19, rendering.rgb, batch.targets.image, config)
        terms["perceptual"] = over_images(distance)
    return terms, rendering


def _defers(config: RunConfig, pictures: int) -> bool:
    """Whether so many pictures of a device are made again in the backward pass: one alone has no
    others to make room for, and would be made twice for nothing."""
    return config.train.deferred_rendering and pictures > 1


def _perceptual(vgg19: VGG19, rgb: Array, target: Array, config: RunConfig) -> Float[Array, ""]:
    """The perceptual loss of images `[batch, view, height, width, 3]`; with deferred rendering one
    image after another, the network's features of which the backward pass computes again."""
    if not _defers(config, rgb.shape[0] * rgb.shape[1]):
        return perceptual_loss(vgg19, rgb, target)

    @jax.checkpoint
    def of_one(pair):
        return perceptual_loss(vgg19, *pair)

    images = [x.reshape(-1, *x.shape[-3:]) for x in (rgb, target)]
    return jnp.mean(jax.lax.map(of_one, tuple(images)))


def lost_work(rendering: Rendering) -> dict[str, Array]:
    """Counts of what the renderings of a batch left out, by name: 0 each, or
    capacity is short or Gaussians are not finite."""
    names = ["num_dropped", "num_invalid"]
    if isinstance(rendering, PartRendering):
        names.append("num_unsent")
    counts = {name: jnp.sum(getattr(rendering, name)) for name in names}
    return total(counts, "batch", "part")


def weighted_sum(terms: dict[str, Array], weights: LossConfig) -> Array:
    """The loss of terms by name, of any one shape."""
    return jnp.sum(jnp.stack([getattr(weights, n) * term for n, term in terms.items()]), axis=0)


def check_supervision(batch: Batch, config: RunConfig) -> None:
    """Raises ConfigError if a loss term is switched on that `batch` has no data for."""
    if config.loss.depth:
        _required(batch.input_depth, "depth", "depth")
    if config.loss.mask:
        _required(batch.target_mask, "mask", "foreground masks")


def _required(value, term: str, what: str):
    if value is None:
        raise ConfigError(
            f"loss.{term} is not 0 but the data source has no {what}; set loss.{term} to 0"
        )
    return value


def _input_depth_loss(gaussians: Gaussians, batch: Batch, config: RunConfig, arrived):
    depth = _required(batch.input_depth, "depth", "depth")
    share = None
    if isinstance(depth, DepthOfPart):
        depth, share = depth.z, depth.valid_share
    _, _, height, width = depth.shape
    points = pixel_grid_of_gaussians(gaussians.mean, height, width, config.model.patch_size)
    poses = select_views(batch.inputs.cameras.world_from_camera, batch.virtual_index)
    camera_from_world = rigid_inverse(poses)
    valid = depth > 0
    if arrived is not None:
        valid &= arrived[None, :, None, None]
        share = None if share is None else jnp.where(arrived[None], share, 0)
    count = None if share is None else height * width * jnp.sum(share)
    disparity = jnp.where(valid, 1 / jnp.where(valid, depth, 1.0), 0.0)
    metric = config.loss.depth_alignment == "metric"
    return depth_loss(points, camera_from_world, disparity, valid, count, metric=metric)
