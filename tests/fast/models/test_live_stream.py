"""The live stream: causal, whole whatever its chunks hold, and never changing what it was given."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.fast.cutting import cut
from tttlrm_jax.config import ModelConfig, RasterConfig
from tttlrm_jax.core.arrays import on_device
from tttlrm_jax.core.errors import InputError
from tttlrm_jax.core.geometry.poses import look_at
from tttlrm_jax.core.types import Cameras, Views
from tttlrm_jax.models import (
    build_model,
    init_stream,
    merge_model,
    query,
    scan_stream,
    split_into_chunks,
    split_model,
)
from tttlrm_jax.models.live_stream import LiveStream, StreamSettings, filled_up
from tttlrm_jax.rasterize import Renderer

SIZE = (8, 12)
PIXELS = SIZE[0] * SIZE[1]
ATOL = 5e-5  # float32 through one layer and Newton-Schulz, compiled in another order


def make_model(kind="tttlrm"):
    return build_model(
        ModelConfig(
            kind=kind, d_model=16, num_layers=2, patch_size=4, attention_head_dim=8, sh_degree=0,
            num_ttt_heads=2, ttt_inner_factor=1.0, max_distance=6.0, newton_schulz_dtype="float32",
        ),
        seed=3,
    )  # fmt: skip


def make_views(count, seed=0):
    rng = np.random.default_rng(seed)
    eyes = rng.normal(size=(count, 3)) * 0.3 + np.array([0.0, -2.0, 0.5])
    poses = look_at(eyes, np.zeros(3), np.array([0.0, 0.0, 1.0]))
    lens = np.tile([14.0, 14.0, 6.0, 4.0], (count, 1))
    cameras = Cameras(on_device(poses[None], np.float32), on_device(lens[None], np.float32), *SIZE)
    return Views(on_device(rng.uniform(size=(1, count, *SIZE, 3)), np.float32), cameras)


def part(views, start, end):
    return cut(views, slice(None), slice(start, end))


@pytest.fixture(scope="module")
def streams():
    """A stream per way of accumulating, compiled once."""
    model = make_model()
    made = {
        accumulate: LiveStream(
            model, StreamSettings(height=8, width=12, chunk_views=2, accumulate=accumulate)
        )
        for accumulate in ("chunk", "append", "all")
    }
    return model, split_model(model)[1], made


def run(stream, params, views):
    scenes, count = [stream.start(params)], views.image.shape[1]
    for first in range(0, count, 2):
        chunk = part(views, first, min(first + 2, count))
        scenes.append(stream.advance(params, scenes[-1], chunk)[0])
    return scenes


def assert_close(one, other):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=ATOL), one, other)


def test_live_chunks_equal_the_scan(streams):
    """Five views in chunks of two: the last chunk is padded here and there."""
    model, params, made = streams
    graph = split_model(model)[0]
    views = make_views(5)
    scan = jax.jit(functools.partial(scan_stream, graph=graph))
    start = init_stream(params, 1, graph=graph)
    state, read = scan(params, start, split_into_chunks(views, 2))
    read = jax.tree.map(lambda x: np.asarray(x)[:, 0], read)
    scenes = {name: run(stream, params, views) for name, stream in made.items()}
    for scene in (scenes[name][-1] for name in scenes):
        assert_close(scene.state.layers.weights, state.layers.weights)
        assert scene.num_views == int(scene.state.num_views[0]) == 5
        np.testing.assert_array_equal(scene.cameras.intrinsics, views.cameras.intrinsics[0])
    for index in range(3):
        count = PIXELS * (1 if index == 2 else 2)
        newest = jax.tree.map(lambda x, n=count, i=index: x[i, :n], read)
        assert_close(scenes["chunk"][index + 1].gaussians, newest)
    appended = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:])[: 5 * PIXELS], read)
    assert_close(scenes["append"][-1].gaussians, appended)
    again = jax.jit(functools.partial(query, graph=graph))(params, state, views)
    assert_close(scenes["all"][-1].gaussians, cut(again, 0))
    np.testing.assert_array_equal(scenes["all"][-1].images, views.image[0])
    assert scenes["append"][-1].images is None


def test_sizes_and_what_grows(streams):
    _, params, made = streams
    views = make_views(4)
    for name, stream in made.items():
        scenes = run(stream, params, views)
        sizes = [scene.sizes() for scene in scenes]
        assert len({size["state"] for size in sizes}) == 1
        counts = [len(scene.gaussians.mean) for scene in scenes]
        expected = [0, 2, 2] if name == "chunk" else [0, 2, 4]
        assert counts == [PIXELS * n for n in expected]
        assert max(counts) <= stream.most_gaussians(scenes[0], 4)
        assert max(counts) <= stream.most_gaussians(scenes[1], 2)
        assert stream.step_bytes is None or stream.step_bytes > sizes[0]["state"]


def test_a_stream_forks(streams):
    """Two streams go on from one scene, which stays as it was."""
    _, params, made = streams
    stream, views, others = made["append"], make_views(4), make_views(2, seed=5)
    start = run(stream, params, part(views, 0, 2))[-1]
    before = jax.tree.map(np.array, start)
    first = stream.advance(params, start, part(views, 2, 4))[0]
    other = stream.advance(params, start, others)[0]
    again = stream.advance(params, start, part(views, 2, 4))[0]
    jax.tree.map(np.testing.assert_array_equal, start, before)
    jax.tree.map(np.testing.assert_array_equal, first, again)
    assert np.abs(first.gaussians.mean[-PIXELS:] - other.gaussians.mean[-PIXELS:]).max() > 1e-3


@pytest.mark.parametrize("count", [0, 3])
def test_chunks_of_a_wrong_size_are_refused(streams, count):
    _, params, made = streams
    with pytest.raises(InputError, match=f"{count} are not in 1..2"):
        made["append"].advance(params, made["append"].start(params), make_views(count or 1)
                               if count else part(make_views(1), 0, 0))  # fmt: skip


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_values_that_are_not_finite_are_refused_and_change_nothing(streams, bad):
    _, params, made = streams
    stream, views = made["append"], make_views(2)
    scene = stream.advance(params, stream.start(params), views)[0]
    before = jax.tree.map(np.array, scene)
    image, pose = np.array(views.image), np.array(views.cameras.world_from_camera)
    image[0, 1, 2, 3, 0] = pose[0, 0, 1, 3] = bad
    image, pose = jnp.asarray(image), jnp.asarray(pose)
    for spoilt, word in (
        (views.replace(image=image), "view 1"),
        (views.replace(cameras=views.cameras.replace(world_from_camera=pose)), "view 0"),
    ):
        with pytest.raises(InputError, match=word):
            stream.advance(params, scene, spoilt)
    jax.tree.map(np.testing.assert_array_equal, scene, before)


def test_broken_parameters_are_an_error(streams):
    _, params, made = streams
    broken = jax.tree.map(lambda p: on_device(np.full(p.shape, np.nan), p.dtype), params)
    stream = made["append"]
    with pytest.raises(InputError, match="not finite"):
        stream.advance(broken, stream.start(broken), make_views(2))


def test_a_model_of_images_is_refused():
    with pytest.raises(InputError, match="lvsm"):
        LiveStream(make_model("lvsm"), StreamSettings(height=8, width=12, chunk_views=1))


def test_pruning_keeps_a_share_of_every_chunk():
    model = make_model()
    params = split_model(model)[1]
    settings = StreamSettings(
        height=8, width=12, chunk_views=2, keep_ratio=0.5, random_ratio=0.2, seed=4
    )
    stream = LiveStream(model, settings)
    scene = run(stream, params, make_views(3))[-1]
    counts = [int(0.5 * n) + int(0.5 * 0.2 * n) for n in (2 * PIXELS, PIXELS)]
    assert len(scene.gaussians.mean) == sum(counts)
    assert len(scene.gaussians.mean) <= stream.most_gaussians(stream.start(params), 3)
    assert merge_model(stream.graph, params).config == model.config


def test_filling_up_changes_no_picture(streams):
    _, params, made = streams
    stream, views = made["append"], make_views(2)
    gaussians = stream.advance(params, stream.start(params), views)[0].gaussians
    cameras = cut(views.cameras, 0)
    full = filled_up(gaussians, 1000)
    assert len(full.mean) == 1000
    raster = RasterConfig(near=0.1, backend="reference")
    renderer = Renderer(background=(0.2, 0.4, 0.6), config=raster)
    pictures = [np.asarray(renderer(g, cameras).rgb) for g in (gaussians, full)]
    np.testing.assert_allclose(pictures[0], pictures[1], atol=1e-6)
    assert pictures[0].std() > 0.01


def test_a_chunk_that_breaks_the_state_is_refused(streams):
    """Pixels that are finite and overflow: the earlier scene goes on as if nothing had been."""
    _, params, made = streams
    scene = made["append"].advance(params, made["append"].start(params), make_views(2))[0]
    bad = make_views(2, seed=1)
    bad = bad.replace(image=bad.image * 3e38)
    with pytest.raises(InputError, match="2 views after 2"):
        made["append"].advance(params, scene, bad)
    grown = made["append"].advance(params, scene, make_views(2, seed=2))[0]
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(grown.state))


def test_the_bound_holds_for_a_stream_that_keeps_more_than_before(streams):
    model, params, _ = streams

    def with_ratio(ratio, chunk_views=2):
        settings = StreamSettings(
            height=8, width=12, chunk_views=chunk_views, accumulate="all", keep_ratio=ratio,
            random_ratio=0.3 if ratio < 1 else 0.0,
        )  # fmt: skip
        return LiveStream(model, settings)

    views = make_views(5)
    scene = run(with_ratio(0.37), params, part(views, 0, 4))[-1]
    for stream in (with_ratio(1.0), with_ratio(0.37, chunk_views=1)):
        bound = stream.most_gaussians(scene, 1)
        grown = stream.advance(params, scene, part(views, 4, 5))[0]
        assert len(scene.gaussians.mean) <= bound
        assert len(grown.gaussians.mean) <= bound <= 5 * PIXELS
        assert len(filled_up(grown.gaussians, bound).mean) == bound
