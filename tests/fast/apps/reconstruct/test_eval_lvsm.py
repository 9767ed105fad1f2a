"""`eval.py` and the front door with a model that draws views itself: pictures, no Gaussians."""

import dataclasses
import json

import imageio.v3 as iio
import jax
import numpy as np
import pytest

import tttlrm_jax as tj
from tttlrm_jax.apps.reconstruct import command as evaluate
from tttlrm_jax.captures.capture import read_capture
from tttlrm_jax.checkpoints.models import export_model
from tttlrm_jax.models import build_model, split_model

FILES = ["comparison.png", "metrics.json", "orbit.mp4", "report.html"]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory, tiny_run):
    model = dataclasses.replace(tiny_run.model, kind="lvsm")
    run = dataclasses.replace(tiny_run, name="views", model=model)
    params = split_model(build_model(model, seed=2))[1]
    return export_model(run, params, tmp_path_factory.mktemp("models") / "views")


@pytest.fixture(scope="module")
def result(tmp_path_factory, checkpoint, tiny_capture_source):
    output = tmp_path_factory.mktemp("eval") / "views"
    options = ["--capture", tiny_capture_source, "--checkpoint", checkpoint, "--output", output]
    assert evaluate.main([*map(str, options), "--orbit-frames", "5"]) == 0
    return output


def test_files_and_scores_without_gaussians(result, checkpoint, tiny_capture_source):
    assert sorted(path.name for path in result.iterdir()) == FILES
    metrics = json.loads((result / "metrics.json").read_text())
    assert set(metrics["baselines"]) >= {"mean_colour", "nearest_input"}
    assert not any("gaussians" in name for name in metrics)
    assert not {"keep_ratio", "random_ratio", "max_alpha", "near"} & set(metrics["settings"])
    assert iio.imread(result / "orbit.mp4", plugin="FFMPEG").shape[0] == 5
    page = (result / "report.html").read_text(encoding="utf-8")
    assert f"{metrics['psnr']:.2f} <small>dB" in page
    assert "numbers of fast weights" in page
    assert "<canvas" not in page
    assert 'id="splats"' not in page
    # the same in Python
    model, capture = tj.load(checkpoint), read_capture(tiny_capture_source)
    scene = model.reconstruct(capture)
    assert scene.scores().psnr == pytest.approx([view["psnr"] for view in metrics["targets"]])
    assert metrics["state_numbers"] == scene.num_numbers


def test_a_scene_is_read_from_any_camera(checkpoint, tiny_capture_source, tmp_path):
    model, capture = tj.load(checkpoint), read_capture(tiny_capture_source)
    scene = model.reconstruct(capture)
    size = scene.posed.resolution
    held_out = scene.render().rgb
    every = scene.render(capture).rgb  # ten cameras by a program for four
    assert every.shape == (len(capture), *size, 3)
    np.testing.assert_allclose(every[[0, 8]], held_out, atol=1e-6)
    one = scene.render(capture.cameras([8], resolution=size)[0]).rgb
    np.testing.assert_allclose(one, held_out[1], atol=1e-6)
    # one pass over inputs and targets gives the same pictures, up to the rounding of its products
    inputs, targets = scene.posed.inputs, scene.posed.targets.cameras
    np.testing.assert_allclose(model.network()(inputs, targets)[0], held_out, atol=2e-4)
    with pytest.raises(tj.InputError, match=r"scene\.ply is a file of Gaussians"):
        scene.save(tmp_path / "scene.ply")
    with pytest.raises(tj.InputError, match="multiple of patch_size"):
        scene.render(capture.cameras([0], resolution=(20, 32)))
    spoilt = dataclasses.replace(model, params=jax.tree.map(lambda x: x * np.nan, model.params))
    with pytest.raises(tj.InputError, match="fast weights are not finite"):
        spoilt.reconstruct(capture)
    last = jax.tree.map(lambda x: x * np.nan, model.params["decoder_linear"])
    blind = dataclasses.replace(model, params=model.params | {"decoder_linear": last})
    with pytest.raises(tj.InputError, match="pictures are not finite"):
        blind.reconstruct(capture).scores()


@pytest.mark.extended
@pytest.mark.parametrize("plan", ["sequential", "causal"])
def test_chunks_are_written_one_after_another(checkpoint, tiny_capture_source, plan):
    model, capture = tj.load(checkpoint), read_capture(tiny_capture_source)
    scene = model.reconstruct(capture, views=4, plan=plan, chunk_views=2)
    inputs, targets = scene.posed.inputs, scene.posed.targets.cameras
    expected = model.network()(inputs, targets, plan=plan, chunk_views=2)[0]
    # Newton-Schulz in bfloat16 makes more of round-off, as the streams' own test knows
    np.testing.assert_allclose(scene.target_pictures(), expected, atol=1e-4)


def test_attention_keeps_no_state(checkpoint, tiny_capture_source):
    model = tj.load(checkpoint)
    config = dataclasses.replace(model.config, across_views="attention")
    other = dataclasses.replace(model, run=dataclasses.replace(model.run, model=config))
    with pytest.raises(tj.InputError, match="attention keeps no state"):
        other.reconstruct(tiny_capture_source)


@pytest.mark.parametrize(
    "options",
    [
        "--save splat", "--seconds 3", "--post-optimize 2", "--keep-ratio 0.5",
        "--random-ratio 0.1", "--min-opacity 0.2", "--max-alpha 0.9", "--near 0.2",
        "--accumulate all", "--load-state x", "--save-state x", "--load-state x --query y",
    ],
)  # fmt: skip
def test_what_needs_gaussians_is_refused(options, checkpoint, capsys):
    assert evaluate.main(["--checkpoint", str(checkpoint), *options.split()]) == 2
    err = capsys.readouterr().err
    assert "needs Gaussians, which model.kind=lvsm has not; leave it out" in err
    assert err.count("\n") == 1
