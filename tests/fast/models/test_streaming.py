"""Streams: chunk by chunk equals layer by layer, the future and masked views change nothing."""

import dataclasses
import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.fast.cutting import cut
from tttlrm_jax.config import ModelConfig, RuleConfig
from tttlrm_jax.core.arrays import on_device
from tttlrm_jax.core.errors import InputError
from tttlrm_jax.core.types import Cameras, Chunk, Views
from tttlrm_jax.models import (
    build_model,
    init_stream,
    live_query,
    live_step,
    merge_model,
    scan_stream,
    split_into_chunks,
    split_model,
    step,
)
from tttlrm_jax.models.nn.block import run_blocks
from tttlrm_jax.models.streaming import HIDDEN_OPACITY_LOGIT
from tttlrm_jax.ttt import Operation

CONFIG = ModelConfig(
    d_model=16, num_layers=2, patch_size=4, attention_head_dim=8, num_ttt_heads=2,
    ttt_inner_factor=1.0, mlp_factor=1.0, sh_degree=0, max_distance=4.0,
    rule=RuleConfig.of("elastic", strength=0.05, inner=RuleConfig.of("muon", steps=2)),
    newton_schulz_dtype="float64", compute_dtype="float64", param_dtype="float64",
)  # fmt: skip
BATCH, VIEWS, HEIGHT, WIDTH = 2, 5, 4, 8
# float64 sums in another order, magnified in each of 2 x 3 x 2 Newton-Schulz iterations
TOLERANCE = 1e-9


@pytest.fixture(autouse=True)
def _x64():
    with jax.enable_x64(True):
        yield


def make_views(views=VIEWS, seed=0, batch=BATCH) -> Views:
    rng = np.random.default_rng(seed)
    pose = np.tile(np.eye(4), (batch, views, 1, 1))
    pose[..., :3, 3] = rng.standard_normal((batch, views, 3))
    lens = np.tile([8.0, 8.0, WIDTH / 2, HEIGHT / 2], (batch, views, 1))
    image = rng.uniform(size=(batch, views, HEIGHT, WIDTH, 3))
    cameras = Cameras(on_device(pose), on_device(lens), HEIGHT, WIDTH)
    return Views(on_device(image), cameras)


@functools.cache
def parts(kind="tttlrm"):
    with jax.enable_x64(True):
        return split_model(build_model(dataclasses.replace(CONFIG, kind=kind), seed=1))


@functools.cache
def compiled_scan(kind, accumulate):
    graph, _ = parts(kind)
    return jax.jit(functools.partial(scan_stream, graph=graph, accumulate=accumulate))


def fresh(kind="tttlrm", batch=BATCH):
    graph, params = parts(kind)
    return init_stream(params, batch, graph=graph)


def scan(chunks, state=None, *, kind="tttlrm", accumulate="chunk"):
    state = fresh(kind) if state is None else state
    return compiled_scan(kind, accumulate)(parts(kind)[1], state, chunks)


def advance(state, views, mask=None):
    graph, params = parts()
    mask = jnp.ones(views.image.shape[:2], bool) if mask is None else mask
    return live_step(params, state, Chunk(views, mask), graph=graph)


def read(state, views, mask=None):
    graph, params = parts()
    mask = jnp.ones((BATCH, 3), bool) if mask is None else mask
    return live_query(params, state, views, graph=graph, mask=mask)


def at(tree, index):
    return cut(tree, *index) if isinstance(index, tuple) else cut(tree, index)


def assert_close(actual, expected, tolerance=TOLERANCE):
    jax.tree.map(lambda a, e: np.testing.assert_allclose(a, e, 0, tolerance), actual, expected)


def assert_identical(actual, expected):
    jax.tree.map(np.testing.assert_array_equal, actual, expected)


def gaussians_of(gaussians, views, count):
    """The Gaussians of some of `count` views."""

    def of_views(x):
        return np.asarray(x).reshape(len(x), count, -1, *x.shape[2:])[:, views]

    return jax.tree.map(of_views, gaussians)


def layer_major(model, groups):
    """Every layer runs all chunks before the next layer starts; each chunk writes, then is read.

    `groups` are the chunks' (inputs, virtual views or None); returns the tokens of each group.
    """
    tokens, operations, start = [], [], 0
    for inputs, virtual in groups:
        for part, writes in ((inputs, True), (virtual, False)):
            if part is not None:
                tokens.append(model.tokenize(part))
                end = start + tokens[-1].shape[1] * tokens[-1].shape[2]
                operations.append(Operation(start, end, writes, writes, True))
                start = end
    out, state = run_blocks(model.blocks, jnp.concatenate(tokens, axis=1), tuple(operations))
    return jnp.split(out, np.cumsum([t.shape[1] for t in tokens])[:-1], axis=1), state


def test_scan_of_steps_is_layer_major_evaluation():
    """Read at the chunk's own views, and at others."""
    views = make_views()
    borders = [slice(0, 2), slice(2, 4), slice(4, 5)]
    inputs = [at(views, (slice(None), border)) for border in borders]
    virtual = [make_views(1, seed=t + 1) for t in range(3)]

    graph, params = parts()

    @jax.jit
    def expected():
        model = merge_model(graph, params)
        groups = list(zip(inputs, virtual, strict=True))
        tokens, layers = layer_major(model, groups)
        read_from = [part for group in groups for part in group]
        return [model.decoder(t, v) for t, v in zip(tokens, read_from, strict=True)], layers

    gaussians, layers = expected()
    chunks = split_into_chunks(views, 2)
    others = chunks.replace(virtual=jax.tree.map(lambda *x: on_device(np.stack(x)), *virtual))
    for given, wanted in ((chunks, gaussians[::2]), (others, gaussians[1::2])):
        state, outs = scan(given)
        assert_close(state.layers, layers)
        np.testing.assert_array_equal(state.num_views, [VIEWS, VIEWS])
        for t in range(3):
            count = wanted[t].mean.shape[1]
            assert_close(at(at(outs, t), (slice(None), slice(count))), wanted[t])


@pytest.mark.parametrize("kind", ["tttlrm", "lvsm"])
def test_later_chunks_have_no_derivative(kind):
    """Forward derivatives of all outputs along random changes of one chunk's pixels and cameras."""
    chunks = split_into_chunks(make_views(), 2)
    graph, params = parts(kind)
    rng = np.random.default_rng(7)

    start = fresh(kind)

    @jax.jit
    def derivative(tangent):
        def outs(views):
            return scan_stream(params, start, chunks.replace(views=views), graph=graph)[1]

        return jax.jvp(outs, (chunks.views,), (tangent,))[1]

    for changed in range(3):
        direction = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), chunks.views)
        cameras = direction.cameras
        for leaf in (direction.image, cameras.world_from_camera, cameras.intrinsics):
            leaf[changed] = rng.standard_normal(leaf[changed].shape)
        change = jax.tree.map(np.asarray, derivative(direction))
        for leaf in jax.tree.leaves(change):
            assert not np.any(leaf[:changed])
        opacity_or_rgb = jax.tree.leaves(change)[-1]
        for t in range(changed, 3):
            assert np.any(opacity_or_rgb[t])


def test_a_stream_goes_on_where_it_stopped():
    chunks = split_into_chunks(make_views(), 2)
    state, outs = scan(chunks)
    live = fresh()
    for t in range(3):
        saved = jax.tree.map(np.asarray, live)
        live, out = advance(live, at(chunks.views, t), chunks.mask[t])
        assert_close(out, at(outs, t), 1e-12)
        again, same = advance(jax.tree.map(jnp.asarray, saved), at(chunks.views, t), chunks.mask[t])
        assert_identical((again, same), (live, out))
    assert_close(live, state, 1e-12)
    parted, early = scan(at(chunks, slice(0, 2)))
    parted, late = scan(at(chunks, slice(2, 3)), parted)
    assert_close(parted, state, 1e-12)
    assert_close(jax.tree.map(lambda a, b: np.concatenate([a, b]), early, late), outs, 1e-12)


def test_masked_views_change_nothing():
    views, mask = make_views(2), jnp.asarray([[True, False], [True, True]])
    broken = jax.tree.map(lambda x: x.at[0, 1].set(jnp.nan), views)
    state, out = advance(fresh(), views, mask)
    again, spoilt = advance(fresh(), broken, mask)
    assert_identical(again, state)
    assert_identical(spoilt, out)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(out))
    np.testing.assert_array_equal(state.num_views, [1, 2])
    second = gaussians_of(out, 1, 2).opacity_logit
    np.testing.assert_array_equal(second[0], np.full(HEIGHT * WIDTH, HIDDEN_OPACITY_LOGIT))
    assert np.all(second[1] > HIDDEN_OPACITY_LOGIT + 50)


def test_a_masked_view_is_as_good_as_absent():
    """One scene: the elastic rule's maximum over the batch would tie it to the other."""
    graph, params = parts()
    one = at(make_views(2), slice(0, 1))
    start = init_stream(params, 1, graph=graph)
    compiled = jax.jit(functools.partial(step, graph=graph))
    state, out = compiled(params, start, Chunk(one, jnp.asarray([[False, True]])))
    short, shown = compiled(params, start, Chunk(at(one, (slice(None), slice(1, 2)))))
    assert_close(state, short)
    assert_close(gaussians_of(out, slice(1, 2), 2), gaussians_of(shown, slice(None), 1))


def test_a_chunk_of_masked_views_keeps_the_scene():
    first, second = (make_views(2, seed=seed) for seed in (1, 2))
    state, _ = advance(fresh(), first)
    same, out = advance(state, second, jnp.zeros((2, 2), bool))
    assert_identical(same, state)
    np.testing.assert_array_equal(out.opacity_logit, HIDDEN_OPACITY_LOGIT)
    mixed, _ = advance(state, second, jnp.asarray([[False, False], [True, True]]))

    def scene(state, index):
        return at(state.layers, (slice(None), index))

    assert_identical(scene(mixed, 0), scene(state, 0))
    moved = scene(mixed, 1).weights.gate - scene(state, 1).weights.gate
    assert np.abs(moved).max() > 1e-3
    np.testing.assert_array_equal(mixed.num_views, [2, 4])


def test_all_views_so_far_are_read_again_after_every_chunk():
    views = make_views(3)
    chunks = split_into_chunks(views, 2)
    _, outs = scan(chunks, accumulate="all")
    state, seen = fresh(), jnp.asarray([[True, True, False]] * 2)
    for t, mask in enumerate((seen, jnp.ones((2, 3), bool))):
        state, _ = advance(state, at(chunks.views, t), chunks.mask[t])
        assert_close(
            gaussians_of(at(outs, t), slice(0, 3), 4),
            gaussians_of(read(state, views, mask), slice(None), 3),
        )


@pytest.mark.parametrize("kind", ["tttlrm", "lvsm"])
def test_the_causal_plan_of_one_chunk_is_the_full_plan(kind):
    model = merge_model(*parts(kind))
    views, more = make_views(3), make_views(2, seed=5)
    extra = (more,) if kind == "tttlrm" else (more.cameras,)
    full = jax.jit(lambda: model(views, *extra))()
    causal = jax.jit(lambda: model(views, *extra, plan="causal", chunk_views=3))()
    assert_close(causal, full)


def test_the_causal_plan_streams_then_reads_all():
    model = merge_model(*parts())
    views = make_views(3)
    state = fresh()
    for chunk in (slice(0, 2), slice(2, 4)):
        padded = at(make_views(3), (slice(None), np.minimum(np.arange(4)[chunk], 2)))
        state, _ = advance(state, padded, on_device([np.arange(4)[chunk] < 3] * 2))
    indices = jnp.asarray([[2, 0], [1, 1]])

    @jax.jit
    def both():
        run = functools.partial(model, views, plan="causal", chunk_views=2)
        return run(), run(virtual_indices=indices)

    whole, chosen = both()
    expected = read(state, views)
    assert_close(whole, expected)
    for scene in range(2):
        picked = at(gaussians_of(expected, indices[scene], 3), scene)
        assert_close(at(gaussians_of(chosen, slice(None), 2), scene), picked)


def test_views_without_image_are_read_as_grey():
    state, _ = advance(fresh(), make_views(2))
    views = make_views(3, seed=3)
    grey = views.replace(image=jnp.full_like(views.image, 0.5))
    assert_close(read(state, views.cameras), read(state, grey), 1e-12)


def test_chunks_keep_every_view_in_order():
    views = make_views(5)
    chunks = split_into_chunks(views, 2)
    assert chunks.views.image.shape == (3, BATCH, 2, HEIGHT, WIDTH, 3)
    flat = jnp.moveaxis(chunks.views.image, 0, 1).reshape(BATCH, 6, HEIGHT, WIDTH, 3)
    np.testing.assert_array_equal(flat[:, :5], views.image)
    np.testing.assert_array_equal(chunks.mask[:, 0], [[1, 1], [1, 1], [1, 0]])
    own = jnp.asarray([[True, False, True, True, True]] * 2)
    np.testing.assert_array_equal(split_into_chunks(views, 3, own).mask[0, 1], [1, 0, 1])


MUON = RuleConfig("muon")
ELASTIC = RuleConfig.of("elastic", strength=0.7)


def changed_state(**changes):
    graph, params = split_model(build_model(dataclasses.replace(CONFIG, **changes), seed=1))
    return init_stream(params, BATCH, graph=graph)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: split_into_chunks(make_views(3), 4), "chunk_views=4 is not in 1..3"),
        (lambda: split_into_chunks(make_views(3), 0), "chunk_views=0"),
        (lambda: split_into_chunks(make_views(0), 1), "views=0"),
        (lambda: advance(fresh(), make_views(0)), "chunk views=0"),
        (lambda: read(fresh(), make_views(0), jnp.ones((2, 0), bool)), "query views=0"),
        (lambda: advance(fresh(batch=3), make_views(1)), "2 scenes of this model"),
        (lambda: advance(changed_state(num_layers=1), make_views(1)), "of this model"),
        (lambda: advance(changed_state(d_model=24), make_views(1)), "of this model"),
        (lambda: read(changed_state(rule=MUON), make_views(3)), "another update rule"),
        (lambda: advance(changed_state(rule=ELASTIC), make_views(1)), "strength=0.7"),
        (lambda: advance(fresh().replace(rule=RuleConfig("sgd")), make_views(1)), "by sgd is of"),
        (lambda: read(fresh(), make_views(3), jnp.ones((1, 2), bool)), "mask shape"),
        (lambda: read(fresh(), make_views(3), jnp.ones((2, 3), int)), "is not bool"),
        (lambda: advance(fresh(), make_views(1), jnp.ones((2, 1), int)), "is not bool"),
        (lambda: advance(fresh(), make_views(2), jnp.ones((2, 3), bool)), "mask shape"),
        (lambda: scan(split_into_chunks(make_views(2), 1), accumulate="some"), "accumulate=some"),
    ],
)  # fmt: skip
def test_bad_input_is_refused_in_words(call, words):
    with pytest.raises(InputError, match=re.escape(words)):
        call()


@pytest.mark.parametrize("field", ["image", "world_from_camera", "intrinsics"])
def test_values_that_are_not_finite_are_refused_before_they_are_written(field):
    views = make_views(2)
    if field == "image":
        views = views.replace(image=views.image.at[1, 0, 2, 3, 0].set(jnp.inf))
    else:
        cameras = views.cameras
        spoilt = getattr(cameras, field).at[1, 0, 0].set(jnp.nan)
        views = views.replace(cameras=cameras.replace(**{field: spoilt}))
    with pytest.raises(InputError, match=f"{field} of scene 1, view 0"):
        advance(fresh(), views)
    with pytest.raises(InputError, match=f"{field} of scene 1, view 0"):
        read(fresh(), views, jnp.ones((2, 2), bool))
    advance(fresh(), views, jnp.asarray([[True, True], [False, True]]))


def test_a_camera_without_focal_length_is_refused():
    views = make_views(2)
    intrinsics = views.cameras.intrinsics.at[0, 1, 0].set(0)
    views = views.replace(cameras=views.cameras.replace(intrinsics=intrinsics))
    with pytest.raises(InputError, match="scene 0, view 1=focal length 0"):
        advance(fresh(), views)
    _, read = advance(fresh(), views, jnp.asarray([[True, False], [True, True]]))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(read))
