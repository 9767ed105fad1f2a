"""One training step as a pure function: batch and state in, state and metrics out."""

from typing import Any, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from tttlrm_jax.config import RunConfig
from tttlrm_jax.decoders import pixel_grid_of_gaussians
from tttlrm_jax.errors import ConfigError
from tttlrm_jax.evaluation.metrics import psnr
from tttlrm_jax.geometry.cameras import rigid_inverse
from tttlrm_jax.models import merge_model, prune
from tttlrm_jax.rasterize import Rendering, render_views
from tttlrm_jax.training.losses import (
    depth_loss,
    mean_squared_error,
    opacity_loss,
    psnr_of_mse,
)
from tttlrm_jax.training.optimizer import guarded_gradients, make_optimizer
from tttlrm_jax.training.perceptual import Convolution, perceptual_loss
from tttlrm_jax.types import Cameras, Gaussians, Views


@flax.struct.dataclass
class TrainState:
    """All that one step hands to the next."""

    step: Int[Array, ""]  # batches seen
    params: Any
    opt_state: Any
    num_skipped: Int[Array, ""]  # steps that changed nothing


@flax.struct.dataclass
class Batch:
    """Scenes with posed inputs and supervision; depth and mask where the source has them."""

    inputs: Views
    targets: Views
    target_mask: Float[Array, "batch view height width"] | None = None  # foreground coverage
    input_depth: Float[Array, "batch view height width"] | None = None  # z; 0 where none


VGG19 = tuple[Convolution, ...]


class StaticParts(NamedTuple):
    """What a step needs beside arrays: hashable, fixed for a run."""

    graph: Any  # structure of the model
    config: RunConfig


def batch_from_arrays(arrays: dict[str, Any]) -> Batch:
    """The loader's dictionary as records."""

    def views(prefix: str) -> Views:
        image = jnp.asarray(arrays[f"{prefix}_image"])
        cameras = Cameras(
            world_from_camera=jnp.asarray(arrays[f"{prefix}_world_from_camera"]),
            intrinsics=jnp.asarray(arrays[f"{prefix}_intrinsics"]),
            height=image.shape[2],
            width=image.shape[3],
        )
        return Views(image=image, cameras=cameras)

    def optional(name: str):
        return jnp.asarray(arrays[name]) if name in arrays else None

    return Batch(
        inputs=views("input"),
        targets=views("target"),
        target_mask=optional("target_mask"),
        input_depth=optional("input_depth"),
    )


def init_train_state(params: Any, config: RunConfig) -> TrainState:
    """State before the first step."""
    optimizer = make_optimizer(config.optimizer, config.train.num_steps)
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        opt_state=optimizer.init(params),
        num_skipped=jnp.zeros((), jnp.int32),
    )


def render_scenes(gaussians: Gaussians, cameras: Cameras, config: RunConfig) -> Rendering:
    """Renders each scene of a batch from its own cameras `[batch, view]`, one at a time."""
    background = jnp.asarray(config.data.background, gaussians.mean.dtype)

    def one_scene(scene):
        gaussians, cameras = scene
        return render_views(
            gaussians.activate(), cameras, background=background, config=config.raster
        )

    return jax.lax.map(one_scene, (gaussians, cameras))


def pruned_for_rendering(gaussians: Gaussians, config: RunConfig, key: Array) -> Gaussians:
    """The Gaussians a run renders: all of them, or those its pruning keeps."""
    if config.train.keep_ratio == 1:
        return gaussians
    return prune(gaussians, config.train.keep_ratio, config.train.random_ratio, key)


def batch_loss(
    params: Any, static: StaticParts, batch: Batch, key: Array, vgg19: VGG19 | None = None
) -> tuple[Float[Array, ""], dict[str, Array]]:
    """Weighted sum of the loss terms, and every term with the PSNR by name."""
    config, weights = static.config, static.config.loss
    model = merge_model(static.graph, params)
    gaussians = model(batch.inputs, plan=config.train.plan, chunk_views=config.train.chunk_views)
    shown = pruned_for_rendering(gaussians, config, key)
    rendering = render_scenes(shown, batch.targets.cameras, config)

    terms = {"mse": mean_squared_error(rendering.rgb, batch.targets.image)}
    if weights.opacity:
        terms["opacity"] = opacity_loss(gaussians.opacity_logit)
    if weights.depth:
        terms["depth"] = _input_depth_loss(gaussians, batch, config)
    if weights.mask:
        target_mask = _required(batch.target_mask, "mask", "foreground masks")
        terms["mask"] = mean_squared_error(rendering.alpha, target_mask)
    if weights.perceptual:
        assert vgg19 is not None, "the loop loads the weights the configuration names"
        terms["perceptual"] = perceptual_loss(vgg19, rendering.rgb, batch.targets.image)
    loss = jnp.sum(jnp.stack([getattr(weights, name) * term for name, term in terms.items()]))
    metrics = dict(
        terms,
        loss=loss,
        psnr=psnr_of_mse(terms["mse"]),
        num_dropped=jnp.sum(rendering.num_dropped),
    )
    return loss, metrics


def _required(value, term: str, what: str):
    if value is None:
        raise ConfigError(
            f"loss.{term} is not 0 but the data source has no {what}; set loss.{term} to 0"
        )
    return value


def _input_depth_loss(gaussians: Gaussians, batch: Batch, config: RunConfig):
    depth = _required(batch.input_depth, "depth", "depth")
    _, _, height, width = depth.shape
    points = pixel_grid_of_gaussians(gaussians.mean, height, width, config.model.patch_size)
    camera_from_world = rigid_inverse(batch.inputs.cameras.world_from_camera)
    valid = depth > 0
    disparity = jnp.where(valid, 1 / jnp.where(valid, depth, 1.0), 0.0)
    metric = config.loss.depth_alignment == "metric"
    return depth_loss(points, camera_from_world, disparity, valid, metric=metric)


def train_step(
    state: TrainState, batch: Batch, static: StaticParts, vgg19: VGG19 | None = None
) -> tuple[TrainState, dict[str, Array]]:
    """Gradient, guard, AdamW. A refused step keeps parameters and moments, and is counted."""
    config = static.config
    key_prune = jax.random.fold_in(jax.random.key(config.train.seed), state.step)
    grad_function = jax.grad(batch_loss, has_aux=True)
    grads, metrics = grad_function(state.params, static, batch, key_prune, vgg19)
    grads, norm, accept = guarded_gradients(grads, metrics["loss"], state.step, config.optimizer)
    optimizer = make_optimizer(config.optimizer, config.train.num_steps)
    updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)

    def if_accepted(new, old):
        return jax.tree.map(lambda n, o: jnp.where(accept, n, o), new, old)

    new_state = TrainState(
        step=state.step + 1,
        params=if_accepted(params, state.params),
        opt_state=if_accepted(opt_state, state.opt_state),
        num_skipped=state.num_skipped + (1 - accept.astype(jnp.int32)),
    )
    return new_state, dict(metrics, grad_norm=norm, num_skipped=new_state.num_skipped)


def predict(params: Any, static: StaticParts, batch: Batch) -> tuple[Rendering, dict[str, Array]]:
    """Renderings of a batch's targets, pruned as in training, with the PSNR of each scene."""
    config = static.config
    model = merge_model(static.graph, params)
    gaussians = model(batch.inputs, plan=config.train.plan, chunk_views=config.train.chunk_views)
    shown = pruned_for_rendering(gaussians, config, jax.random.key(config.train.seed))
    rendering = render_scenes(shown, batch.targets.cameras, config)
    return rendering, {
        "psnr": jnp.mean(psnr(rendering.rgb, batch.targets.image), axis=1),
        "num_dropped": jnp.sum(rendering.num_dropped),
    }
