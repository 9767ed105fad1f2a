"""Cameras registered far away are named, and left out where that is asked for."""

from pathlib import Path

import numpy as np
import pytest

from tttlrm_jax.captures.camera_files import Frame
from tttlrm_jax.captures.capture import Capture
from tttlrm_jax.captures.outliers import checked_outliers, relative_distance
from tttlrm_jax.core.geometry.poses import look_at


def capture(centres, **options):
    poses = look_at(np.asarray(centres, float), np.array([0.1, 0.2, -9.0]), np.array([0, 1.0, 0]))
    frames = tuple(
        Frame(n, f"{n:02d}.png", Path(f"{n:02d}.png"), np.ones(4), pose)
        for n, pose in enumerate(poses)
    )
    return Capture("desk", Path("desk"), frames, {3: (1, 2, 3), 2: (7, 9)}, **options)


def ring(count=18, far=None, place=0.0):
    angle = np.linspace(0, 2 * np.pi, count, endpoint=False)
    centre = np.stack([np.cos(angle), np.sin(angle), 0 * angle], axis=1)
    for number, times in (far or {}).items():
        centre[number] *= times
    return centre + place


@pytest.mark.parametrize("place", [0.0, 5e6])
@pytest.mark.parametrize("far", [{7: 12.0}, {7: 1e4}, {7: 40.0, 12: 9.0}])
def test_a_far_camera_is_named_and_stays(far, place):
    plain = capture(ring(far=far, place=place), notes=("before",))
    found = checked_outliers(plain, drop=False)
    assert found.frames == plain.frames
    before, note = found.notes
    assert before == "before"
    assert ", ".join(f"{n:02d}.png" for n in far) in note
    assert "--drop-outliers" in note


def test_dropped_cameras_leave_the_numbers_of_the_others():
    found = checked_outliers(capture(ring(far={7: 50.0})), drop=True)
    assert found.frame_numbers.tolist() == [n for n in range(18) if n != 7]
    assert found.folds == {3: (1, 2, 3)}
    assert "07.png" in found.notes[0]
    assert "left out" in found.notes[0]
    assert checked_outliers(capture(ring()), drop=True).notes == ()


@pytest.mark.parametrize(
    "centres",
    [
        ring(), ring(3, far={0: 100.0}), np.zeros((9, 3)),
        np.linspace([-30, 0, 0], [30, 0, 0], 40),  # a walk
        np.array([[2.0**n, 0, 0] for n in range(4)]),  # towards the thing
        np.random.default_rng(0).normal(size=(200, 3)),
    ],
)  # fmt: skip
def test_usual_paths_have_no_outlier(centres):
    assert relative_distance(capture(centres).world_from_camera).max() < 6
    assert checked_outliers(capture(centres), drop=False).notes == ()
