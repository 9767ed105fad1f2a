"""`python -m tttlrm_jax.render`: files of Gaussians to pictures, depth and films."""

import importlib
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import tttlrm_jax as tj
from tttlrm_jax.apps.render.cameras import camera_shots, middle_of
from tttlrm_jax.apps.render.command import main
from tttlrm_jax.apps.render.scene_files import open_scene
from tttlrm_jax.captures.capture import read_capture
from tttlrm_jax.core.geometry.poses import look_at, rigid_inverse
from tttlrm_jax.core.types import Cameras, Gaussians
from tttlrm_jax.export.splats.formats import write_splats
from tttlrm_jax.rasterize import expected_depth

WIDTH, HEIGHT = 24, 16
LENS = (20.0, 20.0, 12.0, 8.0)


def cloud(count: int = 60) -> Gaussians:
    rng = np.random.default_rng(0)
    parts = (
        rng.normal(size=(count, 3)) * 0.6, rng.normal(size=(count, 4, 3)) * 0.5,
        rng.normal(-1.2, 0.2, (count, 3)), rng.normal(size=(count, 4)), np.full(count, 2.0),
    )  # fmt: skip
    return Gaussians(*(part.astype(np.float32) for part in parts))


def poses(count: int = 3) -> np.ndarray:
    angle = np.arange(count) * 0.7
    places = 3 * np.stack([np.sin(angle), 0 * angle, -np.cos(angle)], axis=1)
    return look_at(places, np.zeros(3), np.array([0.0, -1.0, 0.0]))


def write_cameras(path: Path, names, lens=LENS, size=(WIDTH, HEIGHT), offset=0.0) -> Path:
    frames = []
    for name, pose in zip(names, poses(len(names)), strict=True):
        pose[:3, 3] += offset
        lens_of = dict(zip(("fx", "fy", "cx", "cy"), lens, strict=True))
        frames.append({"file_path": name, "w": size[0], "h": size[1], **lens_of,
                       "w2c": rigid_inverse(pose).tolist()})  # fmt: skip
    path.write_text(json.dumps({"frames": frames}))
    return path


@pytest.fixture
def scene(tmp_path):
    path = tmp_path / "thing.ply"
    write_splats(path, cloud())
    return path


@pytest.fixture
def cameras(tmp_path):
    return write_cameras(tmp_path / "opencv_cameras.json", ("a/left.jpg", "a/right.jpg", "b.png"))


def picture(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path)).astype(np.float32)


def test_pictures_and_depth_from_a_camera_file(scene, cameras, tmp_path, capsys):
    """Names are the camera file's, pictures and depth those of `tj.Renderer`; the directory is a
    capture itself. The command's module is not what `tj.render` is, imported or run."""
    assert importlib.import_module("tttlrm_jax.render").__name__ == "tttlrm_jax.render"
    out = tmp_path / "out"
    arguments = [str(scene), "--cameras", str(cameras), "--depth", "--output", str(out)]
    assert main([*arguments, "--background", "1", "0.5", "0"]) == 0
    said = capsys.readouterr().out
    assert re.search(r"3 pictures of 24x16 pixels, 60 Gaussians: \d+\.\d\d s per picture", said)
    assert tj.render.__module__ == "tttlrm_jax.rasterize.render"
    renderer = tj.Renderer(background=(1.0, 0.5, 0.0))
    made = read_capture(out)
    assert [frame.name for frame in made.frames] == ["left.png", "right.png", "b.png"]
    np.testing.assert_allclose(made.world_from_camera, poses(), atol=1e-12)
    for name, pose in zip(("left", "right", "b"), poses(), strict=True):
        one = Cameras(pose.astype(np.float32), np.array(LENS, np.float32), HEIGHT, WIDTH)
        expected = renderer(cloud(), one)
        shown = picture(out / f"{name}.png")
        assert np.abs(shown - 255 * np.clip(expected.rgb, 0, 1)).max() <= 0.51
        depth = picture(out / "depth" / f"{name}.png") / 1000
        seen = np.asarray(expected.alpha) >= 0.5
        assert 0.2 < seen.mean() < 1
        np.testing.assert_allclose(depth, np.where(seen, expected_depth(expected), 0), atol=6e-4)


def test_cameras_are_scaled_with_the_size(cameras):
    """Twice the size has twice the intrinsics, another shape shows the middle."""
    for size, lens in (((32, 48), (40, 40, 24, 16)), ((16, 16), (20, 20, 8, 8))):
        (shot,) = camera_shots(str(cameras), "1", size, np.zeros(3))
        assert (shot.name, shot.camera.height, shot.camera.width) == ("right", *size)
        assert tuple(shot.camera.intrinsics) == lens


def test_cameras_of_a_scene_relative_to_an_offset(tmp_path):
    """Those of a capture far from its origin meet a scene that says what it is relative to."""
    offset = np.array([5e5, -2e6, 30.0])
    far = write_cameras(tmp_path / "opencv_cameras.json", ("a.png",), offset=offset)
    write_splats(tmp_path / "far.ply", cloud(), offset=offset)
    scene = open_scene(tmp_path / "far.ply")
    (shot,) = camera_shots(str(far), None, None, scene.offset)
    np.testing.assert_allclose(shot.camera.world_from_camera, poses(1)[0], atol=1e-8)


@pytest.mark.extended
def test_orbits_and_films(scene, cameras, tmp_path, capsys):
    """An orbit keeps the scene in the middle; a film of an odd size has the last row doubled."""
    out = tmp_path / "out"
    assert main([str(scene), "--orbit", "4", "--size", "24", "16", "--output", str(out)]) == 0
    shown = [picture(out / f"{number:06d}.png") for number in range(4)]
    for each in shown:
        assert each[6:10, 9:15].mean() > 2 * np.concatenate([each[:, :2], each[:, -2:]]).mean()
    assert np.abs(shown[0] - shown[1]).max() > 20
    film = tmp_path / "film.mp4"
    around = ["--cameras", str(cameras), "--orbit", "3", "--size", "25", "17"]
    assert main([str(scene), *around, "--output", str(film)]) == 0
    assert "films have even sides" in capsys.readouterr().out
    import imageio_ffmpeg

    assert imageio_ffmpeg.read_frames(str(film)).__next__()["size"] == (26, 18)


@pytest.mark.extended
def test_every_format_that_is_read_gives_the_same_picture(cameras, tmp_path):
    """Within what each keeps: 8 bits of colours and rotations at the least."""
    gaussians = cloud()
    gaussians.sh[:, 1:] = 0  # .splat has no more
    pictures = {}
    for suffix in (".ply", ".spz", ".glb", ".splat"):
        write_splats(tmp_path / f"thing{suffix}", gaussians)
        out = tmp_path / f"of{suffix}"
        scene = [str(tmp_path / f"thing{suffix}"), "--cameras", str(cameras), "--frames", "1"]
        assert main([*scene, "--output", str(out)]) == 0
        pictures[suffix] = picture(out / "right.png")
    assert pictures[".ply"].std() > 20
    for suffix, made in pictures.items():
        assert np.abs(made - pictures[".ply"]).mean() < 1.5, suffix


def test_middle_of_a_scene_is_not_moved_by_a_few_far_away():
    gaussians = cloud(200)
    gaussians.mean[:10] = 1e6
    gaussians.mean[10] = np.nan
    centre, extent = middle_of(gaussians)
    assert np.linalg.norm(centre) < 0.3
    assert 0.5 < extent < 2


def case(tmp_path, name: str) -> tuple[list[str], str]:
    """Arguments and what is said of them."""
    good, output = str(tmp_path / "thing.ply"), ["--output", str(tmp_path / "out")]
    write_splats(tmp_path / "thing.ply", cloud(3))
    (tmp_path / "thing.obj").write_text("v 0 0 0")
    orbit = ["--orbit", "2", *output]
    if name == "points":
        (tmp_path / "points.ply").write_bytes(
            b"ply\nformat binary_little_endian 1.0\nelement vertex 1\nproperty float x\n"
            b"property float y\nproperty float z\nend_header\n" + bytes(12)
        )
        return [str(tmp_path / "points.ply"), *orbit], "missing|no splat"
    if name == "other cameras":
        (tmp_path / "transforms.json").write_text('{"frames": [{"file_path": "a.png"}]}')
        return [good, "--cameras", str(tmp_path / "transforms.json"), *output], "frame 0"
    if name == "no cameras":
        (tmp_path / "cameras.txt").write_text("hello")
        return [good, "--cameras", str(tmp_path / "cameras.txt"), *output], "not one of COLMAP"
    if name == "sizes":
        first = write_cameras(tmp_path / "opencv_cameras.json", ("a.png", "b.png"))
        document = json.loads(first.read_text())
        document["frames"][1]["w"] = 30
        first.write_text(json.dumps(document))
        return [good, "--cameras", str(first), "--output", "f.mp4"], "a film has one"
    if name == "foreign":
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "thesis.txt").write_text("mine")
        return [good, *orbit], "holds thesis.txt"
    if name == "file as output":
        (tmp_path / "out").write_text("mine")
        return [good, *orbit], "exists and is a file"
    plain = {
        "suffix": ([str(tmp_path / "thing.obj"), *orbit], "has no suffix"),
        "missing": ([str(tmp_path / "nothing.ply"), *orbit], "does not exist"),
        "folder": ([str(tmp_path), *orbit], "without scene.ply"),
        "size 0": ([good, *orbit, "--size", "0", "10"], "size="),
        "no view": ([good, *output], "say no camera"),
        "depth in a film": ([good, "--orbit", "2", "--depth", "--output", "f.mp4"], "in a film"),
        "up": ([good, *orbit, "--up", "0", "0", "0"], "no direction"),
        "colour": ([good, *orbit, "--background", "255", "0", "0"], "is not RGB"),
    }
    return plain[name]


@pytest.mark.parametrize(
    "name",
    ["points", "other cameras", "no cameras", "sizes", "foreign", "file as output", "suffix",
     "missing", "folder", "size 0", "no view", "depth in a film", "up", "colour"],
)  # fmt: skip
def test_bad_input_is_one_sentence(name, tmp_path, capsys):
    arguments, said = case(tmp_path, name)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert main(arguments) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    assert re.search(said, lines[0]), lines[0]
    assert {path: path.read_bytes() for path in before} == before
    assert not Path("f.mp4").exists()


@pytest.mark.skipif(os.getuid() == 0, reason="root may write everywhere")
def test_a_directory_that_may_not_be_written(scene, tmp_path, capsys):
    (tmp_path / "closed").mkdir(mode=0o500)
    arguments = [str(scene), "--orbit", "1", "--output", str(tmp_path / "closed" / "out")]
    assert main(arguments) == 2
    assert "cannot be written" in capsys.readouterr().err


@pytest.mark.extended
def test_the_command_in_a_process_of_its_own(scene, tmp_path):
    """As a user starts it; the function has its name there, too."""
    script = (
        "import runpy, sys, tttlrm_jax as tj\n"
        f"sys.argv = ['render', {str(scene)!r}, '--orbit', '2', '--size', '24', '16', "
        f"'--output', {str(tmp_path / 'out')!r}]\n"
        "try:\n    runpy.run_module('tttlrm_jax.render', run_name='__main__', alter_sys=True)\n"
        "except SystemExit as end:\n    assert not end.code, end.code\n"
        "print(tj.render.__module__)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "tttlrm_jax.rasterize.render"
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "000000.png", "000001.png", "opencv_cameras.json",
    ]  # fmt: skip


def test_sigterm_leaves_nothing_of_a_film(monkeypatch, capsys, tmp_path):
    write_splats(tmp_path / "scene.ply", cloud())
    module = importlib.import_module("tttlrm_jax.apps.render.command")
    stop = lambda *_: os.kill(os.getpid(), signal.SIGTERM)  # noqa: E731
    monkeypatch.setattr(module.SceneRenderer, "__call__", stop)
    film = tmp_path / "made" / "film.mp4"
    arguments = [str(tmp_path / "scene.ply"), "--orbit", "2", "--size", "16", "16"]
    assert main([*arguments, "--output", str(film), "--no-compile-cache"]) == 130
    assert "interrupted; nothing was written" in capsys.readouterr().err
    assert list(film.parent.iterdir()) == []


@pytest.mark.parametrize("asked", [None, ("0", "0", "1")])
def test_the_background_of_a_run_is_taken(asked, cameras, tmp_path, capsys):
    """From metrics.json, unless another is asked for; a note says so."""
    run = tmp_path / "run"
    run.mkdir()
    write_splats(run / "scene.ply", cloud())
    (run / "metrics.json").write_text(json.dumps({"background": [1.0, 0.5, 0.0]}))
    out = tmp_path / "out"
    arguments = [str(run), "--cameras", str(cameras), "--frames", "0", "--output", str(out)]
    assert main(arguments if asked is None else [*arguments, "--background", *asked]) == 0
    renderer = tj.Renderer(background=(1.0, 0.5, 0.0) if asked is None else (0.0, 0.0, 1.0))
    one = Cameras(poses()[0].astype(np.float32), np.array(LENS, np.float32), HEIGHT, WIDTH)
    expected = 255 * np.clip(renderer(cloud(), one).rgb, 0, 1)
    assert np.abs(picture(out / "left.png") - expected).max() <= 0.51
    said = "the background is the run's, 1 0.5 0;" in capsys.readouterr().out
    assert said == (asked is None)


def test_invalid_gaussians_are_counted(tmp_path, capsys, monkeypatch):
    """A value that is not finite, a quaternion of zeros, an infinite scale; none: no note."""
    monkeypatch.setattr("tttlrm_jax.export.splats.writable.BLOCK", 7)
    table = cloud(20)
    path = tmp_path / "thing.ply"
    write_splats(path, table)
    open_scene(path)
    assert "note:" not in capsys.readouterr().err
    content = path.read_bytes()
    head = content.index(b"end_header\n") + len(b"end_header\n")
    rows = np.frombuffer(content[head:], "<f4").reshape(20, -1).copy()
    rows[0, 0], rows[9, -8] = np.nan, np.inf
    rows[19, -4:] = 0
    rows[9, -7] = np.inf
    path.write_bytes(content[:head] + rows.tobytes())
    open_scene(path)
    assert "note: 3 of 20 Gaussians are left out as invalid" in capsys.readouterr().err
