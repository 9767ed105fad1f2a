"""Cameras that are written are read as they were."""

import dataclasses

import numpy as np
import pytest

from tttlrm_jax.captures.capture import read_capture
from tttlrm_jax.captures.lenses.distortion import Distortion
from tttlrm_jax.captures.lenses.models import ModelDistortion
from tttlrm_jax.captures.transforms_writer import write_transforms


@pytest.mark.parametrize(
    "distortion",
    [
        Distortion(),
        Distortion(k1=0.1, k2=-0.02, p1=1e-3),
        ModelDistortion("OPENCV_FISHEYE", (0.01, 0.02, 0.0, 0.0)),
    ],
)
def test_what_is_written_is_read(capture_directory, tmp_path, distortion):
    frames = [
        dataclasses.replace(frame, distortion=distortion)
        for frame in read_capture(capture_directory).frames
    ]
    write_transforms(tmp_path / "transforms.json", frames)
    for old, new in zip(frames, read_capture(tmp_path).frames, strict=True):
        np.testing.assert_allclose(new.world_from_camera, old.world_from_camera, atol=1e-12)
        np.testing.assert_array_equal(new.intrinsics, old.intrinsics)
        assert new.distortion == old.distortion
        assert new.image_path == old.image_path.absolute()


def test_listed_inputs_keep_the_order_of_frames(capture_directory, tmp_path):
    """Which is that of the camera file, and says which frames are targets."""
    frames = list(read_capture(capture_directory).frames)[::-1]
    write_transforms(tmp_path / "transforms.json", frames, [1, 5])
    capture = read_capture(tmp_path)
    assert [frame.image_path for frame in capture.frames] == [
        frame.image_path.absolute() for frame in frames
    ]
    assert capture.split(2)[0].tolist() == [1, 5]
