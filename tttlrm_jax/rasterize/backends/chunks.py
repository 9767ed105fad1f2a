"""One chunk of the lists of a group of tiles: alphas, transmittance, gradients.

Arrays are [tile, slot, pixel]: alphas of a whole chunk at once, transmittance as a running product
along its slots (never as a sum of logarithms: the stop rule depends on its rounding).
"""

import math
from typing import NamedTuple

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from tttlrm_jax.config import RasterConfig
from tttlrm_jax.rasterize.compositing import thresholds

BLOCK = 8  # slots of a chunk multiplied one after another; divides CHUNK
_FEW_CHANNELS = 8  # up to which sums are written out: short ones are faster than matrix products


class ChunkParams(NamedTuple):
    """Parameters of the Gaussians in a chunk's slots, each [tile, slot]; alpha is
    exp(log_opacity - sigma) and 0 in slots past the end of a list."""

    mean_x: Array  # px
    mean_y: Array
    conic_uu: Array
    conic_uv: Array
    conic_vv: Array
    log_opacity: Array
    features: tuple[Array, ...]


class Chunk(NamedTuple):
    """What a chunk does to the light."""

    alpha: Float[Array, "tile slot pixel"]
    clamped: Array  # bool [tile, slot, pixel]
    before: Float[Array, "tile slot pixel"]  # transmittance in front of the slot
    contributes: Array  # bool [tile, slot, pixel]
    after: Float[Array, "tile pixel"]  # behind the whole chunk, stopped or not

    @property
    def weight(self) -> Float[Array, "tile slot pixel"]:
        return jnp.where(self.contributes, self.before * self.alpha, 0)


def evaluate(
    params: ChunkParams,
    corner: tuple[Array, Array],
    transmittance: Float[Array, "tile pixel"],
    config: RasterConfig,
) -> Chunk:
    """A chunk behind `transmittance`, of tiles with the top left corners (x, y), each [tile]."""
    max_alpha, min_alpha, min_transmittance = thresholds(config, transmittance.dtype)
    raw = jnp.exp(product_exponent(params, corner, math.isqrt(transmittance.shape[-1])))
    alpha = jnp.where(raw < min_alpha, 0, jnp.minimum(raw, max_alpha))
    before, after = _running_product(1 - alpha, transmittance)
    # A drawn slot takes at least min_alpha: after one that stops, rounding revives no other.
    contributes = (before * (1 - alpha) > min_transmittance) & (alpha > 0)
    return Chunk(alpha, raw > max_alpha, before, contributes, after)


def product_exponent(params: ChunkParams, corner, side: int) -> Float[Array, "tile slot pixel"]:
    """log opacity - sigma as a matrix product: six coefficients times [1, x, y, x^2, xy, y^2].

    About the middle of the tile, where terms are small. They cancel at the Gaussian's centre, so
    that rounding may make sigma negative there: it counts as 0, unless the conic is indefinite.
    """
    uu, uv, vv = params.conic_uu, params.conic_uv, params.conic_vv
    u, v = _from_middle(params, corner, side)
    along_u, along_v = uu * u + uv * v, uv * u + vv * v
    constant = 0.5 * (along_u * u + along_v * v)
    coefficients = jnp.stack([constant, -along_u, -along_v, 0.5 * uu, uv, 0.5 * vv], axis=-1)
    sigma = _product("bkm,pm->bkp", coefficients, _monomials(u.dtype, side))
    definite = (uu * vv >= uv * uv)[..., None]
    below = jnp.where(definite, lax.stop_gradient(jnp.minimum(sigma, 0)), 0)
    exponent = params.log_opacity[..., None] - (sigma - below)
    return jnp.where(~definite & (sigma < 0), -jnp.inf, exponent)


def _from_middle(params: ChunkParams, corner, side: int):
    """Centres of Gaussians from the middle of the tile, px."""
    x, y = (c[:, None] + side / 2 for c in corner)
    return params.mean_x - x, params.mean_y - y


def _monomials(dtype, side: int) -> Float[Array, "pixel 6"]:
    """[1, x, y, x^2, xy, y^2] of pixel centres about the middle of the tile: exact numbers."""
    index = lax.iota(jnp.int32, side * side)
    x, y = ((i.astype(dtype) + 0.5) - side / 2 for i in (index % side, index // side))
    return jnp.stack([jnp.ones_like(x), x, y, x * x, x * y, y * y], axis=-1)


def _product(spec: str, *operands: Array) -> Array:
    """Accelerators would round float32 operands."""
    return jnp.einsum(spec, *operands, precision=lax.Precision.HIGHEST)


def _running_product(factor: Float[Array, "tile slot pixel"], start: Float[Array, "tile pixel"]):
    """(product of `start` and the factors in front of each slot, product of all).

    Slots are taken in blocks of BLOCK: few long operations instead of many short ones.
    """
    factor = factor.reshape(factor.shape[0], -1, BLOCK, factor.shape[-1])
    within = [jnp.ones_like(factor[:, :, 0])]
    for k in range(BLOCK):
        within.append(within[-1] * factor[:, :, k])
    blocks = [start]
    for k in range(factor.shape[1]):
        blocks.append(blocks[-1] * within[-1][:, k])
    before = jnp.stack(blocks[:-1], axis=1)[:, :, None] * jnp.stack(within[:-1], axis=2)
    return before.reshape(before.shape[0], -1, before.shape[-1]), blocks[-1]


def _sum_behind(term: Float[Array, "tile slot pixel"], end: Float[Array, "tile pixel"]):
    """(sum of `end` and the terms behind each slot, sum of all), in blocks as above."""
    term = term.reshape(term.shape[0], -1, BLOCK, term.shape[-1])
    within = [jnp.zeros_like(term[:, :, 0])]
    for k in reversed(range(BLOCK)):
        within.append(within[-1] + term[:, :, k])
    blocks = [end]
    for k in reversed(range(term.shape[1])):
        blocks.append(blocks[-1] + within[-1][:, k])
    behind = jnp.stack(blocks[-2::-1], axis=1)[:, :, None] + jnp.stack(within[-2::-1], axis=2)
    return behind.reshape(behind.shape[0], -1, behind.shape[-1]), blocks[-1]


def feature_sums(
    features: tuple[Array, ...], weight: Float[Array, "tile slot pixel"]
) -> Float[Array, "tile channel pixel"]:
    """Sum over slots of weight times feature."""
    if len(features) > _FEW_CHANNELS:
        return _product("bkd,bkp->bdp", jnp.stack(features, axis=-1), weight)
    slots = range(weight.shape[1])
    sums = [sum(f[:, k, None] * weight[:, k] for k in slots) for f in features]
    return jnp.stack([jnp.asarray(s) for s in sums], axis=1)


def _gain(features: tuple[Array, ...], feature_bar: Float[Array, "tile channel pixel"]):
    """feature . feature_bar, [tile, slot, pixel]."""
    if len(features) > _FEW_CHANNELS:
        return _product("bkd,bdp->bkp", jnp.stack(features, axis=-1), feature_bar)
    return jnp.asarray(sum(f[..., None] * feature_bar[:, None, i] for i, f in enumerate(features)))


def gradient(params: ChunkParams, chunk: Chunk, corner, feature_bar, behind):
    """(gradient [tile, slot, parameter] in the order of ChunkParams, `behind` in front).

    `behind` [tile, pixel] is what the loss gains from everything behind the chunk: the sum of
    T alpha (feature . feature_bar) plus final transmittance times its cotangent. A slot's alpha
    has the gradient T (feature . feature_bar) - (gain behind the slot) / (1 - alpha).
    """
    gain = _gain(params.features, feature_bar)
    weight = chunk.weight
    behind_slot, behind = _sum_behind(weight * gain, behind)
    alpha_bar = chunk.before * gain - behind_slot / (1 - chunk.alpha)
    # alpha = exp(log_opacity - sigma).
    raw_bar = jnp.where(chunk.contributes & ~chunk.clamped, alpha_bar * chunk.alpha, 0)
    conic = (params.conic_uu, params.conic_uv, params.conic_vv)
    geometry = jnp.stack(geometry_gradient(conic, _moments(params, raw_bar, corner)), axis=-1)
    features = _product("bkp,bdp->bkd", weight, feature_bar)
    return jnp.concatenate([geometry, features], axis=-1), behind


def _moments(params: ChunkParams, raw_bar: Float[Array, "tile slot pixel"], corner):
    """Sums over pixels of raw_bar times 1, dx, dy, dx^2, dx dy, dy^2; each [tile, slot].

    Taken about the middle of the tile, where a matrix product is exact enough, then shifted.
    """
    side = math.isqrt(raw_bar.shape[-1])
    sums = _product("bkp,pm->bkm", raw_bar, _monomials(raw_bar.dtype, side))
    return shifted_moments(*_from_middle(params, corner, side), jnp.moveaxis(sums, -1, 0))


def shifted_moments(u, v, moments) -> tuple[Array, ...]:
    """Sums of something times 1, dx, dy, dx^2, dx dy, dy^2, where (dx, dy) = (u - x, v - y), from
    its sums times 1, x, y, x^2, xy, y^2."""
    s, sx, sy, sxx, sxy, syy = moments
    dx, dy = u * s - sx, v * s - sy
    dxx = u * dx - u * sx + sxx
    dxy = u * dy - v * sx + sxy
    dyy = v * dy - v * sy + syy
    return s, dx, dy, dxx, dxy, dyy


def geometry_gradient(conic, moments) -> tuple[Array, ...]:
    """By mean, conic and log opacity; sigma = (uu dx^2 + vv dy^2) / 2 + uv dx dy."""
    uu, uv, vv = conic
    s, dx, dy, dxx, dxy, dyy = moments
    return -(uu * dx + uv * dy), -(uv * dx + vv * dy), -0.5 * dxx, -dxy, -0.5 * dyy, s
