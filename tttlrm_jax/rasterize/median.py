"""Median depth of splats: that of the Gaussian with which a ray loses the half of its light.

Expected depth lies between a silhouette and what is behind it; the median lies on one of them.
"""

import dataclasses

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from tttlrm_jax.core.devices import target_device
from tttlrm_jax.core.geometry.poses import rigid_inverse
from tttlrm_jax.core.types import Cameras, Splats, typechecked
from tttlrm_jax.rasterize.backends.tables import (
    NUM_GEOMETRY,
    image_from_tiles,
    lists_one_by_one,
    parameter_table,
)
from tttlrm_jax.rasterize.backends.tiled import PIXELS, _alpha, _raw_alpha, _read_chunk
from tttlrm_jax.rasterize.columns import join_columns
from tttlrm_jax.rasterize.compositing import ScreenSplats
from tttlrm_jax.rasterize.render import GSPLAT, RasterConfig, default_capacity, project_and_colour
from tttlrm_jax.rasterize.tile_lists import CHUNK, Static
from tttlrm_jax.rasterize.transforms.manual_axes import varying_as
from tttlrm_jax.rasterize.transforms.one_kernel import at, one_kernel, put

HALF = 0.5


@typechecked
def median_depth(
    splats: Splats,
    cameras: Cameras,
    *,
    config: RasterConfig = GSPLAT,
    capacity: int | None = None,
) -> Float[Array, "height width"]:
    """Depths of one camera, 0 where more than half of the light goes through.

    Arguments as of `render`; not differentiable. The lists of tiles are walked by the `tiled`
    backend's rules whatever `config.backend` is: tile after tile on CPU, elsewhere all at once.
    """
    height, width = cameras.height, cameras.width
    if not len(splats.mean):
        return jnp.zeros((height, width), splats.mean.dtype)
    pose = rigid_inverse(cameras.world_from_camera)
    screen = project_and_colour(splats, pose, cameras.intrinsics, height, width, config)
    room = capacity or default_capacity(len(splats.mean), height, width)
    return _walked(screen, Static(height, width, room, config))


def _walked(screen: ScreenSplats, static: Static) -> Float[Array, "height width"]:
    screen = dataclasses.replace(screen, feature=screen.feature[:, -1:])
    lists = lists_one_by_one(static, screen)
    rows = join_columns(*parameter_table(screen))
    arrays = (rows, lists.gaussian, lists.first_chunk, lists.num_chunks)
    on_cpu = target_device().platform == "cpu"
    depth = (_one_after_another if on_cpu else _all_at_once)(static, *arrays)
    return image_from_tiles(static, depth[:, None])[..., 0]


@one_kernel
def _one_after_another(static: Static, rows, gaussian, first_chunk, num_chunks):
    """Depths [tile, pixel]."""

    def walk(tile, depths):
        first, count = at(first_chunk, tile), at(num_chunks, tile)
        return put(depths, _walk_tile(static, rows, gaussian, first, count, tile), tile)

    nothing = jnp.zeros((static.num_tiles, PIXELS), rows.dtype)
    return lax.fori_loop(0, static.num_tiles, walk, varying_as((rows, gaussian), nothing))


def _all_at_once(static: Static, rows, gaussian, first_chunk, num_chunks):
    def walk(first, count, tile):
        return _walk_tile(static, rows, gaussian, first, count, tile)

    return jax.vmap(walk)(first_chunk, num_chunks, lax.iota(jnp.int32, static.num_tiles))


def _walk_tile(static: Static, rows, gaussian, first, count, tile) -> Float[Array, " pixel"]:
    """Depths of a tile, chunk after chunk until no pixel has half of its light."""

    def unfinished(carry):
        number, light, _ = carry
        return (number < count) & jnp.any(light > HALF)

    def walk_chunk(carry):
        number, *seen = carry
        chunk = _read_chunk(static, rows, gaussian, tile, first + number)
        raw = _raw_alpha(chunk)

        def pass_slot(slot, seen):
            light, depth = seen
            after = light * (1 - _alpha(static, at(raw, slot)))
            halved = (light > HALF) & (after <= HALF)
            return after, jnp.where(halved, at(chunk.params, slot)[NUM_GEOMETRY], depth)

        return number + 1, *lax.fori_loop(0, CHUNK, pass_slot, tuple(seen))

    start = (jnp.int32(0), jnp.ones(PIXELS, rows.dtype), jnp.zeros(PIXELS, rows.dtype))
    return lax.while_loop(unfinished, walk_chunk, varying_as((rows, gaussian), start))[2]
