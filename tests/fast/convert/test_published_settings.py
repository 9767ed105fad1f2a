"""Converted weights say what they are evaluated with; expected values are the specification's."""

import json
from pathlib import Path

import numpy as np
import pytest
from flax import nnx

from tttlrm_jax.api.request import resolve
from tttlrm_jax.apps.convert import main
from tttlrm_jax.apps.reconstruct import command
from tttlrm_jax.captures.camera_files import Frame
from tttlrm_jax.captures.capture import Capture
from tttlrm_jax.checkpoints.directories import read_config
from tttlrm_jax.checkpoints.models import trained_size
from tttlrm_jax.config import EvalConfig, ModelConfig, config_to_dict
from tttlrm_jax.config.ttt3r import TTT3RConfig
from tttlrm_jax.convert import config_from_shapes, published_from_params, published_shapes
from tttlrm_jax.convert.published_settings import Wishes, published_run, settle_settings
from tttlrm_jax.core.errors import InputError
from tttlrm_jax.core.geometry.poses import look_at
from tttlrm_jax.models import abstract_model, build_model

# dotted fields of a run's configuration
TTTLRM = {
    "model.kind": "tttlrm", "model.compute_dtype": "bfloat16", "model.newton_schulz_dtype":
    "bfloat16", "model.max_distance": 500.0, "model.log_scale_max": -1.2, "model.base_lr": 0.01,
    "raster.max_alpha": 0.999, "raster.near": 0.1, "raster.far": 1e10, "raster.eps2d": 0.3,
    "raster.antialiased": False, "data.capture_height": 536, "data.capture_width": 960,
    "data.capture_resize": "tttlrm", "data.normalise_over": "all",
    "data.background": [1.0, 1.0, 1.0], "train.published_pruning": True,
}  # fmt: skip
FULL = TTTLRM | {
    "train.plan": "full", "data.pose_normalisation": "mean_cam", "data.num_input_views": 32,
}  # fmt: skip
AUTOREGRESSIVE = TTTLRM | {
    "train.plan": "sequential", "train.chunk_views": 8, "data.pose_normalisation": "first_cam",
    "data.num_input_views": 32,
}  # fmt: skip
LACT = {
    "model.kind": "lvsm", "model.compute_dtype": "float32", "model.newton_schulz_dtype":
    "bfloat16", "data.capture_resize": "lact", "data.pose_normalisation": "mean_cam",
    "data.normalise_over": "all", "train.plan": "full",
}  # fmt: skip
LACT_SCENE = LACT | {
    "data.capture_height": 536, "data.capture_width": 960, "data.num_input_views": 32,
}  # fmt: skip
LACT_OBJECT = LACT | {
    "data.capture_height": 512, "data.capture_width": 512, "data.num_input_views": 8,
}  # fmt: skip
PUBLISHED = {
    "tttlrm_dl3dv_full": FULL | {"model.d_model": 768, "model.num_layers": 24, "model.patch_size":
                                 8, "model.sh_degree": 3, "model.ttt_inner_factor": 4.0},
    "tttlrm_dl3dv_ar": AUTOREGRESSIVE | {"model.num_ttt_heads": 1, "model.mlp_factor": 4.0},
    "lact_l24_d768_ttt2x": LACT_OBJECT | {"model.num_layers": 24, "model.ttt_inner_factor": 2.0},
    "lact_l24_d768_ttt4x": LACT_SCENE | {"model.num_layers": 24, "model.ttt_inner_factor": 4.0},
    "lact_l14_d768_ttt2x": LACT_OBJECT | {"model.num_layers": 14},
}  # fmt: skip


def check_fields(run, expected):
    values = config_to_dict(run)
    found = {name: values[name.split(".")[0]][name.split(".")[1]] for name in expected}
    assert {n: list(v) if isinstance(v, tuple) else v for n, v in found.items()} == expected


def settled(model, name, **wishes):
    return settle_settings(model, Path(name), Wishes(**wishes))


@pytest.mark.parametrize("name", PUBLISHED)
def test_settings_of_every_published_model(shared, name):
    keys = json.loads((shared / "goldens" / "tttlrm" / "checkpoint_keys.json").read_text())
    model = config_from_shapes(keys[name]["shapes"])
    run = published_run(model, settled(model, f"{name}.pt"), "x")
    check_fields(run, PUBLISHED[name])
    assert run.pruning_ratios(32) == ((0.4, 0.1) if model.kind == "tttlrm" else (1, 0))
    assert run.pruning_ratios(64) == ((0.3, 0.05) if model.kind == "tttlrm" else (1, 0))


@pytest.mark.extended
@pytest.mark.parametrize("name", ["tttlrm_dl3dv_ar", "lact_l24_d768_ttt4x"])
def test_files_of_the_published_names_and_sizes_convert(tmp_path, write_checkpoint, shared, name):
    """Frozen networks of the losses and a step counter beside the weights; one number repeated."""
    keys = json.loads((shared / "goldens" / "tttlrm" / "checkpoint_keys.json").read_text())
    frozen = keys["optional_frozen_modules"].values() if name.startswith("tttlrm") else ()
    shapes = dict(keys[name]["shapes"])
    for module in frozen:
        shapes |= module
    tensors = {n: np.broadcast_to(np.float32(0.01), shape) for n, shape in shapes.items()}
    model = converted(tmp_path, write_checkpoint, tensors, f"{name}.pt", "--dtype", "bfloat16")
    check_fields(read_config(model), PUBLISHED[name])


def test_everything_taken_for_granted_is_said():
    said = settled(ModelConfig(), "weights.pt").said
    assert [sentence.split(":")[0] for sentence in said] == [
        "assumed --level scene", "assumed --plan full", "assumed --views 32",
        "assumed --resolution 536 960",
    ]  # fmt: skip
    assert "(--plan sequential) are the same" in said[1]
    asked = settled(
        ModelConfig(), "dl3dv_ar.pt", level="scene", plan="full", views=16, resolution=(64, 64)
    )
    assert not asked.said
    assert asked.plan == "full"
    assert settled(ModelConfig(), "dl3dv_ar.pt").said[1].endswith("sequential: the file's name")
    assert settled(ModelConfig(), "dl3dv_ar.pt", views=12).chunk_views == 4  # divides them


@pytest.mark.parametrize(
    ("name", "level", "resolution"),
    [
        ("obj_res256", "object", (256, 256)),
        ("obj_res1024", "object", (1024, 1024)),
        ("scene_res536x960", "scene", (536, 960)),
        ("mine", "object", (512, 512)),
    ],
)
def test_names_of_files_tell_level_and_resolution(name, level, resolution):
    found = settled(ModelConfig(kind="lvsm", ttt_inner_factor=2.0), f"{name}.pt")
    assert (found.level, found.resolution) == (level, resolution)


def test_a_plan_that_view_synthesis_has_not_is_refused():
    with pytest.raises(InputError, match="plan=sequential is not one of LaCT's"):
        settled(ModelConfig(kind="lvsm"), "x.pt", plan="sequential")


def tiny_weights(kind):
    sizes = ModelConfig(
        kind=kind, d_model=16, num_layers=1, patch_size=8, attention_head_dim=8, sh_degree=1
    )
    model = build_model(sizes, seed=3)
    return published_from_params(nnx.state(model, nnx.Param), model)


def converted(tmp_path, write_checkpoint, tensors, name, *options):
    source = write_checkpoint(tmp_path / name, {"model": tensors, "step": np.asarray(3)})
    assert main([str(source), str(tmp_path / "model"), *options]) == 0
    return tmp_path / "model"


def evaluated(model, capture, output, *options):
    arguments = ["--capture", str(capture), "--checkpoint", str(model), "--output", str(output),
                 "--orbit-frames", "2", *options]  # fmt: skip
    assert command.main(arguments) == 0
    return json.loads((output / "metrics.json").read_text())


def scene_of(num_frames, size):
    """A capture of cameras alone."""
    position = np.random.default_rng(0).normal(size=(num_frames, 3))
    poses = look_at(position, np.zeros(3), np.array([0.0, 0.0, 1.0]))
    frames = tuple(
        Frame(number=n, name=f"{n}.png", image_path=Path(f"{n}.png"), intrinsics=np.ones(4),
              world_from_camera=pose, size=size)
        for n, pose in enumerate(poses)
    )  # fmt: skip
    return Capture("scene", Path("."), frames, {})


def test_what_is_asked_of_a_scene_is_what_was_published(tmp_path, write_checkpoint, capsys):
    model = converted(tmp_path, write_checkpoint, tiny_weights("tttlrm"), "dl3dv_ar.pt")
    assert "assumed --plan sequential: the file's name" in capsys.readouterr().out
    run = read_config(model)
    check_fields(run, AUTOREGRESSIVE)
    scene = scene_of(80, (540, 960))
    request = resolve(EvalConfig(), run, scene)
    assert (request.resolution, request.plan, request.chunk_views) == ((536, 960), "sequential", 8)
    assert (request.keep_ratio, request.random_ratio) == (0.4, 0.1)
    np.testing.assert_array_equal(request.inputs, scene.split(32)[0])
    np.testing.assert_array_equal(request.targets, np.arange(0, 80, 8))
    many = resolve(EvalConfig(views=64), run, scene)
    assert (many.keep_ratio, many.random_ratio) == (0.3, 0.05)
    assert resolve(EvalConfig(), run, scene_of(80, (600, 800))).resolution == (536, 960)  # squeezed


@pytest.mark.extended
def test_autoregressive_weights_are_evaluated_as_published(
    tmp_path, write_checkpoint, tiny_capture_source
):
    model = converted(tmp_path, write_checkpoint, tiny_weights("tttlrm"), "dl3dv_ar.pt")
    small = ["--resolution", "16", "24", "--views", "4", "--chunk-views", "2"]
    metrics = evaluated(model, tiny_capture_source, tmp_path / "out", *small)
    assert metrics["plan"] == "sequential"
    assert metrics["settings"] == {
        "compute_dtype": "bfloat16", "max_alpha": 0.999, "near": 0.1,
        "pose_normalisation": "first_cam", "normalise_over": "all", "chunk_views": 2,
        "keep_ratio": 0.4, "random_ratio": 0.1, "fit": "resize",
    }  # fmt: skip
    count = 4 * 16 * 24
    assert metrics["num_gaussians_predicted"] == int(0.4 * count) + int(0.6 * 0.1 * count)


@pytest.mark.extended
def test_every_setting_is_an_option_of_eval(tmp_path, write_checkpoint, tiny_capture_source):
    """Full weights as published, and with an option in place of every setting."""
    model = converted(tmp_path, write_checkpoint, tiny_weights("tttlrm"), "x.pt", "--plan", "full")
    check_fields(read_config(model), FULL)
    small = ["--resolution", "16", "24", "--views", "4"]
    metrics = evaluated(model, tiny_capture_source, tmp_path / "out", *small)
    published = {
        "compute_dtype": "bfloat16", "max_alpha": 0.999, "near": 0.1, "keep_ratio": 0.4,
        "pose_normalisation": "mean_cam", "normalise_over": "all", "random_ratio": 0.1,
        "chunk_views": 1, "fit": "resize",
    }  # fmt: skip
    assert metrics["plan"] == "full"
    assert metrics["settings"] == published
    options = ["--compute-dtype", "float32", "--max-alpha", "0.9", "--near", "0.2", "--keep-ratio",
               "0.5", "--pose-normalisation", "first_cam", "--normalise-over", "inputs",
               "--random-ratio", "0", "--chunk-views", "2", "--fit", "crop", "--plan",
               "sequential"]  # fmt: skip
    other = evaluated(model, tiny_capture_source, tmp_path / "other", *small, *options)
    assert other["plan"] == "sequential"
    assert other["settings"] == {
        "compute_dtype": "float32", "max_alpha": 0.9, "near": 0.2, "keep_ratio": 0.5,
        "pose_normalisation": "first_cam", "normalise_over": "inputs", "random_ratio": 0.0,
        "chunk_views": 2, "fit": "crop",
    }  # fmt: skip
    assert other["num_gaussians_predicted"] == 4 * 16 * 24 // 2
    assert not set(other["settings"].items()) & set(published.items())


@pytest.mark.extended
def test_view_synthesis_is_evaluated_as_published(tmp_path, write_checkpoint, tiny_capture_source):
    model = converted(tmp_path, write_checkpoint, tiny_weights("lvsm"), "scene_res536x960.pt")
    check_fields(read_config(model), LACT_SCENE)
    small = ["--resolution", "16", "24", "--views", "4"]
    metrics = evaluated(model, tiny_capture_source, tmp_path / "out", *small)
    assert metrics["plan"] == "full"
    expected = {"compute_dtype": "float32", "pose_normalisation": "mean_cam", "fit": "crop",
                "normalise_over": "all"}  # fmt: skip
    assert {name: metrics["settings"][name] for name in expected} == expected


def test_view_synthesis_weights_say_what_they_were_trained_on(tmp_path, write_checkpoint, capsys):
    tensors = tiny_weights("lvsm")
    model = converted(tmp_path, write_checkpoint, tensors, "obj_res256.pt", "--views", "6")
    resolution = {"data.capture_height": 256, "data.capture_width": 256, "data.num_input_views": 6}
    check_fields(read_config(model), LACT_OBJECT | resolution)
    assert "assumed --level object: the file's name" in capsys.readouterr().out
    again = [str(tmp_path / "obj_res256.pt"), str(tmp_path / "m")]
    assert main([*again, "--plan", "causal"]) == 2
    assert "plan=causal is not one of LaCT's view synthesis" in capsys.readouterr().err
    assert main([*again, "--resolution", "9", "9"]) == 2
    assert "height=9 is not a multiple of model.patch_size=8" in capsys.readouterr().err
    assert not (tmp_path / "m").exists()


def test_cut3r_of_224_pixels_says_so(tmp_path, write_checkpoint, capsys):
    config = TTT3RConfig(
        encoder_width=64, encoder_heads=4, encoder_depth=1, ray_encoder_depth=1, decoder_width=24,
        decoder_depth=2, decoder_heads=2, state_heads=3, num_state_tokens=4, memory_slots=3,
        memory_heads=2, head="linear",
    )  # fmt: skip
    shapes = published_shapes(abstract_model(config))
    tensors = {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}
    heads = ["--encoder-heads", "4", "--decoder-heads", "2", "--state-heads", "3",
             "--memory-heads", "2"]  # fmt: skip
    model = converted(tmp_path, write_checkpoint, tensors, "x.pth", *heads)
    assert trained_size(model) == (224, 224)
    wrong = [str(tmp_path / "x.pth"), str(tmp_path / "m"), *heads, "--plan", "full"]
    assert main(wrong) == 2
    assert "--plan is for models of posed images; leave it out" in capsys.readouterr().err
