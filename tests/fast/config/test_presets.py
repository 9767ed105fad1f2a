"""Presets with arguments: they parse, are named after what they are, and fit on their mesh."""

import math
from pathlib import Path

import jax
import pytest
from jax.sharding import AbstractMesh

from tttlrm_jax.apps.train import load_config_file, parse
from tttlrm_jax.config import published_ratios
from tttlrm_jax.core.errors import ConfigError
from tttlrm_jax.models import abstract_model, split_model
from tttlrm_jax.parallel.mesh import AXES, Layout

PRESET = Path(__file__).resolve().parents[3] / "configs" / "presets" / "scene_960x536.py"


@pytest.mark.parametrize("views", [16, 32, 64])
@pytest.mark.parametrize("devices", [8, 16, 64])
def test_preset_is_what_its_arguments_say(views, devices):
    """Each cell of docs/experiments/many_devices.md that fits with `block`."""
    name = f"{PRESET}:views={views},devices={devices}"
    config = parse([name, "--data.capture-directories", "somewhere"])
    data, train, mesh = config.data, config.train, config.mesh
    sizes = (mesh.data, mesh.seq, mesh.fsdp)
    height, width = data.image_size
    assert (data.num_input_views, math.prod(sizes)) == (views, devices)
    assert config.name == f"scene_{width}x{height}_{views}views_{devices}devices"
    assert data.capture_directories == ("somewhere",)
    assert (train.keep_ratio, train.random_ratio) == published_ratios(data.num_input_views)
    layout = Layout.of(AbstractMesh(sizes, AXES), train.batch_size, data.num_input_views)
    spread = layout.size("batch") * layout.size("view")
    assert spread == math.prod(sizes)  # no device repeats another's work


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("veiws=16", "has no argument veiws=16; give some of views, devices, .* as .*:views=VALUE"),
        ("16", "has no argument 16"),
        ("views=many", "views=many is not a whole number; give one"),
        ("devices=0", "devices=0 is below 1; use 1 or more"),
        ("views=0", "views=0 is below 1; use 1 or more"),
        ("remat=all", "remat=all is unknown; use one of .*block"),
    ],
)
def test_arguments_that_the_preset_cannot_take(arguments, words):
    with pytest.raises(ConfigError, match=words):
        parse([f"{PRESET}:{arguments}"])


def test_other_configurations_take_no_arguments():
    with pytest.raises(ConfigError, match=r"smoke\.py takes no arguments \(views=4\); leave them"):
        parse([f"{PRESET.parents[1] / 'smoke.py'}:views=4"])


def test_preset_is_the_published_model():
    _, params = split_model(abstract_model(load_config_file(PRESET).model))
    blocks = sum(leaf.size for leaf in jax.tree.leaves(params["blocks"]))
    assert blocks == pytest.approx(396e6, rel=0.01)


@pytest.mark.parametrize(
    ("views", "devices", "sizes"), [(16, 64, (16, 4)), (64, 16, (16, 1)), (24, 16, (8, 2))]
)
def test_devices_beyond_the_views_take_scenes(views, devices, sizes):
    run = load_config_file(f"{PRESET}:views={views},devices={devices}")
    assert (run.mesh.seq, run.mesh.fsdp) == sizes
    assert run.train.batch_size == sizes[1]
