"""Panoramas of a made world, cut into views, equal that world seen by pinholes."""

import json

import numpy as np
import pytest
from PIL import Image

from tttlrm_jax.captures.capture import load_views, read_capture
from tttlrm_jax.captures.cut_panoramas import main
from tttlrm_jax.core.geometry.poses import look_at

OPENGL = np.diag([1.0, -1.0, -1.0, 1.0])


def sky(directions):
    """Colours far away, uint8, of directions [..., 3] of any length."""
    x, y, z = np.moveaxis(directions / np.linalg.norm(directions, axis=-1, keepdims=True), -1, 0)
    waves = np.stack([np.sin(3 * x + y), np.cos(2 * y - z), np.sin(2 * z + 2 * x)], -1)
    return np.rint(127.5 * (1 + waves)).astype(np.uint8)


@pytest.fixture
def panoramas(tmp_path):
    """Two of 256 x 128 pixels, from cameras that lean."""
    root, frames = tmp_path / "sphere", []
    (root / "images").mkdir(parents=True)
    places = np.array([[2.0, 1, 0.5], [-1.0, 2, 0.3]])
    poses = look_at(places, np.zeros(3), np.array([0.0, 0, 1]))
    row, column = np.mgrid[:128, :256] + 0.5
    yaw, pitch = (column / 256 - 0.5) * 2 * np.pi, (row / 128 - 0.5) * np.pi
    rays = np.stack([np.sin(yaw) * np.cos(pitch), np.sin(pitch), np.cos(yaw) * np.cos(pitch)], -1)
    for number, pose in enumerate(poses):
        Image.fromarray(sky(rays @ pose[:3, :3].T)).save(root / f"images/{number}.png")
        matrix = (pose @ OPENGL).tolist()
        frames.append({"file_path": f"images/{number}.png", "transform_matrix": matrix})
    document = {"camera_model": "EQUIRECTANGULAR", "w": 256, "h": 128, "frames": frames}
    (root / "transforms.json").write_text(json.dumps(document))
    return root, places


@pytest.mark.parametrize("poles", [False, True])
def test_views_show_what_pinholes_see(panoramas, tmp_path, poles, capsys):
    root, places = panoramas
    arguments = [str(root), str(tmp_path / "cut"), *(["--poles"] if poles else [])]
    assert main(arguments) == 0, capsys.readouterr().err
    capture = read_capture(tmp_path / "cut")
    count = 6 if poles else 4
    assert len(capture) == 2 * count
    assert f"{2 * count} views of 64x64 pixels of 2 panoramas" in capsys.readouterr().out
    images, cameras = load_views(capture, range(len(capture)), 64, 64)
    np.testing.assert_allclose(capture.world_from_camera[::count, :3, 3], places, atol=1e-9)
    row, column = np.mgrid[:64, :64] + 0.5
    rays = np.stack([column / 32 - 1, row / 32 - 1, np.ones((64, 64))], -1)
    for image, pose in zip(images, capture.world_from_camera, strict=True):
        seen = sky(rays @ pose[:3, :3].T) / 255
        assert np.abs(image - seen).max() < 4 / 255
    np.testing.assert_allclose(cameras.intrinsics, 32)


def test_what_is_no_panorama_is_named(panoramas, capture_directory, tmp_path, capsys):
    root, _ = panoramas
    cases = {
        "is no panorama": [capture_directory, tmp_path / "new"],
        "exists; name a new folder": [root, tmp_path],
    }
    for words, arguments in cases.items():
        assert main(list(map(str, arguments))) == 2
        assert words in capsys.readouterr().err
    Image.new("RGB", (200, 128)).save(root / "images/1.png")
    assert main([str(root), str(tmp_path / "new")]) == 2
    assert "not twice as wide as high" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()
