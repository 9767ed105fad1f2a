"""Sim(3) pose graphs: poses that agree best with measured relative poses (Strasdat et al. 2010).

Node i is `world_from_i`, a similarity whose scale takes lengths of i's own units to the world's. An
edge measures `first_from_second`. Its residual is the chart of

    E = first_from_second^-1 (world_from_first^-1 world_from_second)

divided by the edge's deviations; the sum of robust squares is minimised by Levenberg-Marquardt
on sparse normal equations, and Cauchy's weight w^2 / (w^2 + r^2) takes away from edges that
disagree. Drift may leave a right loop far off at first, so the width w starts beyond the largest
residual and is halved down to 1 (graduated non-convexity, Yang et al. 2020). The first node stays.
"""

import dataclasses

import numpy as np
from scipy.sparse import coo_matrix, diags
from scipy.sparse.csgraph import connected_components
from scipy.sparse.linalg import splu
from scipy.spatial.transform import Rotation

from tttlrm_jax.core.errors import InputError
from tttlrm_jax.core.geometry.sim3 import SIZE, Similarities

STEPS = 50
STOP = 1e-6  # relative change of the cost
FIRST_DAMPING, LARGEST_DAMPING = 1e-6, 1e8
SMALL_ANGLE = 1e-6


@dataclasses.dataclass(frozen=True, kw_only=True)
class Edges:
    """Measurements `first_from_second` between nodes."""

    first: np.ndarray  # [edge] numbers of nodes
    second: np.ndarray  # [edge]
    measured: Similarities
    deviation: np.ndarray  # [edge, 7] standard deviations of the chart's coordinates, above 0
    robust: np.ndarray  # [edge] bool: may be wrong, so a large residual counts less

    def joined(self, other: "Edges") -> "Edges":
        """Both."""
        both = {
            name: np.concatenate([getattr(self, name), getattr(other, name)])
            for name in ("first", "second", "deviation", "robust")
        }
        return Edges(measured=Similarities.joined([self.measured, other.measured]), **both)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Optimised:
    """What `optimise` found."""

    nodes: Similarities
    cost: tuple[float, float]  # before and after
    steps: int
    weight: np.ndarray  # [edge] 0 to 1: how far each robust edge is believed, 1 of others


def optimise(nodes: Similarities, edges: Edges) -> Optimised:
    """The nodes that agree best with the edges, from the given ones on.

    Raises InputError for edges of nodes that do not exist, for values that are not finite, and for
    nodes that no edges tie to the first.
    """
    _check(nodes, edges)
    before, parts = _evaluated(nodes, edges, 1.0)
    far = np.linalg.norm(parts[2][edges.robust], axis=1)
    width, steps = max(1.0, float(far.max(initial=0.0))), 0
    while True:
        nodes, cost, weight, taken = _at_width(nodes, edges, width)
        steps += taken
        if width <= 1.0:
            return Optimised(nodes=nodes, cost=(before, cost), steps=steps, weight=weight)
        width = max(1.0, width / 2)


def _at_width(nodes: Similarities, edges: Edges, width: float):
    """Levenberg-Marquardt with one width of the robust kernel."""
    cost, parts = _evaluated(nodes, edges, width)
    damping, taken = FIRST_DAMPING, 0
    while taken < STEPS:
        taken += 1
        gradient, normal = _normal_equations(parts, edges, len(nodes))
        moved = cost
        while damping < LARGEST_DAMPING:
            system = (normal + damping * diags(normal.diagonal())).tocsc()
            change = np.concatenate([np.zeros(SIZE), splu(system).solve(-gradient)])
            tried = nodes @ Similarities.from_chart(change.reshape(-1, SIZE))
            moved, moved_parts = _evaluated(tried, edges, width)
            if moved < cost:
                nodes, parts, damping = tried, moved_parts, max(damping / 10, 1e-12)
                break
            damping *= 10
        small = cost - moved <= STOP * cost
        cost = min(cost, moved)
        if small or damping >= LARGEST_DAMPING:
            break
    return nodes, cost, parts[1], taken


def residuals(nodes: Similarities, edges: Edges) -> np.ndarray:
    """Charts [edge, 7] of what the nodes and the measurements disagree about."""
    return _error(nodes, edges).chart()


def _error(nodes: Similarities, edges: Edges) -> Similarities:
    between = nodes[edges.first].inverse() @ nodes[edges.second]
    return edges.measured.inverse() @ between


def _evaluated(nodes: Similarities, edges: Edges, width: float):
    """The cost; errors, weights of edges and residuals over deviations."""
    error = _error(nodes, edges)
    whitened = error.chart() / edges.deviation
    square = np.sum(whitened**2, axis=1)
    cost = float(np.sum(np.where(edges.robust, width**2 * np.log1p(square / width**2), square)))
    weight = np.where(edges.robust, 1 / (1 + square / width**2), 1.0)
    return cost, (error, weight, whitened)


def _normal_equations(parts, edges: Edges, count: int):
    """Gradient and matrix of all nodes but the first."""
    error, weight, whitened = parts
    of_first, of_second = _jacobians(error, edges)
    root = np.sqrt(weight)[:, None]
    scaled = root / edges.deviation
    number = np.arange(len(weight) * SIZE).reshape(-1, SIZE, 1)
    rows, columns, values = [], [], []
    for node, jacobian in ((edges.first, of_first), (edges.second, of_second)):
        place = node[:, None, None] * SIZE + np.arange(SIZE)
        rows.append(np.broadcast_to(number, jacobian.shape).ravel())
        columns.append(np.broadcast_to(place, jacobian.shape).ravel())
        values.append((scaled[:, :, None] * jacobian).ravel())
    shape = (len(weight) * SIZE, count * SIZE)
    entries = np.concatenate(values), (np.concatenate(rows), np.concatenate(columns))
    matrix = coo_matrix(entries, shape=shape).tocsc()[:, SIZE:]
    return matrix.T @ (root * whitened).ravel(), (matrix.T @ matrix).tocsc()


def _jacobians(error: Similarities, edges: Edges) -> tuple[np.ndarray, np.ndarray]:
    """Derivatives [edge, 7, 7] of the residual's chart by a step of either node from the right."""
    turn = Rotation.from_matrix(error.rotation).as_rotvec()
    left, right = _inverse_jacobian(turn), _inverse_jacobian(-turn)
    second = np.zeros((len(error), SIZE, SIZE))
    second[:, :3, :3] = error.scale[:, None, None] * error.rotation
    second[:, 3:6, 3:6] = right
    second[:, 6, 6] = 1.0
    # a step of the first node comes from the left, through the measurement
    back = np.swapaxes(edges.measured.rotation, 1, 2)
    shrunk = back / edges.measured.scale[:, None, None]
    place = edges.measured.translation
    first = np.zeros_like(second)
    first[:, :3, :3] = -shrunk
    first[:, :3, 3:6] = shrunk @ _cross(place) + _cross(error.translation) @ back
    first[:, :3, 6] = -np.einsum("nij,nj->ni", shrunk, place) - error.translation
    first[:, 3:6, 3:6] = -left @ back
    first[:, 6, 6] = -1.0
    return first, second


def _inverse_jacobian(turn: np.ndarray) -> np.ndarray:
    """Inverse left Jacobian [edge, 3, 3] of SO(3) at rotation vectors [edge, 3]."""
    angle = np.linalg.norm(turn, axis=1)
    small = angle < SMALL_ANGLE
    safe = np.where(small, 1.0, angle)
    factor = np.where(small, 1 / 12, 1 / safe**2 - 0.5 / (safe * np.tan(0.5 * safe)))
    crossed = _cross(turn)
    return np.eye(3) - 0.5 * crossed + factor[:, None, None] * (crossed @ crossed)


def _cross(vectors: np.ndarray) -> np.ndarray:
    """Matrices [vector, 3, 3] that cross with vectors [vector, 3] from the left."""
    x, y, z = vectors.T
    zero = np.zeros_like(x)
    return np.stack([zero, -z, y, z, zero, -x, -y, x, zero], axis=1).reshape(-1, 3, 3)


def _check(nodes: Similarities, edges: Edges) -> None:
    ends = np.concatenate([edges.first, edges.second])
    if len(ends) and (ends.min() < 0 or ends.max() >= len(nodes)):
        raise InputError.of(
            "pose graph edge", int(ends.max()), f"is beyond the {len(nodes)} nodes", "correct it"
        )
    for name, values in (("node", nodes.chart()), ("edge", edges.measured.chart())):
        if not np.isfinite(values).all():
            raise InputError.of(
                f"pose graph {name}", "NaN or infinity", "has no residual", "leave it out"
            )
    ones = np.ones(len(edges.first))
    graph = coo_matrix((ones, (edges.first, edges.second)), shape=(len(nodes), len(nodes)))
    label = connected_components(graph, directed=False)[1]
    reached = label == label[0]
    if not reached.all():
        raise InputError.of(
            "pose graph node", int(np.flatnonzero(~reached)[0]), "is tied to the first by no edge",
            "leave it out",
        )  # fmt: skip
