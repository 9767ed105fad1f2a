"""Meshes, solids and the rasterizer of procedural scenes, against volumes, formulas and rays."""

import numpy as np
import pytest

from tttlrm_jax.procedural.surfaces.solids import SOLIDS, Placed, random_heights, tubes
from tttlrm_jax.procedural.surfaces.triangle_raster import rasterize
from tttlrm_jax.procedural.surfaces.triangles import clip, cut, join, subdivide

LINEAR = np.diag([0.9, 0.7, 0.5])
CENTRE = np.array([0.1, -0.2, 0.3])
VOLUMES = {
    "sphere": 4 / 3 * np.pi, "box": 8.0, "cylinder": 2 * np.pi, "cone": 2 / 3 * np.pi,
    "torus": 2 * np.pi**2 * 0.7 * 0.3**2,
}  # fmt: skip


def corners_of(surface):
    return surface.vertices[surface.triangles].astype(np.float64)


def volume(surface):
    """Signed by orientation; of the origin's pyramids over all triangles."""
    a, b, c = corners_of(surface).transpose(1, 0, 2)
    return float((a * np.cross(b, c)).sum() / 6)


def placed(kind, swollen):
    heights = random_heights(np.random.default_rng(1), 0.6) if swollen else None
    return Placed(kind, LINEAR, CENTRE, heights)


@pytest.mark.parametrize("kind", SOLIDS)
def test_volume_of_a_solid(kind):
    expected = VOLUMES[kind] * np.linalg.det(LINEAR)
    assert volume(placed(kind, False).surface(24)) == pytest.approx(expected, rel=0.01)


@pytest.mark.parametrize("swollen", [False, True])
@pytest.mark.parametrize("kind", SOLIDS)
def test_surface_is_where_the_level_is_zero_and_normals_point_out(kind, swollen):
    solid = placed(kind, swollen)
    surface = solid.surface(12)
    assert np.abs(solid.level(surface.vertices.T.astype(np.float64))).max() < 1e-5
    a, b, c = corners_of(surface).transpose(1, 0, 2)
    facing = np.cross(b - a, c - a)
    assert ((facing * surface.normals[surface.triangles].mean(axis=1)).sum(axis=1) > -1e-9).all()
    away = solid.level((surface.vertices + 0.02 * surface.normals).T.astype(np.float64))
    assert (away > 0).mean() > 0.95
    np.testing.assert_allclose(np.linalg.norm(surface.normals, axis=1), 1.0, atol=1e-4)


def test_a_cut_box_loses_the_volume_of_the_tool():
    box = Placed("box", 0.5 * np.eye(3), np.zeros(3))
    ball = Placed("sphere", 0.3 * np.eye(3), np.array([0.5, 0.1, 0.0]))
    outer = cut(box.surface(12), ball.level)
    inner = cut(ball.surface(12), lambda point: -box.level(point)).flipped()
    whole = 1.0 - 0.5 * 4 / 3 * np.pi * 0.3**3
    assert volume(join([outer, inner])) == pytest.approx(whole, rel=2e-3)
    assert box.level(inner.vertices[inner.triangles.ravel()].T.astype(np.float64)).max() < 1e-3


def test_clipping_keeps_area_and_side():
    rng = np.random.default_rng(0)
    corners = rng.normal(size=(200, 3, 5))
    values = corners[..., 0] + 0.3

    def area(triangles):
        a, b, c = triangles[..., :3].transpose(1, 0, 2)
        return np.linalg.norm(np.cross(b - a, c - a), axis=1)

    above, source = clip(corners, values)
    below, other = clip(corners, -values)
    assert above[..., 0].min() > -0.3 - 1e-9
    total = np.bincount(source, area(above), 200) + np.bincount(other, area(below), 200)
    np.testing.assert_allclose(total, area(corners), rtol=1e-9)
    np.testing.assert_allclose(area(subdivide(corners)).sum(), area(corners).sum())


def test_tubes_are_closed():
    surface = tubes(np.array([[[0.0, 0, 0], [0, 0, 2]], [[1.0, 1, 0], [1, 1, 0]]]), 0.1)
    hexagon = 1.5 * np.sqrt(3) * 0.1**2
    assert volume(surface) == pytest.approx(hexagon * (2 + 2 * 0.1 / 3), rel=1e-5)


def test_rasterizer_equals_a_test_of_every_sample():
    """Random triangles against barycentric coordinates at every sample."""
    rng = np.random.default_rng(3)
    height, width = 23, 31
    corners = rng.uniform(-8, 38, (40, 3, 3))
    corners[..., 2] = rng.uniform(0.2, 1.0, (40, 3))
    hits = rasterize(corners, height, width)
    x, y = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    best, owner = np.full((height, width), -np.inf), np.full((height, width), -1)
    for number, three in enumerate(corners):
        matrix = np.vstack([three[:, :2].T, np.ones(3)])
        share = np.linalg.solve(matrix, np.stack([x.ravel(), y.ravel(), np.ones(x.size)]))
        value = (share * three[:, 2:]).sum(axis=0).reshape(height, width)
        closer = (share > 0).all(axis=0).reshape(height, width) & (value > best)
        best[closer], owner[closer] = value[closer], number
    np.testing.assert_array_equal(hits.triangle, owner)
    np.testing.assert_allclose(hits.nearness, best, rtol=1e-5)


def test_rasterizer_has_no_gaps_between_triangles():
    """A fan around a point that is itself a sample covers each sample once."""
    angle = np.linspace(0, 2 * np.pi, 38)
    rim = np.stack([16.5 + 60 * np.cos(angle), 16.5 + 60 * np.sin(angle), np.ones(38)], axis=-1)
    middle = np.broadcast_to([16.5, 16.5, 1.0], rim.shape)
    fan = np.stack([middle[:-1], rim[:-1], rim[1:]], axis=1)
    assert (rasterize(fan, 33, 33).triangle >= 0).all()
    alone = [rasterize(fan[k : k + 1], 33, 33).triangle >= 0 for k in range(37)]
    np.testing.assert_array_equal(np.sum(alone, axis=0), 1)
