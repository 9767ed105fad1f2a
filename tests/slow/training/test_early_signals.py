"""SIGTERM between the start of a run and its next step: nothing is lost, the next call resumes."""

import dataclasses
import multiprocessing
import signal
from pathlib import Path

import pytest

from tttlrm_jax.apps.train import load_config_file
from tttlrm_jax.checkpoints.directories import newest_step
from tttlrm_jax.checkpoints.runs import RunCheckpoints
from tttlrm_jax.config import RunConfig
from tttlrm_jax.config.run import CurriculumConfig
from tttlrm_jax.datasets import synthetic_cache
from tttlrm_jax.training import trainer
from tttlrm_jax.training.curriculum import placed_stages, train_curriculum
from tttlrm_jax.training.run_directory import run_directory
from tttlrm_jax.training.tasks import reconstruction
from tttlrm_jax.training.trainer import train

TINY = Path(__file__).resolve().parents[2] / "runs" / "tiny_run.py"
# what is at work when the signal comes, and what must not follow
PREPARATIONS = {
    "model": (reconstruction, "fresh_state", (reconstruction, "make_loader")),
    "scenes": (reconstruction, "make_loader", (reconstruction, "evaluation_loader")),
    "held-out scenes": (reconstruction, "evaluation_loader", (trainer, "write_run_directory")),
    "restoring": (RunCheckpoints, "restore_newest", (reconstruction, "view_count_at")),
}


@pytest.fixture
def config(tmp_path) -> RunConfig:
    config = load_config_file(TINY)
    assert isinstance(config, RunConfig)
    return dataclasses.replace(
        config,
        data=dataclasses.replace(config.data, cache_directory=str(tmp_path / "cache")),
        train=dataclasses.replace(
            config.train, num_steps=2, eval_every=2, directory=str(tmp_path / "runs")
        ),
    )


def signal_amid(monkeypatch, owner, name: str) -> list[str]:
    """SIGTERM at the beginning of a function; returns the list that notes its end."""
    original, ended = getattr(owner, name), []

    def signalled(*arguments, **named):
        signal.raise_signal(signal.SIGTERM)
        result = original(*arguments, **named)
        ended.append(name)
        return result

    monkeypatch.setattr(owner, name, signalled)
    return ended


def assert_stops_amid(config: RunConfig, preparation: str, step: int) -> None:
    owner, name, (following, forbidden) = PREPARATIONS[preparation]
    with pytest.MonkeyPatch.context() as monkeypatch:
        signal_amid(monkeypatch, owner, name)
        monkeypatch.setattr(following, forbidden, lambda *_, **__: pytest.fail(f"{forbidden} ran"))
        result = train(config)
    assert (result.signal, result.finished, result.step) == (signal.SIGTERM, False, step)
    assert (newest_step(result.directory) or 0) == step


@pytest.mark.timeout(1200)
def test_a_signal_amid_any_preparation_loses_nothing(config):
    """Before the first checkpoint and after it."""
    for preparation in PREPARATIONS:
        assert_stops_amid(config, preparation, step=0)
    assert not train(config, stop_at=1).finished
    for preparation in PREPARATIONS:
        assert_stops_amid(config, preparation, step=1)
    result = train(config)
    assert (result.finished, result.step) == (True, 2)


@pytest.mark.parametrize("workers", [1, 2])
def test_rendering_is_cut_short(config, monkeypatch, workers):
    """Workers would render the rest of their shards, which take minutes where they are large."""
    scenes = dataclasses.replace(config.data.synthetic, num_scenes=10**4, height=64, width=64)
    data = dataclasses.replace(config.data, synthetic=scenes, render_workers=workers)
    if workers == 1:
        ended = signal_amid(monkeypatch, synthetic_cache, "render_scene")
    else:
        ended = signal_amid(monkeypatch, synthetic_cache.concurrent.futures, "as_completed")
    result = train(dataclasses.replace(config, data=data))
    assert (result.signal, result.finished, ended) == (signal.SIGTERM, False, [])
    for worker in multiprocessing.active_children():
        worker.join(timeout=20)
        assert not worker.is_alive()


def test_a_signal_between_stages_is_not_lost(config, monkeypatch):
    """The first stage has saved its end, the second opens no data."""
    original = reconstruction.make_loader
    opened = []

    def described(stage):
        if opened:
            signal.raise_signal(signal.SIGTERM)
        return stage.name

    def make_loader(*arguments, **named):
        opened.append("data")
        return original(*arguments, **named)

    monkeypatch.setattr(reconstruction.ReconstructionTask, "described", staticmethod(described))
    monkeypatch.setattr(reconstruction, "make_loader", make_loader)
    two = CurriculumConfig(name="two", stages=(config, config))
    first, second = map(run_directory, placed_stages(two))
    result = train_curriculum(two)
    assert (result.signal, result.finished, result.step) == (signal.SIGTERM, False, 0)
    assert (result.directory, opened) == (second, ["data"])
    assert (newest_step(first), newest_step(second)) == (config.train.num_steps, None)
