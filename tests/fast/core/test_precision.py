"""`precision.einsum` leaves axes of length 1 out of the product, and nothing else changes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tttlrm_jax.core.arrays import on_device
from tttlrm_jax.core.precision import einsum

F32 = jnp.dtype("float32")


@pytest.mark.parametrize(
    ("spec", "shapes"),
    [
        ("bhti,bhtf->bhif", ((1, 1, 5, 3), (1, 1, 5, 4))),
        ("bhti,bhtf->bhif", ((2, 1, 5, 3), (2, 1, 5, 4))),
        ("bhti,bhif->bhtf", ((1, 2, 1, 3), (1, 2, 3, 4))),
        ("...ik,...jk->...ij", ((3, 1, 2, 1), (3, 1, 4, 1))),
        ("btd,dhg->gbht", ((1, 1, 1), (1, 1, 1))),
    ],
)
def test_products_and_gradients_with_unit_axes(spec, shapes):
    rng = np.random.default_rng(0)
    operands = [on_device(rng.standard_normal(shape), F32) for shape in shapes]

    def check(product):
        loss = jax.value_and_grad(lambda pair: jnp.sum(jnp.sin(product(*pair))))
        return jax.jit(loss)(operands)

    ours, plain = (
        check(lambda *pair: einsum(spec, *pair, dtype=F32)),
        check(lambda *pair: jnp.einsum(spec, *pair)),
    )
    assert einsum(spec, *operands, dtype=F32).shape == jnp.einsum(spec, *operands).shape
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), ours, plain)
