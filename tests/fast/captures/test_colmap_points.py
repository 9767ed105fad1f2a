"""Triangulated points of COLMAP models, as COLMAP's own tools write them."""

import struct

import numpy as np
import pytest

from tttlrm_jax.captures.colmap.points import points_file, read_points
from tttlrm_jax.core.errors import InputError

POSITIONS = np.array([[0.5, -1.25, 3.0], [1e3, 2.0, -7.5]])
COLOURS = np.array([[255, 0, 51], [10, 20, 30]])


def written(folder, binary):
    if binary:
        content = struct.pack("<Q", 2)
        for number, (position, colour) in enumerate(zip(POSITIONS, COLOURS, strict=True)):
            track = [(1, 5), (2, 7)][: number + 1]
            content += struct.pack("<Q3d3BdQ", number, *position, *colour, 0.5, len(track))
            content += b"".join(struct.pack("<II", *entry) for entry in track)
        (folder / "points3D.bin").write_bytes(content)
        return folder / "points3D.bin"
    lines = ["# 3D point list", ""]
    for number, (position, colour) in enumerate(zip(POSITIONS, COLOURS, strict=True)):
        track = " 1 5 2 7"[: 4 * (number + 1)]
        values = (*map(float, position), *map(int, colour))
        lines.append(f"{number} {' '.join(map(repr, values))} 0.5{track}")
    (folder / "points3D.txt").write_text("\n".join(lines) + "\n")
    return folder / "points3D.txt"


@pytest.mark.parametrize("binary", [True, False])
def test_points_and_their_colours(tmp_path, binary):
    path = written(tmp_path, binary)
    positions, colours = read_points(path)
    np.testing.assert_array_equal(positions, POSITIONS)
    np.testing.assert_allclose(colours, COLOURS / 255, rtol=1e-6)
    assert points_file(tmp_path / f"cameras{path.suffix}") == path
    other = {".bin": ".txt", ".txt": ".bin"}[path.suffix]
    assert points_file(tmp_path / f"cameras{other}") is None


def test_broken_files_are_refused(tmp_path):
    path = written(tmp_path, binary=True)
    path.write_bytes(path.read_bytes()[:-3])
    assert len(read_points(path)[0]) == 2  # only the last track is cut
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(InputError, match="ends in the middle"):
        read_points(path)
    text = written(tmp_path, binary=False)
    for line in ("1 0 0", "1 0 0 x 1 1 1"):
        text.write_text(line + "\n")
        with pytest.raises(InputError, match="is no point of COLMAP's"):
            read_points(text)
    text.write_text("1 0 0 nan 1 1 1\n")
    with pytest.raises(InputError, match="not finite"):
        read_points(text)


def test_a_model_without_points_has_none(tmp_path):
    path = tmp_path / "points3D.txt"
    path.write_text("# 3D point list with one line of data per point:\n")
    assert [part.shape for part in read_points(path)] == [(0, 3), (0, 3)]
