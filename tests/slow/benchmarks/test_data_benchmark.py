"""`benchmarks.data` at tiny sizes: what it measures of a run, a stage and their augmentations."""

import dataclasses
import importlib.util
import json
from pathlib import Path

import pytest

from benchmarks import data, data_run
from tttlrm_jax.core.errors import InputError

ROOT = Path(__file__).resolve().parents[3]
TINY = ROOT / "tests" / "runs" / "tiny_run.py"
STAGES = ROOT / "tests" / "runs" / "tiny_curriculum.py"


@pytest.fixture
def measured(monkeypatch):
    """`measured()`: the runs, sources and augmentations whose rates were asked for, in order; the
    clock is left out."""
    calls = []

    def deliver(config, batch_size, repeats):
        calls.append(
            (config.source, config.mirror_probability, config.min_crop, config.random_background)
        )
        return 6.0

    def train(name, run, source, repeats):
        calls.append((name, run.name, source.source))
        return {"name": f"training step of {name}", "size": 8, "scenes_per_second": 2.0}

    monkeypatch.setattr(data_run, "LOADED_SCENES", 2)
    monkeypatch.setattr(data_run, "scenes_per_second", deliver)
    monkeypatch.setattr(data_run, "measure_training", train)
    return calls


def report_of(capsys, *arguments):
    assert data.main(["--run-only", "--json", *map(str, arguments)]) == 0
    return json.loads(capsys.readouterr().out)


def test_a_run_is_measured_from_cache_and_shards_with_and_without_augmentations(measured, capsys):
    report = report_of(capsys, "--config", TINY)
    assert measured == [
        ("synthetic", 0.0, 1.0, 0.0), ("synthetic", 1.0, 0.7, 1.0),
        ("shards", 0.0, 1.0, 0.0), ("shards", 1.0, 0.7, 1.0), ("tiny", "tiny", "synthetic"),
    ]  # fmt: skip
    assert [row["name"] for row in report["results"]] == [
        "load from cache, batch 2, 4 + 1 views", "load from cache, augmented, batch 2, 4 + 1 views",
        "load from shards, batch 2, 4 + 1 views",
        "load from shards, augmented, batch 2, 4 + 1 views", "training step of tiny",
    ]  # fmt: skip
    assert [row.get("over_consumption") for row in report["results"]] == [3.0] * 4 + [None]
    assert report["run"]["name"] == "tiny"


def test_a_run_that_augments_is_measured_without_too(measured, capsys):
    report_of(capsys, "--config", TINY, "--data.mirror-probability", "0.5")
    assert [call[1] for call in measured[:6]] == [0.5, 0.0, 1.0] * 2


def test_a_run_on_captures_reads_them(measured, capsys, tiny_capture_source):
    """Its pictures are transparent: backgrounds are among the augmentations."""
    on_captures = [
        "--data.source", "captures", "--data.capture-directories", tiny_capture_source,
        "--data.capture-height", 8, "--data.capture-width", 12, "--data.num-input-views", 2,
    ]  # fmt: skip
    report = report_of(capsys, "--config", TINY, *on_captures)
    assert measured == [
        ("captures", 0.0, 1.0, 0.0), ("captures", 1.0, 0.7, 1.0), ("tiny", "tiny", "captures"),
    ]  # fmt: skip
    assert report["run"]["source"] == "captures"
    assert report["results"][0]["name"] == "load from captures, batch 2, 2 + 1 views"


def test_opaque_scenes_keep_their_background(measured, monkeypatch):
    config = dataclasses.replace(load(TINY).data, source="captures", capture_directories=("x",))
    monkeypatch.setattr(data_run, "make_loader", lambda *_: iter([{"input_image": None}]))
    data_run.measure_loading(config, "captures", 1, 1)
    assert [call[-1] for call in measured] == [0.0, 0.0]


def load(path):
    spec = importlib.util.spec_from_file_location("tiny", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.CONFIG


@pytest.mark.parametrize(("stage", "name"), [(None, "1 (low)"), (1, "1 (low)"), (2, "2 (high)")])
def test_a_curriculum_is_measured_at_the_stage_asked_for(stage, name):
    said, run = data_run.chosen_run(str(STAGES), ["--2.train.batch-size", "8"], stage)
    assert said == f"tiny_curriculum, stage {name}"
    assert run.train.batch_size == (8 if stage == 2 else 2)
    assert data_run.what_is_fed(said, run)["described"].startswith(
        "8x12, 2-4 input views" if stage == 2 else "8x8, 4 input views"
    )


def test_runs_that_cannot_be_measured_are_named(capsys, tmp_path):
    room = str(ROOT / "configs" / "ttt3r_small.py")
    for file, stage, words in (
        (str(STAGES), 3, r"--stage=3 is no stage of tiny_curriculum; use 1\.\.2"),
        (str(TINY), 1, r"--stage=1 is given and .*tiny_run\.py has no stages"),
        (room, None, r"--config=.*ttt3r_small\.py is a run of TTT3R"),
    ):
        with pytest.raises(InputError, match=words):
            data_run.chosen_run(file, [], stage)
    absent = ["--config", str(TINY), "--data.source", "shards", "--data.shard-directory"]
    assert data.main([*absent, str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert "holds no shards" in said
    assert "nothing was measured" in said
    assert data.main(["--run-only", "--config", str(TINY), "--train.batchsize", "2"]) == 2
    assert "batchsize" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        data.main(["--rendering-only", "--stage", "2"])


@pytest.mark.parametrize("stage", [1, 2])
def test_everything_is_measured(capsys, monkeypatch, stage):
    monkeypatch.setattr(data_run, "LOADED_SCENES", 8)
    monkeypatch.setattr(data_run, "BATCHES_PER_ROUND", 2)
    sizes = ["--sizes", "16", "--generators", "primitives", "--workers", "1", "--cache-scenes", "2"]
    arguments = ["--config", str(STAGES), "--stage", str(stage), "--repeats", "1", "--json"]
    assert data.main([*sizes, *arguments]) == 0
    results = json.loads(capsys.readouterr().out)["results"]
    rates = [row.get("views_per_second") or row["scenes_per_second"] for row in results]
    assert len(rates) == 2 + 2 + 4 + 4 + 1
    assert min(rates) > 0
    assert results[-1]["name"].startswith(f"training step of tiny_curriculum, stage {stage}")


def test_the_step_of_a_run_on_captures_is_timed(capsys, tiny_capture_source, tmp_path):
    assert data.main(
        ["--run-only", "--config", str(TINY), "--repeats", "1", "--data.source", "captures",
         "--data.capture-directories", str(tiny_capture_source), "--data.capture-height", "8",
         "--data.capture-width", "12", "--data.num-input-views", "2"]
    ) == 0  # fmt: skip
    said = capsys.readouterr().out
    assert said.startswith("fed: tiny (captures): 8x12, 2 input views")
    assert "training step of tiny, batch 2, 2 input views" in said
