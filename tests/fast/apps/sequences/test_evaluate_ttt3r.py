"""`eval.py --model ttt3r` with a model that knows the truth: files, scores, interruptions."""

import dataclasses
import json
import re
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.spatial import cKDTree

from tttlrm_jax.api.sequences import Prediction
from tttlrm_jax.apps import mesh
from tttlrm_jax.apps.protocols.command import evaluate_protocol, table_summary
from tttlrm_jax.apps.protocols.tables import apply_protocol, protocol_overrides
from tttlrm_jax.apps.reconstruct.command import main, take_model
from tttlrm_jax.apps.sequences import command as evaluate_ttt3r
from tttlrm_jax.apps.sequences.command import evaluate_sequence, parse, picture_size
from tttlrm_jax.apps.sequences.files import hardly_moves
from tttlrm_jax.apps.sequences.scores import SequenceScores
from tttlrm_jax.config import RuleConfig
from tttlrm_jax.config.data import WalkConfig
from tttlrm_jax.config.evaluation import SequenceEvalConfig
from tttlrm_jax.core.errors import InputError
from tttlrm_jax.core.geometry.alignment import transform_points
from tttlrm_jax.core.geometry.pointmaps import unproject
from tttlrm_jax.core.geometry.poses import encoding_from_matrix
from tttlrm_jax.export.ply import read_vertices
from tttlrm_jax.export.video import write_video
from tttlrm_jax.metrics.trajectory import trajectory_errors
from tttlrm_jax.procedural.walks import render_walk, write_seven_scenes
from tttlrm_jax.sequences.readers import read_tum_trajectory

COUNT = 9
ROOM = render_walk(5, COUNT, WalkConfig(height=48, width=64, supersampling=1))
RULE = RuleConfig("ttt3r")
SCALE = 0.5  # of the oracle's world


def interrupt(*_):
    signal.raise_signal(signal.SIGINT)


class Oracle:
    """Tells the truth of `ROOM`, half as large, in the frame of its chunk's first camera."""

    def __init__(self, stop_at=None, stop=interrupt):
        self.shown, self.stop_at, self.stop = [], stop_at, stop
        self.restart()

    def restart(self):
        self.first = None

    def __call__(self, image, *, reset, update):
        number = int(np.argmin([np.abs(image.astype(int) - each).sum() for each in ROOM.images]))
        if self.stop_at is not None and len(self.shown) == self.stop_at:
            self.stop()
        self.shown.append((number, reset))
        pose = ROOM.world_from_camera[number]
        if self.first is None:
            self.first = np.linalg.inv(pose)
        relative = self.first @ pose
        relative[:3, 3] *= SCALE
        points = (SCALE * unproject(ROOM.depth[number], ROOM.intrinsics)).astype(np.float32)
        confidence = np.full(points.shape[:2], 3.0, np.float32)
        confidence[:, :32] = 1.0
        if reset:
            self.first = None
        return Prediction(
            points_self=points, confidence_self=confidence,
            points_world=transform_points(relative, points).astype(np.float32),
            camera_pose=encoding_from_matrix(relative), gate=0.5,
        )  # fmt: skip


@pytest.fixture(scope="module")
def room(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rooms") / "room"
    write_seven_scenes(folder, ROOM)
    return folder


def run(room, output, oracle=None, **options):
    config = SequenceEvalConfig(capture=str(room), size=64, output=str(output), **options)
    oracle = oracle or Oracle()
    return evaluate_sequence(config, RULE, lambda *_: oracle)[1]


def told(metrics):
    """The notes without that on which depth was read."""
    return [note for note in metrics["notes"] if not note.startswith("depth of ")]


@pytest.fixture(scope="module")
def finished(room, tmp_path_factory):
    """A whole run: its directory and metrics."""
    output = tmp_path_factory.mktemp("finished") / "out"
    return output, run(room, output, reconstruction=True)


def test_the_truth_scores_zero(finished):
    output, metrics = finished
    assert metrics["frames"] == COUNT
    trajectory, depth = metrics["trajectory"], metrics["depth"]
    assert trajectory["ate"] < 1e-5
    assert trajectory["rpe_rotation"] < 1e-3
    assert trajectory["scale"] == pytest.approx(1 / SCALE, rel=1e-4)
    assert depth["metric"]["abs_rel"] == pytest.approx(1 - SCALE, abs=1e-3)
    assert depth["scale"]["abs_rel"] < 1e-3  # the PNG's millimetres
    assert depth["median"]["delta"][1] == 1
    assert metrics["reconstruction"]["accuracy"] < 2e-3
    assert metrics["reconstruction"]["normal_consistency"] > 0.99
    assert told(metrics) == []
    written = json.loads((output / "metrics.json").read_text())
    assert written["trajectory"]["ate"] == trajectory["ate"]


def test_what_is_written(finished):
    output, metrics = finished
    names = {path.name for path in output.iterdir()}
    assert names == {
        "trajectory.txt", "ground_truth.txt", "points.ply", "depth", "frames.jsonl",
        "trajectory.png", "frames.png", "report.html", "metrics.json",
    }  # fmt: skip
    times, poses = read_tum_trajectory(output / "trajectory.txt")
    first = np.linalg.inv(ROOM.world_from_camera[0])
    expected = (first @ ROOM.world_from_camera)[:, :3, 3] * SCALE
    np.testing.assert_allclose(poses[:, :3, 3], expected, atol=1e-5)
    assert times.tolist() == list(range(COUNT))
    points = read_vertices(output / "points.ply")
    assert len(points) == metrics["num_points"] == COUNT * 48 * 32  # the confident half
    depth = np.asarray(Image.open(output / "depth/000003.png"))
    np.testing.assert_allclose(depth, 1000 * SCALE * ROOM.depth[3], atol=0.51)
    page = (output / "report.html").read_text()
    assert "ATE after Sim(3)" in page
    assert "http://" not in page
    assert "https://" not in page
    lines = (output / "frames.jsonl").read_text().splitlines()
    assert [json.loads(line)["frame"] for line in lines] == list(range(COUNT))


def test_its_mesh_lies_where_the_walls_are(finished, tmp_path, capsys):
    """Of the confident half of the pictures, whose points points.ply has."""
    trimesh = pytest.importorskip("trimesh")
    pytest.importorskip("skimage")
    output = tmp_path / "mesh.ply"
    arguments = [str(finished[0]), "--output", str(output), "--resolution", "40"]
    assert mesh.main([*arguments, "--no-compile-cache"]) == 0
    found = trimesh.load(output, process=False)
    voxel = float(re.search(r"voxels of ([\d.]+) units", capsys.readouterr().out)[1])
    first = np.linalg.inv(ROOM.world_from_camera[0])
    true = transform_points(first @ ROOM.world_from_camera, unproject(ROOM.depth, ROOM.intrinsics))
    distance = cKDTree(SCALE * true.reshape(-1, 3)).query(found.vertices)[0]
    assert np.quantile(distance, 0.9) < voxel
    assert found.area > 0.2 * SCALE**2 * np.ptp(true.reshape(-1, 3), axis=0).max() ** 2
    seen = found.visual.vertex_colors[:, :3].astype(float).mean(axis=0)
    assert np.abs(seen - ROOM.images[:, :, 32:].mean(axis=(0, 1, 2))).max() < 40


def test_points_lie_where_the_walls_are(finished):
    points = read_vertices(finished[0] / "points.ply")
    points = np.stack([points[axis].astype(float) for axis in "xyz"], axis=1)
    first = ROOM.world_from_camera[0]
    true = transform_points(ROOM.world_from_camera, unproject(ROOM.depth, ROOM.intrinsics))
    low, high = true.reshape(-1, 3).min(0), true.reshape(-1, 3).max(0)
    world = transform_points(first, points / SCALE)
    assert (world > low - 1e-3).all()
    assert (world < high + 1e-3).all()


def test_chunks_are_chained(room, tmp_path):
    """The frame that resets is shown twice; the trajectory goes on as if nothing had happened."""
    oracle, every = Oracle(), 4
    metrics = run(room, tmp_path / "out", oracle, reset_every=every)
    expected = []
    for number in range(COUNT):
        if number and number % every == 0:
            expected.append((number - 1, False))
        expected.append((number, (number + 1) % every == 0))
    assert oracle.shown == expected
    assert metrics["frames"] == COUNT
    assert metrics["trajectory"]["ate"] < 1e-5


def test_a_walk_without_loops_keeps_its_trajectory(room, tmp_path):
    metrics = run(room, tmp_path / "out", pose_graph=True)
    assert metrics["pose_graph"] == {
        "loops": 0, "tried": 0, "pairs": [], "ate": metrics["trajectory"]["ate"]
    }  # fmt: skip
    assert any("no loop holds of 0 pairs" in note for note in metrics["notes"])
    names = ("trajectory.txt", "trajectory_pose_graph.txt")
    texts = [(tmp_path / "out" / name).read_text() for name in names]
    assert texts[0] == texts[1]


def test_poses_can_be_solved_from_the_points(room, tmp_path):
    pytest.importorskip("pycolmap")

    class Lost(Oracle):
        """Knows the points, not where its camera is; in frame `blind` not the points either."""

        def __call__(self, image, **options):
            made = super().__call__(image, **options)
            nowhere = np.array([0, 0, 0, 1.0, 0, 0, 0])
            world = made.points_world * (np.nan if len(self.shown) == self.stop_at else 1)
            return dataclasses.replace(made, camera_pose=nowhere, points_world=world)

    whole = run(room, tmp_path / "whole", Lost(), poses="pnp", reset_every=4)
    assert whole["poses"] == "pnp"
    assert whole["trajectory"]["ate"] < 1e-4
    assert told(whole) == []
    blind = run(room, tmp_path / "blind", Lost(3, lambda: None), poses="pnp")
    assert blind["trajectory"]["ate"] > 0.01
    assert told(blind) == [
        "in 1 frames no camera fits the points (PnP): their pose is the regressed one"
    ]


def raising(error):
    def stop():
        raise error

    return stop


def test_an_interrupted_run_leaves_what_it_had(room, tmp_path):
    output = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt, match=r"5 frames are in [^,]*$"):
        run(room, output, Oracle(stop_at=4))
    assert len(read_tum_trajectory(output / "trajectory.txt")[0]) == 5
    assert len(read_vertices(output / "points.ply")) == 5 * 48 * 32
    assert len(list((output / "depth").iterdir())) == 5
    metrics = json.loads((output / "metrics.json").read_text())
    assert metrics["frames"] == 5
    assert "ended after 5 frames: interrupted" in metrics["notes"]
    assert not (output / ".scores").exists()


@pytest.fixture(autouse=True)
def interruptible() -> Iterator[None]:
    """SIGINT as in a terminal: a suite that a shell starts in the background ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


class Interrupting:
    """A file during whose writes the signal comes."""

    def __init__(self, file):
        self.file = file

    def write(self, content):
        self.file.write(content)
        interrupt()

    def __getattr__(self, name):
        return getattr(self.file, name)


def test_a_signal_between_two_files_waits_for_the_frame(room, tmp_path, monkeypatch):
    """Predicted depth is there and the true one not yet: both are written before the end."""
    made = SequenceScores.__init__

    def patched(self, *arguments, **options):
        made(self, *arguments, **options)
        self._files["depth"] = Interrupting(self._files["depth"])

    monkeypatch.setattr(SequenceScores, "__init__", patched)
    with pytest.raises(KeyboardInterrupt, match="1 frames are in"):
        run(room, tmp_path / "out")
    metrics = json.loads((tmp_path / "out/metrics.json").read_text())
    assert metrics["depth"]["scale"]["abs_rel"] < 1e-3
    assert (tmp_path / "out/report.html").is_file()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_signal_while_points_are_thinned_waits_for_the_frame(room, tmp_path, monkeypatch):
    """The file is the thinned one and its number of points still the old one."""
    replace = Path.replace

    def replaced(path, target):
        replace(path, target)
        if path.suffix == ".thinned":
            interrupt()

    monkeypatch.setattr(Path, "replace", replaced)
    with pytest.raises(KeyboardInterrupt, match="1 frames are in"):
        run(room, tmp_path / "out", max_points=1000)
    metrics = json.loads((tmp_path / "out/metrics.json").read_text())
    assert len(read_vertices(tmp_path / "out/points.ply")) == metrics["num_points"] <= 1000


def test_a_second_signal_ends_it_at_once(room, tmp_path):
    def twice():
        interrupt()
        interrupt()

    with pytest.raises(KeyboardInterrupt, match=r"3 frames are in .*, without scores and report"):
        run(room, tmp_path / "out", Oracle(stop_at=3, stop=twice))
    assert len(read_tum_trajectory(tmp_path / "out/trajectory.txt")[0]) == 3
    assert not (tmp_path / "out/metrics.json").exists()
    assert not (tmp_path / "out/.scores").exists()


def test_a_signal_while_scores_are_made_does_not_begin_them_again(room, tmp_path, monkeypatch):
    calls = []

    def scored(self, *_):
        calls.append(self)
        interrupt()

    monkeypatch.setattr(SequenceScores, "depth", scored)
    with pytest.raises(KeyboardInterrupt, match=r"9 frames are in .*, without scores and report"):
        run(room, tmp_path / "out")
    assert len(calls) == 1
    assert not (tmp_path / "out/metrics.json").exists()


def test_a_signal_in_the_last_frame_does_not_call_it_short(room, tmp_path):
    with pytest.raises(KeyboardInterrupt, match="9 frames are in"):
        run(room, tmp_path / "out", Oracle(stop_at=COUNT - 1))
    assert told(json.loads((tmp_path / "out/metrics.json").read_text())) == []


def test_an_interruption_before_the_first_frame_says_that_nothing_is_there(capsys, monkeypatch):
    monkeypatch.setattr(evaluate_ttt3r, "parse", interrupt)
    assert main(["--model", "ttt3r"]) == 130
    assert "interrupted; nothing was written" in capsys.readouterr().err


def test_files_are_readable_while_the_program_runs(room, tmp_path):
    """As after a kill that leaves no time to finish anything; and files of a run before go."""
    output, oracle = tmp_path / "out", Oracle()
    (output / "depth").mkdir(parents=True)
    (output / "depth/999999.png").write_text("of a longer run")
    (output / "frames.jsonl").write_text("")
    seen = []

    class Watching(Oracle):
        def __call__(self, image, **options):
            if len(oracle.shown) == 4:
                seen.append((
                    len(read_tum_trajectory(output / "trajectory.txt")[0]),
                    len(read_vertices(output / "points.ply")),
                ))  # fmt: skip
            return oracle(image, **options)

    run(room, output, Watching())
    assert seen == [(4, 4 * 48 * 32)]
    assert not (output / "depth/999999.png").exists()


def test_bad_frames_end_the_run_with_what_was_written(room, tmp_path):
    with pytest.raises(InputError, match=r"wrong \(3 frames are in"):
        run(room, tmp_path / "out", Oracle(stop_at=3, stop=raising(InputError("wrong"))))
    with pytest.raises(InputError, match=r"^wrong$"):
        run(room, tmp_path / "none", Oracle(stop_at=0, stop=raising(InputError("wrong"))))
    assert not (tmp_path / "none").exists()


def test_a_foreign_directory_is_not_touched(room, tmp_path):
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(InputError, match=r"holds letter.txt"):
        run(room, tmp_path)
    assert (tmp_path / "letter.txt").read_text() == "dear"
    (tmp_path / "scan/depth").mkdir(parents=True)
    with pytest.raises(InputError, match=r"may be of another program"):
        run(room, tmp_path / "scan")
    assert (tmp_path / "scan/depth").is_dir()


def test_a_film_has_no_truth(tmp_path):
    write_video(tmp_path / "walk.mp4", ROOM.images, min_side=1)
    metrics = run(tmp_path / "walk.mp4", tmp_path / "out", depth_format="npy", max_points=500)
    assert metrics["trajectory"] is None
    assert metrics["depth"] is None
    assert 250 <= metrics["num_points"] <= 500
    assert np.load(tmp_path / "out/depth/000000.npy").shape == (48, 64)
    assert "no true trajectory" in (tmp_path / "out/report.html").read_text()


def test_a_film_that_is_cut_off_is_said(tmp_path):
    pictures = np.concatenate([ROOM.images] * 4)
    write_video(tmp_path / "whole.mkv", pictures, min_side=1)
    content = (tmp_path / "whole.mkv").read_bytes()
    (tmp_path / "cut.mkv").write_bytes(content[: len(content) * 3 // 4])
    assert run(tmp_path / "whole.mkv", tmp_path / "whole")["notes"] == []
    metrics = run(tmp_path / "cut.mkv", tmp_path / "out")
    assert 2 <= metrics["frames"] < 4 * COUNT
    said = f"frames: {metrics['frames']} of {4 * COUNT} promised could be decoded"
    assert metrics["notes"][0].startswith(said)
    assert said in (tmp_path / "out/report.html").read_text()


def test_a_camera_that_stands_still_is_said(room, tmp_path):
    still = dataclasses.replace(
        ROOM, world_from_camera=np.tile(ROOM.world_from_camera[:1], (COUNT, 1, 1))
    )
    write_seven_scenes(tmp_path / "still", still)

    class Still(Oracle):
        def __call__(self, image, **options):
            made = super().__call__(image, **options)
            pose = np.array([0, 0, 0, 1, 0, 0, 0], np.float32)
            return dataclasses.replace(made, camera_pose=pose)

    metrics = run(room, tmp_path / "out", Still())
    assert metrics["trajectory"] is None
    assert any("predicted trajectory=one point has no extent" in x for x in metrics["notes"])
    metrics = run(tmp_path / "still", tmp_path / "still_out", depth_format="none")
    assert metrics["trajectory"] is None
    assert metrics["depth"]["scale"]["abs_rel"] < 1e-3
    assert any("true trajectory=one point stands still" in x for x in metrics["notes"])
    assert "stands still" in (tmp_path / "still_out/report.html").read_text()


@pytest.mark.parametrize(("size", "said"), [(3.0, False), (1e-3, True)])
def test_a_camera_that_hardly_moves_is_said(size, said):
    true = ROOM.world_from_camera.copy()
    place = true[:, :3, 3] - true[:, :3, 3].mean(axis=0)
    true[:, :3, 3] = size * place / np.linalg.norm(place, axis=1).max()
    errors = trajectory_errors(ROOM.world_from_camera, true)
    assert bool(hardly_moves(errors)) == said
    assert errors.ate < 1e-9


def test_points_are_those_of_the_first_frame_that_was_shown(room, tmp_path):
    """Without its depth the world is still its camera; without its pose there is no such world."""
    lacking = tmp_path / "lacking"
    shutil.copytree(room, lacking)
    (lacking / "frame-000000.depth.png").unlink()
    metrics = run(lacking, tmp_path / "out", reconstruction=True)
    assert metrics["reconstruction"]["accuracy"] < 2e-3
    assert told(metrics) == ["8 of 9 frames have true depth"]

    (lacking / "frame-000000.pose.txt").unlink()
    metrics = run(lacking, tmp_path / "out", reconstruction=True)
    assert metrics["reconstruction"] is None
    assert metrics["trajectory"]["frames"] == COUNT - 1
    assert told(metrics)[:2] == [
        "8 of 9 frames have a true pose", "8 of 9 frames have true depth"
    ]  # fmt: skip
    assert told(metrics)[2].startswith("reconstruction is not scored: first frame=")


def test_true_depth_that_is_all_unknown_is_said(tmp_path):
    room = dataclasses.replace(ROOM, depth=np.zeros_like(ROOM.depth))
    write_seven_scenes(tmp_path / "dark", room)
    metrics = run(tmp_path / "dark", tmp_path / "out", depth_format="none")
    assert metrics["depth"] is None
    said = "depth is not scored: true depth=0 pixels are finite, above 0"
    assert any(said in note for note in metrics["notes"])


def test_a_model_gone_wild_is_said(room, tmp_path):
    class Wild(Oracle):
        def __call__(self, image, **options):
            made = super().__call__(image, **options)
            if len(self.shown) < 4:
                return made
            return dataclasses.replace(made, **{
                name: np.full_like(getattr(made, name), np.nan)
                for name in ("points_self", "points_world", "confidence_self", "camera_pose")
            })  # fmt: skip

    metrics = run(room, tmp_path / "out", Wild())
    assert metrics["trajectory"] is None
    assert metrics["depth"] is None
    assert metrics["num_points"] == 3 * 48 * 32
    assert any("6 of 9 predicted poses are not finite" in note for note in metrics["notes"])
    json.loads((tmp_path / "out/metrics.json").read_text(), parse_constant=pytest.fail)


def test_a_protocol_runs_every_sequence(room, tmp_path):
    for name in ("chess/seq-03", "stairs/seq-01"):
        (tmp_path / "data" / name).parent.mkdir(parents=True)
        (tmp_path / "data" / name).symlink_to(room)
    config = apply_protocol(SequenceEvalConfig(
        capture=str(tmp_path / "data"), output=str(tmp_path / "out"), size=64,
        protocol="configs/ttt3r/seven_scenes_reconstruction.py",
    ))  # fmt: skip
    assert (config.stride, config.behaviour, config.reconstruction) == (2, "batch", True)
    opened = []

    def open_model(*_):
        opened.append(Oracle())
        return opened[-1]

    output, row = evaluate_protocol(config, RULE, evaluate_sequence, open_model)
    assert len(opened) == 1
    assert row["sequences"] == 2
    assert row["reconstruction"]["accuracy"] < 2e-3
    assert row["failed"] == {}
    assert row["overrides"] == {"size": 64}
    assert "not as the protocol says: size 64" in table_summary(row)
    assert json.loads((output / "table.json").read_text()) == row
    assert (output / "chess_seq-03" / "report.html").is_file()


def test_a_protocol_that_was_interrupted_in_its_first_sequence_runs_again(room, tmp_path):
    (tmp_path / "data/chess").mkdir(parents=True)
    (tmp_path / "data/chess/seq-03").symlink_to(room)
    output = tmp_path / "out"
    config = apply_protocol(SequenceEvalConfig(
        capture=str(tmp_path / "data"), output=str(output), size=64,
        protocol="configs/ttt3r/seven_scenes_reconstruction.py",
    ))  # fmt: skip

    def evaluated(oracle):
        return evaluate_protocol(config, RULE, evaluate_sequence, lambda *_: oracle)[1]

    for error in (InputError("wrong"), KeyboardInterrupt()):
        with pytest.raises(type(error)):
            evaluated(Oracle(stop_at=0, stop=raising(error)))
        assert not output.exists()  # nothing was shown
    with pytest.raises(KeyboardInterrupt, match="2 frames are in"):
        evaluated(Oracle(stop_at=1))
    assert json.loads((output / "table.json").read_text())["sequences"] == 0
    assert json.loads((output / "chess_seq-03/metrics.json").read_text())["frames"] == 2
    assert evaluated(Oracle())["sequences"] == 1
    assert json.loads((output / "table.json").read_text())["sequences"] == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--capture", "nowhere"], "capture=nowhere does not exist"),
        ([], "give --capture"),
        (["--rule", "ttt4r"], "did you mean ttt3r"),
        (["--rule.rate", "0.5"], "rule ttt3r has no option rate"),
        (["--rule", "ema", "--rule.rate", "much"], "is not a number"),
        (["--rule", "absent.py"], "does not exist"),
        (["--min-confidence", "0.5"], "min_confidence=0.5"),
        (["--length", "50"], "needs a protocol"),
        (["--reconstruction", "--reset-every", "4"], "reset_every=4 does not go with"),
        (["--protocol", "configs/ttt3r/kitti_depth.py", "--length", "7"], "length=7"),
        (["--protocol", "README.md"], "protocol=README.md"),
        (["--views", "3"], "views"),
    ],
)
def test_a_mistake_is_one_sentence(capsys, arguments, message):
    assert main(["--model", "ttt3r", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error


def test_a_protocol_without_a_checkpoint_says_what_to_do():
    config = SequenceEvalConfig(protocol="configs/ttt3r/bonn_depth.py")
    with pytest.raises(InputError, match=r"python -m tttlrm_jax\.convert"):
        evaluate_ttt3r.open_checkpoint(config, RuleConfig("ttt3r"))


@pytest.mark.parametrize(
    "described", [{"room": {"height": 48, "width": 64}}, {"image_size": [48, 64]}], ids=str
)
def test_pictures_have_the_size_the_weights_were_trained_at(room, tmp_path, described):
    """A run says it by its rooms, an exported model by itself; converted ones are published."""
    (tmp_path / "config.json").write_text(json.dumps({"model": {"kind": "ttt3r"}, **described}))
    config = SequenceEvalConfig(
        capture=str(room), checkpoint=str(tmp_path), output=str(tmp_path / "out")
    )
    metrics = evaluate_sequence(config, RULE, lambda *_: Oracle())[1]
    assert metrics["resolution"] == [48, 64]
    (note,) = told(metrics)
    assert note.startswith("pictures are fitted to 64 pixels, since the checkpoint was trained at")
    assert "trained at 64x48" in (tmp_path / "out/report.html").read_text()
    assert picture_size(dataclasses.replace(config, size=224)) == (224, [])


def test_pictures_have_the_published_size_where_the_weights_do_not_say(tmp_path):
    config = SequenceEvalConfig(checkpoint=str(tmp_path))
    (tmp_path / "config.json").write_text('{"image_size": null}')
    assert picture_size(config) == (512, [])
    (tmp_path / "config.json").write_text('{"image_size": [48, "wide"]}')
    with pytest.raises(InputError, match=r"restore its config\.json or give --size"):
        picture_size(config)
    assert picture_size(SequenceEvalConfig())[0] == 64  # the package's


def test_the_other_model_is_untouched(capsys):
    assert take_model(["--model", "tttlrm", "--views", "3"]) == ("tttlrm", ["--views", "3"])
    assert take_model(["--views", "3"]) == ("tttlrm", ["--views", "3"])
    assert main(["--model", "dust3r"]) == 2
    assert "use one of tttlrm, ttt3r" in capsys.readouterr().err


def test_rules_and_protocols_from_the_command_line(tmp_path):
    config, rule = parse(["--rule", "ema", "--rule.rate", "0.25", "--reset-every", "7"])
    assert (rule.name, dict(rule.options)["rate"], config.reset_every) == ("ema", 0.25, 7)
    config, _ = parse(["--protocol", "configs/ttt3r/bonn_depth.py", "--length", "50"])
    assert (config.start, config.max_frames, config.fit) == (30, 50, "resize")
    config, _ = parse(["--protocol", "configs/ttt3r/bonn_depth.py", "--start", "5"])
    assert config.start == 5
    config, _ = parse(
        ["--protocol", "configs/ttt3r/bonn_depth.py", "--start", "0", "--fit", "crop"]
    )
    assert (config.start, config.fit, config.max_frames) == (0, "crop", 110)
    assert protocol_overrides(config) == {"start": 0, "fit": "crop"}
    assert parse([])[1].name == evaluate_ttt3r.DEFAULT_STATE_RULE
