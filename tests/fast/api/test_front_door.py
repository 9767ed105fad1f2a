"""`import tttlrm_jax as tj`: five lines give what `eval.py` gives and load what they use."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

import tttlrm_jax as tj
from tttlrm_jax.api.request import resolve
from tttlrm_jax.api.scenes import pose_scene
from tttlrm_jax.apps.reconstruct import command
from tttlrm_jax.config import EvalConfig, RasterConfig
from tttlrm_jax.core.geometry.offsets import moved_poses
from tttlrm_jax.export.splats.formats import read_splats
from tttlrm_jax.export.splats.ply import read_offset, read_ply
from tttlrm_jax.export.splats.splat import RECORD

README_SCRIPT = """
import tttlrm_jax as tj
model = tj.load()
scene = model.reconstruct(tj.open_capture(), views=4)
scene.save("scene.ply")
print(scene.scores())
"""


def python(script: str, directory: Path) -> str:
    """What a script prints, run in a directory of its own."""
    said = subprocess.run(
        [sys.executable, "-c", script], cwd=directory, capture_output=True, text=True, check=False
    )
    assert said.returncode == 0, said.stderr
    return said.stdout


@pytest.mark.extended
def test_five_lines_reconstruct_the_sample(tmp_path):
    """PSNR is what eval.py says of the sample (`main` in the README)."""
    assert python(README_SCRIPT, tmp_path).startswith("PSNR 19.55 dB, SSIM 0.772")
    assert len(read_ply(tmp_path / "scene.ply").mean) == 5276


# What one process runs line by line, what a line loads, and what has not been loaded by then.
LOADED = [
    ("import tttlrm_jax as tj", "tttlrm_jax", ("jax", "numpy", "tyro")),
    ("tj.InputError", "tttlrm_jax.core", ("jax", "numpy")),
    (
        "from tttlrm_jax.rasterize import render_views", "tttlrm_jax.rasterize",
        ("grain", "orbax", "optax", "PIL", "tttlrm_jax.captures", "tttlrm_jax.datasets"),
    ),
    (
        "tj.render; tj.render_views; tj.Cameras", "tttlrm_jax.rasterize",
        ("grain", "orbax", "optax", "PIL", "tttlrm_jax.captures", "tttlrm_jax.datasets",
         "tttlrm_jax.models", "tttlrm_jax.checkpoints", "tttlrm_jax.training"),
    ),
    (
        "from tttlrm_jax.captures import capture", "tttlrm_jax.captures",
        ("grain", "orbax", "optax", "tttlrm_jax.models", "tttlrm_jax.training"),
    ),
    (
        "from tttlrm_jax.metrics import depth, images, lpips, point_clouds, trajectory",
        "tttlrm_jax.metrics",
        ("grain", "orbax", "tttlrm_jax.models", "tttlrm_jax.training", "tttlrm_jax.apps"),
    ),
    (
        "tj.load(); tj.open_capture()", "tttlrm_jax.models",
        ("grain", "tensorflow_datasets", "array_record", "tensorboardX", "matplotlib", "jinja2",
         "tttlrm_jax.training", "tttlrm_jax.datasets", "tttlrm_jax.procedural",
         "tttlrm_jax.apps", "tttlrm_jax.reports"),
    ),
]  # fmt: skip


@pytest.fixture(scope="module")
def modules(tmp_path_factory) -> dict[str, set[str]]:
    """Those that are loaded after each script."""
    scripts = [script for script, *_ in LOADED]
    lines = [f"{script}; print(*sys.modules)" for script in scripts]
    said = python("\n".join(["import sys", *lines]), tmp_path_factory.mktemp("empty"))
    return dict(zip(scripts, (set(line.split()) for line in said.splitlines()), strict=True))


@pytest.mark.parametrize(("script", "loaded", "absent"), LOADED)
def test_nothing_is_imported_that_is_not_used(modules, script, loaded, absent):
    assert loaded in modules[script]
    assert not [name for name in absent if name in modules[script]]


@pytest.fixture(scope="module")
def scene(model, capture):
    return model.reconstruct(capture, views=3, resolution=(16, 24))


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory, tiny_checkpoint, tiny_capture_source):
    """What eval.py writes for the same request."""
    output = tmp_path_factory.mktemp("eval") / "out"
    arguments = [
        "--capture", str(tiny_capture_source), "--checkpoint", str(tiny_checkpoint),
        "--views", "3", "--resolution", "16", "24", "--orbit-frames", "1", "--output", str(output),
        "--save", "ply", "spz", "glb", "splat",
        "--write-cameras", "colmap", "nerfstudio", "tum", "opencv",
    ]  # fmt: skip
    assert command.main(arguments) == 0
    return output


def test_scores_and_files_are_those_of_eval(scene, evaluated, tmp_path):
    metrics = json.loads((evaluated / "metrics.json").read_text())
    scores = scene.scores()
    assert scores.psnr.tolist() == [view["psnr"] for view in metrics["targets"]]
    assert scores.mean("ssim") == metrics["ssim"]
    count = scene.save(tmp_path / "scene.ply")
    assert (tmp_path / "scene.ply").read_bytes() == (evaluated / "scene.ply").read_bytes()
    assert count.num_written == metrics["num_gaussians"]
    scene.save(tmp_path / "scene.splat")
    assert (tmp_path / "scene.splat").stat().st_size == 32 * count.num_written
    with pytest.raises(tj.InputError, match=r"\.ply"):
        scene.save(tmp_path / "scene.obj")


def test_scene_files_hold_the_same_scene(evaluated):
    """Each in its own axes and precision, read back into those of the PLY."""
    ply = read_splats(evaluated / "scene.ply")
    for name in ("scene.glb", "scene.spz", "scene.splat"):
        found = read_splats(evaluated / name)
        assert found.mean.shape == ply.mean.shape
        middles = [np.sort(np.asarray(each.mean), axis=0) for each in (found, ply)]
        np.testing.assert_allclose(*middles, atol=0.5 * 2**-12 if "spz" in name else 1e-6)
        scales = [np.sort(np.asarray(each.log_scale), axis=0) for each in (found, ply)]
        np.testing.assert_allclose(*scales, atol=1 / 32 if "spz" in name else 1e-4)


@pytest.mark.parametrize("file", ["colmap/sparse/0/cameras.bin", "transforms.json",
                                  "opencv_cameras.json"])  # fmt: skip
def test_written_cameras_are_those_of_the_capture(evaluated, capture, file):
    read = tj.open_capture(evaluated / "cameras" / file)
    assert len(read) == len(capture)
    np.testing.assert_allclose(read.world_from_camera, capture.world_from_camera, atol=1e-6)
    for mine, theirs in zip(read.frames, capture.frames, strict=True):
        np.testing.assert_allclose(mine.intrinsics, theirs.intrinsics, atol=1e-6)
        assert mine.image_path.samefile(theirs.image_path)
    rows = np.loadtxt(evaluated / "cameras/trajectory_tum.txt")
    np.testing.assert_allclose(rows[:, 1:4], capture.world_from_camera[:, :3, 3], atol=1e-6)


def test_rendering_is_in_the_frame_of_the_capture(scene, capture):
    held_out = scene.render()
    np.testing.assert_array_equal(held_out.rgb, scene.target_pictures())
    cameras = capture.cameras([0, 8], resolution=(16, 24))
    again = scene.render(cameras)
    np.testing.assert_allclose(again.rgb, held_out.rgb, atol=1e-5)
    np.testing.assert_allclose(scene.render(capture).rgb[8], held_out.rgb[1], atol=1e-5)
    one = scene.render(capture.cameras([0], resolution=(16, 24))[0])
    np.testing.assert_allclose(one.depth, held_out.depth[0], atol=1e-4)
    # the Gaussians alone, seen with the pure renderer from the capture's own cameras
    plain = tj.Cameras(*map(jnp.float32, (cameras.world_from_camera, cameras.intrinsics)), 16, 24)
    near = RasterConfig(near=0.1 / scene.posed.similarity.scale)
    alone = tj.Renderer(background=(1.0, 1.0, 1.0), config=near)(scene.gaussians, plain)
    np.testing.assert_allclose(alone.rgb, held_out.rgb, atol=2e-3)
    np.testing.assert_allclose(alone.depth, held_out.depth, atol=2e-3)
    assert scene.render(capture.cameras([0], resolution=(32, 48))).rgb.shape == (1, 32, 48, 3)


def test_a_reconstruction_is_refined_on_its_inputs(scene):
    refined, record = scene.refine(2)
    assert record.losses[1] < record.losses[0]
    assert refined.scores().psnr.tolist() != scene.scores().psnr.tolist()
    assert refined.gaussians.mean.shape == scene.gaussians.mean.shape


def test_the_same_scene_beside_larger_pictures(scene):
    """As soft, in more pixels: what `render` gives for such cameras."""
    height, width = scene.posed.resolution
    larger = scene.at((2 * height, 2 * width))
    assert larger.predicted is scene.predicted
    assert larger.target_pictures().shape[1:3] == (2 * height, 2 * width)
    assert scene.at((height, width)).posed is scene.posed
    np.testing.assert_allclose(
        larger.posed.target_cameras.intrinsics, 2 * scene.posed.target_cameras.intrinsics, rtol=0.1
    )
    assert larger.scores().psnr.shape == scene.scores().psnr.shape


@pytest.mark.extended
def test_a_reconstruction_improves_for_some_seconds(scene):
    moments = []
    better, record = scene.refine(
        seconds=0.05, on_moment=lambda moment, best: moments.append(moment)
    )
    assert record.ended == "seconds"
    assert len(record.losses) > 0
    assert list(record.moments) == moments
    assert record.held_back == (1,)  # one of three inputs
    assert record.best.psnr == max(moment.psnr for moment in moments)
    assert better.scores().psnr.shape == scene.scores().psnr.shape
    larger = tuple(2 * side for side in scene.posed.resolution)
    sharper, record = scene.refine(seconds=0.05, resolution=larger)
    assert [moment.size for moment in record.moments[:1]] == [scene.posed.resolution]
    assert sharper.posed.resolution == sharper.made_at == larger
    for given in ({}, {"steps": 1, "seconds": 1.0}):
        with pytest.raises(tj.InputError, match="give one of them"):
            scene.refine(**given)
    with pytest.raises(tj.InputError, match=r"on_moment=.* belongs to improving for some time"):
        scene.refine(1, on_moment=print)
    with pytest.raises(tj.InputError, match="seconds=0"):
        scene.refine(seconds=0)


def test_programs_are_kept(model, capture):
    first = model.reconstruct(capture, views=3, resolution=(16, 24))
    again = model.reconstruct(capture, frames="1,2,3", resolution=(16, 24), seed=3)
    assert again.compile_seconds == first.compile_seconds
    assert again.renderer is first.renderer
    assert again.posed.input_names == ["images/000001.png", "images/000002.png",
                                       "images/000003.png"]  # fmt: skip
    untrained = model.untrained()
    assert untrained.programs is model.programs
    assert model.network().config == model.config


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"views": 20}, "views=20"),
        ({"views": 0}, "views=0 is not positive"),
        ({"frames": "0,1"}, "frames=0 are targets"),
        ({"resolution": (15, 24)}, "resolution=15 24 is not a multiple of the patch size 8"),
        ({"plan": "circular"}, "plan"),
        ({"keep_ratio": 2.0}, "keep_ratio=2.0"),
    ],
)
def test_bad_wishes_are_refused_in_words(model, capture, options, words):
    with pytest.raises(tj.InputError, match=words):
        model.reconstruct(capture, **options)


def test_what_load_takes(tiny_checkpoint, tmp_path):
    with pytest.raises(tj.InputError, match="nowhere"):
        tj.load(tmp_path / "nowhere")
    with pytest.raises(tj.InputError, match="rule"):
        tj.load(tiny_checkpoint, rule="no_such_rule")
    assert tj.load(tiny_checkpoint, rule="momentum").config.rule.name == "momentum"
    with pytest.raises(tj.InputError, match="state rule"):
        tj.load("ttt3r_small", rule="momentum")


def test_what_open_capture_takes(tmp_path, tiny_capture_source, model):
    sample = tj.open_capture()
    assert (sample.name, len(sample)) == ("sample", 32)
    by_file = tj.open_capture(tiny_capture_source / "opencv_cameras.json")
    assert by_file.name == tj.open_capture(str(tiny_capture_source)).name
    pictures = tj.open_capture(tiny_capture_source / "images")
    assert isinstance(pictures, tj.Sequence)
    with pytest.raises(tj.InputError, match="without camera file"):
        model.reconstruct(pictures)
    with pytest.raises(tj.InputError, match="not a directory"):
        tj.open_capture(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(tj.InputError, match=r"holds no opencv_cameras\.json .* make no sequence"):
        tj.open_capture(tmp_path / "empty")


UTM = np.array([431234.56, 5412345.67, 312.3])


def moved(capture, place):
    frames = [
        dataclasses.replace(each, world_from_camera=moved_poses(each.world_from_camera, -place))
        for each in capture.frames
    ]
    return dataclasses.replace(capture, frames=tuple(frames))


def test_a_capture_in_coordinates_of_a_map(scene, model, capture, tmp_path):
    """Positions are relative to an offset that every exporter states or shares."""
    far = moved(capture, UTM)
    numbers = ",".join(name[-5:-4] for name in scene.posed.input_names)
    there = model.reconstruct(far, frames=numbers, resolution=(16, 24))
    assert there.posed.input_names == scene.posed.input_names
    assert scene.offset.tolist() == [0, 0, 0]
    reach = 1 / scene.posed.similarity.scale
    assert np.abs(there.offset - UTM).max() < 2 * reach
    position = np.asarray(there.gaussians.mean, np.float64) + (there.offset - UTM)
    np.testing.assert_allclose(position, scene.gaussians.mean, atol=1e-3 * reach)
    np.testing.assert_allclose(there.scores().psnr, scene.scores().psnr, atol=0.01)
    cameras = far.cameras([0, 8], resolution=(16, 24))
    np.testing.assert_allclose(there.render(cameras).rgb, there.render().rgb, atol=1e-4)

    for each, path in ((there, tmp_path / "far"), (scene, tmp_path / "near")):
        each.save(path.with_suffix(".ply"))
        each.save(path.with_suffix(".splat"))
        assert read_offset(path.with_suffix(".ply")).tolist() == each.offset.tolist()
        written = read_ply(path.with_suffix(".ply")).mean
        assert np.abs(written).max() < 1e3 * reach
        splats = np.frombuffer(path.with_suffix(".splat").read_bytes(), RECORD)["mean"]
        np.testing.assert_array_equal(np.sort(splats, axis=0), np.sort(written, axis=0))


def test_a_stream_in_coordinates_of_a_map(model, capture, tmp_path):
    far, size = moved(capture, UTM), (16, 24)
    streams = [model.stream(chunk_views=3) for _ in range(2)]
    for stream, each in zip(streams, (capture, far), strict=True):
        stream.step(model.views(each, (1, 2, 3), resolution=size))
        stream.save_scene(tmp_path / "scene.ply")
    near, there = streams
    assert read_offset(tmp_path / "scene.ply").tolist() == there.offset.tolist()
    reach = 1 / near.similarity.scale
    position = np.asarray(there.gaussians.mean, np.float64) + (there.offset - UTM)
    np.testing.assert_allclose(position, near.gaussians.mean, atol=1e-3 * reach)


def test_a_photograph_that_is_input_and_target_is_said(model, capture):
    """Its pixels are compared: copies under another name count."""
    frames = list(capture.frames)
    copied = frames[1].image_path
    frames[8] = dataclasses.replace(frames[8], image_path=copied, name="copy.png")
    again = dataclasses.replace(capture, frames=tuple(frames))
    made = model.reconstruct(again, frames="1,2,3", resolution=(16, 24))
    (note,) = made.posed.notes
    assert note.startswith("1 target is also an input")
    assert "copy.png (input images/000001.png)" in note
    assert model.reconstruct(capture, frames="1,2,3", resolution=(16, 24)).posed.notes == ()


def test_a_view_that_is_chosen_twice_is_said(model, capture):
    wishes = EvalConfig(frames="1,2,3", resolution=(16, 24))
    request = resolve(wishes, model.run, capture)
    twice = dataclasses.replace(request, inputs=np.array([1, 2, 2]))
    (note,) = pose_scene(capture, twice, model.run.data).notes
    assert note.startswith("images/000002.png is an input more than once: nearest to more than")
