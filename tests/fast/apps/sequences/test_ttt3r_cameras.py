"""`eval.py --model ttt3r --write-cameras`: what it found, as a capture that others read."""

import json

import numpy as np
import pytest
from PIL import Image

from tttlrm_jax.api.sequences import Prediction
from tttlrm_jax.apps.sequences.command import evaluate_sequence, parse
from tttlrm_jax.captures.capture import load_views, read_capture
from tttlrm_jax.captures.pictures.images import EXIF_ORIENTATION
from tttlrm_jax.config import RuleConfig
from tttlrm_jax.config.data import WalkConfig
from tttlrm_jax.config.evaluation import SequenceEvalConfig
from tttlrm_jax.core.errors import ConfigError
from tttlrm_jax.core.geometry.alignment import transform_points
from tttlrm_jax.core.geometry.pointmaps import unproject
from tttlrm_jax.core.geometry.poses import encoding_from_matrix
from tttlrm_jax.export.video import write_video
from tttlrm_jax.procedural.walks import render_walk
from tttlrm_jax.sequences.frame_images import plan_fit

COUNT = 4
WALK = render_walk(3, COUNT, WalkConfig(height=90, width=160, supersampling=1))
POSES = np.linalg.inv(WALK.world_from_camera[0]) @ WALK.world_from_camera
FIT = plan_fit(90, 160, 64)  # cropped to 64x32


class Knowing:
    """Tells the truth of a walk, frame after frame, at the size it is shown."""

    def __init__(self, wild=()):
        self.number, self.wild = 0, wild

    def restart(self):
        self.number = 0

    def __call__(self, image, *, reset, update):
        pose = POSES[self.number]
        depth = FIT.nearest(WALK.depth[self.number])
        own = unproject(depth, FIT.intrinsics(WALK.intrinsics)).astype(np.float32)
        encoded = encoding_from_matrix(pose)
        if self.number in self.wild:
            encoded = np.full(7, np.nan)
        self.number += 1
        return Prediction(
            points_self=own, points_world=transform_points(pose, own).astype(np.float32),
            confidence_self=np.full(own.shape[:2], 2.0, np.float32), camera_pose=encoded, gate=0.5,
        )  # fmt: skip


def run(capture, output, model=None, **options):
    config = SequenceEvalConfig(capture=str(capture), size=64, output=str(output), **options)
    return evaluate_sequence(config, RuleConfig("ttt3r"), lambda *_: model or Knowing())[1]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    directory = tmp_path_factory.mktemp("walk") / "images"
    directory.mkdir()
    for number, image in enumerate(WALK.images):
        Image.fromarray(image).save(directory / f"{number:03d}.png")
    return directory


def check(capture, poses=POSES, scale=1):
    np.testing.assert_allclose(capture.world_from_camera, poses, atol=1e-6)
    for frame in capture.frames:
        np.testing.assert_allclose(frame.intrinsics, scale * WALK.intrinsics, rtol=1e-4)
        assert frame.size == (scale * 90, scale * 160)


def test_cameras_are_those_of_the_whole_pictures(folder, tmp_path):
    metrics = run(folder, tmp_path / "out", write_cameras=("colmap", "nerfstudio", "opencv"))
    cameras = tmp_path / "out" / "cameras"
    assert not (cameras / "images").exists()  # they are files already
    for name in ("transforms.json", "opencv_cameras.json", "colmap/sparse/0"):
        capture = read_capture(cameras / name)
        check(capture)
        assert len(capture.points()[0]) == COUNT * 32 * 64
        assert capture.frames[2].image_path.resolve() == (folder / "002.png").resolve()
    points, colours = capture.points()
    assert len(points) == metrics["num_points"]
    seen = points @ POSES[0, :3, :3]  # the first camera is the world
    image = load_views(capture, [0], 90, 160)[0][0]
    fx, fy, cx, cy = WALK.intrinsics
    column = (fx * seen[:2048, 0] / seen[:2048, 2] + cx).astype(int)
    row = (fy * seen[:2048, 1] / seen[:2048, 2] + cy).astype(int)
    assert np.abs(image[row, column] - colours[:2048]).mean() < 0.1
    assert any("cameras in cameras/ are of the whole pictures of 160x90: focal length" in note
               for note in metrics["notes"])  # fmt: skip


def test_pictures_that_are_no_files_are_written(folder, tmp_path):
    write_video(tmp_path / "walk.mp4", list(WALK.images), frames_per_second=5)
    run(tmp_path / "walk.mp4", tmp_path / "film", write_cameras=("nerfstudio",))
    capture = read_capture(tmp_path / "film" / "cameras")
    check(capture, scale=3)  # small films are enlarged
    image = np.asarray(Image.open(capture.frames[3].image_path)).astype(float)
    assert np.abs(image[1::3, 1::3] - WALK.images[3]).mean() < 12  # the film's loss
    turned = tmp_path / "turned"
    turned.mkdir()
    for number, image in enumerate(WALK.images):
        exif = Image.Exif()
        exif[EXIF_ORIENTATION] = 3  # upside down
        Image.fromarray(image[::-1, ::-1]).save(turned / f"{number}.png", exif=exif)
    run(turned, tmp_path / "out", write_cameras=("opencv",))
    capture = read_capture(tmp_path / "out" / "cameras")
    check(capture)
    image = np.asarray(Image.open(capture.frames[1].image_path)).astype(float)
    assert np.abs(image - WALK.images[1]).mean() < 5


def test_frames_without_a_pose_are_left_out(folder, tmp_path):
    run(folder, tmp_path / "out", Knowing(wild=(1,)), write_cameras=("opencv", "tum"))
    check(read_capture(tmp_path / "out/cameras"), POSES[[0, 2, 3]])
    metrics = run(folder, tmp_path / "out", Knowing(range(COUNT)), write_cameras=("opencv",))
    assert any("no cameras are written" in note for note in metrics["notes"])
    assert not (tmp_path / "out/cameras").exists()
    assert json.loads((tmp_path / "out/metrics.json").read_text())["frames"] == COUNT


def test_an_unknown_format_is_one_sentence():
    with pytest.raises(ConfigError, match=r"write.cameras"):
        parse(["--capture", "x", "--write-cameras", "blender"])
