"""Every stage of the published recipes, field by field: as published, or a difference with a
reason, or ours where the paper is silent."""

from pathlib import Path
from typing import Any

import pytest

from tttlrm_jax.apps.train import load_config_file, parse
from tttlrm_jax.config import RunConfig
from tttlrm_jax.config.run import CurriculumConfig
from tttlrm_jax.config.training import published_ratios
from tttlrm_jax.config.user_file import run_user_file

ROOT = Path(__file__).resolve().parents[3]
MAKER: Any = run_user_file(ROOT / "docs" / "make_recipes.py", "file", "the page", "restore it")
PAPER, VIEWS, DEFAULTS = MAKER.PAPER, MAKER.VIEWS, MAKER.DEFAULTS


CASES = [
    pytest.param(name, run, published, id=f"{name}-{published.name}")
    for name, stages in PAPER.STAGES.items()
    for run, published in zip(MAKER.stages_of(name), stages, strict=True)
]


@pytest.mark.parametrize(("name", "run", "published"), CASES)
def test_a_stage_is_as_published_or_says_why_not(name, run, published):
    on_purpose = MAKER.differences(name, published.name)
    for field, entry in published.fields.items():
        value, difference = MAKER.value_of(run, field), on_purpose.get(field)
        assert entry.section
        if value == entry.value:
            # what differs within equal bounds is told in words
            assert difference is None or isinstance(difference.ours, str), field
            continue
        assert difference is not None, f"{field}={value}, published {entry.value}"
        assert difference.reason
        assert difference.published == entry.value, field
        assert isinstance(difference.ours, str) or difference.ours == value, field


@pytest.mark.parametrize(("name", "run", "published"), CASES)
def test_what_the_paper_does_not_say_is_named(name, run, published):
    """Whatever is neither published nor a default stands in the list of what is ours."""
    for field in MAKER.silent_fields(run, published):
        assert PAPER.OURS.get(field), f"{name}: {field}={MAKER.value_of(run, field)}"


@pytest.mark.parametrize("name", PAPER.STAGES)
def test_differences_name_stages_and_fields_that_are_there(name):
    stages = {stage.name for stage in PAPER.STAGES[name]}
    for difference in PAPER.DIFFERENCES[name]:
        assert difference.stage in stages | {"*"}
        assert difference.field in DEFAULTS.keys() | {VIEWS}


def test_views_of_a_step_are_multiples_of_the_devices_of_a_scene():
    for stage in MAKER.stages_of("scene_curriculum"):
        counts = stage.train.view_counts
        assert len(counts) == len(set(counts))
        assert all(count % 8 == 0 for count in counts)
        for count in counts:
            assert stage.with_input_views(count).pruning_ratios() == published_ratios(count)


@pytest.mark.parametrize("name", ["scene_curriculum", "object_curriculum"])
def test_the_first_stage_is_an_lvsm_with_the_trunk_of_the_second(name):
    config = load_config_file(MAKER.file_of(name))
    alone = load_config_file(f"{MAKER.file_of(name)}:pretraining=False")
    assert isinstance(config, CurriculumConfig)
    assert isinstance(alone, CurriculumConfig)
    first, second, *_ = config.stages
    assert isinstance(first, RunConfig)
    assert isinstance(second, RunConfig)
    assert alone.stages == config.stages[1:]
    assert (first.name, first.model.kind, second.model.kind) == (
        PAPER.PRETRAINING, "lvsm", "tttlrm",
    )  # fmt: skip
    assert first.model.merges_output_norm
    assert first.data == second.data
    for field in ("d_model", "num_layers", "patch_size", "num_ttt_heads", "ttt_inner_factor"):
        assert getattr(first.model, field) == getattr(second.model, field)


@pytest.mark.parametrize("name", ["scene_causal", "scene_128_views"])
def test_runs_beside_the_curriculum_start_from_its_mixed_stage(name):
    (run,) = MAKER.stages_of(name)
    curriculum = load_config_file(MAKER.file_of("scene_curriculum"))
    assert isinstance(curriculum, CurriculumConfig)
    names = [f"{number}_{stage.name}" for number, stage in enumerate(curriculum.stages, start=1)]
    assert run.train.init_from == f"runs/{curriculum.name}/{names[4]}"
    assert names[4].endswith("mixed_views")


def test_help_of_a_configuration_says_what_differs(capsys):
    with pytest.raises(SystemExit):
        parse([str(MAKER.file_of("scene_causal")), "--help"])
    said = capsys.readouterr().out
    for difference in PAPER.DIFFERENCES["scene_causal"]:
        assert str(difference) in said
    assert "train.plan is causal, published sequential: no Gaussian depends on" in said


def test_the_page_is_made_from_the_data():
    assert MAKER.PAGE.read_text() == MAKER.page(), "run python docs/make_recipes.py"
