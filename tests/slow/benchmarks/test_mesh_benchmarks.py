"""What the benchmarks of meshes and of memory say of a device's bytes."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import pytest

from tttlrm_jax.apps.train import load_config_file
from tttlrm_jax.models import abstract_model, split_model

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.timeout(1800)
def test_eight_devices_hold_an_eighth_of_what_one_holds():
    """Working memory of loss and gradient, the whole gradient of the parameters included."""
    command = [
        sys.executable, "-m", "benchmarks.mesh", "--devices", "1", "8", "--views", "32",
        "--exchanges", "all_to_all", "--json",
    ]  # fmt: skip
    environment = os.environ | {"MESH_DEVICES": "8", "TTTLRM_TYPECHECK": "0"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    one, eight = (record["memory"]["working"] for record in json.loads(done.stdout)["records"])
    assert 8 * eight <= 1.2 * one


@pytest.mark.timeout(1800)
def test_memory_benchmark_counts_what_a_step_holds():
    """Parameters and two moments of the published width, one layer, in float32, on each device."""
    command = [
        sys.executable, "-m", "benchmarks.memory", "--views", "2", "--devices", "2", "--remat",
        "block", "none", "--height", "16", "--width", "24", "--num-layers", "1", "--json",
    ]  # fmt: skip
    environment = os.environ | {"MESH_DEVICES": "2", "TTTLRM_TYPECHECK": "0"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    block, none = json.loads(done.stdout)["records"]
    model = dataclasses.replace(
        load_config_file(ROOT / "configs/presets/scene_960x536.py").model, num_layers=1
    )
    params = jax.tree.leaves(split_model(abstract_model(model))[1])
    held = 3 * 4 * sum(leaf.size for leaf in params)
    assert held <= block["state"] <= held + 64  # counters
    # At least the gradient; with so few tokens recomputing saves nothing, so there is no order.
    assert min(none["working"], block["working"]) > held / 3
    for record in (block, none):
        assert record["peak"] == record["state"] + record["batch"] + record["working"]
        assert record["fits"]


@pytest.mark.timeout(1800)
def test_work_of_a_scene_is_parted_over_devices():
    """Products fall with devices but for Newton-Schulz; inner gradients are what is summed."""
    command = [
        sys.executable, "-m", "benchmarks.scene_mesh", "--devices", "1", "4", "--views", "8",
        "--targets", "4", "--height", "32", "--width", "32", "--num-layers", "2", "--json",
    ]  # fmt: skip
    environment = os.environ | {"MESH_DEVICES": "4", "TTTLRM_TYPECHECK": "0"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    records = json.loads(done.stdout)["records"]
    one, four = (r for r in records if r["program"] == "reconstruct")
    assert one["tokens"] == 8 * 4 * 4
    assert one["moved"] == 0
    assert 4 * four["tflop"] > one["tflop"] > four["tflop"]
    inner_gradients, opacities = 2 * 3 * 64 * 256 * 4, 8 * 32 * 32 * 4 // 4
    assert 0 <= four["moved"] - inner_gradients - opacities <= 64
    assert four["peak"] < one["peak"]
    drawn = [r for r in records if r["program"] == "render"]
    assert drawn[1]["moved"] > 0
