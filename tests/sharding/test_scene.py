"""One scene over simulated devices equals one device: Gaussians in their order, pictures, files."""

import dataclasses
import functools
import json
from pathlib import Path

import jax
import numpy as np
import pytest

from tests.sharding.scene import assert_close, parts_of, run_config
from tttlrm_jax.api.mesh_scenes import over_devices
from tttlrm_jax.api.models import SceneModel
from tttlrm_jax.api.request import resolve
from tttlrm_jax.api.scenes import pose_scene
from tttlrm_jax.apps.reconstruct import command as evaluate
from tttlrm_jax.captures.capture import read_capture
from tttlrm_jax.config import EvalConfig, MeshConfig

ROUND_OFF = 1e-9  # as in test_mesh.py
PICTURES = 1e-6  # of a pixel: cameras are float32


@pytest.fixture(scope="module")
def case(tmp_path_factory, tiny_capture_source):
    """`case(plan)`: model, scene in float64 and request, whose Gaussians are pruned."""

    @functools.cache
    def make(plan):
        config = run_config(str(tmp_path_factory.getbasetemp()), plan)
        static, params = parts_of(config)
        model = SceneModel(run=config, graph=static.graph, params=params, path=Path())
        capture = read_capture(tiny_capture_source)
        wishes = EvalConfig(
            views=8, plan=plan, chunk_views=4, resolution=(8, 12), keep_ratio=0.4,
            random_ratio=0.3,
        )  # fmt: skip
        request = resolve(wishes, config, capture)
        posed = pose_scene(capture, request, config.data)
        wide = jax.tree.map(lambda x: x.astype(np.float64), (posed.inputs, posed.targets))
        return model, dataclasses.replace(posed, inputs=wide[0], targets=wide[1]), request

    return make


def alone(model, scene, request):
    made = model.reconstruct_scene(scene, request)
    return made, made.render()


@pytest.mark.parametrize("sizes", [(8, 1), (2, 1), (2, 2)])
@pytest.mark.parametrize("plan", ["full", "sequential"])
def test_gaussians_and_pictures_are_those_of_one_device(case, plan, sizes):
    model, scene, request = case(plan)
    if plan == "sequential" and sizes[0] == 8:
        request = dataclasses.replace(request, chunk_views=8)
    seq, fsdp = sizes
    expected, pictures = alone(model, scene, request)
    parted = over_devices(model, MeshConfig(seq=seq, fsdp=fsdp))
    made = parted.reconstruct_scene(scene, request)
    assert_close(made.predicted, expected.predicted, ROUND_OFF)  # members and order, too
    ours = made.render()
    for name in ("rgb", "depth", "alpha"):
        np.testing.assert_allclose(
            getattr(ours, name), getattr(pictures, name), atol=PICTURES, err_msg=name
        )
    assert not ours.num_dropped.any()
    np.testing.assert_array_equal(ours.num_invalid, pictures.num_invalid)
    everything, _ = parted.program(scene, request)
    gaussians = everything(*parted.placed(scene, request))[0]
    assert len(gaussians.mean.sharding.device_set) == seq * fsdp
    held = gaussians.mean.addressable_shards[0].data.shape[0]
    assert held == len(gaussians.mean) // (seq * fsdp)
    assert parted.bytes_per_device["peak"] > 0
    assert made.renderer.bytes_per_device["peak"] > 0


def test_a_film_is_drawn_in_portions(case):
    model, scene, request = case("full")
    _, pictures = alone(model, scene, request)
    made = over_devices(model, MeshConfig(seq=4)).reconstruct_scene(scene, request)
    frames = list(made.renderer.frames(made.predicted, scene.target_cameras, 1))
    np.testing.assert_allclose(frames, pictures.rgb, atol=PICTURES)
    assert len(frames) == len(scene.target_names)


def test_virtual_views_are_refused(case):
    model, scene, request = case("full")
    parted, some = over_devices(model, MeshConfig(seq=4)), np.array([0, 1], np.int32)
    with pytest.raises(ValueError, match=r"virtual_views=.* are not parted over devices"):
        parted.reconstruct_scene(dataclasses.replace(scene, virtual=some), request)


def test_an_exchange_without_room_is_refused(case):
    model, scene, request = case("full")
    parted = over_devices(model, MeshConfig(seq=4, exchange_capacity=0.01))
    made = parted.reconstruct_scene(scene, request)
    with pytest.raises(ValueError, match=r"mesh\.exchange_capacity=0\.01 leaves \d+ Gaussians"):
        made.render()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("--views 6 --mesh.seq 4", "input views=6 do not split over mesh axis 'seq' of size 4"),
        ("--views 4 --mesh.seq 16", "needs 16 devices, there are 8"),
        ("--views 4 --mesh.seq 2 --plan causal", "plan=causal is streamed on one device alone"),
        ("--views 4 --mesh.data 2", "mesh.data=2 parts scenes, and there is one"),
        ("--views 4 --mesh.seq 2 --virtual-views 2", "virtual_views=2 are not parted over devices"),
        ("--views 4 --mesh.seq 2 --seconds 3", "seconds=3.0 are of improving on one device alone"),
        ("--views 4 --mesh.seq 2 --post-optimize 2", "post_optimize=2 refines on one device alone"),
    ],
)
def test_what_cannot_be_parted_is_refused(
    options, words, tiny_checkpoint, tiny_capture_source, capsys, tmp_path
):
    arguments = ["--checkpoint", str(tiny_checkpoint), "--capture", str(tiny_capture_source)]
    output = tmp_path / "out"
    assert evaluate.main([*arguments, "--output", str(output), *options.split()]) == 2
    err = capsys.readouterr().err
    assert words in err
    assert not output.exists()


def test_the_command_writes_the_numbers_of_one_device(
    tiny_checkpoint, tiny_capture_source, tmp_path
):
    arguments = ["--checkpoint", str(tiny_checkpoint), "--capture", str(tiny_capture_source)]
    arguments += ["--views", "4", "--keep-ratio", "0.5", "--orbit-frames", "3"]
    metrics = {}
    with jax.enable_x64(False):
        for name, options in {"one": [], "four": ["--mesh.seq", "4"]}.items():
            output = tmp_path / name
            assert evaluate.main([*arguments, *options, "--output", str(output)]) == 0
            metrics[name] = json.loads((output / "metrics.json").read_text())
    one, four = metrics["one"], metrics["four"]
    assert "mesh" not in one
    assert four["mesh"]["devices"] == four["mesh"]["seq"] == 4
    planned = four["mesh"]["bytes_per_device"]
    assert all(planned[part]["peak"] > 0 for part in ("reconstruct", "render"))
    for ours, theirs in zip(four["targets"], one["targets"], strict=True):
        assert ours["psnr"] == pytest.approx(theirs["psnr"], abs=1e-3)
        assert ours["ssim"] == pytest.approx(theirs["ssim"], abs=1e-4)
    assert four["num_gaussians_predicted"] == one["num_gaussians_predicted"]
    assert "4 (seq 4, fsdp 1)" in (tmp_path / "four" / "report.html").read_text()
