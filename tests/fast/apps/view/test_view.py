"""The live viewer without a browser: what it sends, and what it says where it cannot."""

import importlib.util
import re
import socket
import sys
from pathlib import Path

import numpy as np
import pytest

from tttlrm_jax.apps.view.command import main, read_contents
from tttlrm_jax.apps.view.exact import camera_of
from tttlrm_jax.apps.view.frusta import ShownCamera, viewing_distance
from tttlrm_jax.apps.view.live import LiveView
from tttlrm_jax.apps.view.options import ViewConfig
from tttlrm_jax.apps.view.splats import shown_splats
from tttlrm_jax.config.viewer import ViewerOptions
from tttlrm_jax.core.errors import InputError
from tttlrm_jax.core.geometry.poses import look_at
from tttlrm_jax.core.types import Gaussians
from tttlrm_jax.export.splats.formats import write_splats
from tttlrm_jax.export.trajectories import TrajectoryFile

needs_viser = pytest.mark.skipif(
    importlib.util.find_spec("viser") is None, reason="viser (extra `viewer`) is not installed"
)


def cloud(count: int = 50, log_scale: float = -2.0) -> Gaussians:
    rng = np.random.default_rng(0)
    parts = (
        rng.normal(size=(count, 3)), rng.normal(size=(count, 4, 3)) * 0.5,
        rng.normal(log_scale, 0.3, (count, 3)), rng.normal(size=(count, 4)) * 3,
        np.full(count, 2.0),
    )  # fmt: skip
    return Gaussians(*(part.astype(np.float32) for part in parts))


@pytest.mark.parametrize("log_scale", [-9.0, -2.0, 8.0])
def test_covariances_fit_half_precision_in_every_unit(log_scale):
    """Scenes of tiny or huge Gaussians keep three digits; colours are those of degree 0."""
    gaussians = cloud(log_scale=log_scale)
    shown = shown_splats(gaussians)
    unit = gaussians.quaternion / np.linalg.norm(gaussians.quaternion, axis=1, keepdims=True)
    w, x, y, z = unit.astype(np.float64).T
    third = np.stack([2 * (x * z + w * y), 2 * (y * z - w * x), 1 - 2 * (x * x + y * y)], axis=1)
    stored = shown.covariances.astype(np.float16).astype(np.float64) * shown.unit**2
    variance = np.einsum("ni,nij,nj->n", third, stored, third)
    expected = np.exp(2 * gaussians.log_scale[:, 2].astype(np.float64))
    np.testing.assert_allclose(variance, expected, rtol=2e-2)
    np.testing.assert_allclose(shown.centers * shown.unit, gaussians.mean, rtol=1e-5)
    expected = np.clip(0.5 + 0.28209479 * gaussians.sh[:, 0], 0, 1)
    np.testing.assert_allclose(shown.rgbs, expected, atol=1e-6)


def test_what_cannot_be_seen_is_not_sent():
    gaussians = cloud()
    gaussians.opacity_logit[:10], gaussians.mean[10] = -9.0, np.nan
    assert len(shown_splats(gaussians).centers) == 39
    assert len(shown_splats(cloud(1).replace(opacity_logit=np.full(1, -9.0))).centers) == 0


def test_the_servers_camera_sees_what_the_page_does():
    """Fields of view stay, the longer side is at most 1280 pixels, sides are multiples of 16."""
    from tttlrm_jax.apps.view.exact import _Asked

    asked = _Asked((0.0, 1.0, 0.0, 0.0, 1.0, 2.0, 3.0), 0.8, (1000, 2000), 0)
    for smaller, size in ((1, (640, 1280)), (4, (160, 320))):
        camera = camera_of(asked, smaller)
        assert (camera.height, camera.width) == size
        fov = 2 * np.arctan(camera.height / 2 / camera.intrinsics[1])
        assert fov == pytest.approx(0.8)
        assert camera.intrinsics[0] == pytest.approx(camera.intrinsics[1])
    np.testing.assert_allclose(camera.world_from_camera[:3, :3], np.diag([1.0, -1.0, -1.0]))
    np.testing.assert_allclose(camera.world_from_camera[:3, 3], [1, 2, 3])


def test_what_a_path_is_shown_as(tmp_path, toy_views):
    """A file of Gaussians, one of points, an output of TTT3R, a capture."""
    scene = tmp_path / "thing.splat"
    write_splats(scene, cloud())
    contents = read_contents(ViewConfig(scene=str(scene), cameras=str(toy_views)))
    assert contents.scene is not None
    assert len(contents.scene.gaussians.mean) == 50
    assert len(contents.cameras) == 10
    assert contents.cameras[0].picture.shape[-1] == 3
    capture = read_contents(ViewConfig(scene=str(toy_views)))
    assert capture.scene is None
    assert len(capture.cameras) == 10
    output = tmp_path / "walk"
    output.mkdir()
    (output / "points.ply").write_bytes(
        b"ply\nformat binary_little_endian 1.0\nelement vertex 2\n"
        + b"".join(b"property float %c\n" % axis for axis in b"xyz")
        + b"".join(b"property uchar %s\n" % name for name in (b"red", b"green", b"blue"))
        + b"end_header\n" + 2 * (np.arange(3, dtype="<f4").tobytes() + bytes([9, 8, 7]))
    )  # fmt: skip
    poses = look_at(np.eye(3), np.full(3, 5.0), np.array([0.0, -1.0, 0.0]))
    file = TrajectoryFile(output / "trajectory.txt")
    for number, pose in enumerate([*poses, np.full((4, 4), np.nan)]):
        file.add(float(number), pose)
    file.close()
    walk = read_contents(ViewConfig(scene=str(output)))
    np.testing.assert_allclose(walk.path, poses, atol=1e-7)
    np.testing.assert_array_equal(walk.points[1], [[9, 8, 7]] * 2)
    points = read_contents(ViewConfig(scene=str(output / "points.ply")))
    np.testing.assert_array_equal(points.points[0], [[0, 1, 2]] * 2)
    more = {"cameras": str(toy_views), "background": (1.0, 0.5, 0.0)}
    points = read_contents(ViewConfig(scene=str(output / "points.ply"), **more))
    assert len(points.cameras) == 10
    assert points.background == (1.0, 0.5, 0.0)
    for other in (toy_views, output):
        with pytest.raises(InputError, match="has its own; leave --cameras out"):
            read_contents(ViewConfig(scene=str(other), **more))
        shown = read_contents(ViewConfig(scene=str(other), background=more["background"]))
        assert shown.background == (1.0, 0.5, 0.0)


@pytest.fixture(scope="module")
def toy_views(tiny_capture_source) -> Path:
    return tiny_capture_source


@needs_viser
def test_a_port_in_use_and_other_bad_input(tmp_path, capsys):
    """One sentence each, exit code 2."""
    write_splats(tmp_path / "thing.ply", cloud(3))
    (tmp_path / "words.txt").write_text("hello")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        busy = str(taken.getsockname()[1])
        for arguments, said in (
            ([str(tmp_path / "thing.ply"), "--port", busy], f"port={busy} is in use"),
            ([str(tmp_path / "thing.ply"), "--port", "70000"], "port=70000 is not in"),
            ([str(tmp_path / "thing.ply"), "--host", "256.1.1.1"], "no address of this machine"),
            ([str(tmp_path / "nothing.ply")], "does not exist"),
            ([str(tmp_path / "words.txt"), "--port", "0"], "has no suffix"),
            ([str(tmp_path), "--port", "0"], "directory without scene.ply"),
        ):
            assert main(arguments) == 2
            lines = [x for x in capsys.readouterr().err.splitlines() if x.startswith("error: ")]
            assert len(lines) == 1
            assert said in lines[0]


def test_without_viser(tmp_path, capsys, monkeypatch):
    write_splats(tmp_path / "thing.ply", cloud(3))
    monkeypatch.setitem(sys.modules, "viser", None)
    assert main([str(tmp_path / "thing.ply"), "--port", "0"]) == 2
    assert 'pip install "tttlrm-jax[viewer]"' in capsys.readouterr().err


@needs_viser
@pytest.mark.extended
@pytest.mark.parametrize("options", [["--seconds", "0.5"], ["--plan", "causal"]])
def test_a_run_that_is_watched(options, tiny_capture_source, tiny_checkpoint, tmp_path, capsys,
                               monkeypatch):  # fmt: skip
    """Every moment comes to the page; all files are there when nobody looks any more."""
    from tttlrm_jax.apps.reconstruct import command

    labels, real = [], LiveView.add_moment
    monkeypatch.setattr(
        LiveView, "add_moment",
        lambda self, label, gaussians: (labels.append(label), real(self, label, gaussians)),
    )  # fmt: skip
    monkeypatch.setattr("tttlrm_jax.apps.view.live.NOBODY_SECONDS", 0.0)
    out = tmp_path / "out"
    arguments = ["--capture", str(tiny_capture_source), "--checkpoint", str(tiny_checkpoint)]
    more = ["--views", "4", "--orbit-frames", "2", "--view", "--port", "0", "--output", str(out)]
    assert command.main([*arguments, *more, *options]) == 0
    said = capsys.readouterr()
    assert "no browser has connected" in said.err
    assert f"python -m tttlrm_jax.view {out}" in said.err
    assert "viewer failed" not in said.err
    assert (out / "report.html").is_file()
    contents = read_contents(ViewConfig(scene=str(out)))
    assert len(contents.cameras) == 10  # of the capture that metrics.json names
    assert contents.background == (1.0, 1.0, 1.0) or "--seconds" in options
    if "--seconds" in options:
        assert labels[0] == "reconstructed"
        assert labels[-1] == "refined"
        assert labels[1].startswith("refining: ")
    else:
        assert labels[-1] == "4 views seen"


@needs_viser
def test_a_page_that_fails_does_not_end_the_run(capsys, monkeypatch):
    """It is said once; later calls do nothing. Nobody connects: that ends the waiting."""
    page = LiveView(ViewerOptions(port=0), "test")
    try:
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+", page.address)
        assert page._server.get_host() == "127.0.0.1"
        poses = look_at(np.eye(3) * 4, np.zeros(3), np.array([0.0, -1.0, 0.0]))
        assert viewing_distance(poses) == pytest.approx(4, rel=1e-3)
        lens, grey = np.array([50.0, 50, 20, 15]), np.full((30, 40, 3), 128, np.uint8)
        page.show_cameras([
            ShownCamera(name=str(n), world_from_camera=pose, intrinsics=lens, size=(30, 40),
                        picture=grey)
            for n, pose in enumerate(poses)
        ])  # fmt: skip
        for step in range(3):
            page.add_moment(f"step {step}", cloud(10 + step))
        assert page._moments._slider.max == 2
        page._moments._slider.value = 0
        page._moments._moved()
        page.add_moment("step 3", cloud(20))
        assert page._status.content.startswith("step 0")  # somebody looks at it
        assert not page.failed
        monkeypatch.setattr("tttlrm_jax.apps.view.live.NOBODY_SECONDS", 0.0)
        page.wait("that is all")
        page.add_moment("broken", None)
        page.add_moment("broken again", None)
        assert page.failed
        said = capsys.readouterr().err
        assert said.count("the viewer failed") == 1
        assert "no browser has connected" in said
    finally:
        page.close()
