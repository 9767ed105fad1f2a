"""Derivatives of two raster backends against central differences in float64, in both modes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tttlrm_jax.config import RasterConfig
from tttlrm_jax.core.types import Cameras, Splats
from tttlrm_jax.rasterize import expected_depth, render_views

HEIGHT, WIDTH, VIEWS = 7, 9, 2
STEP = 1e-6
TOLERANCE = 1e-6  # of the largest directional derivative; differences are good to about 1e-8
# antialiased, axes of the features behind the Gaussians; contract tests hold backends together
CASES = {"reference": (True, (5,)), "tiled": (False, (4, 3))}


def _arguments(rng, features):
    """Splats, poses (any matrix, not only rotations), intrinsics and background."""
    count = 6
    splats = Splats(
        mean=rng.normal(size=(count, 3), loc=[0, 0, 2.0], scale=0.4),
        quaternion=rng.normal(size=(count, 4)) * 3,
        scale=rng.uniform(0.1, 0.4, (count, 3)),
        opacity=rng.uniform(0.2, 0.9, count),
        features=rng.normal(size=(count, *features)),
    )
    poses = np.tile(np.eye(4), (VIEWS, 1, 1))
    poses[:, :3] += 0.05 * rng.normal(size=(VIEWS, 3, 4))
    intrinsics = np.array([8.0, 9.0, 4.0, 3.0]) + 0.2 * rng.normal(size=(VIEWS, 4))
    return {
        "splats": splats,
        "poses": poses,
        "intrinsics": intrinsics,
        "background": rng.uniform(size=features[-1]),
    }


def _loss(rng, config, channels):
    """Every output of `render_views` weighted at random, a function of `_arguments`."""
    size = (VIEWS, HEIGHT, WIDTH)
    weights = [rng.normal(size=shape) for shape in ((*size, channels), size, size, size)]

    def loss(arguments):
        cameras = Cameras(arguments["poses"], arguments["intrinsics"], HEIGHT, WIDTH)
        image = render_views(
            arguments["splats"], cameras, background=arguments["background"], config=config
        )
        parts = (image.rgb, image.depth, image.alpha, expected_depth(image))
        return sum(jnp.sum(p * w) for p, w in zip(parts, weights, strict=True))

    return loss


@pytest.mark.parametrize(
    "backend", ["reference", pytest.param("tiled", marks=pytest.mark.extended)]
)
def test_directional_derivatives(backend):
    """Along random directions of each argument alone, forward and reverse mode."""
    antialiased, features = CASES[backend]
    rng = np.random.default_rng(4)
    config = RasterConfig(backend=backend, antialiased=antialiased, min_alpha=1e-12)
    with jax.enable_x64(True):
        arguments = _arguments(rng, features)
        loss = _loss(rng, config, features[-1])
        gradient = jax.jit(jax.grad(loss))
        forward = jax.jit(lambda x, x_dot: jax.jvp(loss, (x,), (x_dot,)))
        grads = gradient(arguments)
        leaves, structure = jax.tree.flatten(arguments)
        still = [np.zeros_like(leaf) for leaf in leaves]
        for i, (leaf, grad) in enumerate(zip(leaves, jax.tree.leaves(grads), strict=True)):
            for _ in range(3):
                direction = rng.normal(size=leaf.shape)
                along = jax.tree.unflatten(structure, [*still[:i], direction, *still[i + 1 :]])

                def at(step, i=i, leaf=leaf, direction=direction, along=along):
                    moved = [*leaves[:i], leaf + step * direction, *leaves[i + 1 :]]
                    return forward(jax.tree.unflatten(structure, moved), along)

                expected = float(at(STEP)[0] - at(-STEP)[0]) / (2 * STEP)
                scale = np.linalg.norm(grad) * np.linalg.norm(direction)
                assert scale > 1e-3
                for actual in (np.vdot(grad, direction), at(0)[1]):
                    assert abs(float(actual) - expected) < TOLERANCE * scale, (i, actual, expected)
