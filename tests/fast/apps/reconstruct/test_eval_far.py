"""`eval.py` on captures in the coordinates of a map, and with a camera registered far away."""

import json
import re

import numpy as np
import pytest

from tttlrm_jax.apps.reconstruct import command
from tttlrm_jax.captures.capture import read_capture
from tttlrm_jax.export.splats.ply import read_offset, read_ply

UTM = np.array([431234.56, 5412345.67, 312.3])


def rewritten(source, folder, change):
    """The capture elsewhere, with other poses world_from_camera."""
    document = json.loads((source / "opencv_cameras.json").read_text())
    for number, frame in enumerate(document["frames"]):
        pose = change(number, np.linalg.inv(np.array(frame["w2c"])))
        frame["w2c"] = np.linalg.inv(pose).tolist()
    folder.mkdir()
    (folder / "images").symlink_to(source / "images")
    (folder / "opencv_cameras.json").write_text(json.dumps(document))
    return folder


def evaluate(capture, checkpoint, output, *more):
    arguments = [
        "--capture", str(capture), "--checkpoint", str(checkpoint), "--resolution", "16", "24",
        "--orbit-frames", "1", "--output", str(output), *more,
    ]  # fmt: skip
    assert command.main(arguments) == 0
    return json.loads((output / "metrics.json").read_text())


@pytest.mark.extended
def test_files_report_and_queries_of_a_map_agree(
    tiny_checkpoint, tiny_capture_source, tmp_path, capsys
):
    def change(number, pose):
        pose[:3, 3] += UTM
        return pose

    far = rewritten(tiny_capture_source, tmp_path / "far", change)
    stream = ("--plan", "causal", "--frames", "1-3", "--save-state", str(tmp_path / "state"))
    metrics = evaluate(far, tiny_checkpoint, tmp_path / "out", *stream)
    near = evaluate(tiny_capture_source, tiny_checkpoint, tmp_path / "near", *stream[:4])
    assert metrics["psnr"] == pytest.approx(near["psnr"], abs=0.01)
    assert near["offset"] == [0, 0, 0]
    assert near["notes"] == []
    offset = np.array(metrics["offset"])
    assert np.abs(offset - UTM).max() < 10
    text = " ".join(f"{value:g}" for value in offset.astype(int))
    said = capsys.readouterr().out
    page = (tmp_path / "out/report.html").read_text()
    for shown in (said, page, metrics["notes"][0]):
        assert re.search(r"relative to the offset -?\d", shown), text
    scene = json.loads(re.search(r'id="scene"[^>]*>(.*?)</script>', page, re.DOTALL)[1])
    poses = np.array([camera["pose"] for camera in scene["cameras"]])
    assert np.abs(poses[:, :3, 3]).max() < 100
    assert read_offset(tmp_path / "out/scene.ply").tolist() == metrics["offset"]

    query = ["--load-state", str(tmp_path / "state"), "--query", str(far)]
    query += ["--checkpoint", str(tiny_checkpoint), "--output", str(tmp_path / "query")]
    assert command.main(query) == 0
    assert json.loads((tmp_path / "query/query.json").read_text())["offset"] == metrics["offset"]
    one, other = (read_ply(tmp_path / name / "scene.ply").mean for name in ("out", "query"))
    np.testing.assert_array_equal(one, other)


@pytest.mark.extended
def test_a_camera_far_away_is_named_and_can_be_left_out(
    tiny_checkpoint, tiny_capture_source, tmp_path
):
    def change(number, pose):
        pose[:3, 3] *= 1000.0 if number == 5 else 1.0
        return pose

    bad = rewritten(tiny_capture_source, tmp_path / "bad", change)
    name = read_capture(bad).frames[5].name
    usual = evaluate(bad, tiny_checkpoint, tmp_path / "usual", "--frames", "1-3")
    assert any(name in note and "--drop-outliers" in note for note in usual["notes"])
    dropped = evaluate(
        bad, tiny_checkpoint, tmp_path / "dropped", "--views", "3", "--drop-outliers"
    )
    assert name not in dropped["inputs"]
    assert any(name in note and "left out" in note for note in dropped["notes"])
