"""Depth and lens of sequences belong together, and to the pictures that are there."""

import numpy as np
import pytest
from PIL import Image

from tttlrm_jax.apps.sequences.command import evaluate_sequence
from tttlrm_jax.config import RuleConfig
from tttlrm_jax.config.data import WalkConfig
from tttlrm_jax.config.evaluation import SequenceEvalConfig
from tttlrm_jax.core.errors import InputError
from tttlrm_jax.procedural.walks import render_walk, write_seven_scenes
from tttlrm_jax.sequences.readers import open_sequence

COUNT = 3
ROOM = render_walk(0, COUNT, WalkConfig(height=24, width=32, supersampling=1))


@pytest.fixture
def seven_scenes(tmp_path):
    write_seven_scenes(tmp_path / "room", ROOM)
    return tmp_path / "room"


def add_registered(folder, frames=range(COUNT)):
    """Depth of 1 m as files that are registered to the pictures."""
    for number in frames:
        metre = np.full((24, 32), 1000, np.uint16)
        Image.fromarray(metre).save(folder / f"frame-{number:06d}.depth.proj.png")


def test_registered_depth_comes_first_with_its_lens(seven_scenes):
    (seven_scenes / "camera-intrinsics.txt").unlink()
    raw = open_sequence(seven_scenes)
    np.testing.assert_allclose(raw.intrinsics, [585 / 20, 585 / 20, 16, 12])
    assert "depth.png, the raw depth camera's, not registered to the pictures" in raw.notes[0]
    np.testing.assert_allclose(next(raw.frames()).depth, ROOM.depth[0], atol=1e-3)
    add_registered(seven_scenes)
    ours = open_sequence(seven_scenes)
    np.testing.assert_allclose(ours.intrinsics, [525 / 20, 525 / 20, 16, 12])
    assert "depth of 3 of 3 frames is depth.proj.png, registered to the pictures" in ours.notes[0]
    assert (next(ours.frames()).depth == 1).all()
    scaled = open_sequence(seven_scenes, intrinsics_scale=0.5)  # no file has any
    np.testing.assert_array_equal(scaled.intrinsics, ours.intrinsics)
    assert scaled.notes[-1].startswith("no intrinsics of a file are there to be multiplied by 0.5")


def test_a_file_of_intrinsics_wins_and_is_named(seven_scenes):
    before = open_sequence(seven_scenes).intrinsics
    add_registered(seven_scenes)
    after = open_sequence(seven_scenes)
    np.testing.assert_array_equal(before, after.intrinsics)
    assert "that of camera-intrinsics.txt, while the data set's is 525 px" in after.notes[0]


def test_frames_without_registered_depth_have_none(seven_scenes):
    add_registered(seven_scenes, [0, 2])
    sequence = open_sequence(seven_scenes)
    assert [frame.depth is None for frame in sequence.frames()] == [False, True, False]
    assert "depth of 2 of 3 frames" in sequence.notes[0]


def make_scannet(folder, lens):
    for name in ("color", "pose", "intrinsic"):
        (folder / name).mkdir(parents=True)
    for number, pose in enumerate(ROOM.world_from_camera):
        Image.fromarray(ROOM.images[number]).save(folder / f"color/{number}.jpg")
        np.savetxt(folder / f"pose/{number}.txt", pose)
    fx, fy, cx, cy = lens
    matrix = [[fx, 0, cx, 0], [0, fy, cy, 0], [0, 0, 1, 0], [0, 0, 0, 1]]
    np.savetxt(folder / "intrinsic/intrinsic_color.txt", matrix)
    return folder


@pytest.mark.parametrize(("factor", "said"), [(2, "2 times as large"), (4, "4 times as large")])
def test_intrinsics_of_larger_pictures_are_left_out_or_scaled(tmp_path, factor, said):
    right = np.array([28.9, 29.1, 15.7, 12.4])
    path = make_scannet(tmp_path / "scene", right * factor)
    sequence = open_sequence(path)
    assert sequence.intrinsics is None
    assert said in sequence.notes[-1]
    assert sequence.notes[-1].startswith("intrinsics are left out: a picture has 32x24 pixels")
    scaled = open_sequence(path, intrinsics_scale=1 / factor)
    np.testing.assert_allclose(scaled.intrinsics, right)
    assert scaled.notes == (
        f"the intrinsics of the file are multiplied by {1 / factor:g}, as asked",
    )
    wanted = SequenceEvalConfig(capture=str(path), reconstruction=True)
    with pytest.raises(InputError, match=rf"intrinsics of scene: .*scale {1 / factor:g} "):
        evaluate_sequence(wanted, RuleConfig("ttt3r"))


def test_intrinsics_of_these_pictures_are_kept(tmp_path):
    lens = np.array([28.9, 29.1, 15.7, 12.4])
    sequence = open_sequence(make_scannet(tmp_path / "scene", lens))
    np.testing.assert_allclose(sequence.intrinsics, lens)
    assert sequence.lens_problem is None
