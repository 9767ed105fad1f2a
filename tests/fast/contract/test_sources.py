"""Promises of every entry of `SOURCES`: shapes, camera convention, same seed = same batch."""

import dataclasses

import numpy as np
import pytest

from tttlrm_jax.captures.camera_files import write_opencv_capture
from tttlrm_jax.config import DataConfig, SyntheticConfig
from tttlrm_jax.core.errors import InputError
from tttlrm_jax.core.geometry.poses import pose_problem
from tttlrm_jax.datasets.pipeline import evaluation_loader, make_loader
from tttlrm_jax.datasets.shards.builder import write_shards
from tttlrm_jax.datasets.shards.records import synthetic_records
from tttlrm_jax.datasets.sources import SOURCES, open_source
from tttlrm_jax.procedural.objects import render_object

SYNTHETIC = SyntheticConfig(num_scenes=4, num_views=8, height=24, width=32, look_jitter=0.0)


@pytest.fixture(params=SOURCES)
def config(request, tmp_path):
    if request.param == "captures":
        for seed in range(2):
            scene = render_object(seed, SYNTHETIC)
            write_opencv_capture(
                tmp_path / str(seed), scene["image"], scene["world_from_camera"],
                scene["intrinsics"],
            )  # fmt: skip
    if request.param == "shards":
        held_out = dataclasses.replace(SYNTHETIC, split="eval", num_scenes=2)
        splits = {"train": synthetic_records(SYNTHETIC), "eval": synthetic_records(held_out)}
        write_shards(tmp_path / "shards", splits, progress=False)
    return DataConfig(
        source=request.param,
        shard_directory=str(tmp_path / "shards"),
        synthetic=SYNTHETIC,
        cache_directory=str(tmp_path / "cache"),
        render_workers=1,
        capture_directories=(str(tmp_path / "0"), str(tmp_path / "1")),
        capture_height=24,
        capture_width=32,
        num_input_views=3,
        num_target_views=2,
    )


def test_views_have_the_promised_shapes(config):
    source = open_source(config)
    assert len(source) >= 2
    for scene in (source[0], source[len(source) - 1]):
        assert isinstance(scene.name, str)
        assert scene.world_from_camera.dtype == np.float64
        assert not any(map(pose_problem, scene.world_from_camera))
        views = scene.read(np.array([5, 0]))
        height, width = config.image_size
        assert views.image.shape == (2, height, width, 3)
        for known in (views.mask, views.depth):
            assert known is None or known.shape == (2, height, width)
            assert known is None or known.dtype == np.float32
        assert views.image.dtype == np.float32
        assert scene.held_out is None or scene.held_out.shape == (8,)
        assert views.intrinsics.shape == (2, 4)
        assert views.intrinsics.dtype == np.float64
        assert 0 <= views.image.min() <= views.image.max() <= 1


def test_order_of_views_is_the_order_asked_for(config):
    scene = open_source(config)[1]
    both, one = scene.read(np.array([5, 0])), scene.read(np.array([0]))
    np.testing.assert_array_equal(both.image[1], one.image[0])


def test_cameras_look_along_z_with_y_down(config):
    """The object sits at the origin: it projects to the principal point, world z points up."""
    scene = open_source(config)[0]
    poses, views = scene.world_from_camera, scene.read(np.arange(8))
    for pose, lens, mask in zip(poses, views.intrinsics, views.mask, strict=True):
        local = -pose[:3, :3].T @ pose[:3, 3]
        assert local[2] > 1.0
        pixel = lens[:2] * local[:2] / local[2] + lens[2:]
        np.testing.assert_allclose(pixel, lens[2:], atol=1e-6)
        assert (pose[:3, :3].T @ [0, 0, 1])[1] < 0
        row, column = np.nonzero(mask > 0.5)
        extent = np.array([column.mean() + 0.5, row.mean() + 0.5]) - pixel
        assert np.abs(extent).max() < 12


def test_same_seed_same_batch(config):
    first, second = (next(make_loader(config, 3, 2)) for _ in range(2))
    other = next(make_loader(config, 4, 2))
    for name in first:
        np.testing.assert_array_equal(first[name], second[name])
    assert any(not np.array_equal(first[name], other[name]) for name in first)


def test_evaluation_shows_what_training_never_draws(config):
    """Targets of evaluation differ from every picture that training can show."""
    shown = {
        image.tobytes()
        for scene in open_source(config)
        for image in scene.read(
            np.arange(8) if scene.held_out is None else np.flatnonzero(~scene.held_out)
        ).image
    }
    for batch, _ in zip(make_loader(config, 1, 2), range(20), strict=False):
        for half in ("input", "target"):
            assert {image.tobytes() for image in np.concatenate(batch[f"{half}_image"])} <= shown
    batches = list(evaluation_loader(config, 2, 2))
    assert np.concatenate([batch["scene_index"] for batch in batches]).tolist() == [0, 1]
    for batch in batches:
        targets = {image.tobytes() for image in np.concatenate(batch["target_image"])}
        assert not targets & shown


def test_a_bad_file_raises(config, tmp_path):
    if config.source == "captures":
        (tmp_path / "1" / "opencv_cameras.json").write_text("{")
    elif config.source == "shards":
        next((tmp_path / "shards").rglob("scenes.npz")).write_text("{")
    else:
        (tmp_path / "cache").write_text("in the way")
    with pytest.raises(InputError):
        open_source(config)
