"""Pose graphs: derivatives, artificial drift whose truth is known, wrong loops."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from tttlrm_jax.core.errors import InputError
from tttlrm_jax.core.geometry.pose_graph import Edges, _jacobians, optimise, residuals
from tttlrm_jax.core.geometry.sim3 import Similarities


def random_similarities(rng, count, size=1.0):
    chart = size * rng.normal(size=(count, 7))
    return Similarities.from_chart(chart * np.array([1, 1, 1, 0.5, 0.5, 0.5, 0.3]))


def edges_of(first, second, measured, deviation=0.03, robust=False):
    return Edges(
        first=np.array(first), second=np.array(second), measured=measured,
        deviation=np.full((len(first), 7), deviation), robust=np.full(len(first), robust),
    )  # fmt: skip


def circle(count):
    """A camera that goes round once and ends where it began."""
    angle = np.linspace(0, 2 * np.pi, count)
    poses = np.tile(np.eye(4), (count, 1, 1))
    poses[:, :3, :3] = Rotation.from_rotvec(angle[:, None] * [0, 0, 1.0]).as_matrix()
    poses[:, :3, 3] = np.stack([np.cos(angle), np.sin(angle), 0.2 * np.sin(3 * angle)], axis=1)
    return Similarities.of_poses(poses)


def drifting(true, rng):
    """Measured steps whose scale shrinks by 1 % a step and whose heading turns."""
    steps = true[slice(None, -1)].inverse() @ true[slice(1, None)]
    chart = 0.002 * rng.normal(size=(len(steps), 7))
    chart[:, 5] += 0.01
    chart[:, 6] -= 0.01
    measured = steps @ Similarities.from_chart(chart)
    nodes = [true[slice(0, 1)]]
    for number in range(len(measured)):
        nodes.append(nodes[-1] @ measured[slice(number, number + 1)])
    joined = Similarities(
        scale=np.concatenate([x.scale for x in nodes]),
        rotation=np.concatenate([x.rotation for x in nodes]),
        translation=np.concatenate([x.translation for x in nodes]),
    )
    count = len(measured)
    return joined, edges_of(np.arange(count), np.arange(count) + 1, measured)


def error(nodes, true):
    return np.sqrt(np.mean(np.sum((nodes.translation - true.translation) ** 2, axis=1)))


def test_derivatives_are_those_of_small_steps():
    rng = np.random.default_rng(0)
    nodes, measured = random_similarities(rng, 2), random_similarities(rng, 1)
    edges = edges_of([0], [1], measured)
    between = measured.inverse() @ (nodes[[0]].inverse() @ nodes[[1]])
    for end, jacobian in enumerate(_jacobians(between, edges)):
        for axis in range(7):
            sides = []
            for sign in (1e-6, -1e-6):
                step = np.zeros((2, 7))
                step[end, axis] = sign
                sides.append(residuals(nodes @ Similarities.from_chart(step), edges)[0])
            np.testing.assert_allclose(
                (sides[0] - sides[1]) / 2e-6, jacobian[0, :, axis], atol=1e-6
            )


def test_a_closed_loop_takes_drift_away():
    rng, true = np.random.default_rng(1), circle(60)
    nodes, steps = drifting(true, rng)
    loop = edges_of([0], [59], true[[0]].inverse() @ true[[59]], 1e-3, robust=True)
    found = optimise(nodes, steps.joined(loop))
    assert error(nodes, true) > 0.3
    assert error(found.nodes, true) < 0.2 * error(nodes, true)
    assert abs(np.log(nodes.scale[-1])) > 0.5
    assert abs(np.log(found.nodes.scale[-1])) < 0.01


def test_a_wrong_loop_is_not_believed():
    rng, true = np.random.default_rng(2), circle(60)
    nodes, steps = drifting(true, rng)
    first, second = np.arange(5), 59 - np.arange(5)
    between = true[first].inverse() @ true[second]
    right = edges_of(first, second, between, 0.03, robust=True)
    wrong = edges_of([10], [40], Similarities.from_chart(np.zeros((1, 7))), 0.03, robust=True)
    found = optimise(nodes, steps.joined(right).joined(wrong))
    assert found.weight[-1] < 0.01
    assert error(found.nodes, true) < 0.3 * error(nodes, true)


def test_without_loops_poses_stay():
    nodes, steps = drifting(circle(10), np.random.default_rng(3))
    found = optimise(nodes, steps)
    np.testing.assert_allclose(found.nodes.chart(), nodes.chart(), atol=1e-9)


def test_bad_graphs_are_named():
    nodes, steps = drifting(circle(5), np.random.default_rng(4))
    more = random_similarities(np.random.default_rng(5), 6)
    with pytest.raises(InputError, match="node=5 is tied to the first by no edge"):
        optimise(more, steps)
    with pytest.raises(InputError, match="beyond the 4 nodes"):
        optimise(nodes[slice(0, 4)], steps)
