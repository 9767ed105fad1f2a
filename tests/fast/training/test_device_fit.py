"""Runs for more devices than there are: the error names a command line that fits."""

import re
import shlex
from pathlib import Path

import pytest

from tttlrm_jax.apps import train as command
from tttlrm_jax.apps.train import main, parse
from tttlrm_jax.config.run import CurriculumConfig
from tttlrm_jax.training.device_fit import check_fits
from tttlrm_jax.training.trainer import RunResult

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize(
    "arguments",
    [
        ["configs/scene_curriculum.py"],
        pytest.param(
            ["configs/object_curriculum.py", "--name", "a b", "--train.micro-batches", "8"],
            marks=pytest.mark.extended,
        ),
        ["configs/presets/scene_960x536.py:views=16,devices=16", "--mesh.fsdp", "2"],
    ],
    ids=["scenes", "objects", "preset"],
)
def test_the_command_that_is_named_passes_the_checks(monkeypatch, capsys, tmp_path, arguments):
    """On one device, where the stages as they stand do not."""
    arguments = [str(ROOT / arguments[0]), *arguments[1:], "--train.directory", str(tmp_path)]

    def checked(config, stop):
        stages = config.stages if isinstance(config, CurriculumConfig) else (config,)
        check_fits(stages)

    monkeypatch.setattr(command, "train", checked)
    monkeypatch.setattr(command, "train_curriculum", checked)
    assert main([*arguments, "--no-compile-cache"]) == 2
    said = capsys.readouterr().err
    assert len(said.splitlines()) == 1
    found = re.search(r"on the 1 device here, if memory suffices: python train\.py (.*)$", said)
    assert found is not None, said
    given = shlex.split(found[1])
    assert given[: len(arguments)] == arguments
    config = parse(given)
    stages = config.stages if isinstance(config, CurriculumConfig) else (config,)
    check_fits(stages)
    assert {stage.train.batch_size // stage.train.micro_batches for stage in stages} == {1}


@pytest.mark.parametrize(("given", "kept"), [([], True), (["--no-compile-cache"], False)])
def test_programs_are_kept_unless_told_not_to(monkeypatch, given, kept):
    asked = []
    monkeypatch.setattr(command, "keep_programs", lambda: asked.append(True))

    ended = RunResult(1, None, True, None, ROOT)
    monkeypatch.setattr(command, "train", lambda config, stop: ended)
    assert main([str(ROOT / "configs" / "smoke.py"), *given]) == 0
    assert bool(asked) == kept
