"""Runs know the network of their perceptual loss by content, and do not go on with another."""

import dataclasses

import jax.numpy as jnp
import pytest

from tttlrm_jax.checkpoints.directories import CHECKPOINTS, PARAMS
from tttlrm_jax.config import LossConfig, RunConfig
from tttlrm_jax.core.errors import ConfigError, InputError
from tttlrm_jax.training.losses import perceptual_network
from tttlrm_jax.training.losses.perceptual_network import (
    NETWORK_FILE,
    NOTHING,
    check_same_network,
    record_network,
    recorded_network,
    with_network,
)
from tttlrm_jax.training.run_directory import changes_since, write_run_directory
from tttlrm_jax.training.trainer import train


@pytest.fixture
def files(tmp_path, monkeypatch):
    """Two files of networks that are read as one number each."""
    monkeypatch.setattr(
        perceptual_network, "load_vgg", lambda given: (jnp.zeros(1), f"the network in {given}")
    )
    paths = tmp_path / "one.npz", tmp_path / "other.npz"
    for path in paths:
        path.write_bytes(path.name.encode())
    return paths


def looking_through(tmp_path, file, **loss) -> RunConfig:
    weights = None if file is None else str(file)
    run = RunConfig(name="run", loss=LossConfig(perceptual=0.5, vgg19_weights=weights, **loss))
    return dataclasses.replace(
        run, train=dataclasses.replace(run.train, directory=str(tmp_path / "runs"))
    )


def begun(tmp_path, config: RunConfig):
    """Directory of a run with this configuration that has a checkpoint."""
    directory = tmp_path / "runs" / "run"
    write_run_directory(directory, config)
    record_network(directory, with_network(config)[2])
    (directory / CHECKPOINTS / "2" / PARAMS).mkdir(parents=True)
    return directory


def test_a_run_does_not_go_on_with_another_network(tmp_path, files):
    """`train` itself refuses, before it builds a model or reads data."""
    config = looking_through(tmp_path, files[0])
    directory = begun(tmp_path, config)
    check_same_network(directory, config.loss, with_network(config)[2])
    files[0].write_bytes(b"changed")
    with pytest.raises(ConfigError, match=r"loss\.vgg19_weights=.*one\.npz gives .* was started"):
        train(config)


def test_a_run_does_not_go_on_without_its_network(tmp_path, files):
    config = looking_through(tmp_path, files[0], missing_vgg19="go_on")
    begun(tmp_path, config)
    files[0].unlink()
    with pytest.raises(ConfigError, match=r"gives no network, .* the file of that network"):
        train(config)


def test_a_run_that_began_without_goes_on_without(tmp_path, files):
    """A network that has turned up since is refused; told to, the run does without it."""
    files[0].rename(tmp_path / "hidden")
    config = looking_through(tmp_path, files[0], missing_vgg19="go_on")
    directory = begun(tmp_path, config)
    assert recorded_network(directory) == NOTHING
    check_same_network(directory, config.loss, with_network(config)[2])
    (tmp_path / "hidden").rename(files[0])
    with pytest.raises(ConfigError, match="name None, to go on without"):
        train(config)
    told = looking_through(tmp_path, None, missing_vgg19="go_on")
    (said,) = changes_since(directory, told)
    assert said.startswith("loss.vgg19_weights was")
    check_same_network(directory, told.loss, with_network(told)[2])


def test_the_file_may_be_moved(tmp_path, files):
    directory = begun(tmp_path, looking_through(tmp_path, files[0]))
    with pytest.raises(ConfigError, match=r"other settings: loss\.vgg19_weights="):
        changes_since(directory, looking_through(tmp_path, files[1]))
    moved = files[0].rename(tmp_path / "moved.npz")
    config = looking_through(tmp_path, moved)
    assert changes_since(directory, config) == [
        f"loss.vgg19_weights was {files[0]}, is now {moved}"
    ]
    check_same_network(directory, config.loss, with_network(config)[2])


def test_runs_without_a_record_are_not_bound(tmp_path, files):
    """Runs from before the record, and runs without the term, which need no weights at all."""
    config = looking_through(tmp_path, files[0])
    directory = begun(tmp_path, config)
    (directory / NETWORK_FILE).unlink()
    check_same_network(directory, config.loss, with_network(config)[2])
    loss = dataclasses.replace(config.loss, perceptual=0.0, vgg19_weights=str(tmp_path / "none"))
    plain = dataclasses.replace(config, loss=loss)
    assert with_network(plain) == (plain, None, None, [])
    record_network(directory, None)
    assert not (directory / NETWORK_FILE).exists()


def test_a_damaged_record_is_named(tmp_path, files):
    directory = begun(tmp_path, looking_through(tmp_path, files[0]))
    (directory / NETWORK_FILE).write_text("{")
    with pytest.raises(InputError, match=r"perceptual\.json cannot be read"):
        recorded_network(directory)
