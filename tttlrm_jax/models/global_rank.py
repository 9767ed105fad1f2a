"""Pruning by the opacity rank among all Gaussians of a scene, where devices hold a part each.

Nothing is gathered: the k-th largest value is found digit by digit from counts, which are summed
over devices, and Gaussians that are not kept are hidden in place. What is kept by opacity is
exactly what `tttlrm.prune` keeps, ties included (the earlier Gaussian, in the order of devices).
The random rest is as many, drawn without replacement by the numbers that each Gaussian's view and
place give: the same on every mesh, but other ones than `prune` draws.
"""

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int, UInt32

from tttlrm_jax.core.types import Gaussians
from tttlrm_jax.models.streaming import HIDDEN_OPACITY_LOGIT
from tttlrm_jax.models.tttlrm import keep_counts
from tttlrm_jax.parallel.mesh import axes_of, current_layout, total
from tttlrm_jax.rasterize.sorting import ordered_bits

_DIGIT_BITS = 4
_WORD_BITS = 32


def hide_pruned(
    gaussians: Gaussians,
    keep_ratio: float,
    random_ratio: float,
    key: Array,
    view_number: Int[Array, "batch view"],
) -> Gaussians:
    """Hides all but the most opaque share, and a random share of the rest, of each scene.

    `view_number` numbers the views of this device's `gaussians` `[batch, gaussian]` in the scene.
    """
    layout = current_layout()
    devices = 1 if layout is None else layout.size("gaussian")
    held = gaussians.opacity_logit.shape[1]
    keep, num_random = keep_counts(held * devices, keep_ratio, random_ratio)
    kept = largest(opacity_key(gaussians.opacity_logit), keep)
    if num_random:
        lots = _lots(key, view_number, held // view_number.shape[1])
        kept |= largest(jnp.where(kept, 0, lots | 1), num_random)
    hidden = jnp.where(kept, gaussians.opacity_logit, HIDDEN_OPACITY_LOGIT)
    return gaussians.replace(opacity_logit=hidden)


def opacity_key(opacity_logit: Float[Array, "*shape"]) -> UInt32[Array, "*shape"]:
    """`ordered_bits` in which NaN is the smallest."""
    return jnp.where(jnp.isnan(opacity_logit), jnp.uint32(0), ordered_bits(opacity_logit))


def largest(rank_key: UInt32[Array, "batch held"], count: int) -> Bool[Array, "batch held"]:
    """Marks the `count` largest of each scene over all devices, the earlier ones among equals."""
    if count == 0:
        return jnp.zeros(rank_key.shape, bool)
    bound = _nth_largest(rank_key, count)[:, None]
    above, equal = rank_key > bound, rank_key == bound
    room = count - total(jnp.sum(above, axis=1, dtype=jnp.int32), "gaussian")
    here = jnp.cumsum(equal, axis=1, dtype=jnp.int32)
    place = here + _on_earlier_devices(here[:, -1])[:, None]
    return above | (equal & (place <= room[:, None]))


def _nth_largest(rank_key: UInt32[Array, "batch held"], count: int) -> UInt32[Array, " batch"]:
    """The largest bound that at least `count` keys reach: eight sums of 15 counts over devices."""
    bound = jnp.zeros(rank_key.shape[0], jnp.uint32)
    for shift in reversed(range(0, _WORD_BITS, _DIGIT_BITS)):
        bounds = bound[:, None] + (jnp.arange(1, 1 << _DIGIT_BITS, dtype=jnp.uint32) << shift)[None]
        reach = [jnp.sum(rank_key >= b[:, None], axis=1, dtype=jnp.int32) for b in bounds.T]
        reach = total(jnp.stack(reach, axis=1), "gaussian")
        digit = jnp.sum(reach >= count, axis=1).astype(jnp.uint32)
        bound = bound + (digit << shift)
    return bound


def _on_earlier_devices(number: Int[Array, " batch"]) -> Int[Array, " batch"]:
    """Sum of the numbers of the devices before this one."""
    axes = axes_of("gaussian")
    if not axes:
        return jnp.zeros_like(number)
    each = lax.all_gather(number, axes)
    before = jnp.arange(each.shape[0]) < lax.axis_index(axes)
    return jnp.sum(jnp.where(before[:, None], each, 0), axis=0)


def _lots(key: Array, view_number: Int[Array, "batch view"], per_view: int) -> UInt32[Array, "..."]:
    """Random numbers [batch, gaussian] that depend on the view's number and the place in it."""

    def of_view(number):
        return jax.random.bits(jax.random.fold_in(key, number), (per_view,), jnp.uint32)

    return jax.vmap(jax.vmap(of_view))(view_number).reshape(view_number.shape[0], -1)
