"""`python -m tttlrm_jax.mesh`: what TTT3R wrote, Gaussians, and what cannot be used."""

import json
import os
import signal
from pathlib import Path

import numpy as np
import pytest

from tests.fast.mesh import balls
from tttlrm_jax.apps import mesh as command
from tttlrm_jax.apps.mesh import main
from tttlrm_jax.apps.render.scene_files import file_in, open_scene
from tttlrm_jax.captures.pictures.depth_files import write_png_depth
from tttlrm_jax.core.geometry.poses import rigid_inverse
from tttlrm_jax.core.types import Gaussians
from tttlrm_jax.export.point_stream import PointStream
from tttlrm_jax.export.splats.formats import write_splats
from tttlrm_jax.export.splats.ply import write_ply
from tttlrm_jax.export.trajectories import TrajectoryFile
from tttlrm_jax.mesh.rendering import sphere_cameras

trimesh = pytest.importorskip("trimesh")

RADIUS = 1.5  # of the ball that TTT3R would have seen, in metres


def write_sequence(directory, depth_format="png", sure=True) -> None:
    """What `eval.py --model ttt3r` writes, of exact depth with TTT3R's rule for pixels."""
    directory.mkdir(parents=True)
    (directory / "depth").mkdir()
    trajectory = TrajectoryFile(directory / "trajectory.txt")
    points = PointStream(directory / "points.ply", 10_000_000)
    lines = []
    for number, view in enumerate(balls.ball_views((1, 2, 3), (RADIUS,) * 3)):
        fx, _, cx, cy = view.intrinsics
        assert (cx, cy) == (balls.SIZE / 2, balls.SIZE / 2)
        depth = np.where(np.isinf(view.depth), 0, view.depth)
        path = directory / "depth" / f"{number:06d}"
        if depth_format == "png":
            write_png_depth(path.with_suffix(".png"), depth)
        elif depth_format == "npy":
            np.save(path.with_suffix(".npy"), depth)
        trajectory.add(float(number), view.world_from_camera)
        if sure:
            points.add(view.points(), view.colour[view.surface])
        lines.append(json.dumps({"frame": number, "focal": float(fx)}))
    trajectory.close()
    points.close()
    (directory / "frames.jsonl").write_text("\n".join(lines) + "\n")


@pytest.mark.parametrize("depth_format", ["png", "npy"])
def test_pointmaps_of_ttt3r(tmp_path, capsys, depth_format):
    write_sequence(tmp_path / "walk", depth_format)
    output = tmp_path / "new" / "mesh.ply"
    arguments = [str(tmp_path / "walk"), "--output", str(output), "--resolution", "32"]
    assert main([*arguments, "--no-compile-cache"]) == 0
    assert "triangles" in capsys.readouterr().out
    mesh = trimesh.load(output, process=False)
    voxel = 2 * RADIUS / 32
    # its pixels lie at whole numbers: the middle is half a pixel off that of these views
    distance = balls.ellipsoid_distance(np.asarray(mesh.vertices), (1, 2, 3), (RADIUS,) * 3)
    assert np.quantile(distance, 0.99) < voxel
    colours = balls.normal_colours(mesh.vertices, (1, 2, 3), (RADIUS,) * 3)
    assert np.abs(mesh.visual.vertex_colors[:, :3] - colours).mean() < 12


def ball_of_gaussians(count: int = 500) -> Gaussians:
    """Small opaque Gaussians on the unit ball, coloured by their places."""
    rng = np.random.default_rng(0)
    mean = rng.normal(size=(count, 3))
    mean /= np.linalg.norm(mean, axis=1, keepdims=True)
    colour = 0.5 * (1 + mean)
    return Gaussians(
        mean=np.float32(mean), sh=np.float32((colour - 0.5) / 0.28209479)[:, None],
        log_scale=np.full((count, 3), np.log(0.12), np.float32),
        quaternion=np.tile(np.float32([1, 0, 0, 0]), (count, 1)),
        opacity_logit=np.full(count, 4, np.float32),
    )  # fmt: skip


def write_capture(folder, sizes=((balls.SIZE, balls.SIZE),)) -> Path:
    """A camera file whose cameras look at the ball from all around; its pictures do not exist."""
    frames, lenses = [], sphere_cameras(balls.VIEWS, balls.SIZE)
    for number, (pose, lens) in enumerate(
        zip(lenses.world_from_camera, lenses.intrinsics, strict=True)
    ):
        height, width = sizes[number % len(sizes)]
        fx, fy, cx, cy = lens * np.array([width, height, width, height]) / balls.SIZE
        frames.append({
            "file_path": f"images/{number}.png", "w": width, "h": height, "fx": fx, "fy": fy,
            "cx": cx, "cy": cy, "w2c": rigid_inverse(pose).tolist(),
        })  # fmt: skip
    folder.mkdir()
    (folder / "opencv_cameras.json").write_text(json.dumps({"frames": frames}))
    return folder


def sphere(folder):
    """Gaussians alone."""
    write_ply(folder / "ball.ply", ball_of_gaussians())
    return [folder / "ball.ply"], "sphere around the scene"


def with_cameras(folder):
    """Those of a file, in two sizes."""
    cameras = write_capture(folder / "seen", sizes=((48, 48), (24, 48))) / "opencv_cameras.json"
    return [*sphere(folder)[0], "--cameras", cameras], f"from the cameras of {cameras}"


def of_a_run(folder):
    """Those of the capture that an output's metrics.json names."""
    capture = write_capture(folder / "seen")
    (folder / "out").mkdir()
    write_ply(folder / "out" / "scene.ply", ball_of_gaussians())
    record = {"capture": str(capture), "model_resolution": [48, 48]}
    (folder / "out" / "metrics.json").write_text(json.dumps(record))
    return [folder / "out"], f"from the cameras of {capture}"


@pytest.mark.extended
@pytest.mark.parametrize(
    ("source", "depth", "share"),
    # mean depth beside a silhouette lies between the ball's front and what is behind
    [(sphere, "median", 0.9), (with_cameras, "expected", 0.7), (of_a_run, "median", 0.9)],
)
def test_gaussians_on_a_ball(tmp_path, capsys, source, depth, share):
    output = tmp_path / "mesh.glb"
    arguments, expected = source(tmp_path)
    arguments = [*map(str, arguments), "--output", str(output), "--resolution", "32"]
    arguments += ["--size", "48", "--views", "12", "--depth", depth]
    arguments += ["--watertight", "--largest-component", "--faces", "2000", "--no-compile-cache"]
    assert main(arguments) == 0
    assert expected in capsys.readouterr().out
    mesh = trimesh.load(output, force="mesh", process=False)
    assert len(mesh.faces) <= 2000
    radius = np.linalg.norm(mesh.vertices, axis=1)
    assert 0.9 < np.median(radius) < 1.15
    assert np.quantile(np.abs(radius - np.median(radius)), share) < 0.1
    direction = np.asarray(mesh.vertices) * [1, -1, -1] / radius[:, None]  # .glb has y up
    assert np.abs(mesh.visual.vertex_colors[:, :3] - 127.5 * (1 + direction)).mean() < 25


def test_cameras_come_from_the_option_then_the_output_then_its_capture(tmp_path):
    """Of every size, relative to the scene's offset; not known where the capture is gone."""
    arguments, _ = of_a_run(tmp_path)
    other = write_capture(tmp_path / "other", sizes=((48, 48), (24, 48)))
    asked = command.SurfaceCommand(source="", cameras=str(other))
    plain = command.SurfaceCommand(source="")
    record = json.loads((arguments[0] / "metrics.json").read_text())
    offset = np.array([10.0, 0, -5])

    groups, (said,) = command._cameras(arguments[0], record, asked, offset)
    assert [(each.height, each.width, len(each.intrinsics)) for each in groups] == [
        (48, 48, 6), (24, 48, 6)
    ]  # fmt: skip
    assert str(other) in said
    ((group,), (said,)) = command._cameras(arguments[0], record, plain, offset)
    places = sphere_cameras(balls.VIEWS, balls.SIZE).world_from_camera[:, :3, 3] - offset
    np.testing.assert_allclose(group.world_from_camera[:, :3, 3], places, atol=1e-9)
    assert record["capture"] in said
    refined = write_capture(arguments[0] / "input")
    (refined / "opencv_cameras.json").rename(arguments[0] / "opencv_cameras.json")
    assert str(arguments[0]) in command._cameras(arguments[0], record, plain, offset)[1][0]
    (arguments[0] / "opencv_cameras.json").unlink()
    for gone in ({"capture": str(tmp_path / "gone")}, {}):
        assert command._cameras(arguments[0], gone, plain, offset) == (None, (command.SPHERE,))


def test_scenes_of_a_directory_in_other_formats_are_found(tmp_path):
    assert file_in(tmp_path) is None
    for name in ("scene.splat", "scene.spz", "scene.ply"):  # each more exact than the last
        write_splats(tmp_path / name, ball_of_gaussians(5))
        assert file_in(tmp_path).name == name
        assert len(open_scene(tmp_path).gaussians.mean) == 5


def make_empty_scene(folder):
    faint = ball_of_gaussians(3).replace(opacity_logit=np.full(3, -9, np.float32))
    write_ply(folder / "scene.ply", faint)
    return [folder / "scene.ply"]


def make_points(folder):
    PointStream(folder / "points.ply", 10).close()
    return [folder / "points.ply"]


def make_text(folder):
    (folder / "scene.ply").write_text("no splats")
    return [folder / "scene.ply"]


def make_without_depth(folder):
    write_sequence(folder / "walk", "none")
    return [folder / "walk"]


def make_broken_record(folder):
    write_ply(folder / "scene.ply", ball_of_gaussians(4))
    (folder / "metrics.json").write_text("{")
    return [folder]


def make_cameras_of_sequence(folder):
    write_sequence(folder / "walk")
    return [folder / "walk", "--cameras", "toy"]


def make_no_cameras(folder):
    write_ply(folder / "scene.ply", ball_of_gaussians(4))
    return [folder / "scene.ply", "--cameras", folder / "nowhere"]


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda folder: [folder / "absent.ply"], "does not exist"),
        (lambda folder: [folder], "holds neither scene.ply nor depth maps"),
        (lambda folder: [folder / "x.ply", "--output", folder / "mesh.stl"], ".ply, .obj, .glb"),
        (lambda folder: [folder / "x.ply", "--voxel", "0"], "is not positive"),
        (lambda folder: [folder / "x.ply", "--voxels", "3"], "did you mean"),
        (make_empty_scene, "has none with an opacity"),
        (make_points, "missing"),
        (make_text, "is not a PLY file"),
        (make_without_depth, "--depth-format png or npy"),
        (make_broken_record, "metrics.json"),
        (make_cameras_of_sequence, "has cameras of its own"),
        (make_no_cameras, "nowhere"),
    ],
)
def test_bad_input_is_one_sentence(tmp_path, capsys, make, said):
    output = tmp_path / "out" / "mesh.ply"
    arguments = [str(each) for each in make(tmp_path)]
    assert main(["--output", str(output), "--no-compile-cache", *arguments]) == 2
    told = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("  ")]
    assert len(told) == 1  # beside what is read
    assert said in told[0]
    assert not output.exists()


def test_interrupts_end_in_a_sentence(monkeypatch, capsys, tmp_path):
    """Ctrl-C and SIGTERM alike."""
    monkeypatch.setattr(command, "run", lambda config: os.kill(os.getpid(), signal.SIGTERM))
    assert main([str(tmp_path / "scene.ply")]) == 130
    assert capsys.readouterr().err == "\ninterrupted; nothing was written\n"


def test_a_directory_is_no_mesh(tmp_path, capsys):
    write_ply(tmp_path / "scene.ply", ball_of_gaussians(4))
    (tmp_path / "mesh.ply").mkdir()
    made = ["--output", str(tmp_path / "mesh.ply"), "--no-compile-cache"]
    assert main([str(tmp_path / "scene.ply"), *made]) == 2
    assert "is a directory; give another name" in capsys.readouterr().err
