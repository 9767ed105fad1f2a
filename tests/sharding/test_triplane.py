"""Triplanes over a mesh of scenes: loss, gradient, crops and samples equal one device's."""

import dataclasses

import pytest

from tests.fast.models.test_decoders import TRIPLANE
from tests.fast.training.test_step import arrays, parts
from tttlrm_jax.config import MeshConfig
from tttlrm_jax.training.tasks.mesh_program import MeshProgram
from tttlrm_jax.training.update import init_train_state


def test_two_scenes_on_two_devices_equal_one():
    found = []
    for devices in (1, 2):
        model = dataclasses.replace(TRIPLANE.model, num_layers=1)
        run = dataclasses.replace(TRIPLANE, mesh=MeshConfig(data=devices), model=model)
        static, params = parts(run)
        program = MeshProgram(static)
        state = program.place(init_train_state(params, run))
        _, metrics = program.step(state, program.batch(arrays(), 2, 1), None, 1)
        found.append([float(metrics[name]) for name in ("loss", "grad_norm")])
    assert found[1] == pytest.approx(found[0], rel=1e-4)
