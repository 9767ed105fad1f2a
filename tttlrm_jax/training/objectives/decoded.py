"""Training of decoders whose scenes draw themselves, such as triplanes: loss on parts of targets.

With `train.crop` the loss is of a part of each target, a square of so many pixels at a random
place: of its camera, with another principal point, so that nothing outside of it is drawn.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from tttlrm_jax.core.types import Cameras, Views
from tttlrm_jax.models import merge_model
from tttlrm_jax.parallel.mesh import average, axes_of
from tttlrm_jax.training.losses.perceptual import perceptual_loss
from tttlrm_jax.training.losses.terms import mean_squared_error, psnr_of_mse
from tttlrm_jax.training.objectives.batches import VGG19, Batch, Rendered, StaticParts
from tttlrm_jax.training.objectives.gaussians import weighted_sum
from tttlrm_jax.training.objectives.view_synthesis import nothing_lost


def decoded_loss(
    params: Any, static: StaticParts, batch: Batch, key: Array, vgg19: VGG19 | None,
    chunk_views: int,
) -> tuple[Float[Array, ""], dict[str, Array]]:  # fmt: skip
    """Squared error and, with a weight, perceptual distance, over the parts that are drawn.

    On a mesh (of scenes alone) they are means over the scenes of all devices; what is drawn at
    random of a scene is the same on every mesh.
    """
    config = static.config
    keys = _scene_keys(key, len(batch.targets.image))
    targets = batch.targets
    if config.train.crop is not None:
        targets = random_crops(targets, config.train.crop, keys[:, 0])
    rgb = _drawn(params, static, batch, targets.cameras, chunk_views, keys[:, 1])
    terms = {"mse": mean_squared_error(rgb, targets.image)}
    if config.loss.perceptual:
        assert vgg19 is not None, "the loop loads the weights the configuration names"
        terms["perceptual"] = perceptual_loss(vgg19, rgb, targets.image)
    terms = average(terms, "batch")
    loss = weighted_sum(terms, config.loss)
    return loss, dict(terms, loss=loss, psnr=psnr_of_mse(terms["mse"]), **nothing_lost())


def decoded_images(
    params: Any, static: StaticParts, batch: Batch, key: Array, chunk_views: int
) -> Rendered:
    """The whole targets; nothing is drawn at random."""
    del key
    rgb = _drawn(params, static, batch, batch.targets.cameras, chunk_views, None)
    return Rendered(rgb[None], nothing_lost())


def _drawn(
    params: Any, static: StaticParts, batch: Batch, cameras: Cameras, chunk_views: int,
    keys: Array | None,
) -> Float[Array, "batch view height width 3"]:  # fmt: skip
    """Pictures of the scenes that the inputs of a batch decode to."""
    config, model = static.config, merge_model(static.graph, params)
    scene = model(batch.inputs, plan=config.train.plan, chunk_views=chunk_views)
    dtype = batch.inputs.image.dtype
    background = jnp.broadcast_to(
        jnp.asarray(config.data.background, dtype), (len(batch.inputs.image), 3)
    )
    if batch.background is not None:
        background = batch.background.astype(dtype)
    return model.decoder.render(scene, cameras, background, keys)


def _scene_keys(key: Array, batch: int) -> Array:
    """Two keys for each scene [batch, 2], by the scene's number among those of all devices."""
    axes = axes_of("batch")
    first = jax.lax.axis_index(axes) * batch if axes else 0
    numbers = first + jnp.arange(batch)
    return jax.vmap(lambda number: jax.random.split(jax.random.fold_in(key, number)))(numbers)


def random_crops(views: Views, side: int, keys: Array) -> Views:
    """A square part of each view [batch, view], `side` px wide, with the camera that sees just it.

    `keys` [batch] draw its place, uniformly among those inside of the picture.
    """
    num_views, height, width = views.image.shape[1:4]

    def places(key: Array) -> Int[Array, "view 2"]:
        rooms = zip(jax.random.split(key), (height - side + 1, width - side + 1), strict=True)
        return jnp.stack([jax.random.randint(k, (num_views,), 0, n) for k, n in rooms], axis=-1)

    corners = jax.vmap(places)(keys)

    def cut(image: Array, corner: Int[Array, "2"]) -> Array:
        return jax.lax.dynamic_slice(image, (corner[0], corner[1], 0), (side, side, 3))

    cameras = views.cameras
    moved = jnp.concatenate([jnp.zeros_like(corners), corners[..., ::-1]], axis=-1)
    lens = cameras.intrinsics - moved.astype(cameras.intrinsics.dtype)
    image = jax.vmap(jax.vmap(cut))(views.image, corners)
    return Views(image, Cameras(cameras.world_from_camera, lens, side, side))
