"""`eval.py --seconds`: files and figures of Gaussians that were improved, and the demonstration."""

import dataclasses
import json

import imageio.v3 as iio
import pytest

from tttlrm_jax.apps.reconstruct import command
from tttlrm_jax.apps.reconstruct.files import OUTPUT_FILES
from tttlrm_jax.apps.reconstruct.refined_files import IMPROVEMENT_FILM
from tttlrm_jax.config import EvalConfig
from tttlrm_jax.core.errors import ConfigError


@pytest.fixture(scope="module")
def result(tmp_path_factory, tiny_checkpoint, tiny_capture_source):
    output = tmp_path_factory.mktemp("seconds") / "out"
    arguments = [
        "--capture", str(tiny_capture_source), "--checkpoint", str(tiny_checkpoint), "--views", "4",
        "--seconds", "0.3", "--max-gaussians", "500", "--resolution", "32", "48",
        "--orbit-frames", "4",
        "--output", str(output),
    ]  # fmt: skip
    assert command.main(arguments) == 0
    return output


@pytest.mark.extended
def test_files_and_figures(result):
    assert sorted(path.name for path in result.iterdir()) == sorted(
        (*OUTPUT_FILES, IMPROVEMENT_FILM)
    )
    assert [path.name for path in result.parent.iterdir()] == [result.name]  # no preview is left
    metrics = json.loads((result / "metrics.json").read_text())
    assert metrics["resolution"] == [32, 48]
    assert metrics["model_resolution"] == [24, 40]
    assert any("the model sees 40x24 pixels" in note for note in metrics["notes"])
    improved = metrics["post_optimize"]
    assert improved["ended"] == "seconds"
    assert improved["start"] in ("prediction", "points", "random")
    assert len(improved["held_back"]) == 1
    assert set(improved["held_back"]) < set(metrics["inputs"])
    assert improved["best"]["psnr"] == max(each["psnr"] for each in improved["moments"])
    assert improved["max_gaussians"] == 500
    assert improved["sh_degree"] == 1  # of the three views that are fitted
    assert improved["num_refused"] >= 0
    assert metrics["num_gaussians_predicted"] == improved["best"]["num_gaussians"]
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


def test_without_options_the_toy_is_improved():
    asked = command.demonstration(EvalConfig(output="there", splat=True, compile_cache=False))
    assert (asked.capture, asked.views) == ("toy", command.DEMO_VIEWS)
    assert asked.seconds == command.DEMO_SECONDS
    assert (asked.output, asked.splat, asked.compile_cache) == ("there", True, False)
    for changed in ({"views": 4}, {"capture": "sample"}, {"checkpoint": "x"}, {"seed": 1}):
        config = dataclasses.replace(EvalConfig(), **changed)
        assert command.demonstration(config) is config


@pytest.mark.parametrize("seconds", [0.0, -1.0, float("inf"), float("nan")])
def test_time_must_be_positive(seconds):
    with pytest.raises(ConfigError, match="seconds"):
        EvalConfig(seconds=seconds)


@pytest.mark.parametrize(("field", "value"), [("max_gaussians", 100), ("memory_limit", 1.0)])
def test_options_of_improving_need_time(field, value):
    with pytest.raises(ConfigError, match=f"{field}={value} belongs to .*; add e.g. --seconds 30"):
        EvalConfig(**{field: value})
    assert EvalConfig(seconds=1.0, **{field: value}).of_improving()[field] == value
