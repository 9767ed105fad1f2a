"""Pictures of a field: rays in portions, samples in blocks, until no light comes through.

    seen = march(field, origin, direction, background, config, key)

A portion of rays is computed again in the backward pass, so memory is that of one portion whatever
the number of rays. Its samples go front to back in blocks; a block is left out where every ray of
the portion has ended. `march_plainly` is the same by `compositing.composite`, all at once.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from tttlrm_jax.config.model import TriplaneConfig
from tttlrm_jax.volume.compositing import Marched, composite, sample_weights, steps
from tttlrm_jax.volume.sampling import box_range, importance, stratified

BLOCK = 16  # samples that are looked at together

# points [..., 3] to density [...], in 1 / units of length, and colour [..., 3] in [0, 1]
Field = Callable[[Array], tuple[Array, Array]]


def march(
    field: Field,
    origin: Float[Array, "ray 3"],
    direction: Float[Array, "ray 3"],
    background: Float[Array, " 3"],
    config: TriplaneConfig,
    key: Array | None = None,
) -> Marched:
    """What rays with unit directions see of a field in the box of `config.extent`.

    `key` draws the places of samples in their parts; None: the middles. Differentiable in what the
    field depends on, in origins and directions (but not through the places of samples), and in the
    background.
    """
    count, portion = len(origin), min(config.rays_at_a_time, len(origin))
    missing = -count % portion
    shifts = _shifts(count, config, key, origin.dtype)

    def portions(x: Array) -> Array:
        return jnp.pad(x, ((0, missing), (0, 0)), mode="edge").reshape(-1, portion, x.shape[-1])

    @jax.checkpoint
    def one(part: tuple[Array, ...]) -> Marched:
        rays = part[0], part[1]
        distance, far = sample_distances(field, *rays, part[2:], config)
        return _in_blocks(field, *rays, distance, far, background, config.min_transmittance)

    arrays = tuple(map(portions, (origin, direction, *shifts)))
    seen = jax.lax.map(one, arrays)
    return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:])[:count], seen)


def march_plainly(
    field: Field, origin: Array, direction: Array, background: Array, config: TriplaneConfig,
    key: Array | None = None,
) -> Marched:  # fmt: skip
    """`march` without portions, blocks and early ends: the reference."""
    shifts = _shifts(len(origin), config, key, origin.dtype)
    distance, far = sample_distances(field, origin, direction, shifts, config)
    density, colour = field(_points(origin, direction, distance))
    return composite(distance, far, density, colour, background, config.min_transmittance)


def sample_distances(
    field: Field,
    origin: Float[Array, "ray 3"],
    direction: Float[Array, "ray 3"],
    shifts: tuple[Array, ...],
    config: TriplaneConfig,
) -> tuple[Float[Array, "ray sample"], Float[Array, " ray"]]:
    """Sorted distances of all samples of rays, and the ends of the rays; without gradients."""
    near, far = box_range(origin, direction, config.extent)
    distance = stratified(near, far, shifts[0])
    if config.importance_samples:
        density = field(_points(origin, direction, distance))[0]
        length, whole = steps(distance, far), jnp.ones_like(far)
        weight, _ = sample_weights(density, length, whole, config.min_transmittance)
        weight = jax.lax.stop_gradient(weight)
        more = importance(distance, weight, near, far, shifts[1])
        distance = jnp.sort(jnp.concatenate([distance, more], axis=-1), axis=-1)
    return jax.lax.stop_gradient(distance), far


def _shifts(count: int, config: TriplaneConfig, key: Array | None, dtype) -> tuple[Array, ...]:
    """Places of samples in their parts, [ray, sample] of both kinds."""
    shapes = [(count, n) for n in (config.samples, config.importance_samples) if n]
    if key is None:
        return tuple(jnp.full(shape, 0.5, dtype) for shape in shapes)
    keys = jax.random.split(key, len(shapes))
    return tuple(jax.random.uniform(k, s, dtype) for k, s in zip(keys, shapes, strict=True))


def _points(origin: Array, direction: Array, distance: Array) -> Array:
    return origin[:, None] + distance[..., None] * direction[:, None]


def _in_blocks(
    field: Field, origin: Array, direction: Array, distance: Array, far: Array, background: Array,
    min_transmittance: float,
) -> Marched:  # fmt: skip
    """Compositing by blocks of samples; a block that no light reaches is not looked at."""
    rays, samples = distance.shape
    size = min(BLOCK, samples)
    missing = -samples % size
    length = jnp.pad(steps(distance, far), ((0, 0), (0, missing)))
    distance = jnp.pad(distance, ((0, 0), (0, missing)), mode="edge")

    def blocks(x: Array) -> Array:
        return jnp.moveaxis(x.reshape(rays, -1, size), 1, 0)

    def look(seen, block):
        left, rgb, alpha, depth = seen
        distance, length = block
        density, colour = field(_points(origin, direction, distance))
        weight, left = sample_weights(density, length, left, min_transmittance)
        rgb = rgb + jnp.sum(weight[..., None] * colour, axis=1)
        alpha = alpha + jnp.sum(weight, axis=1)
        return left, rgb, alpha, depth + jnp.sum(weight * distance, axis=1)

    def body(seen, block):
        reached = jnp.any(seen[0] >= min_transmittance)
        return jax.lax.cond(reached, look, lambda seen, block: seen, seen, block), None

    nothing = jnp.zeros_like(far)
    begin = (jnp.ones_like(far), jnp.zeros_like(origin), nothing, nothing)
    (_, rgb, alpha, depth), _ = jax.lax.scan(body, begin, (blocks(distance), blocks(length)))
    return Marched(rgb + (1 - alpha)[:, None] * background[None], alpha, depth)
