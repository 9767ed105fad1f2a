"""A small capture on disk, rendered from a procedural object."""

import json
from pathlib import Path

import numpy as np
import pytest

from tttlrm_jax.config import SyntheticConfig
from tttlrm_jax.data.capture_files import write_opencv_capture
from tttlrm_jax.data.synthetic import render_object


@pytest.fixture(scope="session")
def rendered() -> dict[str, np.ndarray]:
    """Twelve views of 30 x 44 pixels with transparency."""
    return render_object(1, SyntheticConfig(num_views=12, height=30, width=44))


@pytest.fixture
def capture_directory(tmp_path, rendered):
    """`rendered` as PNG files with an opencv_cameras.json."""
    directory = tmp_path / "toy"
    write_opencv_capture(
        directory, rendered["image"], rendered["world_from_camera"], rendered["intrinsics"]
    )
    return directory


class CameraFile:
    """The camera file of a capture, to be changed by a test."""

    def __init__(self, directory: Path):
        self._path = directory / "opencv_cameras.json"

    def edit(self, change):
        """Rewrites the file after `change(document)`, which edits it or returns another."""
        document = json.loads(self._path.read_text())
        self._path.write_text(json.dumps(change(document) or document))

    def edit_frame(self, number, **fields):
        """Sets fields of one frame; None deletes."""

        def change(document):
            frame = document["frames"][number]
            for key, value in fields.items():
                frame.pop(key, None) if value is None else frame.update({key: value})

        self.edit(change)

    def to_transforms(self, shared_intrinsics=True, **extra):
        """Replaces the file by the equivalent one of nerfstudio, with `extra` at the top."""
        document = json.loads(self._path.read_text())
        frames, lens = [], {}
        for frame in document["frames"]:
            pose = np.linalg.inv(np.array(frame["w2c"])) @ np.diag([1.0, -1, -1, 1])
            entry = {"file_path": frame["file_path"], "transform_matrix": pose.tolist()}
            lens = {"fl_x": frame["fx"], "fl_y": frame["fy"], "cx": frame["cx"], "cy": frame["cy"]}
            lens |= {"w": frame["w"], "h": frame["h"]}
            frames.append(entry if shared_intrinsics else entry | lens)
        top = (lens if shared_intrinsics else {}) | extra | {"frames": frames}
        self._path.unlink()
        self._path = self._path.with_name("transforms.json")
        self._path.write_text(json.dumps(top))


@pytest.fixture
def camera_file(capture_directory):
    return CameraFile(capture_directory)
