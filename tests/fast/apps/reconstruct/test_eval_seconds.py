"""`eval.py --seconds`: files and figures of Gaussians that were improved, and the demonstration."""

import dataclasses
import json
import os
from types import SimpleNamespace
from typing import Any

import imageio.v3 as iio
import numpy as np
import pytest

import tttlrm_jax as tj
from tttlrm_jax.apps.reconstruct import command
from tttlrm_jax.apps.reconstruct.files import OUTPUT_FILES
from tttlrm_jax.apps.reconstruct.refined_files import (
    CAMERAS_FILE,
    IMPROVEMENT_FILM,
    refined_notes,
)
from tttlrm_jax.captures.capture import read_capture
from tttlrm_jax.config import EvalConfig
from tttlrm_jax.core.errors import ConfigError
from tttlrm_jax.export.splats.formats import read_splats


@pytest.fixture(scope="module")
def result(tmp_path_factory, tiny_checkpoint, tiny_capture_source):
    output = tmp_path_factory.mktemp("seconds") / "out"
    arguments = [
        "--capture", str(tiny_capture_source), "--checkpoint", str(tiny_checkpoint), "--views", "4",
        "--seconds", "0.3", "--max-gaussians", "500", "--refine-cameras", "--exposure",
        "--resolution", "32", "48", "--orbit-frames", "4", "--save-mesh", "glb",
        "--output", str(output),
    ]  # fmt: skip
    assert command.main(arguments) == 0
    return output


@pytest.mark.extended
def test_files_and_figures(result):
    assert sorted(path.name for path in result.iterdir()) == sorted(
        (*OUTPUT_FILES, IMPROVEMENT_FILM, CAMERAS_FILE, "mesh.glb")
    )
    assert [path.name for path in result.parent.iterdir()] == [result.name]  # no preview is left
    metrics = json.loads((result / "metrics.json").read_text())
    assert metrics["resolution"] == [32, 48]
    assert metrics["model_resolution"] == [24, 40]
    assert any("the model sees 40x24 pixels" in note for note in metrics["notes"])
    improved = metrics["post_optimize"]
    assert improved["ended"] == "seconds"
    assert improved["start"] in ("prediction", "mixed", "points", "random")
    assert len(improved["held_back"]) == 1
    assert set(improved["held_back"]) < set(metrics["inputs"])
    assert improved["best"]["psnr"] == max(each["psnr"] for each in improved["moments"])
    assert improved["max_gaussians"] == 500
    assert improved["sh_degree"] == 1  # of the three views that are fitted
    assert improved["num_refused"] >= 0
    assert metrics["num_gaussians_predicted"] == improved["best"]["num_gaussians"]
    for name in ("cameras", "exposure"):
        assert [each["name"] for each in improved[name]] == metrics["inputs"]
    assert improved["psnr_colour_aligned"] >= metrics["psnr"] - 0.5
    assert sum("targets are" in note for note in metrics["notes"]) == 2
    frames = iio.imread(result / IMPROVEMENT_FILM)
    assert len(frames) > len(improved["moments"])
    page = (result / "report.html").read_text(encoding="utf-8")
    for text in (
        "As it improved",
        "before refinement",
        "room for Gaussians",
        improved["held_back"][0],
    ):
        assert text in page


@pytest.mark.extended
def test_the_mesh_is_of_the_improved_scene(result):
    """Beside its splats, in the axes of glTF, and on the page."""
    trimesh = pytest.importorskip("trimesh")
    metrics = json.loads((result / "metrics.json").read_text())
    mesh = trimesh.load(result / "mesh.glb", force="mesh", process=False)
    assert len(mesh.faces) == metrics["surface"]["triangles"] > 100
    means = np.asarray(read_splats(result / "scene.ply").mean)
    spread = np.linalg.norm(means - np.median(means, axis=0), axis=1)
    vertices = np.asarray(mesh.vertices) * [1, -1, -1]
    away = np.linalg.norm(vertices - np.median(means, axis=0), axis=1)
    assert np.median(away) < 2 * np.median(spread)
    assert "triangles, open, voxels of" in (result / "report.html").read_text(encoding="utf-8")


@pytest.mark.extended
def test_refined_cameras_are_a_capture(result, tiny_capture_source):
    """All frames of the first one; those of the inputs differ by what is said."""
    metrics = json.loads((result / "metrics.json").read_text())
    refined, given = read_capture(result), read_capture(tiny_capture_source)
    assert len(refined) == len(given)
    names = [refined.frames[index].name.rpartition("images/")[2] for index in refined.split(4)[0]]
    assert sorted(names) == sorted(name.rpartition("images/")[2] for name in metrics["inputs"])
    inputs = set(metrics["inputs"])
    for new, old in zip(refined.frames, given.frames, strict=True):
        assert os.path.samefile(new.image_path, old.image_path)
        np.testing.assert_allclose(new.intrinsics, old.intrinsics)
        far = np.abs(new.world_from_camera - old.world_from_camera).max()
        assert (far > 1e-6) == (old.name in inputs)
        assert far < 0.2


@pytest.mark.extended
def test_points_of_the_capture_start_a_fit_and_it_is_said(tiny_capture_source, tmp_path):
    path = tmp_path / "sparse.ply"
    rows = [f"{x:.3f} 0 0.1 255 0 51" for x in np.linspace(-0.3, 0.3, 1200)]
    names = [*(f"property float {name}" for name in "xyz"),
             *(f"property uchar {name}" for name in ("red", "green", "blue"))]  # fmt: skip
    head = ["ply", "format ascii 1.0", f"element vertex {len(rows)}", *names, "end_header"]
    path.write_text("\n".join([*head, *rows, ""]))
    capture = dataclasses.replace(read_capture(tiny_capture_source), points_file=path)
    scene, record = tj.fit(capture, 4, steps=1, resolution=(16, 24), max_gaussians=500)
    assert record.start == "points"
    assert record.moments[0].num_gaussians == 250
    config = EvalConfig(seconds=1.0)
    job: Any = SimpleNamespace(config=config, capture=capture, scene=scene.posed)
    for start, said in {
        "points": "starts from 250 of the 1,200 points of sparse.ply",
        "mixed": "starts from part of the prediction and points of sparse.ply (1,200 in all)",
        "prediction": "starts from the prediction, not from the 1,200 points of sparse.ply",
    }.items():
        of_start = dataclasses.replace(record, start=start)
        evaluated: Any = SimpleNamespace(refinement=of_start)
        assert f"improving: {said}" in refined_notes(job, evaluated)
    job.scene = SimpleNamespace(read_points=lambda: None)
    assert not any("points" in note for note in refined_notes(job, evaluated))


def test_without_options_the_toy_is_improved():
    asked = command.demonstration(EvalConfig(output="there", save=("spz",), compile_cache=False))
    assert (asked.capture, asked.views) == ("toy", command.DEMO_VIEWS)
    assert asked.seconds == command.DEMO_SECONDS
    assert (asked.output, asked.save, asked.compile_cache) == ("there", ("spz",), False)
    for changed in ({"views": 4}, {"capture": "sample"}, {"checkpoint": "x"}, {"seed": 1}):
        config = dataclasses.replace(EvalConfig(), **changed)
        assert command.demonstration(config) is config


@pytest.mark.parametrize("seconds", [0.0, -1.0, float("inf"), float("nan")])
def test_time_must_be_positive(seconds):
    with pytest.raises(ConfigError, match="seconds"):
        EvalConfig(seconds=seconds)


@pytest.mark.parametrize(
    ("field", "value"),
    [("max_gaussians", 100), ("memory_limit", 1.0), ("refine_cameras", True), ("exposure", True)],
)
def test_options_of_improving_need_time(field, value):
    with pytest.raises(ConfigError, match=f"{field}={value} belongs to .*; add e.g. --seconds 30"):
        EvalConfig(**{field: value})
    assert EvalConfig(seconds=1.0, **{field: value}).of_improving()[field] == value
