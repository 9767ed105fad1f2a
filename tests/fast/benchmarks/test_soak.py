"""What the soak takes for a save under way, a rendering under way and a run that survived."""

import numpy as np
import pytest

from benchmarks.soak import ACTIVITIES, Run, holds
from benchmarks.soak_process import DRAWS, STEPS, open_board


@pytest.fixture
def run(tmp_path) -> Run:
    run = Run(tmp_path, "run", 8)
    (run.path / "checkpoints" / "2").mkdir(parents=True)
    run.board = open_board(tmp_path / "board", new=True)
    return run


def test_a_save_is_under_way_until_its_directory_has_its_name(run):
    draft = run.path / "checkpoints" / "4.orbax-checkpoint-tmp"
    draft.mkdir()
    assert run.under_way("saving")
    assert run.newest_checkpoint() == 2
    run.left_over = run.uncommitted()  # of a process that was killed
    assert not run.under_way("saving")
    draft.rmdir()
    draft.mkdir()
    assert run.under_way("saving")
    draft.rename(draft.with_name("4"))
    assert not run.under_way("saving")
    assert run.newest_checkpoint() == 4


def test_scenes_are_rendered_until_their_cache_is_whole(run):
    assert not run.under_way("rendering")
    (run.directory / "cache" / "train-x" / ".partial-0-scenes-0").mkdir(parents=True)
    assert run.under_way("rendering")
    (run.directory / "cache" / "train-x" / "scenes-0").mkdir()
    assert not run.under_way("rendering")


def test_counts_are_seen_from_outside(run):
    theirs = open_board(run.directory / "board")
    theirs[DRAWS] += 2
    assert run.under_way("drawing")
    assert not run.under_way("stepping")
    theirs[STEPS] += 1
    assert run.under_way("stepping")


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, True),
        ({"bit_identical": False}, False),
        ({"kills": 19}, False),
        ({"resumed_from_newest": 0}, False),
        ({"damaged_checkpoints": 1}, False),
        ({"hit": dict.fromkeys(ACTIVITIES, 3) | {"drawing": 0}}, False),
    ],
)
def test_a_run_survived_if_every_activity_was_hit_and_no_bit_differs(changes, expected):
    result = {
        "kills": 20, "wanted": 20, "bit_identical": np.True_, "resumed_from_newest": 13,
        "damaged_checkpoints": 0,
        "hit": dict.fromkeys(ACTIVITIES, 3) | {"none of these": 4},
    }  # fmt: skip
    assert bool(holds(result | changes)) is expected
