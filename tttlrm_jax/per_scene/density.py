"""Density control of 3D Gaussian Splatting (Kerbl et al. 2023, section 5.2) in fixed room.

Gaussians that the loss pulls across the screen are too few where they are: small ones are doubled,
large ones are replaced by two smaller ones drawn from them. Faint and huge ones go. Arrays keep
their size: what goes leaves a free slot, what comes takes one, strongest pull first.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int

from tttlrm_jax.core.arrays import on_device
from tttlrm_jax.core.geometry.rotations import rotation_from_quaternion
from tttlrm_jax.core.types import Gaussians
from tttlrm_jax.per_scene.loop import FitState
from tttlrm_jax.per_scene.settings import FitConfig

GONE_LOGIT = -20.0  # of the opacity in free slots: far below what is drawn


class Densified(NamedTuple):
    """The state with new Gaussians, and counts."""

    state: FitState
    num_cloned: Int[Array, ""]
    num_split: Int[Array, ""]
    num_pruned: Int[Array, ""]
    num_refused: Int[Array, ""]  # there was no room for


def densify(state: FitState, config: FitConfig, key: Array) -> Densified:
    """Prunes, then clones and splits by the pull since the last call, which starts anew.

    A clone starts as its original with Adam at rest, so that the original moves away from it along
    its gradient. Both halves of a split are drawn from the original, `split_factor` smaller.
    """
    pruned = to_prune(state, config)
    alive = state.alive & ~pruned
    hot = alive & (mean_pull(state) > config.gradient_threshold)
    large = jnp.exp(state.gaussians.log_scale).max(axis=1) > config.split_above * state.extent

    parent, slot, granted = _give_slots(jnp.where(hot, mean_pull(state), -1.0), alive, hot)
    divided = jnp.zeros_like(hot).at[parent].set(granted) & hot & large
    key_first, key_second = jax.random.split(key)
    first = _shrunk_sample(state.gaussians, config, key_first)
    second = _shrunk_sample(state.gaussians, config, key_second)

    kept = jax.tree.map(lambda f, g: jnp.where(_like(divided, g), f, g), first, state.gaussians)
    # slots that nobody takes are written outside of the arrays: nowhere
    target = jnp.where(granted, slot, len(hot))

    def place(old, drawn, original):
        new = jnp.where(_like(large, old), drawn, original)[parent]
        return old.at[target].set(new, mode="drop")

    gaussians = jax.tree.map(place, kept, second, state.gaussians)
    born = jnp.zeros_like(hot).at[target].set(True, mode="drop")
    alive = alive | born
    logit = jnp.where(alive, gaussians.opacity_logit, GONE_LOGIT)
    moments = _rested(state.moments, born | divided | pruned)
    cloned = jnp.sum(granted & ~large[parent])
    new = state.replace(
        gaussians=gaussians.replace(opacity_logit=logit),
        moments=moments,
        alive=alive,
        pull=jnp.zeros_like(state.pull),
        seen=jnp.zeros_like(state.seen),
    )
    return Densified(
        new, cloned, jnp.sum(divided), jnp.sum(pruned), jnp.sum(hot) - jnp.sum(granted)
    )


def filled(gaussians: Gaussians, capacity: int) -> Gaussians:
    """The Gaussians [gaussian] and free slots behind them, `capacity` in all."""
    free = capacity - gaussians.mean.shape[0]
    return Gaussians(
        mean=_padded(gaussians.mean, free),
        sh=_padded(gaussians.sh, free),
        log_scale=_padded(gaussians.log_scale, free),
        quaternion=_padded(gaussians.quaternion, free, 0.5),
        opacity_logit=_padded(gaussians.opacity_logit, free, GONE_LOGIT),
    )


def with_room(state: FitState, capacity: int) -> FitState:
    """The state with more free slots, `capacity` Gaussians in all."""
    free = capacity - state.gaussians.mean.shape[0]

    def pad(tree):
        return jax.tree.map(lambda x: _padded(x, free), tree)

    moments = state.moments._replace(mu=pad(state.moments.mu), nu=pad(state.moments.nu))
    return state.replace(
        gaussians=filled(state.gaussians, capacity), moments=moments, alive=pad(state.alive),
        pull=pad(state.pull), seen=pad(state.seen),
    )  # fmt: skip


def _padded(array: Array, free: int, value: float = 0) -> Array:
    """With so many more rows of this value, made on the host: nothing compiles for the shape."""
    rows = ((0, free), *((0, 0),) * (array.ndim - 1))
    return on_device(np.pad(np.asarray(array), rows, constant_values=value))


def mean_pull(state: FitState) -> Array:
    """Mean over the views that drew each Gaussian, 0 where none did."""
    return state.pull / jnp.maximum(state.seen, 1).astype(state.pull.dtype)


def to_prune(state: FitState, config: FitConfig) -> Bool[Array, " gaussian"]:
    """Faint Gaussians and, in the world, huge ones; and any with values that are not finite."""
    stored = state.gaussians
    faint = jax.nn.sigmoid(stored.opacity_logit) < config.prune_opacity
    huge = jnp.exp(stored.log_scale).max(axis=1) > config.prune_above * state.extent
    finite = [
        jnp.isfinite(x).all(axis=tuple(range(1, x.ndim))) for x in jax.tree.leaves(stored)
    ]  # fmt: skip
    return state.alive & (faint | huge | ~jnp.stack(finite).all(axis=0))


def reset_opacity(state: FitState, config: FitConfig) -> FitState:
    """Opacities fall to `reset_opacity` at most: what the views do not need will not come back."""
    limit = jax.scipy.special.logit(jnp.asarray(config.reset_opacity, state.pull.dtype))
    logit = jnp.minimum(state.gaussians.opacity_logit, limit)
    moments = state.moments._replace(
        mu=state.moments.mu.replace(opacity_logit=jnp.zeros_like(logit)),
        nu=state.moments.nu.replace(opacity_logit=jnp.zeros_like(logit)),
    )
    return state.replace(gaussians=state.gaussians.replace(opacity_logit=logit), moments=moments)


def _give_slots(pull, alive, hot) -> tuple[Array, Array, Array]:
    """Pairs of parents and free slots [gaussian], strongest pull first, and which are given."""
    parent = jnp.argsort(-pull, stable=True)
    slot = jnp.argsort(alive, stable=True)  # free ones first
    rank = jnp.arange(len(hot))
    granted = rank < jnp.minimum(jnp.sum(hot), jnp.sum(~alive))
    return parent, slot, granted


def _shrunk_sample(gaussians: Gaussians, config: FitConfig, key: Array) -> Gaussians:
    """Every Gaussian moved to a point drawn from it, and made smaller."""
    scale = jnp.exp(gaussians.log_scale)
    local = scale * jax.random.normal(key, scale.shape, scale.dtype)
    rotation = rotation_from_quaternion(gaussians.quaternion)
    return gaussians.replace(
        mean=gaussians.mean + jnp.sum(rotation * local[:, None, :], axis=-1),
        log_scale=gaussians.log_scale - jnp.log(jnp.asarray(config.split_factor, scale.dtype)),
    )


def _rested(moments, which):
    """Adam's moments with zeros for Gaussians that are new."""
    rest = lambda tree: jax.tree.map(lambda m: jnp.where(_like(which, m), 0, m), tree)  # noqa: E731
    return moments._replace(mu=rest(moments.mu), nu=rest(moments.nu))


def _like(mask, array):
    return mask.reshape(-1, *(1,) * (array.ndim - 1))
