"""Which frame comes when, and how poses chain across resets."""

import numpy as np
import pytest

from tttlrm_jax.core.errors import InputError
from tttlrm_jax.models.ttt3r_schedule import PoseChain, schedule


def test_reset_frames_are_fed_twice():
    visits = list(schedule(8, reset_every=3))
    assert [visit.index for visit in visits] == [0, 1, 2, 2, 3, 4, 5, 5, 6, 7]
    assert [n for n, visit in enumerate(visits) if visit.reset] == [2, 6]
    assert [n for n, visit in enumerate(visits) if not visit.keep] == [3, 7]


def test_revisits_keep_the_last_pass():
    visits = list(schedule(2, revisit=3, update_revisits=False))
    assert [visit.index for visit in visits] == [0, 1] * 3
    assert [visit.keep for visit in visits] == [False] * 4 + [True] * 2
    assert [visit.update for visit in visits] == [True] * 2 + [False] * 4


def test_live_stream_has_no_end():
    visits = schedule(None, reset_every=2)
    assert [next(visits).index for _ in range(6)] == [0, 1, 1, 2, 3, 3]


@pytest.mark.parametrize(
    "options",
    [{"reset_every": -1}, {"revisit": 0}, {"num_frames": 0}, {"num_frames": None, "revisit": 2},
     {"reset_every": 2, "revisit": 2}],
)  # fmt: skip
def test_bad_options(options):
    with pytest.raises(InputError):
        schedule(**{"num_frames": 4, **options})


def test_chained_poses_are_those_of_one_world():
    """Poses relative to each chunk's first camera, chained, are the poses relative to the first."""
    rng = np.random.default_rng(0)
    poses = []
    for _ in range(6):
        rotation = np.linalg.qr(rng.normal(size=(3, 3)))[0]
        pose = np.eye(4)
        pose[:3, :3], pose[:3, 3] = rotation * np.linalg.det(rotation), rng.normal(size=3)
        poses.append(np.linalg.inv(poses[0]) @ pose if poses else np.eye(4))
    chain, start, kept = PoseChain(), 0, []
    for visit in schedule(6, reset_every=2):
        seen = np.linalg.inv(poses[start]) @ poses[visit.index]
        placed = chain.advance(seen, visit.reset)
        if visit.keep:
            kept.append(placed)
        start = visit.index if visit.reset else start
    np.testing.assert_allclose(kept, poses, atol=1e-12)
