"""A small capture on disk, rendered from a procedural object."""

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
