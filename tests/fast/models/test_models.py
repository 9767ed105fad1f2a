"""tttLRM and LVSM as wholes: equal ways to say the same, batches, precision, bad input."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.ad_checkpoint import print_saved_residuals

from tests.fast.cutting import cut
from tttlrm_jax.config import ModelConfig, published_ratios
from tttlrm_jax.core.arrays import on_device
from tttlrm_jax.core.errors import InputError
from tttlrm_jax.core.types import Cameras, Gaussians, Views
from tttlrm_jax.models import build_model, gaussian_usage, prune
from tttlrm_jax.models.nn.block import Block, initial_states, run_blocks
from tttlrm_jax.models.nn.stacking import rematerialised
from tttlrm_jax.ttt import full_plan

CONFIG = ModelConfig(
    d_model=16, num_layers=2, patch_size=4, attention_head_dim=8, num_ttt_heads=2,
    ttt_inner_factor=1.0, mlp_factor=2.0, sh_degree=1, output_norm="head",
    newton_schulz_dtype="float32",
)  # fmt: skip


def make_views(batch=2, view=4, height=8, width=12, seed=0) -> Views:
    rng = np.random.default_rng(seed)
    pose = np.tile(np.eye(4, dtype=np.float32), (batch, view, 1, 1))
    pose[..., :3, 3] = rng.standard_normal((batch, view, 3))
    lens = np.tile(np.float32([width, width, width / 2, height / 2]), (batch, view, 1))
    image = rng.uniform(size=(batch, view, height, width, 3))
    cameras = Cameras(on_device(pose), on_device(lens), height, width)
    return Views(on_device(image, np.float32), cameras)


def select(views: Views, index) -> Views:
    return cut(views, index)


@pytest.fixture(scope="module")
def model():
    return build_model(CONFIG, seed=1)


def assert_equal(actual, expected, atol=2e-4):
    """Positions reach hundreds of units: errors count relative to the largest entry."""

    def check(a, b):
        np.testing.assert_allclose(a, b, atol=atol * max(1.0, float(np.abs(b).max())))

    jax.tree.map(check, actual, expected)


@pytest.mark.parametrize(("plan", "chunk_views"), [("full", 1), ("sequential", 2)])
def test_virtual_views_given_in_three_ways(model, plan, chunk_views):
    views = make_views()
    run = jax.jit(functools.partial(model, views, plan=plan, chunk_views=chunk_views))
    default = run()
    assert default.mean.shape == (2, 4 * 8 * 12, 3)
    assert_equal(run(virtual=views), default)
    indices = jnp.asarray([[2, 0], [1, 3]])
    chosen = jax.tree.map(
        lambda x: jnp.stack([x[scene, index] for scene, index in enumerate(indices)]), views
    )
    by_index = run(virtual_indices=indices)
    assert by_index.mean.shape == (2, 2 * 8 * 12, 3)
    assert_equal(by_index, run(virtual=chosen))


def test_batch_of_two_is_two_scenes_and_order_of_views_is_free(model):
    views, run = make_views(), jax.jit(functools.partial(model))
    both = run(views)
    for scene in range(2):
        alone = run(select(views, slice(scene, scene + 1)))
        assert_equal(alone, select(both, slice(scene, scene + 1)))
    order = np.array([3, 1, 0, 2])
    shuffled = run(cut(views, slice(None), order))
    per_view = np.asarray(both.opacity_logit).reshape(2, 4, -1)[:, order].reshape(2, -1)
    assert_equal(shuffled.opacity_logit, per_view)


def test_scanned_layers_equal_a_python_loop(model):
    x = on_device(np.random.default_rng(0).standard_normal((2, 3, 6, 16)), np.float32)
    operations = full_plan(12, 18)
    scanned, states = jax.jit(lambda x: run_blocks(model.blocks, x, operations))(x)
    graph, params = nnx.split(model.blocks)

    @jax.jit
    def run(params, x):
        block = nnx.merge(graph, params)
        return block(x, operations, block.ttt.initial_state(2))

    for layer in range(2):
        x, state = run(cut(params, layer), x)
        assert_equal(state, cut(states, layer))
    assert_equal(scanned, x)


def test_explicit_initial_states_change_nothing(model):
    x = on_device(np.random.default_rng(0).standard_normal((1, 2, 6, 16)), np.float32)
    operations = full_plan(12, 12)
    states = initial_states(model.blocks, 1)
    run = jax.jit(lambda states: run_blocks(model.blocks, x, operations, states)[0])
    plain, given = run(None), run(states)
    assert_equal(given, plain, atol=1e-6)


def gradients(config, views):
    graph, params = nnx.split(build_model(config, seed=1))

    def scalar(params):
        return jnp.sum(jnp.tanh(nnx.merge(graph, params)(views).opacity_logit))

    return jax.jit(jax.grad(scalar))(params)


@pytest.fixture(scope="module")
def plain_gradients():
    return gradients(CONFIG, make_views(batch=1, view=2))


@pytest.mark.parametrize(
    "remat",
    ["linear", *(pytest.param(each, marks=pytest.mark.extended) for each in ("block", "dots"))],
)
def test_rematerialisation_changes_no_gradient(plain_gradients, remat):
    config = dataclasses.replace(CONFIG, remat=remat)
    assert_equal(gradients(config, make_views(batch=1, view=2)), plain_gradients)


@pytest.fixture
def kept_by(capsys):
    """`kept_by(policy, dtype)`: shapes that the backward pass of a block of one scene and head
    keeps. Products of fast weights (12 tokens, 80 hidden) have no batch axes either."""

    def call(policy, dtype):
        config = dataclasses.replace(
            CONFIG, num_ttt_heads=1, ttt_inner_factor=5.0, compute_dtype=dtype
        )
        graph, params = nnx.split(Block(config, rngs=nnx.Rngs(0)))

        def body(params, tokens):
            block = nnx.merge(graph, params)
            state = block.ttt.initial_state(1)
            return block(tokens, full_plan(12, 12), state)[0]

        kept = rematerialised(body, policy)
        print_saved_residuals(
            lambda params, tokens: jnp.sum(kept(params, tokens)), params, jnp.ones((1, 2, 6, 16))
        )
        said = [line for line in capsys.readouterr().out.splitlines() if "argument" not in line]
        return sorted(line.split("]")[0].split("[")[1] for line in said)

    return call


def test_linear_keeps_what_linear_layers_give_alone(kept_by):
    """Those of the fast weights would outweigh them."""
    shapes = ["12,48", "12,16", "12,48", "12,3", "12,16", "12,32"]
    assert kept_by("linear", "float32") == sorted(shapes)


def test_dots_keeps_products_of_fast_weights_in_any_precision(kept_by):
    """On a CPU narrow ones have a derivative of their own."""
    wide, narrow = (
        {shape for shape in kept_by("dots", dtype) if "80" in shape.split(",")}
        for dtype in ("float32", "bfloat16")
    )
    assert wide == narrow
    assert "12,80" in wide


def test_program_does_not_grow_with_depth():
    """The trunk is scanned: 8 layers trace to as many equations as 2."""

    def count(jaxpr) -> int:
        inner = (
            sub.jaxpr
            for eqn in jaxpr.eqns
            for value in eqn.params.values()
            for sub in (value if isinstance(value, tuple) else (value,))
            if hasattr(sub, "jaxpr")
        )
        return len(jaxpr.eqns) + sum(count(sub) for sub in inner)

    def equations(num_layers) -> int:
        deep = build_model(dataclasses.replace(CONFIG, num_layers=num_layers))
        graph, params = nnx.split(deep)
        views = make_views(batch=1)

        def scalar(params):
            return jnp.sum(nnx.merge(graph, params)(views, plan="sequential").mean)

        return count(jax.make_jaxpr(jax.grad(scalar))(params).jaxpr)

    shallow = equations(2)
    assert shallow > 500
    assert equations(8) == shallow


def test_program_does_not_grow_with_chunks(model):
    def equations(view) -> int:
        views = make_views(batch=1, view=view)
        return len(str(jax.make_jaxpr(lambda v: model(v, plan="sequential"))(views)).splitlines())

    assert equations(8) == equations(4)


def test_bfloat16_products_stay_near_float32(model):
    """Logits of the two agree to a few parts in a hundred of their spread."""
    views = make_views()
    narrow = build_model(dataclasses.replace(CONFIG, compute_dtype="bfloat16"), seed=1)
    ours, exact = (
        jax.jit(lambda each=each: each(views).opacity_logit)() for each in (narrow, model)
    )
    assert ours.dtype == jnp.float32
    assert 0 < np.abs(ours - exact).mean() < 0.1 * np.std(exact)


def test_float64_stays_float64():
    with jax.enable_x64(True):
        config = dataclasses.replace(
            CONFIG, compute_dtype="float64", param_dtype="float64", newton_schulz_dtype="float64"
        )
        views = jax.tree.map(lambda x: jnp.asarray(x, jnp.float64), make_views())
        out = jax.eval_shape(lambda: build_model(config)(views))
        assert {leaf.dtype for leaf in jax.tree.leaves(out)} == {jnp.dtype("float64")}


@pytest.mark.parametrize(("height", "width"), [(6, 12), (8, 13)])
def test_sizes_that_are_no_multiple_of_the_patch(model, height, width):
    with pytest.raises(InputError, match=r"views\.(height|width)=.*patch_size=4"):
        model(make_views(height=height, width=width))


def test_other_bad_input(model):
    views = make_views()
    with pytest.raises(InputError, match="chunk_views=3"):
        model(views, plan="sequential", chunk_views=3)
    with pytest.raises(InputError, match=r"views\.image shape"):
        model(views.replace(image=views.image[:, :, :4]))
    with pytest.raises(InputError, match="16, 12"):
        model(views, make_views(height=16))
    with pytest.raises(InputError, match="both given"):
        model(views, views, virtual_indices=jnp.zeros((2, 1), int))
    with pytest.raises(InputError, match="causally"):
        model(views, plan="causally")


# ---- pruning ----------------------------------------------------------------------------------


def stored(opacity_logit) -> Gaussians:
    logit = jnp.asarray(opacity_logit, jnp.float32)
    tag = jnp.broadcast_to(jnp.arange(logit.shape[1], dtype=jnp.float32)[None, :, None],
                           (*logit.shape, 3))  # fmt: skip
    return Gaussians(
        mean=tag, sh=tag[:, :, None], log_scale=tag,
        quaternion=jnp.zeros((*logit.shape, 4)), opacity_logit=logit,
    )  # fmt: skip


def test_prune_keeps_the_most_opaque_in_order():
    kept = prune(stored([[0.0, 3.0, -1.0, 5.0], [9.0, 8.0, 7.0, 6.0]]), 0.5, 0.0)
    np.testing.assert_array_equal(kept.opacity_logit, [[5.0, 3.0], [9.0, 8.0]])
    np.testing.assert_array_equal(kept.mean[..., 0], [[3, 1], [0, 1]])


def test_prune_adds_a_random_share_of_the_rest():
    gaussians = stored(-np.arange(20.0)[None].repeat(2, axis=0))
    kept = prune(gaussians, 0.5, 0.4, jax.random.key(0))
    chosen = np.asarray(kept.mean[..., 0])
    assert chosen.shape == (2, 10 + 4)
    np.testing.assert_array_equal(chosen[:, :10], np.arange(10.0)[None].repeat(2, axis=0))
    assert len(set(chosen[0, 10:])) == 4
    assert chosen[0, 10:].min() >= 10
    np.testing.assert_array_equal(chosen[0], chosen[1])
    with pytest.raises(InputError, match="key"):
        prune(gaussians, 0.5, 0.4)
    with pytest.raises(InputError, match=r"keep_ratio=1\.5"):
        prune(gaussians, 1.5, 0.0)


def test_published_ratios_and_usage():
    assert [published_ratios(views) for views in (63, 64)] == [(0.4, 0.1), (0.3, 0.05)]
    np.testing.assert_allclose(gaussian_usage(stored([[-10.0, -6.8, 0.0, 2.0]])), [0.75])


# ---- LVSM -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def lvsm():
    return build_model(dataclasses.replace(CONFIG, kind="lvsm"), seed=2)


def test_two_stages_equal_one_pass(lvsm):
    inputs, targets = make_views(view=3), make_views(view=2, seed=5)
    together = np.asarray(jax.jit(functools.partial(lvsm))(inputs, targets.cameras))
    assert together.shape == (2, 2, 8, 12, 3)
    assert 0 < together.min() < together.max() < 1
    state, render = jax.jit(lvsm.reconstruct)(inputs), jax.jit(lvsm.render)
    np.testing.assert_allclose(render(state, targets.cameras), together, atol=1e-5)
    one = render(state, targets.cameras[:, 1:])
    np.testing.assert_allclose(one, together[:, 1:], atol=1e-5)


def test_lvsm_output_depends_on_inputs_and_target_pose(lvsm):
    inputs, targets = make_views(view=3), make_views(view=1, seed=5)
    run = jax.jit(functools.partial(lvsm))
    image = run(inputs, targets.cameras)
    darker = run(inputs.replace(image=0.2 * inputs.image), targets.cameras)
    elsewhere = run(inputs, make_views(view=1, seed=6).cameras)
    assert np.abs(image - darker).max() > 1e-4
    assert np.abs(image - elsewhere).max() > 1e-4
