"""The LVSM trains on images alone, and hands its trunk to the Gaussian model."""

import dataclasses
import functools

import jax
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from tests.fast.training.test_step import CONFIG, arrays, parts
from tttlrm_jax.checkpoints.models import export_model
from tttlrm_jax.config import LossConfig, MeshConfig, RunConfig, TrainConfig
from tttlrm_jax.core.errors import ConfigError, InputError
from tttlrm_jax.models import build_model, split_model
from tttlrm_jax.training.initial import initial_parameters, with_moments_of
from tttlrm_jax.training.objectives.batches import batch_from_arrays
from tttlrm_jax.training.objectives.view_synthesis import check_without_gaussians
from tttlrm_jax.training.tasks.mesh_program import MeshProgram
from tttlrm_jax.training.update import init_train_state, train_step

LVSM = dataclasses.replace(
    CONFIG,
    model=dataclasses.replace(CONFIG.model, kind="lvsm", output_norm="merged"),
    loss=LossConfig(opacity=0.0, depth=0.0),
    train=TrainConfig(num_steps=20, batch_size=2),
)


def test_steps_lower_the_loss_and_prediction_agrees():
    static, params = parts(LVSM)
    step = jax.jit(functools.partial(train_step, static=static))
    state, batch = init_train_state(params, LVSM), batch_from_arrays(arrays())
    state, first = step(state, batch)
    for _ in range(7):
        state, metrics = step(state, batch)
    assert float(metrics["loss"]) < float(first["loss"])
    assert metrics.keys() >= {"mse", "psnr", "num_dropped", "num_invalid", "grad_norm"}
    program = MeshProgram(static)
    rgb, scores, lost = program.evaluate(program.place_whole(state.params), arrays())
    assert lost == {"num_dropped": 0, "num_invalid": 0}
    assert rgb.shape == batch.targets.image.shape
    mse = np.mean(np.square(rgb - batch.targets.image), axis=(2, 3, 4))
    np.testing.assert_allclose(scores["psnr"], np.mean(-10 * np.log10(mse), axis=1), rtol=1e-4)


def test_the_gaussian_model_takes_all_but_the_decoder(tmp_path, caplog):
    given = flatten_dict(parts(LVSM)[1], sep="/")
    directory = export_model(LVSM, parts(LVSM)[1], tmp_path / "lvsm")
    fresh = split_model(build_model(CONFIG.model, seed=5))[1]
    own = flatten_dict(fresh, sep="/")
    ours = flatten_dict(initial_parameters(directory, fresh), sep="/")
    assert ours.keys() == own.keys()
    for name, value in ours.items():
        theirs = own if name.startswith("decoder") else given
        np.testing.assert_array_equal(value, theirs[name], err_msg=name)
    assert "another kind of decoder" in caplog.text
    with pytest.raises(InputError, match="another model"):
        with_moments_of(directory, init_train_state(fresh, CONFIG))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"loss": LossConfig(opacity=0.1, depth=0.0)}, r"loss\.opacity=0\.1 needs Gaussians"),
        ({"train": TrainConfig(keep_ratio=0.5)}, r"train\.keep_ratio=0\.5 prunes Gaussians"),
        ({"train": TrainConfig(plan="causal")}, r"train\.plan=causal is not trained"),
        ({"mesh": MeshConfig(data=2, seq=2)}, r"use mesh.data alone"),
        ({"mesh": MeshConfig(fsdp=2)}, r"use mesh.data alone"),
    ],
)
def test_what_needs_gaussians_is_refused(changes, words):
    with pytest.raises(ConfigError, match=words):
        check_without_gaussians(dataclasses.replace(LVSM, **changes))


def test_missing_vgg19_stops_the_run_or_is_said(tmp_path):
    from tttlrm_jax.training.losses.perceptual_network import with_network

    absent = str(tmp_path / "vgg19.npz")
    loss = LossConfig(perceptual=0.5, vgg19_weights=absent)
    with pytest.raises(InputError, match="does not exist"):
        with_network(RunConfig(name="x", loss=loss))
    told = RunConfig(name="x", loss=dataclasses.replace(loss, missing_vgg19="go_on"))
    config, weights, _, said = with_network(told)
    assert (config.loss.perceptual, weights) == (0.0, None)
    assert "WARNING: no weights of VGG-19" in said[0]
