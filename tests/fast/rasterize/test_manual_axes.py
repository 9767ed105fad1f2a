"""Rendering inside `jax.shard_map` with its check of what varies by device."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, Mesh, PartitionSpec

from tttlrm_jax.config import RasterConfig
from tttlrm_jax.core.types import Cameras, Splats
from tttlrm_jax.rasterize import render


@pytest.mark.extended
@pytest.mark.parametrize("backend", ["tiled", "balanced"])
def test_gradients_under_shard_map(backend):
    """Cameras by device, splats shared: their gradient is summed. (A mesh of one device is as
    strict.)"""
    mesh = Mesh(np.array(jax.devices()[:1]), ("seq",), axis_types=(AxisType.Auto,))
    rng = np.random.default_rng(0)
    arrays = (
        rng.normal(size=(9, 3), loc=[0, 0, 2]), rng.normal(size=(9, 4)),
        rng.uniform(0.1, 0.3, (9, 3)), rng.uniform(size=9), rng.uniform(size=(9, 1)),
    )  # fmt: skip
    splats = Splats(*(jnp.asarray(x, jnp.float32) for x in arrays))
    intrinsics = jnp.asarray([[8.0, 8.0, 4.0, 4.0]])

    def gradients(splats, intrinsics):
        def loss(splats, one):
            cameras = Cameras(jnp.eye(4), one, 8, 9)
            image = render(splats, cameras, config=RasterConfig(backend=backend), capacity=64)
            return jnp.sum(image.rgb**2)

        grads = jax.grad(loss, argnums=(0, 1))(splats, intrinsics[0])
        return grads[0], grads[1][None]

    specs = (PartitionSpec(), PartitionSpec("seq"))
    mapped = jax.shard_map(gradients, mesh=mesh, in_specs=specs, out_specs=specs, check_vma=True)
    actual, expected = (jax.jit(f)(splats, intrinsics) for f in (mapped, gradients))
    for got, wanted in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        assert np.abs(wanted).max() > 0
        np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-6)
