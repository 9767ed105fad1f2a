"""Cameras are looked for once, kept, read again, and looked for again where pictures change."""

import json
import sys

import numpy as np
import pytest
from PIL import Image

import tttlrm_jax as tj
from tttlrm_jax.api.poses import cameras_found, pointmap_poses
from tttlrm_jax.apps.reconstruct.command import main
from tttlrm_jax.captures.capture import Capture, read_capture
from tttlrm_jax.config import EvalConfig
from tttlrm_jax.core.errors import InputError
from tttlrm_jax.structure_from_motion.diagnosis import Evidence, is_false, reason
from tttlrm_jax.structure_from_motion.workplace import LOCK, RECORD


@pytest.fixture
def find(photographs, tmp_path):
    return lambda: tj.open_capture(photographs, poses="sfm", keep_in=tmp_path / "out")


def test_found_once_and_read_again(colmap, find, photographs, tmp_path):
    capture = find()
    assert (capture.name, len(capture)) == ("desk", 5)
    np.testing.assert_allclose(capture.world_from_camera[:, 0, 3], range(5), atol=1e-12)
    assert capture.frames[2].image_path.resolve() == photographs / "p2.png"
    place = tmp_path / "out" / "desk-sfm"
    assert (
        f"5 of 5 pictures, 7 points, reprojection error 0.50 pixels; kept in {place}"
        in (capture.notes[0])
    )
    assert not (place / ".work").exists()
    again = find()
    assert colmap.runs == 1
    np.testing.assert_array_equal(again.world_from_camera, capture.world_from_camera)
    assert again.notes == capture.notes
    alone = read_capture(place)  # a capture by itself
    np.testing.assert_array_equal(alone.world_from_camera, capture.world_from_camera)


def test_pictures_that_changed_are_looked_at_again(colmap, find, photographs, capsys):
    find()
    Image.new("RGB", (32, 24)).save(photographs / "p3.png")
    find()
    assert colmap.runs == 2
    assert "have changed: again" in capsys.readouterr().err
    (photographs / "p3.png").unlink()
    assert len(find()) == 4


def test_a_killed_run_goes_on(colmap, find, tmp_path):
    colmap.fails = True
    with pytest.raises(KeyboardInterrupt, match="and the next run goes on with it"):
        find()
    place = tmp_path / "out" / "desk-sfm"
    assert (place / ".work" / "database.db").exists()
    kept = (place / "images" / "p0.png").lstat().st_ino
    colmap.fails = False
    assert len(find()) == 5
    assert (place / "images" / "p0.png").lstat().st_ino == kept


@pytest.mark.parametrize("found", [0, 2])
def test_too_few_cameras(colmap, find, tmp_path, found):
    colmap.found = found
    with pytest.raises(InputError, match=rf"has {found} of 5 pictures whose camera .*50 features"):
        find()
    assert (tmp_path / "out" / "desk-sfm" / ".work" / "database.db").exists()
    colmap.found = 5
    assert len(find()) == 5


def test_pictures_without_a_camera_are_named(colmap, find, capsys, tmp_path):
    colmap.found = 3
    find()
    assert "without a camera: p3.png, p4.png" in capsys.readouterr().err
    record = json.loads((tmp_path / "out" / "desk-sfm" / RECORD).read_text())
    assert record["not_registered"] == ["p3.png", "p4.png"]


def test_pictures_of_another_shot_are_named(colmap, find, capsys, tmp_path):
    colmap.found, colmap.found_apart = 2, 2
    with pytest.raises(InputError, match="has 2 of 5"):
        find()
    colmap.found, colmap.found_apart = 3, 1
    capture = find()
    said = capsys.readouterr().err
    assert "in a smaller model of 1: p3.png" in said
    assert "without a camera: p4.png" in said
    assert "make 2 models that do not join, of 3 and 1 pictures (1 are in none)" in capture.notes[1]
    assert capture.notes[1].endswith("give one shot at a time, or pictures of what lies between")
    record = json.loads((tmp_path / "out" / "desk-sfm" / RECORD).read_text())
    assert record["smaller_models"] == [["p3.png"]]
    assert record["not_registered"] == ["p3.png", "p4.png"]


def test_another_folder_of_the_name_is_left_alone(colmap, find, tmp_path):
    first = tmp_path / "out" / "desk-sfm"
    first.mkdir(parents=True)
    (first / "thesis.txt").write_text("mine")
    find()
    find()
    assert colmap.runs == 1
    assert [path.name for path in first.iterdir()] == ["thesis.txt"]
    assert (tmp_path / "out" / "desk-sfm-2" / "sparse" / "0").is_dir()


def test_one_run_at_a_time(colmap, find, monkeypatch, tmp_path):
    fcntl = pytest.importorskip("fcntl")

    def extract(self, masks):
        lock = tmp_path / "out" / "desk-sfm" / LOCK
        with lock.open("rb") as file, pytest.raises(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)

    monkeypatch.setattr(colmap, "extract", extract)
    find()


def test_a_directory_that_cannot_be_written(colmap, photographs, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"output=.*file.* cannot be written .*; choose another"):
        tj.open_capture(photographs, poses="sfm", keep_in=tmp_path / "file" / "below")


def test_the_command_looks_for_cameras_where_there_is_no_file(
    colmap, photographs, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(cameras_found, "capture_by_sfm", refuse)
    output = str(tmp_path / "out" / "desk")
    assert main(["--capture", str(photographs), "--output", output]) == 2
    said = capsys.readouterr().err
    assert "has no camera file: cameras by --poses sfm" in said
    assert f"error: looked for in {tmp_path / 'out'}" in said
    assert main(["--capture", str(photographs), "--output", output, "--poses", "file"]) == 2
    assert "have the cameras found (--poses sfm" in capsys.readouterr().err


def refuse(path, keep_in, film_frames):
    raise InputError(f"looked for in {keep_in}")


def test_without_pycolmap(monkeypatch, photographs, tmp_path, capsys):
    monkeypatch.setitem(sys.modules, "pycolmap", None)
    monkeypatch.chdir(tmp_path)
    said = r'poses=sfm needs the package pycolmap.*; pip install "tttlrm-jax\[sfm\]"'
    with pytest.raises(InputError, match=said):
        tj.open_capture(photographs, poses="sfm")
    assert main(["--capture", str(photographs)]) == 2
    assert "needs the package pycolmap" in capsys.readouterr().err
    assert not (tmp_path / "outputs").exists()


def test_options_that_do_not_go_together(photographs):
    with pytest.raises(InputError, match="poses_checkpoint=a is TTT3R's; add --poses ttt3r"):
        EvalConfig(poses_checkpoint="a")
    with pytest.raises(InputError, match=r"intrinsics_scale=0\.5 is of a camera file"):
        tj.open_capture(photographs, poses="sfm", intrinsics_scale=0.5)
    with pytest.raises(InputError, match="poses=colmap is unknown; use file, sfm or ttt3r"):
        tj.open_capture(photographs, poses="colmap")  # type: ignore[arg-type]
    assert isinstance(tj.open_capture(photographs), tj.Sequence)  # as before


def test_cameras_of_ttt3r_are_kept_too(monkeypatch, photographs, tmp_path):
    calls = []

    def predict(images, checkpoint):
        count = len(list(images))
        calls.append(count)
        poses = np.tile(np.eye(4), (count, 1, 1))
        poses[:, 2, 3] = np.arange(count)
        lens = np.tile([30.0, 30.0, 16.0, 12.0], (count, 1))
        return poses, lens, {"focal": 30.0, "doubts": ["they are guesses"]}

    monkeypatch.setattr(pointmap_poses, "cameras_from_ttt3r", predict)
    for _ in range(2):
        capture = tj.open_capture(photographs, poses="ttt3r", keep_in=tmp_path / "out")
        assert isinstance(capture, Capture)
        np.testing.assert_allclose(capture.world_from_camera[:, 2, 3], range(5))
        assert capture.frames[0].intrinsics.tolist() == [30.0, 30.0, 16.0, 12.0]
        assert "they are guesses" in capture.notes
    assert calls == [5]
    weights = tmp_path / "weights"
    weights.mkdir()
    tj.open_capture(photographs, poses="ttt3r", keep_in=tmp_path / "out", poses_checkpoint=weights)
    assert calls == [5, 5]


def test_a_camera_that_turned_makes_no_scene():
    """It fits a flat one far away: few degrees between rays, and all pairs as of a plane."""
    turned, moved = Evidence(8, 2000, 28, 28), Evidence(8, 2000, 28, 5)
    assert is_false(turned, 4.0)
    assert not is_false(turned, 25.0)  # a wall, walked along
    assert not is_false(moved, 4.0)


@pytest.mark.parametrize(
    ("evidence", "said"),
    [
        (Evidence(9, 80, 36, 0), "80 features or fewer, as blurred"),
        (Evidence(9, 900, 5, 0), "only 5 pairs of the 9 pictures show the same things"),
        (Evidence(9, 900, 30, 28), "28 of 30 pairs .* the camera had turned without moving"),
        (Evidence(9, 900, 30, 3), "30 pairs of the 9 pictures match, but make no scene"),
    ],
)
def test_why_there_are_no_cameras(evidence, said):
    problem, remedy = reason(evidence)
    assert tj.InputError(f"{problem}; {remedy}")
    with pytest.raises(InputError, match=said):
        raise InputError(problem)
