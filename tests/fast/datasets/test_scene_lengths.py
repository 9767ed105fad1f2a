"""Scenes with too few frames are left out in one line, refused if told to, and change nothing."""

import dataclasses

import numpy as np
import pytest

from tttlrm_jax.captures.camera_files import write_opencv_capture
from tttlrm_jax.config import DataConfig
from tttlrm_jax.core.errors import ConfigError, InputError
from tttlrm_jax.core.scenes import SceneViews
from tttlrm_jax.datasets.pipeline import evaluation_loader, make_loader
from tttlrm_jax.datasets.scene_lengths import usable_scenes

CONFIG = DataConfig(
    source="captures", capture_directories=("clips",), num_input_views=6, num_target_views=2,
    view_selection="range", min_frame_range=32, max_frame_range=64, num_threads=0,
)  # fmt: skip


@dataclasses.dataclass
class Clip:
    """A walk along x whose pictures, of one pixel, show the number of the frame."""

    name: str
    count: int
    every: int = 8

    @property
    def world_from_camera(self):
        poses = np.tile(np.eye(4), (self.count, 1, 1))
        poses[:, 0, 3] = np.arange(self.count)
        return poses

    @property
    def held_out(self):
        return np.arange(self.count) % self.every == 0 if self.every else None

    def read(self, view_indices):
        image = np.tile(view_indices[:, None, None, None] / 1000, (1, 1, 1, 3)).astype(np.float32)
        return SceneViews(image, np.ones((len(view_indices), 4)))


def clips(*counts, every=8):
    return [Clip(f"clip{count}", count, every) for count in counts]


def names(scenes):
    return [scenes[index].name for index in range(len(scenes))]


def changed(**changes):
    return dataclasses.replace(CONFIG, **changes)


def test_short_clips_are_left_out_in_one_line_and_the_order_is_kept(capsys):
    """Of 9 frames two are held out, which leaves 7; of 10 they leave 8, as many as are drawn."""
    scenes = clips(90, 9, 40, 4, 10, 60)
    assert names(usable_scenes(scenes, CONFIG, "train")) == ["clip90", "clip40", "clip10", "clip60"]
    assert capsys.readouterr().err == (
        "WARNING: left out 2 of 6 scenes with fewer than data.num_input_views + "
        "data.num_target_views=8 frames that are not held out: clip9 (7), clip4 (3); "
        "data.short_scenes=refuse stops instead\n"
    )
    enough = clips(90, 40)
    assert usable_scenes(enough, CONFIG, "train") is enough
    assert capsys.readouterr().err == ""


def test_only_some_of_many_are_named(capsys):
    usable_scenes(clips(50, *[3] * 11), CONFIG, "train")
    said = capsys.readouterr().err
    assert "left out 11 of 12 scenes" in said
    assert said.count("clip3 (2)") == 8
    assert "and 3 more" in said


def test_a_window_of_few_frames_counts_not_the_clip():
    """Windows of 9 frames may hold two that are held out, and 8 of them one."""
    for width, kept in ((9, []), (10, ["clip90"])):
        narrow = changed(min_frame_range=width)
        if kept:
            assert names(usable_scenes(clips(90, 9), narrow, "train")) == kept
        else:
            with pytest.raises(InputError, match="exceeds the 7 frames of any of 2 scenes"):
                usable_scenes(clips(90, 9), narrow, "train")


def test_batches_are_those_of_the_clips_that_are_left(capsys):
    scenes = clips(90, 9, 40, 4, 60)
    mixed = make_loader(CONFIG, 5, 4, source=scenes)
    alone = make_loader(CONFIG, 5, 4, source=clips(90, 40, 60))
    for _ in range(4):
        state, one, two = mixed.get_state(), next(mixed), next(alone)
        for name, array in two.items():
            np.testing.assert_array_equal(one[name], array)
    again = make_loader(CONFIG, 5, 4, source=scenes)
    again.set_state(state)
    np.testing.assert_array_equal(next(again)["input_image"], one["input_image"])
    assert capsys.readouterr().err.count("left out 2 of 5 scenes") == 2


def test_scenes_without_held_out_frames_are_looked_at_before_the_first_batch(capsys):
    assert names(usable_scenes(clips(7, 8, every=0), CONFIG, "train")) == ["clip8"]
    assert "clip7 (7)" in capsys.readouterr().err
    together = changed(targets_include_inputs=True)
    assert len(usable_scenes(clips(7, 6, every=0), together, "train")) == 2


def test_a_clip_needs_the_whole_pool(capsys):
    """Of 12 frames 10 are not held out, of 14 twelve."""
    pooled = changed(num_pool_views=11)
    assert names(usable_scenes(clips(14, 12), pooled, "train")) == ["clip14"]
    assert "data.num_pool_views=11 frames that are not held out: clip12 (10)" in (
        capsys.readouterr().err
    )


def test_none_left_and_told_to_refuse_are_errors():
    with pytest.raises(InputError, match=r"num_target_views=8 exceeds the 7 frames of any of 2 sc"):
        make_loader(CONFIG, 0, 1, source=clips(9, 4))
    with pytest.raises(InputError, match=r"=8 exceeds the 3 frames of scene clip4 that are not"):
        make_loader(changed(short_scenes="refuse"), 0, 1, source=clips(90, 4, 9))
    with pytest.raises(ConfigError, match=r"data\.short_scenes=drop is unknown"):
        changed(short_scenes="drop")


def test_evaluation_passes_over_clips_without_inputs_or_targets(capsys):
    """It needs six inputs and a frame to evaluate on; and looks no farther than it goes."""
    scenes = clips(6, 90, 7, 40, 3)
    assert names(usable_scenes(scenes, CONFIG, "eval", limit=2)) == ["clip90", "clip7"]
    assert capsys.readouterr().err == (
        "WARNING: evaluation passes over 1 scenes with fewer than data.num_input_views=6 frames "
        "that are not held out or none that is: clip6 (5)\n"
    )
    narrow = changed(min_frame_range=7)
    with pytest.raises(InputError, match=r"holdout_every=8 leaves any of 2 scenes .* without a fr"):
        usable_scenes(clips(90, 80), narrow, "eval")


def test_one_short_capture_does_not_stop_a_run(tmp_path, rendered, capsys):
    """A folder of 12 frames, of which two are held out, and one of 4."""
    for name, count in (("a", 4), ("b", 12)):
        arrays = [rendered[key][:count] for key in ("image", "world_from_camera", "intrinsics")]
        write_opencv_capture(tmp_path / name, *arrays)
    folders = (str(tmp_path / "a"), str(tmp_path / "b"))
    both = changed(capture_directories=folders, capture_height=16, capture_width=24)
    one = dataclasses.replace(both, capture_directories=folders[1:])
    batch, expected = (next(make_loader(config, 3, 2)) for config in (both, one))
    for name, array in expected.items():
        np.testing.assert_array_equal(batch[name], array)
    (held_out,) = evaluation_loader(both, 16)
    assert held_out["target_image"].shape == (1, 2, 16, 24, 3)
    said = capsys.readouterr().err.splitlines()
    assert [line.split(" scenes")[0] for line in said] == [
        "WARNING: left out 1 of 2", "WARNING: evaluation passes over 1",
    ]  # fmt: skip
    with pytest.raises(InputError, match="exceeds the 3 frames of scene a that are not held out"):
        make_loader(dataclasses.replace(both, capture_directories=folders[:1]), 3, 2)
