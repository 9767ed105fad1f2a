"""The capture that the package ships, and the tool that made it."""

import dataclasses
import json

import numpy as np
import pytest

from tttlrm_jax.apps import make_sample
from tttlrm_jax.apps.reconstruct import command as evaluate
from tttlrm_jax.captures.capture import load_views, read_capture

MAX_BYTES = 1 << 20


def test_shipped_sample_is_small_and_readable():
    directory = evaluate.packaged("sample_capture")
    assert sum(path.stat().st_size for path in directory.rglob("*") if path.is_file()) < MAX_BYTES
    capture = read_capture(directory)
    inputs, targets = capture.split(4)
    assert len(set(inputs)) == 4
    assert targets.tolist() == list(range(0, len(capture), 8))
    images, _ = load_views(capture, range(len(capture)), *capture.image_size())
    assert images.min() < 0.3  # an object
    assert (images == 1.0).all(axis=-1).mean() > 0.2  # on a white ground


def test_the_toy_lists_the_inputs_of_the_demonstration():
    """Then eval.py without options need not import what chooses them."""
    capture = read_capture(evaluate.packaged("toy_capture"))
    assert evaluate.DEMO_VIEWS in capture.folds
    listed = capture.split(evaluate.DEMO_VIEWS)[0]
    chosen = dataclasses.replace(capture, folds={}).split(evaluate.DEMO_VIEWS)[0]
    np.testing.assert_array_equal(listed, chosen)


def test_tool_writes_a_capture_with_exact_cameras(tmp_path, capsys):
    size = ["--object.num-views", "3", "--object.height", "16", "--object.width", "24"]
    assert make_sample.main(["--output", str(tmp_path / "object"), *size]) == 0
    capture = read_capture(tmp_path / "object")
    assert capture.image_size() == (16, 24)
    poses = capture.world_from_camera
    distance = np.linalg.norm(poses[:, :3, 3], axis=-1)
    assert ((distance > 1.4) & (distance < 2.9)).all()
    document = json.loads((tmp_path / "object" / "opencv_cameras.json").read_text())
    product = np.array(document["frames"][1]["w2c"]) @ poses[1]
    np.testing.assert_allclose(product, np.eye(4), atol=1e-8)


def test_tool_makes_held_out_objects_only(tmp_path, capsys):
    arguments = ["--output", str(tmp_path / "object"), "--object.split", "train"]
    assert make_sample.main(arguments) == 2
    assert "trained on" in capsys.readouterr().err
    assert not (tmp_path / "object").exists()


def test_missing_package_files_are_named():
    with pytest.raises(evaluate.InputError, match="--capture"):
        evaluate.packaged("no such folder")
