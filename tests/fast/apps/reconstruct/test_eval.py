"""`eval.py` end to end on a tiny capture: every file, consistent with every other."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import imageio.v3 as iio
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from tttlrm_jax.apps.reconstruct import command as evaluate
from tttlrm_jax.apps.reconstruct.files import OUTPUT_FILES
from tttlrm_jax.captures.capture import load_views, read_capture
from tttlrm_jax.config import RasterConfig
from tttlrm_jax.core.types import Cameras
from tttlrm_jax.export.splats.ply import read_ply
from tttlrm_jax.metrics.images import psnr
from tttlrm_jax.rasterize import Renderer

REPOSITORY = Path(__file__).resolve().parents[4]


@pytest.fixture(scope="module")
def arguments(tiny_checkpoint, tiny_capture_source):
    return [
        "--capture", str(tiny_capture_source), "--checkpoint", str(tiny_checkpoint),
        "--orbit-frames", "5", "--min-opacity", "0", "--untrained-baseline",
    ]  # fmt: skip


@pytest.fixture(scope="module")
def result(tmp_path_factory, arguments):
    output = tmp_path_factory.mktemp("eval") / "made" / "on" / "the" / "way"
    assert evaluate.main([*arguments, "--output", str(output)]) == 0
    return output


def test_all_files_and_nothing_else(result):
    assert sorted(path.name for path in result.iterdir()) == sorted(OUTPUT_FILES)
    assert [path.name for path in result.parent.iterdir()] == [result.name]


def test_metrics_hold_what_is_promised(result, tiny_checkpoint):
    metrics = json.loads((result / "metrics.json").read_text())
    assert metrics["scene"] == "sample"
    assert (metrics["input_views"], metrics["target_views"]) == (3, 2)
    assert metrics["targets"][0]["name"] == "images/000000.png"
    assert metrics["targets"][1]["name"] == "images/000008.png"
    assert not {"images/000000.png", "images/000008.png"} & set(metrics["inputs"])
    assert metrics["resolution"] == [24, 40]  # 32x48 at the pixels of 32x32, multiples of 8
    assert metrics["plan"] == "full"
    assert metrics["num_gaussians"] == 3 * 24 * 40
    assert set(metrics["baselines"]) == {"mean_colour", "nearest_input", "untrained"}
    assert set(metrics["seconds"]) >= {"reconstruct", "render_per_view"}
    assert "post_optimize" not in metrics
    assert metrics["checkpoint"] == str(tiny_checkpoint)
    assert metrics["device"]
    assert "lpips" in metrics
    means = [view["psnr"] for view in metrics["targets"]]
    assert metrics["psnr"] == pytest.approx(np.mean(means))


def test_another_rule_gives_another_result_and_is_named(result, arguments, tmp_path):
    rule = ["--rule", "elastic", "--rule.strength", "0.5", "--rule.inner", "sgd"]
    output = tmp_path / "elastic"
    assert evaluate.main([*arguments, *rule, "--rule.inner.rate=3", "--output", str(output)]) == 0
    usual, other = (json.loads((each / "metrics.json").read_text()) for each in (result, output))
    assert usual["rule"] == {"name": "muon", "steps": 5, "rate": 1.0}
    assert other["rule"] == {
        "name": "elastic", "strength": 0.5, "fisher_decay": 0.5, "anchor_decay": 0.8,
        "inner": {"name": "sgd", "rate": 3.0},
    }  # fmt: skip
    assert other["inputs"] == usual["inputs"]
    for mine, theirs in zip(other["targets"], usual["targets"], strict=True):
        assert mine["name"] == theirs["name"]
        assert np.isfinite(mine["psnr"])
        assert mine["psnr"] != theirs["psnr"]
    assert "elastic(anchor_decay=0.8" in (output / "report.html").read_text()


def test_ply_in_the_input_frame_renders_to_the_reported_score(result, tiny_capture_source):
    """scene.ply seen from the capture's own cameras scores what metrics.json says."""
    metrics = json.loads((result / "metrics.json").read_text())
    capture = read_capture(tiny_capture_source)
    image, cameras = load_views(capture, [0, 8], *metrics["resolution"])
    near = 0.1 * 0.01  # below any Gaussian; the scale of the frame differs from the model's
    renderer = Renderer(background=(1.0, 1.0, 1.0), config=RasterConfig(near=near))
    rendering = renderer(
        read_ply(result / "scene.ply"),
        Cameras(
            jnp.asarray(cameras.world_from_camera, jnp.float32),
            jnp.asarray(cameras.intrinsics, jnp.float32),
            cameras.height,
            cameras.width,
        ),
    )
    actual = psnr(rendering.rgb, jnp.asarray(image))
    expected = [view["psnr"] for view in metrics["targets"]]
    np.testing.assert_allclose(actual, expected, atol=0.02)


def test_pictures_film_and_report(result):
    film = iio.imread(result / "orbit.mp4", plugin="FFMPEG")
    assert film.shape == (5, 24 * 7, 40 * 7, 3)  # 7 is the factor that brings 40 to 256
    assert film.std() > 1
    with Image.open(result / "comparison.png") as sheet:
        assert min(sheet.size) > 500
    page = (result / "report.html").read_text(encoding="utf-8")
    metrics = json.loads((result / "metrics.json").read_text())
    assert f"{metrics['psnr']:.2f} <small>dB" in page
    assert re.search(r"The weights were trained on [^<]*\(run tiny\)\.", page)
    assert not re.search(r"""(src|href)=["'](?!data:|#)""", page)
    assert "http" not in page.replace("http-equiv", "")


@pytest.mark.extended
def test_a_second_run_replaces_the_first_as_a_subprocess(result, arguments, tmp_path):
    """The command itself, other options, over an existing result; a table on stdout."""
    output = tmp_path / "again"
    shutil.copytree(result, output)
    process = subprocess.run(
        [sys.executable, "eval.py", *arguments, "--views", "4", "--plan", "sequential",
         "--chunk-views", "2", "--resolution", "16", "16", "--keep-ratio", "0.5",
         "--random-ratio", "0.2", "--background", "0", "0.5", "1", "--post-optimize", "2",
         "--save", "ply", "splat", "--output", str(output)],
        cwd=REPOSITORY, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert process.returncode == 0, process.stderr
    metrics = json.loads((output / "metrics.json").read_text())
    assert metrics["plan"] == "sequential"
    assert metrics["num_gaussians"] == int(0.5 * 1024) + int(0.5 * 0.2 * 1024)
    assert (output / "scene.splat").stat().st_size == 32 * metrics["num_gaussians"]
    assert metrics["lpips"] is None  # pictures too small for it
    refined = metrics["post_optimize"]
    assert refined["steps"] == len(refined["loss"]) == 2
    assert refined["loss"][1] < refined["loss"][0]
    assert refined["psnr_before"] != metrics["psnr"]
    assert metrics["seconds"]["post_optimize"] > 0
    assert f"{refined['psnr_before']:.2f}" in process.stdout
    page = (output / "report.html").read_text(encoding="utf-8")
    assert "refined on the inputs" in page
    for row in (
        "this model",
        "before 2 steps on inputs",
        "nearest input view",
        "mean colour",
        "untrained model",
    ):
        assert row in process.stdout
    assert f"{metrics['psnr']:.2f}" in process.stdout
    assert process.stdout.rstrip().endswith("report.html")
    assert "Traceback" not in process.stderr
    assert "os.fork" not in process.stderr
