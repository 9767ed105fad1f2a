"""How near a mesh comes to a true surface: distances both ways, F-score, normals."""

import dataclasses

import numpy as np

from tttlrm_jax.metrics.point_clouds import compare_clouds, f_score

SAMPLES = 100_000


@dataclasses.dataclass(frozen=True, kw_only=True)
class SurfaceScores:
    """Lengths in the units of the true surface."""

    accuracy: float  # mean distance from the mesh to the true surface
    completion: float  # and from that to the mesh
    chamfer: float  # mean of both
    f_score: float  # at `within`
    normal_consistency: float  # mean |cosine| of normals of nearest points, over both ways
    within: float


def sample_surface(
    vertices: np.ndarray, faces: np.ndarray, count: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Points float64 [count, 3] evenly over the area of triangles, and their unit normals."""
    a, b, c = (np.asarray(vertices, np.float64)[faces[:, i]] for i in range(3))
    normal = np.cross(b - a, c - a)
    area = np.linalg.norm(normal, axis=1)
    chosen = rng.choice(len(faces), count, p=area / area.sum())
    u, v = rng.random((2, count, 1))
    u, v = np.where(u + v > 1, 1 - u, u), np.where(u + v > 1, 1 - v, v)
    a, b, c = a[chosen], b[chosen], c[chosen]
    points = a + u * (b - a) + v * (c - a)
    return points, normal[chosen] / area[chosen, None]


def surface_scores(
    points: np.ndarray,
    normals: np.ndarray,
    true_points: np.ndarray,
    true_normals: np.ndarray,
    within: float,
) -> SurfaceScores:
    """Scores of samples [point, 3] of a mesh against those of the true surface."""
    errors = compare_clouds(points, normals, true_points, true_normals)
    return SurfaceScores(
        accuracy=errors.accuracy.mean,
        completion=errors.completion.mean,
        chamfer=errors.chamfer,
        f_score=f_score(points, true_points, within),
        normal_consistency=errors.normal_consistency,
        within=within,
    )
