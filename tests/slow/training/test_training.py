"""Training learns, resumes exactly, survives signals and refuses bad input in words."""

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

from tttlrm_jax.apps.train import load_config_file, main, parse
from tttlrm_jax.checkpoints.directories import read_config, write_config
from tttlrm_jax.checkpoints.models import export_model, load_model
from tttlrm_jax.config import RunConfig
from tttlrm_jax.core.errors import ConfigError, InputError
from tttlrm_jax.datasets.shards.builder import write_shards
from tttlrm_jax.datasets.shards.records import synthetic_records
from tttlrm_jax.training.trainer import train

ROOT = Path(__file__).resolve().parents[3]
SMOKE = ROOT / "configs" / "smoke.py"
# Programs that compile sooner than those of the smoke run.
SMALLER = (
    "--model.num-layers", "1", "--raster.backend", "reference",
    "--data.synthetic.height", "16", "--data.synthetic.width", "16",
)  # fmt: skip


@pytest.fixture(scope="module")
def workspace(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("training")


def smoke(workspace: Path, name: str, *changes: str, **settings) -> RunConfig:
    config = parse([str(SMOKE), *changes])
    assert isinstance(config, RunConfig)
    settings = {"num_steps": 16, "eval_every": 16, "checkpoint_every": 4} | settings
    return dataclasses.replace(
        config,
        name=name,
        data=dataclasses.replace(config.data, cache_directory=str(workspace / "cache")),
        train=dataclasses.replace(config.train, directory=str(workspace / "runs"), **settings),
    )


def smaller(workspace: Path, name: str, **settings) -> RunConfig:
    return smoke(workspace, name, *SMALLER, **settings)


@pytest.fixture(scope="module")
def straight(workspace) -> RunConfig:
    """A finished run without interruption."""
    config = smaller(workspace, "straight")
    result = train(config)
    assert result.finished
    assert result.step == 16
    return config


def run_directory(config: RunConfig) -> Path:
    return Path(config.train.directory) / config.name


def parameters(config: RunConfig) -> list[np.ndarray]:
    _, model = load_model(run_directory(config))
    from tttlrm_jax.models import split_model

    return [np.asarray(leaf) for leaf in jax.tree.leaves(split_model(model)[1])]


def assert_same_bits(ours: list[np.ndarray], theirs: list[np.ndarray]) -> None:
    assert len(ours) == len(theirs)
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(a, b)


def test_resumed_run_equals_straight_run_bit_for_bit(workspace, straight):
    config = smaller(workspace, "resumed")
    assert not train(config, stop_at=6).finished  # 6 is no multiple of the checkpoint interval
    assert train(config).finished
    assert_same_bits(parameters(config), parameters(straight))


def test_records_cover_each_step_once(workspace, straight):
    records = [
        json.loads(line)
        for line in (run_directory(straight) / "metrics.jsonl").read_text().splitlines()
    ]
    train_steps = [r["step"] for r in records if r["kind"] == "train"]
    assert train_steps == sorted(set(train_steps))
    assert all(r["num_dropped"] == r["num_invalid"] == 0 for r in records)
    assert all(r["num_skipped"] == 0 for r in records if "loss" in r)
    for record in (r for r in records if r["kind"] == "train"):
        parts = [v for name, v in record.items() if name.startswith("grad_norm/")]
        assert np.linalg.norm(parts) == pytest.approx(record["grad_norm"], rel=1e-4)
        assert record["speed/tflop_per_second"] > 0
    assert (run_directory(straight) / "previews" / "00000016.png").stat().st_size > 0


def _start(config: RunConfig) -> subprocess.Popen:
    command = [
        sys.executable, str(ROOT / "train.py"), str(SMOKE), *SMALLER, "--name", config.name,
        "--train.directory", config.train.directory,
        "--data.cache-directory", config.data.cache_directory,
        "--train.num-steps", "16", "--train.eval-every", "16", "--train.checkpoint-every", "4",
    ]  # fmt: skip
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def _wait_for_checkpoint(process: subprocess.Popen, config: RunConfig, step: int) -> None:
    directory = run_directory(config) / "checkpoints" / str(step)
    deadline = time.monotonic() + 400
    while not directory.exists() and process.poll() is None:
        assert time.monotonic() < deadline, "no checkpoint appeared"
        time.sleep(0.01)


def test_kill_and_terminate_lose_nothing(workspace, straight):
    config = smaller(workspace, "killed")
    process = _start(config)
    _wait_for_checkpoint(process, config, 4)
    process.kill()
    process.communicate()
    process = _start(config)
    time.sleep(1)
    process.send_signal(signal.SIGTERM)  # early: perhaps before the loop listens
    process.communicate()
    process = _start(config)
    _wait_for_checkpoint(process, config, 8)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate()
    assert process.returncode == 0, errors
    assert train(config).finished
    assert_same_bits(parameters(config), parameters(straight))


def test_a_run_goes_on_where_its_shards_were_moved(workspace):
    """Shards are known by what they hold: the same elsewhere resume exactly, others are refused."""
    config = smaller(workspace, "shards")
    scenes = dataclasses.replace(config.data.synthetic, num_scenes=4)
    first, second = workspace / "first", workspace / "second"
    write_shards(first, {"train": synthetic_records(scenes)}, progress=False)
    others = dataclasses.replace(scenes, seed=1)
    write_shards(workspace / "others", {"train": synthetic_records(others)}, progress=False)

    def reading(name: str, directory: Path) -> RunConfig:
        data = dataclasses.replace(
            config.data, source="shards", shard_directory=str(directory), capture_height=16,
            capture_width=16, holdout_every=5,
        )  # fmt: skip
        return dataclasses.replace(config, name=name, data=data)

    train(reading("straight_shards", first))
    assert not train(reading("moved_shards", first), stop_at=2).finished
    first.rename(second)
    with pytest.raises(InputError, match="holds no shards"):
        train(reading("moved_shards", first))
    with pytest.raises(ConfigError, match=r"data\.shard_directory=.*others holds other shards"):
        train(reading("moved_shards", workspace / "others"))
    assert train(reading("moved_shards", second)).finished
    ours, theirs = (parameters(reading(n, second)) for n in ("moved_shards", "straight_shards"))
    assert_same_bits(ours, theirs)
    assert read_config(run_directory(reading("moved_shards", second))).data.shard_directory == str(
        second
    )


def test_learns_one_scene(workspace):
    """On a single scene PSNR rises by 2.5 dB, past 15.5: the whole chain carries gradients."""
    pixels = ("--data.synthetic.height", "16", "--data.synthetic.width", "16")
    config = smoke(
        workspace, "overfit", *pixels, num_steps=100, batch_size=1, eval_every=100, eval_scenes=1
    )
    config = dataclasses.replace(
        config,
        model=dataclasses.replace(
            config.model, colour_residual=True, distance_anchor="origin", max_distance=1.6,
            opacity_offset=-1.0, log_scale_offset=-3.2,
        ),
        data=dataclasses.replace(
            config.data,
            synthetic=dataclasses.replace(config.data.synthetic, num_scenes=1),
            pose_normalisation="focus",
        ),
        optimizer=dataclasses.replace(config.optimizer, peak_lr=4e-3, warmup_steps=10),
        train=dataclasses.replace(config.train, log_every=1),
    )  # fmt: skip
    train(config)
    lines = (run_directory(config) / "metrics.jsonl").read_text().splitlines()
    errors = [r["mse"] for r in map(json.loads, lines) if r["kind"] == "train"]
    before, after = (-10 * np.log10(np.mean(part)) for part in (errors[:10], errors[-30:]))
    assert after > 15.5
    assert after > before + 2.5


def test_export_and_load(workspace, straight):
    config, model = load_model(run_directory(straight))
    assert config == straight
    from tttlrm_jax.models import split_model

    _, params = split_model(model)
    exported = export_model(config, params, workspace / "exported", dtype="bfloat16")
    _, again = load_model(exported)
    for a, b in zip(jax.tree.leaves(params), jax.tree.leaves(split_model(again)[1]), strict=True):
        assert b.dtype == a.dtype
        np.testing.assert_allclose(np.asarray(a), np.asarray(b), rtol=2**-8)


def test_other_model_is_refused(workspace, straight, capsys):
    directory = run_directory(straight)
    before = (directory / "config.json").read_text()
    code = main(
        [str(SMOKE), *SMALLER, "--name", "straight", "--train.directory", straight.train.directory,
         "--data.cache-directory", straight.data.cache_directory, "--model.d-model", "64"]
    )  # fmt: skip
    assert code == 2
    error = capsys.readouterr().err
    assert "model.d_model=64 (was 32)" in error
    assert "Traceback" not in error
    assert (directory / "config.json").read_text() == before
    assert read_config(directory) == straight


def test_checkpoint_of_another_size_is_refused(workspace, straight):
    config, model = load_model(run_directory(straight))
    from tttlrm_jax.models import split_model

    wrong = dataclasses.replace(config, model=dataclasses.replace(config.model, num_layers=3))
    directory = export_model(wrong, split_model(model)[1], workspace / "wrong")
    with pytest.raises(InputError, match="another model"):
        load_model(directory)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "no configuration file"),
        (["configs/absent.py"], "does not exist"),
        ([str(SMOKE), "--model.d-model", "30"], "does not divide model.d_model=30"),
        ([str(SMOKE), "--data.synthetic.height", "20"], "not a multiple of model.patch_size"),
        ([str(SMOKE), "--optimizer.peak-lr", "0"], "optimizer.peak_lr=0"),
        ([str(SMOKE), "--model.d-modle", "64"], "--model.d-modle"),
        ([str(SMOKE), "--model.d-model", "many"], "--model.d-model"),
        ([str(SMOKE), "--loss.perceptual", "0.5"], "loss.vgg19_weights"),
        ([str(SMOKE), "--train.directory", str(SMOKE)], "cannot be written"),
    ],
)
def test_bad_input_is_one_sentence(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code = main(arguments)
    error = capsys.readouterr().err
    assert code == 2
    assert message in error
    assert "Traceback" not in error
    assert not os.listdir(tmp_path)


def test_refused_run_leaves_nothing_and_binds_to_nothing(tmp_path, tiny_capture_source, capsys):
    capture = tmp_path / "object"
    shutil.copytree(tiny_capture_source, capture)
    cameras = json.loads((capture / "opencv_cameras.json").read_text())
    frames = cameras["frames"] if isinstance(cameras, dict) else cameras
    for frame in frames:  # colours only: no mask to learn from
        path = capture / frame["file_path"]
        Image.open(path).convert("RGB").save(path)
    arguments = [
        str(SMOKE), *SMALLER, "--data.source", "captures", "--data.capture-directories",
        str(capture), "--data.capture-height", "16", "--data.capture-width", "16",
        "--loss.depth", "0",
        "--train.directory", str(tmp_path / "runs"), "--train.num-steps", "1",
    ]  # fmt: skip
    assert main(arguments) == 2
    assert "loss.mask" in capsys.readouterr().err
    too_many = ["--loss.mask", "0", "--data.num-input-views", "8"]
    assert main(arguments + too_many) == 2
    assert "data.num_input_views" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()

    (tmp_path / "runs" / "smoke").mkdir(parents=True)
    abandoned = load_config_file(SMOKE)
    write_config(tmp_path / "runs" / "smoke", abandoned)
    assert main([*arguments, "--loss.mask", "0", "--train.batch-size", "1"]) == 0


def test_config_file_without_config(tmp_path):
    path = tmp_path / "empty.py"
    path.write_text("X = 1\n")
    with pytest.raises(ConfigError, match="defines no CONFIG"):
        load_config_file(path)
