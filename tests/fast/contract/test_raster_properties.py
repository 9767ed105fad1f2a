"""Random scenes: every raster backend agrees with the reference in values and gradients."""

import functools

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tttlrm_jax.config import RasterConfig
from tttlrm_jax.core.types import Cameras, Splats
from tttlrm_jax.rasterize import expected_depth, render

COUNT, HEIGHT, WIDTH = 24, 11, 13
TOLERANCE = 1e-9  # of the largest entry, in float64: only the order of sums differs

scenes = st.fixed_dictionaries(
    {
        "seed": st.integers(0, 2**32 - 1),
        "log_scale": st.floats(-7, 1),
        "scale_spread": st.floats(0, 3),  # needles and discs, in powers of e
        "opacity": st.sampled_from([(0, 1), (0, 0.02), (0.9, 1), (1, 1)]),
        "distance": st.floats(0, 6),  # at 0 half of the cloud is behind the camera
        "focal": st.floats(2, 60),
        "num_broken": st.integers(0, 3),
        "num_repeated": st.integers(0, 8),  # Gaussians at the same depth
    }
)


def build(scene, dtype):
    """(splats, pose, intrinsics, background, cotangents of rgb, depth, alpha, expected depth)."""
    rng = np.random.default_rng(scene["seed"])
    splats = Splats(
        mean=rng.normal(size=(COUNT, 3), loc=[0, 0, scene["distance"]]),
        quaternion=rng.normal(size=(COUNT, 4)),
        scale=np.exp(scene["log_scale"] + scene["scale_spread"] * rng.uniform(-1, 1, (COUNT, 3))),
        opacity=rng.uniform(*scene["opacity"], COUNT),
        features=rng.normal(size=(COUNT, 4, 3)),
    )
    splats.mean[: scene["num_repeated"], 2] = splats.mean[0, 2]
    for field in ("mean", "scale", "opacity")[: scene["num_broken"]]:
        getattr(splats, field)[rng.integers(COUNT)] = rng.choice([np.nan, np.inf])
    pose = np.eye(4)
    pose[:3] += 0.05 * rng.normal(size=(3, 4))
    intrinsics = np.array([scene["focal"], 1.1 * scene["focal"], *rng.uniform(0, 11, 2)])
    size = (HEIGHT, WIDTH)
    bars = tuple(rng.normal(size=shape) for shape in ((*size, 3), size, size, size))
    everything = (splats, pose, intrinsics, rng.uniform(size=3), bars)
    return jax.tree.map(lambda x: jnp.asarray(x, dtype), everything)


@functools.cache
def compiled(backend: str):
    """Renderings and gradients of a random projection of them, for any scene."""
    config = RasterConfig(backend=backend)

    @jax.jit
    @functools.partial(jax.grad, argnums=(0, 1, 2, 3), has_aux=True)
    def run(splats, pose, intrinsics, background, bars):
        cameras = Cameras(pose, intrinsics, HEIGHT, WIDTH)
        image = render(splats, cameras, background=background, config=config, capacity=COUNT * 4)
        parts = (image.rgb, image.depth, image.alpha, expected_depth(image))
        return sum(jnp.sum(p * b) for p, b in zip(parts, bars, strict=True)), image

    return run


@pytest.mark.extended
@pytest.mark.parametrize("backend", ["tiled", "balanced"])
def test_random_scenes_agree_with_the_reference(backend):
    @hypothesis.given(scenes)
    @hypothesis.settings(max_examples=30, derandomize=True, deadline=None, database=None)
    def check(scene):
        with jax.enable_x64(True):
            arguments = build(scene, jnp.float64)
            actual, expected = compiled(backend)(*arguments), compiled("reference")(*arguments)
        assert int(expected[1].num_invalid) >= (scene["num_broken"] > 0)
        paths = jax.tree_util.tree_leaves_with_path(expected)
        for got, (path, wanted) in zip(jax.tree.leaves(actual), paths, strict=True):
            wanted = np.asarray(wanted)
            assert np.isfinite(wanted).all(), path
            limit = TOLERANCE * max(np.abs(wanted).max(), 1e-3)
            np.testing.assert_allclose(got, wanted, rtol=0, atol=limit, err_msg=str(path))

    check()
