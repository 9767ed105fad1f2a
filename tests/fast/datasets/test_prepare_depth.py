"""Disparity beside captures: what a model gives is what the relative depth loss receives."""

import os
import sys
import types

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from tttlrm_jax.captures.camera_files import write_opencv_capture
from tttlrm_jax.captures.capture import read_capture
from tttlrm_jax.captures.pictures.depth_files import disparity_path, read_disparity, write_disparity
from tttlrm_jax.config import DataConfig, SyntheticConfig
from tttlrm_jax.core.arrays import on_device
from tttlrm_jax.core.errors import InputError
from tttlrm_jax.core.geometry.poses import rigid_inverse
from tttlrm_jax.datasets.depth_models import load_predictor
from tttlrm_jax.datasets.pipeline import make_loader
from tttlrm_jax.datasets.prepare_depth import main, store_disparity
from tttlrm_jax.datasets.sources import open_source
from tttlrm_jax.procedural.objects import render_object
from tttlrm_jax.training.losses.terms import depth_loss

SYNTHETIC = SyntheticConfig(num_views=10, height=32, width=48)


@pytest.fixture
def scene():
    return render_object(3, SYNTHETIC)


@pytest.fixture
def capture(tmp_path, scene):
    directory = tmp_path / "capture"
    write_opencv_capture(directory, scene["image"], scene["world_from_camera"], scene["intrinsics"])
    return read_capture(directory)


def affine_predictor(scene, factor=0.7, offset=-0.2):
    """A network that is right up to shift and scale; knows frames by their pixels."""
    from tttlrm_jax.captures.pictures.images import flatten

    def predict(image):
        number = next(
            n for n, other in enumerate(scene["image"]) if np.array_equal(flatten(other), image)
        )
        depth = scene["depth"][number]
        return factor / np.where(depth > 0, depth, 10.0) + offset

    return predict


def data_config(capture, **options):
    return DataConfig(
        source="captures", capture_directories=(str(capture.directory),), capture_height=32,
        capture_width=48, num_input_views=3, num_target_views=2, **options,
    )  # fmt: skip


def test_levels_keep_order_and_the_unknown(tmp_path):
    values = np.array([[3.0, np.nan, -1.0], [0.5, np.inf, 2.0]])
    write_disparity(tmp_path / "a.png", values)
    depth = read_disparity(tmp_path / "a.png")
    known = np.isfinite(values)
    np.testing.assert_array_equal(depth > 0, known)
    share = (values[known] + 1) / 4
    np.testing.assert_allclose((1 / depth[known] - 1 / 65534) * 65534 / 65533, share, atol=1e-4)
    write_disparity(tmp_path / "b.png", np.full((2, 2), 5.0))
    assert (read_disparity(tmp_path / "b.png") > 0).all()


def test_the_relative_loss_vanishes_for_true_geometry(capture, scene):
    """Points at the true depth have no loss against a prediction up to shift and scale."""
    assert store_disparity(capture, affine_predictor(scene)) == 10
    source = open_source(data_config(capture, capture_depth=True))
    views = source[0].read(np.arange(10))
    row, column = np.mgrid[:32, :48] + 0.5
    true = np.where(scene["depth"] > 0, scene["depth"], 1.0)
    lens = scene["intrinsics"][:, None, None]
    local = np.stack(
        [(column - lens[..., 2]) / lens[..., 0] * true, (row - lens[..., 3]) / lens[..., 1] * true,
         true], axis=-1,
    )  # fmt: skip
    poses = scene["world_from_camera"]
    points = np.einsum("vij,vhwj->vhwi", poses[:, :3, :3], local) + poses[:, None, None, :3, 3]
    valid = (views.depth > 0) & (scene["depth"] > 0)
    assert (valid == (views.depth > 0)).mean() > 0.97
    disparity = np.where(valid, 1 / np.where(valid, views.depth, 1.0), 0.0)

    def loss(points):
        return float(depth_loss(
            jnp.asarray(points, jnp.float32),
            on_device(rigid_inverse(poses), np.float32),
            jnp.asarray(disparity, jnp.float32), jnp.asarray(valid),
        ))  # fmt: skip

    assert loss(points) < 1e-5
    wrong = points + 0.3 * np.random.default_rng(0).normal(size=points.shape)
    assert loss(wrong) > 100 * loss(points)


def test_items_have_depth_only_when_asked(capture, scene):
    with pytest.raises(InputError, match=r"lacks disparity.*prepare_depth"):
        open_source(data_config(capture, capture_depth=True))
    store_disparity(capture, affine_predictor(scene))
    assert "input_depth" not in next(make_loader(data_config(capture), 0, 1))
    batch = next(make_loader(data_config(capture, capture_depth=True), 0, 1))
    assert batch["input_depth"].shape == (1, 3, 32, 48)
    assert (batch["input_depth"] > 0).any()


def test_what_is_there_is_kept(capture, scene):
    calls = []

    def predict(image):
        calls.append(image.shape)
        return np.arange(8 * 12, dtype=np.float64).reshape(8, 12)  # a network's own size

    assert store_disparity(capture, predict) == 10
    assert store_disparity(capture, predict) == 0
    assert store_disparity(capture, predict, overwrite=True) == 10
    assert calls == [(32, 48, 3)] * 20
    levels = np.asarray(Image.open(disparity_path(capture.directory, "images/000000.png")))
    assert levels.shape == (32, 48)
    np.testing.assert_array_equal(levels == 0, scene["image"][0, ..., 3] < 128)


def test_a_model_of_another_kind_is_named(capture):
    with pytest.raises(InputError, match=r"gave shape \(3,\)"):
        store_disparity(capture, lambda image: np.zeros(3))


def fake_transformers(config, made):
    """A module of the form of `transformers` with a pipeline that sees brightness as output."""

    class Pipeline:
        def __init__(self):
            self.model = types.SimpleNamespace(config=types.SimpleNamespace(**config))

        def __call__(self, image):
            values = np.asarray(image).astype(np.float32).mean(axis=-1) / 255 + 1.0
            return {"predicted_depth": values[None], "depth": image}

    def pipeline(task, **arguments):
        made.append((task, arguments))
        if arguments["model"] == "absent":
            raise OSError("not found in the cache\nmore lines")
        return Pipeline()

    return types.SimpleNamespace(pipeline=pipeline)


@pytest.mark.parametrize(
    ("config", "prediction", "inverted"),
    [
        ({"model_type": "dpt"}, "auto", False),
        ({"model_type": "zoedepth"}, "auto", True),
        ({"model_type": "depth_anything", "depth_estimation_type": "relative"}, "auto", False),
        ({"model_type": "depth_anything", "depth_estimation_type": "metric"}, "auto", True),
        ({"model_type": "dpt"}, "depth", True),
        ({"model_type": "zoedepth"}, "disparity", False),
    ],
)
def test_models_of_depth_are_inverted(monkeypatch, config, prediction, inverted):
    made = []
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.setitem(sys.modules, "transformers", fake_transformers(config, made))
    predict = load_predictor("some/model", prediction)
    dark, bright = (predict(np.full((4, 6, 3), v, np.uint8)) for v in (0, 255))
    assert dark.shape == (4, 6)
    assert (dark > bright).all() == inverted
    assert made == [("depth-estimation", {"model": "some/model", "device": "cpu"})]
    assert os.environ["HF_HUB_OFFLINE"] == "1"


def test_command(monkeypatch, capture, capsys):
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")  # put back afterwards
    monkeypatch.setitem(sys.modules, "transformers", fake_transformers({"model_type": "dpt"}, []))
    assert main([str(capture.directory), "--model", "some/model"]) == 0
    assert "10 of 10 frames" in capsys.readouterr().out
    assert read_capture(capture.directory).has_disparity()
    assert main([str(capture.directory), "--model", "absent"]) == 2
    assert "model=absent cannot be loaded (not found in the cache)" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "transformers", None)
    assert main([str(capture.directory), "--model", "some/model"]) == 2
    assert "needs the extra `depth`" in capsys.readouterr().err
