"""Every decoder keeps its promises; a new one is one entry of the table."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tests.fast.training.test_step import CONFIG, arrays, parts
from tttlrm_jax.config import LossConfig, MeshConfig, TrainConfig
from tttlrm_jax.config.model import TriplaneConfig
from tttlrm_jax.core.errors import ConfigError, InputError
from tttlrm_jax.core.types import Chunk
from tttlrm_jax.models import (
    DECODERS,
    build_model,
    init_stream,
    live_step,
    merge_model,
    query,
    split_into_chunks,
    split_model,
)
from tttlrm_jax.models.decoders.triplane import plane_features
from tttlrm_jax.models.nn.layers import linear
from tttlrm_jax.training.objectives.batches import batch_from_arrays
from tttlrm_jax.training.objectives.decoded import random_crops
from tttlrm_jax.training.objectives.view_synthesis import check_crop, check_without_gaussians
from tttlrm_jax.training.tasks.mesh_program import MeshProgram
from tttlrm_jax.training.update import init_train_state

PLANES = TriplaneConfig(
    side=8, token_side=2, channels=4, hidden=8, samples=6, importance_samples=4, rays_at_a_time=96
)
TRIPLANE = dataclasses.replace(
    CONFIG,
    model=dataclasses.replace(CONFIG.model, decoder="triplane", triplane=PLANES),
    loss=LossConfig(opacity=0.0, depth=0.0),
    train=TrainConfig(num_steps=20, batch_size=2, crop=6),
)


class MeanColour(nnx.Module):
    """A third decoder: one token, that becomes the colour of every pixel."""

    gives = "scenes"

    def __init__(self, config, *, rngs):
        self.token = nnx.Param(jnp.ones((1, 1, config.d_model)))
        self.linear = linear(config.d_model, 3, config, rngs=rngs)

    def queries(self, batch):
        return jnp.broadcast_to(self.token[...], (batch, *self.token.shape))

    def __call__(self, tokens, views=None):
        return jax.nn.sigmoid(self.linear(tokens)[:, 0, 0])

    def render(self, scene, cameras, background, keys=None):
        shape = (*cameras.intrinsics.shape[:2], cameras.height, cameras.width, 3)
        return jnp.broadcast_to(scene[:, None, None, None], shape)


@pytest.mark.parametrize(
    ("name", "steps"), [pytest.param("triplane", 3, marks=pytest.mark.extended), ("mean_colour", 2)]
)
def test_a_decoder_trains_and_is_evaluated(name, steps, monkeypatch):
    monkeypatch.setitem(DECODERS, "mean_colour", MeanColour)
    run = dataclasses.replace(TRIPLANE, model=dataclasses.replace(TRIPLANE.model, decoder=name))
    static, params = parts(run)
    program = MeshProgram(static)
    before = np.asarray(jax.tree.leaves(params["decoder"])[0]).copy()
    state = program.place(init_train_state(params, run))
    batch, losses = program.batch(arrays(), 2, 1), []
    for _ in range(steps):
        state, metrics = program.step(state, batch, None, 1)
        losses.append(float(metrics["mse"]))
    assert np.isfinite(losses).all()
    assert int(state.num_skipped) == 0
    assert np.abs(np.asarray(jax.tree.leaves(state.params["decoder"])[0]) - before).max() > 0
    rgb, scores, lost = program.evaluate(state.params, arrays())
    assert lost == {"num_dropped": 0, "num_invalid": 0}
    assert rgb.shape == arrays()["target_image"].shape
    mse = np.mean(np.square(rgb - arrays()["target_image"]), axis=(2, 3, 4))
    np.testing.assert_allclose(scores["psnr"], np.mean(-10 * np.log10(mse), axis=1), rtol=1e-4)


@pytest.mark.extended
def test_planes_of_a_stream_and_of_one_pass_agree_with_the_plans():
    inputs = batch_from_arrays(arrays()).inputs
    graph, params = split_model(build_model(TRIPLANE.model, 3))
    forward = jax.jit(
        lambda params, plan: merge_model(graph, params)(inputs, plan=plan, chunk_views=1),
        static_argnums=1,
    )
    state = init_stream(params, 2, graph=graph)
    chunks = split_into_chunks(inputs, 1)
    scenes = []
    for index in range(chunks.views.image.shape[0]):
        chunk = Chunk(views=jax.tree.map(lambda x, i=index: x[i], chunks.views))
        state, scene = live_step(params, state, chunk, graph=graph)
        scenes.append(scene)
    assert scenes[0].shape == (2, 3, 8, 8, 4)
    causal = forward(params, "causal")
    np.testing.assert_allclose(scenes[-1], causal, rtol=1e-4, atol=1e-5)
    assert np.abs(scenes[0] - scenes[-1]).max() > 1e-4
    begin = init_stream(params, 2, graph=graph)
    whole, scene = live_step(params, begin, Chunk(views=inputs), graph=graph)
    np.testing.assert_allclose(forward(params, "full"), scene, rtol=1e-4, atol=1e-5)
    assert whole.num_views.tolist() == [inputs.image.shape[1]] * 2
    with pytest.raises(InputError, match=r"are not read by model\.decoder=triplane"):
        query(params, state, inputs, graph=graph)
    with pytest.raises(InputError, match="virtual views=given are not read"):
        merge_model(graph, params)(inputs, inputs)


def test_plane_features_are_bilinear_and_in_the_order_that_is_said():
    side = 5
    middle = (np.arange(side) + 0.5) / side * 2 - 1
    row, column = np.meshgrid(middle, middle, indexing="ij")
    planes = np.stack([np.stack([2 * column + row, column * row], axis=-1)] * 3)
    points = np.random.default_rng(0).uniform(-0.75, 0.75, (20, 3))
    found = np.asarray(
        plane_features(jnp.asarray(planes, jnp.float32), jnp.asarray(points, jnp.float32))
    )
    x, y, z = points.T
    expected = np.stack([2 * x + y, x * y, 2 * x + z, x * z, 2 * y + z, y * z], axis=-1)
    np.testing.assert_allclose(found[:, ::2], expected[:, ::2], atol=1e-5)
    np.testing.assert_allclose(found[:, 1::2], expected[:, 1::2], atol=1e-5)


def test_a_crop_is_what_its_camera_sees():
    views = batch_from_arrays(arrays()).targets
    cut = random_crops(views, 3, jax.random.split(jax.random.key(0), len(views.image)))
    assert cut.image.shape[2:] == (3, 3, 3)
    moved = np.asarray(views.cameras.intrinsics - cut.cameras.intrinsics)
    np.testing.assert_array_equal(moved[..., :2], 0)
    for scene, view in np.ndindex(*moved.shape[:2]):
        left, top = moved[scene, view, 2:].astype(int)
        whole = np.asarray(views.image[scene, view])
        np.testing.assert_array_equal(cut.image[scene, view], whole[top : top + 3, left : left + 3])
    assert len(np.unique(moved[..., 2:].reshape(-1, 2), axis=0)) > 1


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"loss": LossConfig(opacity=0.1, depth=0.0)}, r"loss\.opacity=0\.1 needs Gaussians"),
        ({"train": TrainConfig(keep_ratio=0.5)}, r"which model\.decoder=triplane has not"),
        ({"train": TrainConfig(plan="causal")}, r"causal is not trained for model\.decoder=trip"),
        ({"mesh": MeshConfig(data=2, seq=2)}, r"use mesh\.data alone"),
    ],
)
def test_what_needs_gaussians_is_refused(changes, words):
    with pytest.raises(ConfigError, match=words):
        check_without_gaussians(dataclasses.replace(TRIPLANE, **changes))


def test_wrong_names_and_crops_are_refused():
    unknown = dataclasses.replace(TRIPLANE.model, decoder="voxels")
    with pytest.raises(ConfigError, match=r"model\.decoder=voxels is unknown; use one of gauss"):
        build_model(unknown)
    with pytest.raises(ConfigError, match=r"does not divide model\.triplane\.side=8"):
        TriplaneConfig(side=8, token_side=3)
    gaussians = dataclasses.replace(TRIPLANE, model=CONFIG.model)
    with pytest.raises(ConfigError, match=r"train\.crop=6 is of decoders that draw"):
        check_crop(gaussians)
