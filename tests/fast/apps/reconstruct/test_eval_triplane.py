"""`eval.py` with triplanes: pictures, film, scores, no Gaussians; what needs these is refused."""

import dataclasses
import json

import pytest

import tttlrm_jax as tj
from tttlrm_jax.api.decoded_scenes import DecodedSceneModel
from tttlrm_jax.apps.reconstruct import command as evaluate
from tttlrm_jax.checkpoints.models import export_model
from tttlrm_jax.config.model import TriplaneConfig
from tttlrm_jax.models import build_model, split_model

PLANES = TriplaneConfig(side=8, channels=4, hidden=8, samples=6, importance_samples=4)
FILES = ["comparison.png", "metrics.json", "orbit.mp4", "report.html"]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory, tiny_run):
    model = dataclasses.replace(tiny_run.model, decoder="triplane", triplane=PLANES)
    run = dataclasses.replace(tiny_run, name="planes", model=model)
    params = split_model(build_model(model, seed=2))[1]
    return export_model(run, params, tmp_path_factory.mktemp("models") / "planes")


@pytest.mark.extended
def test_files_and_scores_without_gaussians(checkpoint, tiny_capture_source, tmp_path):
    output = tmp_path / "planes"
    options = ["--capture", tiny_capture_source, "--checkpoint", checkpoint, "--output", output]
    assert evaluate.main([*map(str, options), "--orbit-frames", "3"]) == 0
    assert sorted(path.name for path in output.iterdir()) == FILES
    metrics = json.loads((output / "metrics.json").read_text())
    assert not any("gaussians" in name for name in metrics)
    assert metrics["state_numbers"] == 3 * 8 * 8 * 4 + 3  # planes and the background
    page = (output / "report.html").read_text(encoding="utf-8")
    assert "numbers of decoder triplane" in page
    assert "three planes of 8x8 cells of 4 channels, 6 + 4 samples a ray" in page
    model = tj.load(checkpoint)
    assert isinstance(model, DecodedSceneModel)
    scene = model.reconstruct(tiny_capture_source)
    assert scene.scores().psnr == pytest.approx([view["psnr"] for view in metrics["targets"]])
    with pytest.raises(tj.InputError, match="this model gives none"):
        scene.save(tmp_path / "scene.ply")
    with pytest.raises(tj.InputError, match="is not streamed here"):
        model.stream()


@pytest.mark.parametrize("option", ["--post-optimize 3", "--save splat", "--seconds 3"])
def test_what_needs_gaussians_is_refused(option, checkpoint, tiny_capture_source, tmp_path, capsys):
    options = ["--capture", tiny_capture_source, "--checkpoint", checkpoint]
    arguments = [*map(str, options), "--output", str(tmp_path / "x"), *option.split()]
    assert evaluate.main(arguments) == 2
    assert "needs Gaussians, which model.decoder=triplane has not" in capsys.readouterr().err
    assert not (tmp_path / "x").exists()
