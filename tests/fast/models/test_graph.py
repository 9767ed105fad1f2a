"""A model as structure and parameters: they go together by name and shape."""

import jax
import jax.numpy as jnp
import pytest
from flax import nnx

from tttlrm_jax.config import ModelConfig
from tttlrm_jax.core.errors import InputError
from tttlrm_jax.models import build_model, merge_model, split_model

CONFIG = ModelConfig(
    d_model=8, num_layers=1, patch_size=4, attention_head_dim=4, ttt_inner_factor=1.0, sh_degree=0
)


@pytest.fixture(scope="module")
def parts():
    return split_model(build_model(CONFIG))


def leaves_changed(params, change):
    """The parameters with their first top-level entry changed."""
    name = sorted(params)[0]
    return {**params, name: jax.tree.map(change, params[name])}


def test_split_and_merged_are_the_same(parts):
    graph, params = parts
    again, same = split_model(merge_model(graph, params))
    assert again == graph
    assert hash(again) == hash(graph)
    jax.tree.map(lambda a, b: None if (a == b).all() else pytest.fail("differs"), params, same)


def test_traced_parameters_merge(parts):
    graph, params = parts
    total = jax.jit(
        lambda p: sum(map(jnp.sum, jax.tree.leaves(split_model(merge_model(graph, p))[1])))
    )
    assert jnp.isfinite(total(params))


def test_parameters_of_another_order_go_by_name(parts):
    graph, params = parts
    merge_model(graph, dict(reversed(params.items())))


def test_layers_numbered_in_text_keep_their_order():
    """A file says "10", which sorts before "2"."""

    class Stack(nnx.Module):
        def __init__(self):
            self.layers = nnx.List([nnx.Param(jnp.full(1, float(i))) for i in range(11)])

    graph, params = split_model(Stack())
    in_text = {"layers": {str(number): value for number, value in params["layers"].items()}}
    merged = merge_model(graph, in_text)
    assert [float(layer[...][0]) for layer in merged.layers] == list(range(11))


@pytest.mark.parametrize("traced", [False, True])
def test_what_does_not_fit_is_named(parts, traced):
    graph, params = parts
    first = sorted(params)[0]
    missing = {name: value for name, value in params.items() if name != first}
    renamed = {**missing, "blokcs": params[first]}
    longer = leaves_changed(params, lambda x: jnp.concatenate([x, x]))
    for wrong, words in (
        (missing, rf"{first}.*are missing; take those that split_model gave"),
        (renamed, rf"{first}.* are missing; blokcs.* are unknown"),
        (longer, rf"{first}\S* \(.*\) in place of \(.*\) have another shape|have another shape"),
    ):
        merge = jax.jit(lambda p: jax.tree.leaves(split_model(merge_model(graph, p))[1])[0])
        with pytest.raises(InputError, match=words):
            merge(wrong) if traced else merge_model(graph, wrong)
