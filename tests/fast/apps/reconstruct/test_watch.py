"""What is seen of an improvement while it runs."""

import numpy as np
import pytest
from PIL import Image

from tttlrm_jax.apps.reconstruct.watch import progress_line, watched
from tttlrm_jax.per_scene import Moment


def moment(seconds, psnr=25.0):
    return Moment(
        step=240, seconds=seconds, psnr=psnr, num_gaussians=3120, size=(64, 64),
        picture=None if psnr is None else np.full((4, 6, 3), int(seconds), np.uint8),
    )  # fmt: skip


def interrupted(output):
    with watched(10, output) as tell:
        tell(moment(2.0), None)
        raise KeyboardInterrupt


def test_a_bar_says_how_far_it_is():
    line = progress_line(moment(5.0), 10)
    assert line.startswith("[############------------]   5.0 of 10 s, step 240, 3120 Gaussians")
    assert line.endswith("25.00 dB on views held back")
    assert "dB" not in progress_line(moment(12.0, None), 10)
    assert progress_line(moment(12.0), 10).startswith("[" + 24 * "#" + "]")


def test_the_preview_lies_beside_the_output_while_it_runs(tmp_path):
    output = tmp_path / "new" / "desk"
    preview = output.with_name("desk.preview.png")
    with watched(10, output) as tell:
        tell(moment(1.0, None), None)
        assert not preview.exists()
        for seconds in (2.0, 3.0):
            tell(moment(seconds), None)
            assert np.unique(np.asarray(Image.open(preview))) == [int(seconds)]
        assert [path.name for path in output.parent.iterdir()] == [preview.name]
    assert not preview.exists()
    with pytest.raises(KeyboardInterrupt):
        interrupted(output)
    assert not preview.exists()
