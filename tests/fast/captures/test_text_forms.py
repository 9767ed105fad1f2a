"""Cameras in every form of text whose meaning is certain."""

import numpy as np
import pytest

from tttlrm_jax.captures.capture import read_capture
from tttlrm_jax.captures.pose_matrices import unscaled_pose
from tttlrm_jax.core.errors import InputError
from tttlrm_jax.core.files.text_files import read_lines, read_text

ENCODINGS = ("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32")
WITH_MARKS = ("utf-8", "utf-8-sig", "utf-16", "utf-32")


@pytest.mark.parametrize("form", ["opencv_cameras.json", "transforms.json"])
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_json_in_every_encoding_of_its_standard(capture_directory, camera_file, form, encoding):
    if form == "transforms.json":
        camera_file.to_transforms()
    before, path = read_capture(capture_directory), capture_directory / form
    path.write_bytes(path.read_text().encode(encoding))
    after = read_capture(capture_directory)
    np.testing.assert_array_equal(after.world_from_camera, before.world_from_camera)


@pytest.mark.parametrize("encoding", WITH_MARKS)
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_text_in_every_encoding_that_marks_itself(tmp_path, encoding, end):
    (tmp_path / "list").write_bytes(f"# caf\u00e9{end} two words {end}{end}x".encode(encoding))
    assert read_lines(tmp_path / "list") == ["# caf\u00e9", "two words", "", "x"]


def test_what_is_no_text_is_named(tmp_path):
    (tmp_path / "list").write_bytes(b"caf\xe9")
    with pytest.raises(InputError, match=r"list=.*cannot be read as text .*not UTF-8.*; fix it"):
        read_text(tmp_path / "list", "list", "fix it")
    with pytest.raises(InputError, match=r"cannot be read \(No such file"):
        read_text(tmp_path / "absent")


MATRICES = {
    "3x4": lambda pose: pose[:3].tolist(),
    "16 numbers": lambda pose: pose.ravel().tolist(),
    "12 numbers": lambda pose: pose[:3].ravel().tolist(),
}


@pytest.mark.parametrize("form", ["w2c", "transform_matrix"])
@pytest.mark.parametrize("kind", MATRICES)
def test_matrices(capture_directory, camera_file, form, kind):
    before = read_capture(capture_directory).world_from_camera
    if form == "transform_matrix":
        camera_file.to_transforms()

    def change(document):
        for frame in document["frames"]:
            frame[form] = MATRICES[kind](np.array(frame[form]))

    camera_file.edit(change)
    capture = read_capture(capture_directory)
    np.testing.assert_allclose(capture.world_from_camera, before, atol=1e-9)
    assert capture.notes == ()


@pytest.mark.parametrize("length", [2.5, 0.01])
def test_long_axes_of_a_camera_to_world_keep_its_centre(capture_directory, camera_file, length):
    before = read_capture(capture_directory).world_from_camera
    camera_file.to_transforms()
    scale = np.diag([length, length, length, 1.0])

    def change(document):
        for frame in document["frames"]:
            frame["transform_matrix"] = (np.array(frame["transform_matrix"]) @ scale).tolist()

    camera_file.edit(change)
    capture = read_capture(capture_directory)
    np.testing.assert_allclose(capture.world_from_camera, before, atol=1e-9)
    assert f"scaled, the first by {length}" in " ".join(capture.notes)


@pytest.mark.parametrize(
    "matrix", [np.diag([2.0, 2, 1, 1]), np.diag([-2.0, 2, 2, 1]), np.diag([0.0, 0, 0, 1])]
)
def test_other_scales_are_refused(capture_directory, camera_file, matrix):
    camera_file.to_transforms()
    camera_file.edit_frame(3, transform_matrix=matrix.tolist())
    with pytest.raises(InputError, match=r"frame 3 .*(not rigid|singular)"):
        read_capture(capture_directory)


def test_a_rigid_pose_stays_as_it_is():
    pose = np.eye(4)
    assert unscaled_pose(pose)[0] is pose
