"""Videos that end before their header says."""

import numpy as np
import pytest

from tttlrm_jax.export.video import write_video
from tttlrm_jax.sequences.sequence import FrameSelection
from tttlrm_jax.sequences.video_promises import uncertain_frames
from tttlrm_jax.sequences.videos import open_video

COUNT = 60


@pytest.fixture(scope="module", params=["mkv", "avi", "mp4"])
def film(request, tmp_path_factory):
    path = tmp_path_factory.mktemp("films") / f"film.{request.param}"
    noise = np.random.default_rng(3).integers(0, 256, (COUNT, 48, 64, 3), np.uint8)
    write_video(path, noise, frames_per_second=30, min_side=1)
    return path


@pytest.mark.parametrize(
    "selection",
    [FrameSelection(), FrameSelection(stride=7), FrameSelection(frames="3-5,59,80")],
    ids=str,
)
def test_nothing_is_said_of_a_whole_film(film, selection):
    sequence = open_video(film, selection)
    decoded = len(list(sequence.frames()))
    assert decoded == sequence.expected_frames == sequence.least_frames
    assert sequence.shortfall(decoded) is None


def test_a_film_that_is_cut_off_gives_its_frames_and_says_so(film, tmp_path):
    if film.suffix == ".mp4":
        pytest.skip("its index is at the end: nothing can be decoded, which is an error")
    cut = tmp_path / film.name
    content = film.read_bytes()
    cut.write_bytes(content[: len(content) // 2])
    sequence = open_video(cut, FrameSelection())
    decoded = len(list(sequence.frames()))
    assert COUNT / 4 < decoded < 3 * COUNT / 4
    said = sequence.shortfall(decoded)
    assert said is not None
    assert said.startswith(f"frames: {decoded} of {COUNT} promised could be decoded")
    early = open_video(cut, FrameSelection(max_frames=10))
    assert early.shortfall(len(list(early.frames()))) is None


def test_one_frame_less_is_said_only_where_the_promise_is_exact():
    assert uncertain_frames(30, 2) == 0
    assert uncertain_frames(120, 2) == 1
    assert uncertain_frames(23.98, 3600) == 19  # 23.976 was rounded
