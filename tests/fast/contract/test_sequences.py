"""Promises of every entry of `READERS`, and of the protocols that use them; bad input is named."""

import inspect
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tttlrm_jax.api.sequences import Prediction
from tttlrm_jax.apps.protocols.command import evaluate_protocol
from tttlrm_jax.apps.protocols.tables import apply_protocol
from tttlrm_jax.apps.sequences.command import evaluate_sequence
from tttlrm_jax.config import RuleConfig
from tttlrm_jax.config.data import WalkConfig
from tttlrm_jax.config.evaluation import SequenceEvalConfig
from tttlrm_jax.core.errors import InputError
from tttlrm_jax.core.geometry.pointmaps import unproject
from tttlrm_jax.core.geometry.rotations import quaternion_from_rotation
from tttlrm_jax.export.video import write_video
from tttlrm_jax.procedural.walks import render_walk, write_seven_scenes
from tttlrm_jax.sequences.frame_images import plan_fit
from tttlrm_jax.sequences.readers import READERS, open_sequence, read_tum_trajectory
from tttlrm_jax.sequences.sequence import FrameSelection

CONFIGS = Path(__file__).resolve().parents[3] / "configs" / "ttt3r"
COUNT = 6
ROOM = render_walk(0, COUNT, WalkConfig(height=24, width=32, supersampling=1))


def save_png16(path, depth, units):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.rint(depth * units).astype(np.uint16)).save(path)


def save_image(path, image):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)


def make_seven_scenes(folder):
    write_seven_scenes(folder, ROOM)
    return folder


def make_tum(folder):
    lists = {"rgb": "# time file\n", "depth": "", "groundtruth": "# time pose\n"}
    for number, pose in enumerate(ROOM.world_from_camera):
        stamp = 1000.0 + number / 30
        save_image(folder / f"rgb/{number}.png", ROOM.images[number])
        save_png16(folder / f"depth/{number}.png", ROOM.depth[number], 5000)
        lists["rgb"] += f"{stamp:.6f} rgb/{number}.png\n"
        lists["depth"] += f"{stamp + 0.01:.6f} depth/{number}.png\n"
        w, x, y, z = quaternion_from_rotation(pose[:3, :3])
        place = " ".join(f"{value:.9f}" for value in (*pose[:3, 3], x, y, z, w))
        lists["groundtruth"] += f"{stamp - 0.004:.6f} {place}\n"
    for name, text in lists.items():
        (folder / f"{name}.txt").write_text(text)
    return folder


def make_scannet(folder):
    for number, pose in enumerate(ROOM.world_from_camera):
        save_image(folder / f"color/{number}.jpg", ROOM.images[number])
        save_png16(folder / f"depth/{number}.png", ROOM.depth[number], 1000)
        (folder / "pose").mkdir(exist_ok=True)
        np.savetxt(folder / f"pose/{number}.txt", pose)
    (folder / "intrinsic").mkdir()
    np.savetxt(folder / "intrinsic/intrinsic_color.txt", np.diag([20.0, 21.0, 1.0, 1.0]))
    return folder


def make_sintel(folder):
    tag = np.float32(202021.25).tobytes()
    for number, pose in enumerate(ROOM.world_from_camera):
        stem = f"alley_1/frame_{number + 1:04d}"
        save_image(folder / f"training/final/{stem}.png", ROOM.images[number])
        for kind in ("depth", "camdata_left"):
            (folder / f"training/{kind}/alley_1").mkdir(parents=True, exist_ok=True)
        depth = np.array([32, 24], "<i4").tobytes() + ROOM.depth[number].astype("<f4").tobytes()
        (folder / f"training/depth/{stem}.dpt").write_bytes(tag + depth)
        camera = np.eye(3).tobytes() + np.linalg.inv(pose)[:3].tobytes()
        (folder / f"training/camdata_left/{stem}.cam").write_bytes(tag + camera)
    return folder / "training/final/alley_1"


def make_kitti(folder):
    for number in range(COUNT + 2):  # the first and last pictures have no depth
        source = min(max(number - 1, 0), COUNT - 1)
        save_image(folder / f"image_02/data/{number:010d}.png", ROOM.images[source])
        if 0 < number <= COUNT:
            path = folder / f"proj_depth/groundtruth/image_02/{number:010d}.png"
            save_png16(path, ROOM.depth[source], 256)
    return folder


def make_posed(folder):
    """poses.txt, K.txt, depth/ and images/, as multi-view-stereo code bases have them."""
    lines = [" ".join(f"{x:.9f}" for x in pose[:3].ravel()) for pose in ROOM.world_from_camera]
    for number in range(COUNT):
        save_image(folder / f"images/{number + 7:04d}.png", ROOM.images[number])
        save_png16(folder / f"depth/{number + 7:04d}.png", ROOM.depth[number], 1000)
    (folder / "poses.txt").write_text("\n".join(lines) + "\n")
    np.savetxt(folder / "K.txt", [[20.0, 0, 16], [0, 21.0, 12], [0, 0, 1]])
    return folder


def make_images(folder):
    for number in range(COUNT):
        save_image(folder / f"shot{number + 5}.png", ROOM.images[number])  # 5 .. 10: by number
    return folder


def make_video(folder):
    folder.mkdir()
    write_video(folder / "walk.mp4", ROOM.images, frames_per_second=10, min_side=1)
    return folder / "walk.mp4"


MAKERS = {
    "seven_scenes": make_seven_scenes, "tum": make_tum, "scannet": make_scannet,
    "sintel": make_sintel, "kitti": make_kitti, "posed": make_posed, "images": make_images,
    "video": make_video,
}  # fmt: skip
LOSSY = {"scannet", "video"}
WITH_POSES = {"seven_scenes", "tum", "scannet", "sintel", "posed"}
DEPTH_STEP = {
    "seven_scenes": 1e-3, "tum": 2e-4, "scannet": 1e-3, "sintel": 1e-6, "kitti": 4e-3,
    "posed": 1e-3,
}  # fmt: skip


@pytest.fixture(scope="module", params=READERS)
def made(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("sequences") / request.param
    return request.param, MAKERS[request.param](folder)


def test_every_form_gives_what_was_written(made):
    kind, path = made
    sequence = open_sequence(path)
    assert sequence.kind == kind
    assert sequence.image_size == (24, 32)
    assert sequence.has_poses == (kind in WITH_POSES)
    assert sequence.has_depth == (kind in DEPTH_STEP)
    assert sequence.expected_frames == COUNT
    frames = list(sequence.frames())
    assert len(frames) == COUNT
    assert (np.diff([frame.time for frame in frames]) > 0).all()
    for number, frame in enumerate(frames):
        difference = np.abs(frame.image.astype(int) - ROOM.images[number])
        assert difference.mean() < (40 if kind in LOSSY else 1e-9)
        if kind in WITH_POSES:
            expected = ROOM.world_from_camera[number]
            np.testing.assert_allclose(frame.world_from_camera, expected, atol=1e-6)
        if kind in DEPTH_STEP:
            expected = ROOM.depth[number]
            np.testing.assert_allclose(frame.depth, expected, atol=DEPTH_STEP[kind])


def test_frames_are_chosen_by_number(made):
    _, path = made
    whole = [frame.image for frame in open_sequence(path).frames()]
    for selection, numbers in (
        (FrameSelection(start=1, stride=2), [1, 3, 5]),
        (FrameSelection(max_frames=3), [0, 1, 2]),
        (FrameSelection(frames="0,2-4"), [0, 2, 3, 4]),
    ):
        chosen = open_sequence(path, selection)
        assert chosen.expected_frames == len(numbers)
        for frame, number in zip(chosen.frames(), numbers, strict=True):
            np.testing.assert_array_equal(frame.image, whole[number])


def test_nothing_is_decoded_before_it_is_asked_for(made):
    _, path = made
    frames = open_sequence(path).frames()
    assert inspect.isgenerator(frames)
    assert next(frames).image.shape == (24, 32, 3)
    frames.close()


class Anything:
    """A model that sees a wall two metres ahead and walks to the right, not quite straight."""

    def restart(self):
        self.frames = 0

    def __call__(self, image, *, reset, update):
        height, width = image.shape[:2]
        points = unproject(np.full((height, width), 2.0), np.array([60.0, 60.0, 32.0, 24.0]))
        self.frames += 1
        pose = np.array([self.frames, 0.1 * self.frames**2, 0, 1, 0, 0, 0], np.float32)
        return Prediction(
            points_self=points.astype(np.float32), camera_pose=pose, gate=1.0,
            confidence_self=np.full((height, width), 2.0, np.float32),
            points_world=(points + pose[:3]).astype(np.float32),
        )  # fmt: skip


PROTOCOLS = {
    "sintel": ("sintel_depth", ""), "tum": ("tum_pose_long", "rgbd_dataset_freiburg3_sitting_xyz"),
    "scannet": ("scannet_pose_long", "scene0000_00"), "kitti": ("kitti_depth", "drive_0001_sync"),
    "seven_scenes": ("seven_scenes_reconstruction", "chess/seq-03"),
}  # fmt: skip


@pytest.mark.parametrize("kind", PROTOCOLS)
def test_a_protocol_runs_on_data_of_its_layout(kind, tmp_path):
    name, place = PROTOCOLS[kind]
    if kind == "seven_scenes":
        (tmp_path / "root/chess").mkdir(parents=True)
    elif kind != "sintel":
        (tmp_path / "root").mkdir()
    MAKERS[kind](tmp_path / "root" / place)
    config = apply_protocol(SequenceEvalConfig(
        capture=str(tmp_path / "root"), output=str(tmp_path / "out"), size=64, stride=2,
        protocol=str(CONFIGS / f"{name}.py"),
    ))  # fmt: skip
    _, row = evaluate_protocol(
        config, RuleConfig("cut3r"), evaluate_sequence, lambda *_: Anything()
    )
    assert row["sequences"] == 1
    assert row["unscored"] == []
    assert ("pose" in row) == (kind in WITH_POSES)
    assert ("depth" in row) == (kind in DEPTH_STEP)
    assert ("reconstruction" in row) == (kind == "seven_scenes")
    if kind != "seven_scenes":
        assert set(row["depth"]) == {"scale", "metric"}
    assert all(np.isfinite(value) for value in row.get("pose", {}).values())


def test_frames_without_pose_in_time_have_none(tmp_path):
    path = make_tum(tmp_path / "tum")
    lines = (path / "groundtruth.txt").read_text().splitlines()
    (path / "groundtruth.txt").write_text("\n".join(lines[:3]))
    poses = [frame.world_from_camera for frame in open_sequence(path).frames()]
    assert [pose is None for pose in poses] == [False, False, True, True, True, True]
    assert read_tum_trajectory(path / "groundtruth.txt")[1].shape == (2, 4, 4)


def break_sizes(path):
    save_image(path / "frame-000002.color.png", ROOM.images[2][:-2])


def break_depth(path):
    save_png16(path / "frame-000002.depth.png", ROOM.depth[2][:-2], 1000)


def break_proportions(path):
    for number in range(COUNT):
        save_png16(path / f"frame-{number:06d}.depth.png", ROOM.depth[number][:, :16], 1000)


def break_depth_mode(path):
    save_image(path / "frame-000002.depth.png", ROOM.images[2])


def break_pose(path):
    (path / "frame-000002.pose.txt").write_text("-inf " * 16)


def break_pose_text(path):
    (path / "frame-000002.pose.txt").write_text("1 0 0")


def break_picture(path):
    (path / "frame-000002.color.png").write_bytes(b"no picture")


def leave_one(path):
    for each in path.glob("frame-00000[1-9]*"):
        each.unlink()


def leave_none(path):
    for each in path.glob("frame*"):
        each.unlink()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (break_sizes, "image size of frame frame-000002=32x22 differs from 32x24"),
        (break_depth, "depth size of frame frame-000002=32x22 differs"),
        (break_proportions, "has not the proportions of its 32x24 picture"),
        (break_depth_mode, "is not 16-bit grey"),
        (break_pose, "pose of frame frame-000002 has entries that are not finite"),
        (break_pose_text, "does not hold 4x4 numbers"),
        (break_picture, "cannot be decoded"),
        (leave_one, "frames=1 in bad make no sequence"),
        (leave_none, "frames=0 in bad make no sequence"),
    ],
)
def test_bad_input_is_named(tmp_path, change, message):
    path = make_seven_scenes(tmp_path / "bad")
    change(path)
    with pytest.raises(InputError, match=message):
        list(open_sequence(path).frames())


def test_bad_poses_can_be_left_out(tmp_path):
    path = make_seven_scenes(tmp_path / "bad")
    break_pose(path)
    assert len(list(open_sequence(path, skip_bad_poses=True).frames())) == COUNT - 1


@pytest.mark.parametrize("content", [b"", b"not a video at all" * 50])
def test_an_unreadable_video_is_named(tmp_path, content):
    path = tmp_path / "broken.mp4"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"video=.*broken.mp4 .*(decoded|no frame)"):
        open_sequence(path)


def test_a_video_of_one_frame_is_no_sequence(tmp_path):
    write_video(tmp_path / "one.mp4", ROOM.images[:1], min_side=1)
    with pytest.raises(InputError, match="frames=1"):
        list(open_sequence(tmp_path / "one.mp4").frames())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"stride": 0}, "stride=0 is below 1"), ({"frames": "1-"}, "frames=1- is not"),
        ({"frames": "1-3", "stride": 2}, "beside start or stride"),
    ],
)  # fmt: skip
def test_a_wrong_selection_is_named(options, message):
    with pytest.raises(InputError, match=message):
        FrameSelection(**options)


def test_numbers_beyond_the_end_and_paths_are_named(tmp_path):
    path = make_images(tmp_path / "images")
    with pytest.raises(InputError, match="frames=9 is beyond the 6 frames"):
        open_sequence(path, FrameSelection(frames="0-9"))
    with pytest.raises(InputError, match="does not exist"):
        open_sequence(tmp_path / "absent")
    with pytest.raises(InputError, match="holds no sequence of the form tum"):
        open_sequence(path, kind="tum")
    with pytest.raises(InputError, match="is one picture"):
        open_sequence(path / "shot5.png")


def test_real_frames(shared):
    sequence = open_sequence(shared / "data" / "seven_scenes", FrameSelection(stride=50))
    assert sequence.kind == "seven_scenes"
    frames = list(sequence.frames())
    assert len(frames) == 4
    assert all(0.3 < np.median(frame.depth[frame.depth > 0]) < 8 for frame in frames)
    np.testing.assert_allclose(sequence.intrinsics, [292.5, 292.5, 160, 120])


def test_orientation_is_followed(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turned a quarter
    for number in range(2):
        picture = Image.fromarray(ROOM.images[number])
        picture.save(tmp_path / f"{number}.jpg", exif=exif, quality=95)
    sequence = open_sequence(tmp_path)
    assert sequence.image_size == (32, 24)
    assert next(sequence.frames()).image.shape == (32, 24, 3)


@pytest.mark.parametrize("mode", ["crop", "resize"])
def test_depth_and_intrinsics_follow_the_fit(mode):
    """A point drawn into colour and depth is found at the same place of both."""
    fit = plan_fit(72, 100, 64, mode)
    colour, depth = np.zeros((72, 100, 3), np.uint8), np.zeros((36, 50), np.float32)
    colour[30:36, 60:66], depth[15:18, 30:33] = 255, 2.0
    row, column = (axis.mean() + 0.5 for axis in np.nonzero(fit.image(colour)[..., 0] > 127))
    near = [axis.mean() + 0.5 for axis in np.nonzero(fit.nearest(depth) > 0)]
    np.testing.assert_allclose(near, [row, column], atol=1.0)
    lens = fit.intrinsics(np.array([50.0, 50.0, 63.0, 33.0]))
    np.testing.assert_allclose(lens[2:], [column, row], atol=0.6)


def test_a_picture_too_narrow_is_named():
    with pytest.raises(InputError, match="leaves no 16 pixels"):
        plan_fit(10, 200, 64)
    with pytest.raises(InputError, match="is square"):
        plan_fit(64, 64, 64, "resize")
