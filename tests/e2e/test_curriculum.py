"""A curriculum hands weights on and resumes inside any stage, to the bit."""

import dataclasses
import json
from pathlib import Path

import jax
import numpy as np
import pytest

from tttlrm_jax.commands.train import load_config_file, main, parse
from tttlrm_jax.config import RunConfig
from tttlrm_jax.errors import ConfigError
from tttlrm_jax.models import build_model, split_model
from tttlrm_jax.training.checkpoint import RunCheckpoints, load_model, write_config
from tttlrm_jax.training.curriculum import (
    CurriculumConfig,
    described,
    placed_stages,
    run_directory,
    train_curriculum,
)
from tttlrm_jax.training.initial import with_moments_of
from tttlrm_jax.training.loop import RunResult
from tttlrm_jax.training.step import init_train_state
from tttlrm_jax.training.view_counts import view_count_at

ROOT = Path(__file__).resolve().parents[2]
TINY = ROOT / "tests" / "e2e" / "tiny_curriculum.py"


@pytest.fixture(scope="module")
def workspace(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("curriculum")


def arguments(workspace: Path, name: str) -> list[str]:
    return [
        str(TINY), "--name", name, "--train.directory", str(workspace / "runs"),
        "--data.cache-directory", str(workspace / "cache"),
    ]  # fmt: skip


def curriculum(workspace: Path, name: str) -> CurriculumConfig:
    config = parse(arguments(workspace, name))
    assert isinstance(config, CurriculumConfig)
    return config


@pytest.fixture(scope="module")
def straight(workspace) -> CurriculumConfig:
    """Run to its end by the command."""
    assert main(arguments(workspace, "straight")) == 0
    return curriculum(workspace, "straight")


def saved(config: CurriculumConfig, number: int):
    """The training state at the end of a stage."""
    stage = placed_stages(config)[number]
    _, params = split_model(build_model(stage.model))
    checkpoints = RunCheckpoints(run_directory(stage), keep=3)
    state, _, _ = checkpoints.restore_newest(init_train_state(params, stage))
    checkpoints.close()
    return state


def assert_same(ours, theirs):
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)


@pytest.mark.extended
@pytest.mark.parametrize("stop_at", [2, 3, 7])
def test_resumed_in_any_stage_equals_straight(workspace, straight, stop_at):
    """Stopped inside the first stage, between the two, and inside the second."""
    config = curriculum(workspace, f"stopped{stop_at}")
    result = train_curriculum(config, stop_at=stop_at)
    assert result.directory.name == ("1_low" if stop_at <= 3 else "2_high")
    assert result.step == (stop_at if stop_at <= 3 else stop_at - 3)
    assert train_curriculum(config).finished
    for number in range(2):
        assert_same(saved(config, number), saved(straight, number))


@pytest.mark.extended
def test_a_stage_starts_from_the_one_before(workspace, straight):
    first, second = placed_stages(straight)
    assert second.train.init_from == str(run_directory(first))
    config = curriculum(workspace, "unchanged")
    still = dataclasses.replace(
        config.stages[1],
        train=dataclasses.replace(config.stages[1].train, num_steps=1, eval_every=1, ema_decay=0),
        optimizer=dataclasses.replace(config.stages[1].optimizer, peak_lr=1e-12, weight_decay=0),
    )
    assert train_curriculum(dataclasses.replace(config, stages=(config.stages[0], still))).finished
    before = saved(straight, 0).params
    after = saved(dataclasses.replace(config, stages=(config.stages[0], still)), 1).params
    for a, b in zip(*map(jax.tree.leaves, (before, after)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-9)


@pytest.mark.extended
def test_moments_are_kept_where_told(straight):
    first, second = placed_stages(dataclasses.replace(straight, optimizer_state="moments"))
    assert second.train.init_moments
    _, params = split_model(build_model(second.model))
    fresh = init_train_state(params, second)
    state = with_moments_of(run_directory(first), fresh)
    assert_same(state.opt_state[0], saved(straight, 0).opt_state[0])
    assert_same(state.opt_state[1:], fresh.opt_state[1:])  # the schedule starts anew


@pytest.mark.extended
def test_loading_the_run_gives_the_average(straight):
    stage = placed_stages(straight)[1]
    _, params = split_model(load_model(run_directory(stage))[1])
    assert_same(params, saved(straight, 1).ema)


@pytest.mark.extended
def test_views_vary_and_progress_shows_the_stage(workspace, straight, capfd):
    second = placed_stages(straight)[1]
    drawn = [view_count_at(second, step) for step in range(second.train.num_steps)]
    assert set(drawn) == {2, 4}
    records = (run_directory(second) / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(r)["step"] for r in records if '"train"' in r] == list(range(1, 7))
    assert main(arguments(workspace, "straight")) == 0  # all done: passes by
    said = capfd.readouterr()
    assert "stage 2/2 high" in said.err
    assert "stage 1/2" not in said.err
    assert described(second) == "8x12, 2-4 input views, plan full, 6 steps of 4 scenes, lr 0.0005"


@pytest.mark.extended
def test_mistakes_are_one_sentence(workspace, straight, capsys):
    given = arguments(workspace, "straight")
    assert main([*given, "--3.train.num-steps", "5"]) == 2
    assert "has stages 1 to 2" in capsys.readouterr().err
    assert main([*given, "--1.optimizer.peak-lr", "0.1"]) == 2  # a stage that has ended
    assert "optimizer.peak_lr=0.1 (was" in capsys.readouterr().err
    assert main([*given, "--1.train.num-steps", "5"]) == 2
    assert "stage 2_high has begun" in capsys.readouterr().err
    assert main([*given, "--2.model.d-model", "16"]) == 2
    assert "cannot follow" in capsys.readouterr().err
    with pytest.raises(ConfigError, match="stages start from the one before"):
        dataclasses.replace(
            straight,
            stages=(
                straight.stages[0],
                dataclasses.replace(
                    straight.stages[1],
                    train=dataclasses.replace(straight.stages[1].train, init_from="x"),
                ),
            ),
        )


def finished_run(stage: RunConfig, step: int):
    """What there is of a run after so many steps, without its arrays."""
    (run_directory(stage) / "checkpoints" / str(step) / "params").mkdir(parents=True)
    write_config(run_directory(stage), stage)


def test_it_goes_on_in_the_right_stage(workspace, monkeypatch):
    """Stages that have ended are passed by; what is trained, in what order, under what title."""
    config = curriculum(workspace, "order")
    first, second = placed_stages(config)
    calls = []

    def instead(stage, *, stop_at=None, title="", stop):
        calls.append((stage.name, title, stop_at))
        step = stage.train.num_steps if stop_at is None else min(stop_at, stage.train.num_steps)
        return RunResult(step, None, step == stage.train.num_steps, None, run_directory(stage))

    monkeypatch.setattr("tttlrm_jax.training.curriculum.train", instead)
    assert train_curriculum(config).finished
    assert calls == [("1_low", "stage 1/2 low", None), ("2_high", "stage 2/2 high", None)]
    calls.clear()
    assert not train_curriculum(config, stop_at=5).finished
    assert [call[0::2] for call in calls] == [("1_low", 5), ("2_high", 2)]
    calls.clear()
    assert not train_curriculum(config, stop_at=2).finished
    assert calls == [("1_low", "stage 1/2 low", 2)]
    finished_run(first, 3)
    calls.clear()
    train_curriculum(config)
    assert [name for name, *_ in calls] == ["2_high"]
    other = dataclasses.replace(
        config.stages[0], optimizer=dataclasses.replace(config.stages[0].optimizer, peak_lr=0.5)
    )
    with pytest.raises(ConfigError, match=r"optimizer\.peak_lr=0\.5 \(was"):
        train_curriculum(dataclasses.replace(config, stages=(other, config.stages[1])))
    longer = dataclasses.replace(
        config.stages[0], train=dataclasses.replace(config.stages[0].train, num_steps=9)
    )
    finished_run(second, 2)
    with pytest.raises(ConfigError, match="is not reached, but stage 2_high has begun"):
        train_curriculum(dataclasses.replace(config, stages=(longer, config.stages[1])))


def test_data_of_all_stages_is_looked_at_first(workspace, tiny_capture_source, monkeypatch):
    """The second stage has the depth loss on captures, which have no depth: nothing is trained."""
    config = curriculum(workspace, "data")
    data = dataclasses.replace(
        config.stages[1].data, source="captures", capture_height=8, capture_width=12,
        capture_directories=(str(tiny_capture_source),),
    )  # fmt: skip
    second = dataclasses.replace(config.stages[1], data=data)

    def never(*arguments, **options):
        raise AssertionError("a stage was trained")

    monkeypatch.setattr("tttlrm_jax.training.curriculum.train", never)
    with pytest.raises(ConfigError, match=r"loss\.depth is not 0 but the data source has no depth"):
        train_curriculum(dataclasses.replace(config, stages=(config.stages[0], second)))


def test_overrides_reach_all_stages_or_one(workspace):
    given = [*arguments(workspace, "x"), "--optimizer.beta2", "0.9", "--2.train.batch-size", "8"]
    config = parse(given)
    assert isinstance(config, CurriculumConfig)
    assert config.name == "x"
    assert [stage.name for stage in config.stages] == ["low", "high"]
    assert [stage.optimizer.beta2 for stage in config.stages] == [0.9, 0.9]
    assert [stage.train.batch_size for stage in config.stages] == [2, 8]


def test_overrides_with_an_equals_sign(workspace):
    """`--name=x` renames the curriculum and no stage; the last of several names counts."""
    given = [
        str(TINY), "--2.train.batch-size=8", "--name=y", "--optimizer.beta2=0.9", "--name", "x",
        "--1.name=lowest", "--2.mesh.data=-1",
    ]  # fmt: skip
    config = parse(given)
    assert isinstance(config, CurriculumConfig)
    assert config.name == "x"
    assert [stage.name for stage in config.stages] == ["lowest", "high"]
    assert [stage.optimizer.beta2 for stage in config.stages] == [0.9, 0.9]
    assert [stage.train.batch_size for stage in config.stages] == [2, 8]
    assert [stage.mesh.data for stage in config.stages] == [1, -1]
    with pytest.raises(ConfigError, match="name='' is not the name of a directory"):
        parse([str(TINY), "--name="])


@pytest.mark.parametrize(("file", "stages"), [("scene_curriculum", 5), ("object_curriculum", 3)])
def test_published_stages(file, stages, monkeypatch, tmp_path):
    (tmp_path / "one").mkdir()
    monkeypatch.setenv("TTTLRM_SCENES", str(tmp_path))
    config = load_config_file(ROOT / "configs" / f"{file}.py")
    assert isinstance(config, CurriculumConfig)
    assert len(config.stages) == stages
    length = [stage.train.num_steps for stage in config.stages]
    if file == "scene_curriculum":
        assert length == [80_000, 6000, 5000, 1000, 3000]
        assert [stage.data.image_size for stage in config.stages[:3]] == [
            (144, 256), (288, 512), (536, 960),
        ]  # fmt: skip
        assert all(stage.data.capture_directories for stage in config.stages)
        needs_depth = [stage.loss.depth > 0 for stage in config.stages]
        assert needs_depth == [stage.data.capture_depth for stage in config.stages]
        assert needs_depth == [False, False, True, True, True]
    else:
        assert length == [80_000, 10_000, 4000]
    assert [stage.train.batch_size for stage in config.stages[:2]] in ([128, 64], [512, 128])
