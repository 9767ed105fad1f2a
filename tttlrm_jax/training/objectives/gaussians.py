"""What a run minimises: a batch, what its Gaussians render to, and the terms of the loss."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from tttlrm_jax.config import LossConfig, RunConfig
from tttlrm_jax.core.errors import ConfigError
from tttlrm_jax.core.geometry.poses import rigid_inverse
from tttlrm_jax.core.types import Cameras, Gaussians, Views
from tttlrm_jax.metrics.convolutions import Convolution
from tttlrm_jax.models import prune
from tttlrm_jax.models.decoders.gaussians import pixel_grid_of_gaussians
from tttlrm_jax.models.global_rank import hide_pruned
from tttlrm_jax.parallel.mesh import average, current_layout, total
from tttlrm_jax.rasterize import Rendering, render_views
from tttlrm_jax.rasterize.exchange import PartRendering, Parts, render_parts
from tttlrm_jax.training.losses.perceptual import perceptual_loss
from tttlrm_jax.training.losses.terms import depth_loss, mean_squared_error, opacity_loss


@flax.struct.dataclass
class DepthOfPart:
    """Depth of some of a batch's scenes, with what the loss needs to know of the others."""

    z: Float[Array, "batch view height width"]  # 0 where there is none
    valid_share: Float[Array, "batch view"]  # of this view's pixels in all scenes of the batch


@flax.struct.dataclass
class Batch:
    """Scenes with posed inputs and supervision; depth and mask where the source has them.

    On a mesh, images and masks of the targets are cut into `Parts`; their cameras are whole.
    """

    inputs: Views
    targets: Views
    target_mask: Float[Array, "batch view height width"] | None = None  # foreground coverage
    # z; 0 where none
    input_depth: Float[Array, "batch view height width"] | DepthOfPart | None = None
    input_number: Int[Array, "batch view"] | None = None  # of each input, where a mesh moved it
    background: Float[Array, "batch 3"] | None = None  # of each scene, where it is not the run's


VGG19 = tuple[Convolution, ...]


class StaticParts(NamedTuple):
    """What a step needs beside arrays: hashable, fixed for a run."""

    graph: Any  # structure of the model
    config: RunConfig


def batch_from_arrays(arrays: dict[str, Any], convert: Callable[..., Any] = jnp.asarray) -> Batch:
    """The loader's dictionary as records of arrays that `convert` makes."""

    def views(prefix: str) -> Views:
        image = convert(arrays[f"{prefix}_image"])
        cameras = Cameras(
            world_from_camera=convert(arrays[f"{prefix}_world_from_camera"]),
            intrinsics=convert(arrays[f"{prefix}_intrinsics"]),
            height=image.shape[2],
            width=image.shape[3],
        )
        return Views(image=image, cameras=cameras)

    def optional(name: str):
        return convert(arrays[name]) if name in arrays else None

    return Batch(
        inputs=views("input"),
        targets=views("target"),
        target_mask=optional("target_mask"),
        input_depth=optional("input_depth"),
        background=optional("background"),
    )


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

    def one_scene(scene):
        gaussians, cameras, own = scene
        background = common if own is None else own.astype(gaussians.mean.dtype)
        if parts is not None and layout is not None:
            held = gaussians.opacity_logit.shape[0]
            return render_parts(
                gaussians.activate(), cameras, parts, layout.table["part"],
                background=background, config=config.raster, exchange=config.mesh.exchange,
                capacity=math.ceil(config.mesh.exchange_capacity * held),
            )  # fmt: skip
        return render_views(
            gaussians.activate(), cameras, background=background, config=config.raster
        )

    return jax.lax.map(one_scene, (gaussians, cameras, background))


def target_parts(cameras: Cameras, config: RunConfig) -> Parts | None:
    """How a mesh parts the targets `[batch, view]`; None on one device."""
    layout = current_layout()
    if layout is None:
        return None
    return parts_on(layout.size("part"), cameras.intrinsics.shape[1], cameras.height, config)


def parts_on(devices: int, num_views: int, height: int, config: RunConfig) -> Parts:
    """Parts of targets over so many devices; the perceptual loss needs whole images."""
    return Parts.of(num_views, height, devices, whole=bool(config.loss.perceptual))


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

    `gaussians` are those of all input views. Views that have not `arrived` are to be hidden in
    them, and do not count in the terms of opacity and depth.
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
        distance = perceptual_loss(vgg19, rendering.rgb, batch.targets.image)
        terms["perceptual"] = over_images(distance)
    return terms, rendering


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
    camera_from_world = rigid_inverse(batch.inputs.cameras.world_from_camera)
    valid = depth > 0
    if arrived is not None:
        valid &= arrived[None, :, None, None]
        share = None if share is None else jnp.where(arrived[None], share, 0)
    count = None if share is None else height * width * jnp.sum(share)
    disparity = jnp.where(valid, 1 / jnp.where(valid, depth, 1.0), 0.0)
    metric = config.loss.depth_alignment == "metric"
    return depth_loss(points, camera_from_world, disparity, valid, count, metric=metric)
