"""Depth views to surfaces: nearness to the truth, closedness, colours, seams, limits."""

import dataclasses
import sys

import numpy as np
import pytest

from tests.fast.mesh import balls
from tttlrm_jax.config.surfaces import SurfaceConfig
from tttlrm_jax.core.errors import InputError
from tttlrm_jax.mesh import SurfaceMesh, mesh_of_views
from tttlrm_jax.mesh.extraction import Values, extract
from tttlrm_jax.mesh.fusion import Field
from tttlrm_jax.mesh.grid import BLOCK, POINTS, BlockGrid

trimesh = pytest.importorskip("trimesh")
pytest.importorskip("fast_simplification")


@pytest.mark.parametrize(
    ("centre", "radii", "resolution"),
    [
        ((0, 0, 0), (1, 1, 1), 24),
        ((0, 0, 0), (1, 1, 1), 40),
        ((1e3, -2e3, 50), (0.02, 0.02, 0.02), 32),
        ((5, 6, -7), (30, 20, 12), 40),
    ],
)
def test_exact_depth_gives_the_surface_within_a_voxel(centre, radii, resolution):
    radii = np.array(radii, float)
    mesh = mesh_of_views(balls.ball_views(centre, radii), SurfaceConfig(resolution=resolution))
    assert mesh.voxel == pytest.approx(2 * radii.max() / resolution, rel=0.05)
    distance = balls.ellipsoid_distance(mesh.vertices, centre, radii)
    assert distance.max() < mesh.voxel
    assert distance.mean() < 0.1 * mesh.voxel
    assert mesh.is_watertight
    other = mesh.as_trimesh()
    assert other.is_watertight
    assert other.is_winding_consistent
    assert other.volume == pytest.approx(4 / 3 * np.pi * radii.prod(), rel=0.05)  # outward
    colours = balls.normal_colours(mesh.vertices, centre, radii)
    assert np.abs(mesh.colours - colours).mean() < 6


def test_simplified_is_still_closed():
    config = SurfaceConfig(resolution=32, watertight=True, faces=1000)
    few = mesh_of_views(balls.ball_views(), config)
    assert len(few.faces) <= 1000
    assert few.is_watertight
    assert few.colours.shape == few.vertices.shape
    distance = balls.ellipsoid_distance(few.vertices, (0, 0, 0), (1, 1, 1))
    assert np.quantile(distance, 0.98) < few.voxel


def test_unseen_is_open_and_closed_on_request():
    views = balls.ball_views(above=True)
    config = SurfaceConfig(resolution=32)
    seen = mesh_of_views(views, config)
    assert not seen.is_watertight
    assert seen.vertices[:, 2].min() > -0.9  # the lowest point of the ball is hidden
    assert balls.ellipsoid_distance(seen.vertices, (0, 0, 0), (1, 1, 1)).max() < seen.voxel
    closed = mesh_of_views(views, dataclasses.replace(config, watertight=True))
    assert closed.is_watertight
    assert closed.as_trimesh().is_watertight
    assert closed.as_trimesh().volume > 4 / 3 * np.pi * 0.9  # with its shadow inside


@pytest.mark.extended
def test_two_bodies_and_the_largest():
    left, right = balls.ball_views((-1.5, 0, 0)), balls.ball_views((1.5, 0, 0), (0.8, 0.8, 0.8))
    views = [dataclasses.replace(v, depth=np.where(np.isinf(v.depth), 0, v.depth))
             for v in (*left, *right)]  # fmt: skip
    config = SurfaceConfig(resolution=48)
    assert mesh_of_views(views, config).as_trimesh().body_count == 2
    one = mesh_of_views(views, dataclasses.replace(config, largest_component=True))
    assert one.as_trimesh().body_count == 1
    assert one.vertices[:, 0].max() < 0


@pytest.fixture(scope="module")
def noise() -> tuple[BlockGrid, np.ndarray]:
    """All blocks of a box of more than one brick, and smooth noise in it."""
    shape = (9, 3, 2)
    grid = BlockGrid(
        origin=np.zeros(3), voxel=1.0, shape=shape, keys=np.arange(int(np.prod(shape)))
    )
    x, y, z = np.meshgrid(*(np.arange(BLOCK * side) for side in shape), indexing="ij")
    dense = np.sin(0.9 * x) * np.cos(1.1 * y) + np.sin(0.7 * z + 0.3 * x) - 0.2
    return grid, np.clip(dense, -0.9, 1).astype(np.float32)


def field_of(grid: BlockGrid, dense: np.ndarray) -> tuple[Field, np.ndarray]:
    blocks = dense.reshape(grid.shape[0], BLOCK, grid.shape[1], BLOCK, grid.shape[2], BLOCK)
    values = blocks.transpose(0, 2, 4, 1, 3, 5).reshape(-1, POINTS)
    ones = np.ones_like(values)
    return Field(grid=grid, distance=values, weight=ones, hidden=0 * ones), values


def test_bricks_have_no_seams(noise):
    from skimage.measure import marching_cubes

    grid, dense = noise
    field, values = field_of(grid, dense)
    vertices, faces = extract(Values(field=field, values=values, known=np.ones(values.shape, bool)))
    whole = np.where(np.abs(dense) < 1e-3, np.where(dense < 0, -1e-3, 1e-3), dense)
    expected, triangles, _, _ = marching_cubes(whole, 0.0, gradient_direction="descent")
    assert len(faces) == len(triangles)
    assert len(vertices) == len(np.unique(expected.round(4), axis=0))
    order = np.lexsort(vertices.round(3).T)
    other = np.lexsort(expected.round(3).T)
    np.testing.assert_allclose(vertices[order], expected[other], atol=2e-3)


def test_closed_fields_are_closed_across_bricks(noise):
    grid, dense = noise
    field, values = field_of(grid, dense)
    elsewhere = np.ones(grid.shape, np.float32)
    kept = np.ones(len(grid.keys), bool)
    kept[::7] = False  # blocks that are not kept count as empty
    some = dataclasses.replace(grid, keys=grid.keys[kept])
    field = Field(grid=some, distance=values[kept], weight=values[kept], hidden=values[kept])
    vertices, faces = extract(
        Values(field=field, values=values[kept], known=None, elsewhere=elsewhere)
    )
    mesh = trimesh.Trimesh(vertices, faces, process=False)
    edges = np.sort(mesh.edges, axis=1)
    assert (np.unique(edges, axis=0, return_counts=True)[1] % 2 == 0).all()
    assert mesh.is_watertight


def test_bodies_that_touch_in_an_edge_are_closed_each_by_itself():
    """Two tetrahedra; also for readers that make equal vertices one."""
    corners = np.array([[0, 0, 0], [0, 0, 1], [1, 0.1, 0.5], [1, -0.1, 0.5],
                        [-1, 0.1, 0.5], [-1, -0.1, 0.5]])  # fmt: skip
    one = np.array([[0, 1, 2], [0, 3, 1], [0, 2, 3], [1, 3, 2]])
    faces = np.concatenate([one, np.array([0, 1, 5, 4])[one]])  # turned by half a turn
    touching = SurfaceMesh(vertices=corners, faces=faces, voxel=1.0)
    assert not touching.is_watertight
    made = touching.stitched()
    assert made.is_watertight
    for merged in (False, True):
        other = trimesh.Trimesh(made.vertices, made.faces, process=merged)
        assert other.is_watertight
        assert (other.body_count, len(other.vertices)) == (2, 8)
        assert other.volume == pytest.approx(2 * 0.2 / 6, rel=0.03)
    opened = touching.with_faces(np.arange(8) > 0)
    np.testing.assert_array_equal(opened.stitched().faces, opened.faces)


@pytest.mark.parametrize("num_faces", [4000, 2000, 1000, 500])
def test_what_simplifying_pinches_is_closed(noise, num_faces):
    """Noise with handles everywhere, which edges of four triangles come of."""
    grid, dense = noise
    field, values = field_of(grid, dense)
    empty = np.ones(grid.shape, np.float32)
    parts = extract(Values(field=field, values=values, known=None, elsewhere=empty))
    few = SurfaceMesh(vertices=parts[0], faces=parts[1], voxel=1.0).simplified(num_faces)
    assert len(few.faces) <= num_faces
    assert few.stitched().is_watertight


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"voxel": 1e-4, "memory_limit": 0.1}, "million voxels"),
        ({"voxel": 0.05, "memory_limit": 1e-3}, "GiB"),
        ({"memory_limit": 1e-6}, "of depth pictures"),
    ],
)
def test_voxels_that_do_not_fit_are_refused_with_numbers(options, said):
    with pytest.raises(InputError, match=said):
        mesh_of_views(balls.ball_views(), SurfaceConfig(**options))


def test_views_of_nothing_are_refused():
    nothing = [dataclasses.replace(v, depth=np.full_like(v.depth, np.inf))
               for v in balls.ball_views()]  # fmt: skip
    with pytest.raises(InputError, match="see no surface"):
        mesh_of_views(nothing)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"voxel": 0.0}, "voxel=0.0 is not positive"),
        ({"voxel": float("inf")}, "is not finite"),
        ({"voxel": 0.1, "resolution": 64}, "is given beside voxel"),
        ({"resolution": 2}, "is below 8"),
        ({"faces": 3}, "is below 4"),
        ({"depth": "mode"}, "is unknown"),
        ({"truncation": 0.5}, "truncation"),
        ({"size": 100_000}, "size"),
    ],
)
def test_bad_options_are_refused(options, said):
    with pytest.raises(InputError, match=said):
        SurfaceConfig(**options)


@pytest.mark.parametrize("suffix", [".ply", ".obj", ".glb"])
def test_files_are_read_by_another_program(tmp_path, suffix):
    made = mesh_of_views(balls.ball_views(), SurfaceConfig(resolution=24))
    path = made.save(tmp_path / f"mesh{suffix}")
    read = trimesh.load(path, force="mesh", process=False)
    turn = [1, -1, -1] if suffix == ".glb" else [1, 1, 1]
    np.testing.assert_allclose(read.vertices, made.vertices * turn, atol=1e-5)
    np.testing.assert_array_equal(read.faces, made.faces)
    assert np.abs(read.visual.vertex_colors[:, :3].astype(int) - made.colours).max() <= 1


def test_unknown_suffix_and_absent_extra(tmp_path, monkeypatch):
    made = mesh_of_views(balls.ball_views(), SurfaceConfig(resolution=24))
    with pytest.raises(InputError, match=r"\.ply, \.obj, \.glb"):
        made.save(tmp_path / "mesh.stl")
    monkeypatch.setitem(sys.modules, "trimesh", None)
    with pytest.raises(InputError, match=r'pip install "tttlrm-jax\[mesh\]"'):
        made.save(tmp_path / "mesh.ply")
    monkeypatch.setitem(sys.modules, "skimage.measure", None)
    with pytest.raises(InputError, match=r"skimage\.measure"):
        mesh_of_views(balls.ball_views(), SurfaceConfig(resolution=24))
    assert not list(tmp_path.iterdir())
