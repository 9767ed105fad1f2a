"""A cloud that grows on disk: always readable, bounded, even."""

import numpy as np

from tttlrm_jax.export.ply import read_vertices
from tttlrm_jax.export.point_stream import PointStream
from tttlrm_jax.export.trajectories import TrajectoryFile, tum_line


def frame(number, count=100):
    points = np.full((count, 3), float(number))
    points[:, 1] = np.arange(count)
    return points, np.full((count, 3), number % 256, np.uint8)


def test_the_file_is_whole_after_every_frame(tmp_path):
    stream = PointStream(tmp_path / "points.ply", 10_000)
    for number in range(5):
        stream.add(*frame(number))
        stored = read_vertices(tmp_path / "points.ply")
        assert len(stored) == 100 * (number + 1)
        assert stored["x"][-1] == number
        assert stored[["red", "green", "blue"]][-1].tolist() == (number,) * 3
    stream.close()


def test_too_many_points_are_thinned_evenly(tmp_path):
    stream = PointStream(tmp_path / "points.ply", 1000, seed=3)
    for number in range(64):
        stream.add(*frame(number))
        assert stream.num_points <= 1000
    stored = read_vertices(tmp_path / "points.ply")
    counts = np.bincount(stored["x"].astype(int), minlength=64)
    assert 500 <= len(stored) <= 1000
    assert counts.min() >= counts.max() - 1
    assert len(set(stored[["x", "y", "z"]].tolist())) == len(stored)
    assert (tmp_path / "points.ply").stat().st_size < 20_000
    assert len(stream.sample(100)) <= 100
    stream.close()


def test_points_that_are_nowhere_are_left_out(tmp_path):
    stream = PointStream(tmp_path / "points.ply", 1000)
    points, colours = frame(1)
    points[::2] = np.nan
    stream.add(points, colours)
    assert stream.num_points == 50
    assert len(PointStream(tmp_path / "none.ply", 10).sample(5)) == 0


def test_trajectory_lines_are_on_disk_at_once(tmp_path):
    file = TrajectoryFile(tmp_path / "trajectory.txt")
    pose = np.eye(4)
    pose[:3, 3] = [1, 2, 3]
    file.add(0.5, pose)
    assert (tmp_path / "trajectory.txt").read_text().splitlines()[1] == "0.500000 1 2 3 0 0 0 1"
    file.close()
    assert "nan" in tum_line(1.0, np.full((4, 4), np.nan))
    far = np.eye(4)
    far[:3, 3] = [431234.567891, 5412345.678912, 312.345678]
    assert [float(word) for word in tum_line(1.0, far).split()[1:4]] == far[:3, 3].tolist()
