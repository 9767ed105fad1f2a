"""From splats to what one camera sees of them: projected, coloured, and judged."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from tttlrm_jax.core.devices import target_device
from tttlrm_jax.core.geometry.spherical_harmonics import basis_components, sh_degree
from tttlrm_jax.core.types import Splats
from tttlrm_jax.rasterize.columns import join_columns, split_columns
from tttlrm_jax.rasterize.compositing import ScreenSplats, screen_splats
from tttlrm_jax.rasterize.platform import chosen_backend
from tttlrm_jax.rasterize.projection import judge, show
from tttlrm_jax.rasterize.transforms.blocks import in_blocks, in_blocks_without_derivative


def project_and_judge(splats, camera_from_world, intrinsics, height, width, config):
    """(screen splats, which Gaussians are invalid).

    With the `tiled` backend on CPU, which has first derivatives only, by blocks of Gaussians.
    """
    static, shared = (height, width, config), (camera_from_world, intrinsics)
    tiled = chosen_backend(config.backend) == "tiled" and target_device().platform == "cpu"
    if tiled and all(x.size for x in jax.tree.leaves(splats)):
        judgement = _judge_in_blocks(static, splats, shared, ())
        values = _see_in_blocks(static, (splats, shared), judgement)
    else:
        judgement = _judge(static, splats, shared, ())
        # Recomputed by the backward pass: cheaper than keeping its many intermediates.
        values = jax.checkpoint(_see, static_argnums=0)(static, splats, shared, judgement)
    screen = ScreenSplats(**values, radius=judgement.radius_opacity_aware)
    return screen, judgement.invalid


def _judge(static, splats: Splats, shared: Any, _):
    height, width, config = static
    camera_from_world, intrinsics = shared
    return judge(splats, camera_from_world, intrinsics, height, width, config)


def _see(static, splats: Splats, shared: Any, judgement) -> dict[str, Array]:
    """Fields of `ScreenSplats` that have derivatives."""
    height, width, config = static
    camera_from_world, intrinsics = shared
    projected = show(splats, judgement, camera_from_world, intrinsics, height, width, config)
    screen = colour_projected(splats, camera_from_world, projected, config)
    return {
        name: getattr(screen, name) for name in ("mean", "conic", "opacity", "feature", "depth")
    }


_judge_in_blocks, _see_in_blocks = in_blocks_without_derivative(_judge), in_blocks(_see)


def colour_projected(splats, camera_from_world, projected, config) -> ScreenSplats:
    """What `project` made of the splats, with colours and depth as features."""
    colour = _colour(splats, projected.visible, camera_from_world)
    feature = jnp.concatenate([colour, projected.depth[:, None]], axis=1)
    return screen_splats(projected, splats.opacity, feature, config)


def _colour(splats: Splats, visible, camera_from_world) -> Float[Array, "gaussian channel"]:
    """Plain features, or max(0, SH + 0.5) in the direction from the camera; 0 where culled."""
    if splats.features.ndim == 2:
        return jnp.where(visible[:, None], splats.features, 0)
    rotation, translation = camera_from_world[:3, :3], camera_from_world[:3, 3]
    # Gaussians last, as in `project`: XLA vectorises along the last axis. Sums written out: it
    # compiles others as calls of a library, which have no place in a kernel.
    offset = [
        jnp.where(visible, column, 1) + sum(rotation[k, i] * translation[k] for k in range(3))
        for i, column in enumerate(split_columns(splats.mean))
    ]
    coefficients = jnp.where(visible[None, None], splats.features.transpose(1, 2, 0), 0)
    basis = basis_components(offset, sh_degree(len(coefficients)))
    shifted = [
        sum(b * c[channel] for b, c in zip(basis, coefficients, strict=True)) + 0.5
        for channel in range(3)
    ]
    return join_columns(*(jnp.where(visible & (c > 0), c, 0) for c in shifted))
