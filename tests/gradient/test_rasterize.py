"""Derivatives of the reference rasterizer against central differences in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tttlrm_jax.config import RasterConfig
from tttlrm_jax.rasterize import render_from_matrix
from tttlrm_jax.types import Splats

HEIGHT, WIDTH = 7, 9
STEP = 1e-6
TOLERANCE = 1e-6  # of the largest directional derivative; differences are good to about 1e-8


def _arguments(rng):
    count = 6
    splats = Splats(
        mean=rng.normal(size=(count, 3), loc=[0, 0, 2.0], scale=0.4),
        quaternion=rng.normal(size=(count, 4)) * 3,
        scale=rng.uniform(0.1, 0.4, (count, 3)),
        opacity=rng.uniform(0.2, 0.9, count),
        features=rng.normal(size=(count, 4, 3)),
    )
    matrix = np.eye(4)
    matrix[:3] += 0.05 * rng.normal(size=(3, 4))
    intrinsics = np.array([8.0, 9.0, 4.0, 3.0])
    arguments = {
        "splats": splats,
        "camera_from_world": matrix,
        "intrinsics": intrinsics,
        "background": rng.uniform(size=3),
    }
    return jax.tree.map(lambda x: jnp.asarray(x, jnp.float64), arguments)


@pytest.mark.parametrize("antialiased", [False, True])
def test_directional_derivatives(antialiased):
    """Along random directions of each argument alone, every output weighted at random."""
    rng = np.random.default_rng(4)
    config = RasterConfig(backend="reference", antialiased=antialiased, min_alpha=1e-12)
    with jax.enable_x64(True):
        arguments = _arguments(rng)
        weights = [
            jnp.asarray(rng.normal(size=shape), jnp.float64)
            for shape in ((HEIGHT, WIDTH, 3), (HEIGHT, WIDTH), (HEIGHT, WIDTH))
        ]

        @jax.jit
        def loss(arguments):
            image = render_from_matrix(**arguments, height=HEIGHT, width=WIDTH, config=config)
            parts = (image.rgb, image.depth, image.alpha)
            return sum(jnp.sum(p * w) for p, w in zip(parts, weights, strict=True))

        grads = jax.jit(jax.grad(loss))(arguments)
        leaves, structure = jax.tree.flatten(arguments)
        for i, (leaf, grad) in enumerate(zip(leaves, jax.tree.leaves(grads), strict=True)):
            for _ in range(3):
                direction = rng.normal(size=leaf.shape)

                def at(step, i=i, leaf=leaf, direction=direction):
                    moved = [*leaves[:i], leaf + step * direction, *leaves[i + 1 :]]
                    return float(loss(jax.tree.unflatten(structure, moved)))

                expected = (at(STEP) - at(-STEP)) / (2 * STEP)
                actual = float(jnp.sum(grad * direction))
                scale = np.linalg.norm(grad) * np.linalg.norm(direction)
                assert scale > 1e-3
                assert abs(actual - expected) < TOLERANCE * scale, (i, actual, expected)
