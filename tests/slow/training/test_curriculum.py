"""A curriculum hands weights on and resumes inside any stage, to the bit."""

import dataclasses
import json
import math
import operator
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest
from jax.sharding import AbstractMesh

from tttlrm_jax.apps.train import load_config_file, main, parse
from tttlrm_jax.checkpoints.directories import write_config
from tttlrm_jax.checkpoints.models import load_model
from tttlrm_jax.checkpoints.runs import RunCheckpoints
from tttlrm_jax.config import RunConfig
from tttlrm_jax.config.run import CurriculumConfig
from tttlrm_jax.core.errors import ConfigError, InputError
from tttlrm_jax.models import build_model, split_model
from tttlrm_jax.parallel.mesh import AXES, mesh_sizes
from tttlrm_jax.procedural.objects import scene_seed
from tttlrm_jax.training.curriculum import placed_stages, train_curriculum
from tttlrm_jax.training.initial import with_moments_of
from tttlrm_jax.training.run_directory import run_directory
from tttlrm_jax.training.tasks.mesh_program import check_batches, layout_of
from tttlrm_jax.training.tasks.view_counts import view_count_at
from tttlrm_jax.training.trainer import RunResult
from tttlrm_jax.training.update import init_train_state

ROOT = Path(__file__).resolve().parents[3]
TINY = ROOT / "tests" / "runs" / "tiny_curriculum.py"


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


def test_resumed_in_any_stage_equals_straight(workspace, straight):
    """Stopped inside the first stage, between the two, and inside the second."""
    config = curriculum(workspace, "stopped")
    for stop_at in (2, 3, 7):
        result = train_curriculum(config, stop_at=stop_at)
        assert result.directory.name == ("1_low" if stop_at <= 3 else "2_high")
        assert result.step == (stop_at if stop_at <= 3 else stop_at - 3)
    assert train_curriculum(config).finished
    for number in range(2):
        assert_same(saved(config, number), saved(straight, number))


def test_a_stage_starts_from_the_one_before(workspace, straight):
    first, second = placed_stages(straight)
    assert second.train.init_from == str(run_directory(first))
    config = curriculum(workspace, "unchanged")
    shutil.copytree(run_directory(first), run_directory(placed_stages(config)[0]))
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


def test_moments_are_kept_where_told(straight):
    first, second = placed_stages(dataclasses.replace(straight, optimizer_state="moments"))
    assert second.train.init_moments
    _, params = split_model(build_model(second.model))
    fresh = init_train_state(params, second)
    state = with_moments_of(run_directory(first), fresh)
    assert_same(state.opt_state[0], saved(straight, 0).opt_state[0])
    assert_same(state.opt_state[1:], fresh.opt_state[1:])  # the schedule starts anew


def test_loading_the_run_gives_the_average(straight):
    stage = placed_stages(straight)[1]
    _, params = split_model(load_model(run_directory(stage))[1])
    assert_same(params, saved(straight, 1).ema)


def test_views_vary_and_progress_shows_the_stage(workspace, straight, capfd):
    second = placed_stages(straight)[1]
    drawn = [view_count_at(second, step) for step in range(second.train.num_steps)]
    assert set(drawn) == {2, 4}
    records = (run_directory(second) / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(r)["step"] for r in records if '"train"' in r] == list(range(1, 7))
    assert main(arguments(workspace, "straight")) == 0  # all done: passes by
    said = capfd.readouterr()
    stage = "8x12, 2-4 input views, plan full, 6 steps of 4 scenes, lr 0.0005"
    assert f"stage 2/2 high: {stage}" in said.err
    assert "stage 1/2" not in said.err


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


def published(file: str) -> tuple[RunConfig, ...]:
    config = load_config_file(ROOT / "configs" / f"{file}.py")
    assert isinstance(config, CurriculumConfig)
    return config.stages


def of_stages(stages: tuple[RunConfig, ...], *fields: str) -> list[tuple]:
    """Fields of each stage by their dotted names."""
    return [tuple(operator.attrgetter(field)(stage) for field in fields) for stage in stages]


@pytest.fixture
def scene_stages(monkeypatch, tmp_path) -> tuple[RunConfig, ...]:
    (tmp_path / "one").mkdir()
    monkeypatch.setenv("TTTLRM_SCENES", str(tmp_path))
    return published("scene_curriculum")


def test_meshes_of_the_scene_stages(scene_stages):
    """What was published of them is held in tests/fast/config/test_paper.py."""
    assert of_stages(scene_stages, "mesh.data", "mesh.seq", "mesh.fsdp") == [
        (-1, 1, 1), (-1, 1, 1), (-1, 2, 1), *[(-1, 8, 1)] * 3,
    ]  # fmt: skip
    for stage in scene_stages:
        assert stage.data.capture_depth == (stage.loss.depth > 0)


def test_objects_of_the_object_stages():
    lvsm, *stages = published("object_curriculum")
    assert of_stages(stages, "mesh.data", "mesh.seq", "mesh.fsdp") == [
        (-1, 1, 1), (-1, 1, 1), (-1, 8, 1),
    ]  # fmt: skip
    for stage in stages:
        scenes = stage.data.synthetic
        assert (scenes.generator, scenes.min_primitives, scenes.max_primitives) == (
            "sculptures", 1, 9,
        )  # fmt: skip
        assert (scenes.min_distance, scenes.max_distance) == (1.5, 2.8)
        assert (scenes.min_fov, scenes.max_fov) == (35, 70)
    assert lvsm.data == stages[0].data
    assert len({scene_seed(stage.data.synthetic, 0) for stage in stages}) == 3  # other objects
    objects = [stage.data.synthetic.num_scenes for stage in stages]
    draws = [stage.train.num_steps * stage.train.batch_size for stage in stages]
    assert objects == [9536, 2384, 596]  # as the file's header says, with how often each
    assert [draw // n for draw, n in zip(draws, objects, strict=True)] == [4295, 536, 429]


@pytest.mark.parametrize("devices", [8, 16, 32, 64])
def test_published_stages_fit_so_many_devices(scene_stages, devices):
    """As they stand, with every number of views; no device repeats another's work."""
    for stage in (*scene_stages, *published("object_curriculum")):
        sizes = mesh_sizes(stage.mesh, devices)
        assert math.prod(sizes) == devices
        mesh = AbstractMesh(sizes, AXES)
        for count in (stage.data.num_input_views, *stage.train.view_counts):
            run = stage.with_input_views(count)
            check_batches(run, mesh)
            layout = layout_of(run, mesh, run.train.batch_size, run.train.chunk_views)
            assert layout.size("batch") * layout.size("view") == devices
            more = run.train.micro_batches * 64 // devices  # parts that fit 80 GB, as headers say
            train = dataclasses.replace(run.train, micro_batches=more)
            check_batches(dataclasses.replace(run, train=train), mesh)
    with pytest.raises(ConfigError, match="micro_batches=8 leaves 8 scenes for 16 x 1 devices"):
        check_batches(scene_stages[3], AbstractMesh((16, 8, 1), AXES))


def test_meshes_that_headers_give_the_fourth_stage_split(scene_stages):
    """`--4.mesh.seq 16`, and `--4.mesh.seq 4 --4.train.micro-batches 4`, on 64 devices."""
    objects = published("object_curriculum")[3]
    for stage, seq, parts in ((scene_stages[3], 16, 8), (objects, 4, 4)):
        mesh = dataclasses.replace(stage.mesh, seq=seq)
        train = dataclasses.replace(stage.train, micro_batches=parts)
        run = dataclasses.replace(stage, mesh=mesh, train=train)
        check_batches(run, AbstractMesh(mesh_sizes(mesh, 64), AXES))


def test_meshes_of_all_stages_are_looked_at_first(workspace, monkeypatch):
    """A mesh that a later stage cannot have is refused before the first is trained."""
    config = curriculum(workspace, "meshes")
    first, second = config.stages

    def never(*arguments, **options):
        raise AssertionError("a stage was trained")

    monkeypatch.setattr("tttlrm_jax.training.curriculum.train", never)
    monkeypatch.setattr(
        "tttlrm_jax.training.tasks.reconstruction.make_mesh",
        lambda mesh: AbstractMesh((1, mesh.seq, 1), AXES),
    )
    second = dataclasses.replace(second, mesh=dataclasses.replace(second.mesh, seq=4))
    with pytest.raises(InputError, match="input views=2 do not split over mesh axis 'seq'"):
        train_curriculum(dataclasses.replace(config, stages=(first, second)))
