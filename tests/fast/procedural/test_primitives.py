import numpy as np
import pytest

from tttlrm_jax.procedural.primitives import PRIMITIVES, TORUS_RADIUS, TORUS_TUBE

SURFACE = 2e-3  # float32 rays, and sphere tracing that stops at grazing rays


def implicit(kind, p):
    """Signed function of each primitive, zero on its surface, positive outside."""
    x, y, z = p
    radius = np.hypot(x, y)
    return {
        "sphere": np.sqrt(x**2 + y**2 + z**2) - 1,
        "box": np.abs(p).max(axis=0) - 1,
        "cylinder": np.maximum(radius, np.abs(z)) - 1,
        "cone": np.maximum(radius - 0.5 * (1 - z), -1 - z),
        "torus": np.hypot(radius - TORUS_RADIUS, z) - TORUS_TUBE,
    }[kind]


def random_rays(count=4000, seed=0):
    rng = np.random.default_rng(seed)
    origin = np.array([2.1, -1.4, 1.7])
    target = rng.uniform(-1.3, 1.3, (3, count))
    direction = (target - origin[:, None]) * rng.uniform(0.2, 3.0, count)
    return origin[:, None].astype(np.float32), direction.astype(np.float32)


def marched(kind, origin, direction, steps=6000):
    """First sign change along each ray, found by brute force."""
    out = np.full(direction.shape[1], np.inf)
    length = np.linalg.norm(direction, axis=0)
    for distance in np.linspace(0.5, 6.0, steps):
        t = distance / length
        inside = implicit(kind, origin + t * direction) < 0
        out = np.where(inside & np.isinf(out), t, out)
    return out


@pytest.mark.parametrize("kind", PRIMITIVES)
def test_hits_lie_on_the_surface_and_normals_point_outwards(kind):
    origin, direction = random_rays()
    with np.errstate(all="ignore"):
        t = PRIMITIVES[kind].intersect(origin, direction)
    hit = np.isfinite(t)
    assert 0.1 < hit.mean() < 0.98
    point = origin + t[hit] * direction[:, hit]
    assert np.abs(implicit(kind, point)).max() < SURFACE
    normal = PRIMITIVES[kind].normal(point).astype(np.float64)
    normal /= np.linalg.norm(normal, axis=0)
    step = 0.01
    outwards = implicit(kind, point + step * normal) - implicit(kind, point - step * normal)
    assert (outwards > 0.5 * step).mean() > 0.999
    facing = np.sum(normal * direction[:, hit], axis=0) / np.linalg.norm(direction[:, hit], axis=0)
    assert (facing < 0.05).mean() > 0.999


@pytest.mark.parametrize("kind", PRIMITIVES)
def test_first_hit_is_the_one_brute_force_finds(kind):
    origin, direction = random_rays(400, seed=1)
    with np.errstate(all="ignore"):
        t = PRIMITIVES[kind].intersect(origin, direction)
    expected = marched(kind, origin, direction)
    length = np.linalg.norm(direction, axis=0)
    agree = np.isfinite(t) == np.isfinite(expected)
    assert agree.mean() > 0.985  # rays that graze an edge are between the steps of the march
    both = np.isfinite(t) & np.isfinite(expected)
    assert np.quantile(np.abs(t[both] - expected[both]) * length[both], 0.98) < 3e-3


@pytest.mark.parametrize("kind", PRIMITIVES)
def test_nothing_behind_the_origin_is_hit(kind):
    origin, direction = random_rays(500)
    with np.errstate(all="ignore"):
        assert np.isinf(PRIMITIVES[kind].intersect(origin, -direction)).all()
