import imageio.v3 as iio
import imageio_ffmpeg
import numpy as np
import pytest

from tttlrm_jax.core.errors import InputError
from tttlrm_jax.export.video import write_video


@pytest.mark.parametrize("size", [(31, 45), (64, 64), (20, 37)])
def test_video_of_any_size_decodes_to_what_went_in(tmp_path, size):
    path = tmp_path / "orbit.mp4"
    levels = np.linspace(0.1, 0.9, 6)
    frames = (np.full((*size, 3), level, np.float32) for level in levels)
    assert write_video(path, frames, frames_per_second=12, min_side=100) == 6
    decoded = iio.imread(path, plugin="FFMPEG")
    factor = -(-100 // max(size))
    height, width = (-(-side * factor // 2) * 2 for side in size)
    assert decoded.shape == (6, height, width, 3)
    np.testing.assert_allclose(decoded.mean(axis=(1, 2, 3)) / 255, levels, atol=0.02)
    metadata = next(imageio_ffmpeg.read_frames(str(path)))
    assert metadata["codec"] == "h264"
    assert metadata["pix_fmt"].startswith("yuv420p")
    assert metadata["fps"] == 12


def test_index_stands_before_the_pictures(tmp_path):
    path = tmp_path / "orbit.mp4"
    write_video(path, [np.zeros((32, 32, 3))] * 2)
    content = path.read_bytes()
    assert content.index(b"moov") < content.index(b"mdat")


def test_bad_frames(tmp_path):
    with pytest.raises(InputError, match="at least one"):
        write_video(tmp_path / "orbit.mp4", [])
    with pytest.raises(InputError, match=r"frames\[1\]"):
        write_video(tmp_path / "orbit.mp4", [np.zeros((8, 8, 3)), np.zeros((8, 9, 3))])
