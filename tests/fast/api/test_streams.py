"""Streams of the front door: what eval.py streams, saved and resumed; images; pictures in order."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import tttlrm_jax as tj
from tttlrm_jax.apps.reconstruct import command
from tttlrm_jax.captures.capture import load_views
from tttlrm_jax.checkpoints.models import export_model
from tttlrm_jax.config import DataConfig, ModelConfig, RunConfig, SyntheticConfig
from tttlrm_jax.core.types import Chunk
from tttlrm_jax.models import build_model, init_stream, live_query, live_step, split_model

SIZE = (16, 24)


@pytest.fixture(scope="module")
def read(model, capture):
    """Views of the capture with these numbers."""
    return lambda *frames: model.views(capture, frames, resolution=SIZE)


@pytest.fixture(scope="module")
def streamed(model, read):
    stream = model.stream(chunk_views=2)
    stream.step(read(1, 2))
    stream.step(read(3))
    return stream


def assert_equal(one, other):
    jax.tree.map(np.testing.assert_array_equal, one, other)


def test_a_stream_is_that_of_eval(streamed, tiny_checkpoint, tiny_capture_source, tmp_path):
    arguments = [
        "--capture", str(tiny_capture_source), "--checkpoint", str(tiny_checkpoint),
        "--resolution", "16", "24", "--orbit-frames", "1", "--plan", "causal", "--frames", "1-3",
        "--chunk-views", "2", "--output", str(tmp_path / "out"),
        "--save-state", str(tmp_path / "theirs"),
    ]  # fmt: skip
    assert command.main(arguments) == 0
    streamed.save(tmp_path / "ours")
    ours, theirs = (
        json.loads((tmp_path / name / "state.json").read_text()) for name in ("ours", "theirs")
    )
    for document in (ours, theirs):  # Orbax draws the files' names; pictures need not have any
        del document["files"], document["own_sha256"], document["frames"]
    assert ours == theirs  # with the SHA-256 of all arrays
    streamed.save_scene(tmp_path / "scene.ply")
    written = (tmp_path / "scene.ply").read_bytes()
    assert written == (tmp_path / "out" / "scene.ply").read_bytes()


def test_saved_and_forked_streams_go_on_alike(model, streamed, read, tmp_path):
    before = streamed.gaussians
    streamed.save(tmp_path / "state")
    resumed = tj.load_state(tmp_path / "state", model)
    assert resumed.views_seen == streamed.views_seen == 3
    assert_equal(resumed.gaussians, before)
    fork = streamed.fork()
    assert_equal(fork.step(read(5, 6)), resumed.step(read(5, 6)))
    assert len(fork.gaussians.mean) == 5 * 16 * 24
    assert_equal(streamed.gaussians, before)
    with pytest.raises(tj.InputError, match="exists"):
        fork.save(tmp_path / "state")
    fork.save(tmp_path / "state", overwrite=True)
    by_path = tj.load_state(tmp_path / "state", model.path)
    assert by_path.views_seen == 5
    with pytest.raises(tj.InputError, match="another model"):
        tj.load_state(tmp_path / "state")  # the shipped weights


def test_queries_change_nothing_and_come_in_the_frame_of_the_capture(streamed, read, capture):
    before = streamed.gaussians
    read_again = streamed.query(read(3))
    assert_equal(streamed.gaussians, before)
    newest = jax.tree.map(lambda x: x[-16 * 24 :], before)  # of the last chunk, one view
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-3), read_again, newest)
    rendering = streamed.render(capture.cameras([0, 8], resolution=SIZE))
    assert rendering.rgb.shape == (2, *SIZE, 3)
    frames = list(streamed.frames(capture.cameras([0, 8], resolution=SIZE), at_a_time=1))
    np.testing.assert_allclose(np.stack(frames), rendering.rgb, atol=1e-6)


def test_a_step_that_fails_leaves_the_stream_as_it_was(model, read):
    stream = model.stream(chunk_views=2)
    with pytest.raises(tj.InputError, match="nothing was written yet"):
        stream.query(read(1))
    with pytest.raises(tj.InputError, match="chunk views=3"):
        stream.step(read(1, 2, 3))
    broken = read(1, 2)
    broken = broken.replace(image=np.full_like(broken.image, np.nan))
    with pytest.raises(tj.InputError, match="non-finite"):
        stream.step(broken)
    assert stream.similarity is None
    stream.step(read(4, 5))
    with pytest.raises(tj.InputError, match="the size of the stream"):
        stream.step(model.views(tj.open_capture(), [1], resolution=(8, 8)))
    assert stream.views_seen == 2


@pytest.fixture(scope="module")
def view_model(tmp_path_factory):
    config = ModelConfig(
        kind="lvsm", d_model=32, num_layers=1, patch_size=8, attention_head_dim=16,
        ttt_inner_factor=1.0,
    )  # fmt: skip
    data = DataConfig(synthetic=SyntheticConfig(height=32, width=32, num_views=8))
    run = RunConfig(name="views", model=config, data=data)
    params = split_model(build_model(config, seed=2))[1]
    return tj.load(export_model(run, params, tmp_path_factory.mktemp("models") / "views"))


def test_lvsm_streams_images_of_any_camera(view_model, capture, tmp_path):
    views = view_model.views(capture, [1, 2], resolution=SIZE)
    stream = view_model.stream()
    shown = stream.step(views)
    cameras = capture.cameras([0, 8, 1], resolution=SIZE)
    pictures = stream.query(cameras)
    assert (shown.shape, pictures.shape) == ((2, *SIZE, 3), (3, *SIZE, 3))
    np.testing.assert_allclose(pictures[2], shown[0], atol=1e-4)  # read with the same state
    # the pure functions, on poses moved as the stream moves them
    poses = stream.similarity.apply_poses(views.cameras.world_from_camera)
    posed = tj.Views(
        jnp.asarray(views.image),
        tj.Cameras(*map(jnp.float32, (poses, views.cameras.intrinsics)), *SIZE),
    )
    graph, params = view_model.graph, view_model.params
    state, _ = live_step(params, init_stream(params, 1, graph=graph), Chunk(posed), graph=graph)
    plain = live_query(params, state, posed.cameras, graph=graph)
    np.testing.assert_allclose(plain[0], shown, atol=1e-4)
    with pytest.raises(tj.InputError, match="no Gaussians"):
        tj.load_state(tmp_path, view_model)
    with pytest.raises(NotImplementedError, match="keep the stream"):
        stream.save(tmp_path / "state")


def test_ttt3r_goes_through_pictures(capture):
    model = tj.load("ttt3r_small")
    images = [(255 * image).astype(np.uint8) for image in pictures_of(capture)]
    stream = model.stream(size=64)
    results = [stream.step(image) for image in images]
    first, second = results
    assert first.world_from_camera.shape == (4, 4)
    np.testing.assert_allclose(first.world_from_camera[3], [0, 0, 0, 1])
    assert first.points_world.shape == (*first.image.shape[:2], 3)
    assert np.isfinite(second.points_world).all()
    assert stream.num_frames == 2
    other = model.stream(size=64, rule="cut3r")
    # the rule has no say in the first frame; another program rounds in another way
    np.testing.assert_allclose(other.step(images[0]).points_world, first.points_world, atol=1e-5)
    assert not np.array_equal(other.step(images[1]).prediction.gate, second.prediction.gate)
    with pytest.raises(tj.InputError, match="uint8"):
        stream.step(images[0] / 255)
    with pytest.raises(tj.InputError, match="of the stream's 32x48"):
        stream.step(images[0][:16])
    with pytest.raises(tj.InputError, match="no Gaussians"):
        model.reconstruct(capture)


def pictures_of(capture):
    return load_views(capture, [1, 2], 32, 48)[0]
