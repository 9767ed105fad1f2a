"""Folders of pictures with poses.txt, K.txt and depth/: read rightly, or refused by cause."""

import re

import numpy as np
import pytest
from PIL import Image

from tttlrm_jax.core.errors import InputError
from tttlrm_jax.core.geometry.poses import look_at
from tttlrm_jax.sequences.readers import open_sequence

COUNT, SIZE = 5, (12, 16)
RNG = np.random.default_rng(0)
POSES = look_at(RNG.normal(size=(COUNT, 3)) * 3, np.zeros(3), np.array([0.0, 0.0, 1.0]))
DEPTH = RNG.uniform(1, 4, (COUNT, *SIZE)).round(3)


# an array of 4 TB by its head, and no numbers
HUGE = b"\x93NUMPY\x01\x00\x76\x00" + (
    b"{'descr': '<f4', 'fortran_order': False, 'shape': (1000000, 1000000), }".ljust(117) + b"\n"
)


def rows(poses=POSES, numbers=12):
    return "".join(" ".join(f"{x:.12g}" for x in pose.ravel()[:numbers]) + "\n" for pose in poses)


def pictures(folder, names=None):
    folder.mkdir(parents=True, exist_ok=True)
    for n in range(COUNT):
        picture = np.full((*SIZE, 3), 40 * n, np.uint8)
        Image.fromarray(picture).save(folder / (names[n] if names else f"{n:03d}.png"))


def write_depth(folder, suffix, name="{:03d}"):
    folder.mkdir(exist_ok=True)
    for n, depth in enumerate(DEPTH):
        path = folder / (name.format(n) + suffix)
        if suffix == ".png":
            Image.fromarray(np.rint(1000 * depth).astype(np.uint16)).save(path)
        elif suffix == ".npy":
            np.save(path, depth.astype(np.float32))
        elif suffix == ".pfm":
            height, width = depth.shape
            head = f"Pf\n{width} {height}\n-1.0\n".encode()
            path.write_bytes(head + depth[::-1].astype("<f4").tobytes())
        else:
            Image.fromarray(depth.astype(np.float32)).save(path)


def frames_of(path, **options):
    return list(open_sequence(path, **options).frames())


@pytest.mark.parametrize("where", ["", "images", "rgb", "color", "image_2"])
@pytest.mark.parametrize("numbers", [12, 16])
def test_poses_by_line(tmp_path, where, numbers):
    pictures(tmp_path / where)
    (tmp_path / "poses.txt").write_text("\ufeff# camera to world\n\n" + rows(numbers=numbers))
    sequence = open_sequence(tmp_path)
    assert (sequence.kind, sequence.has_poses, sequence.intrinsics) == ("posed", True, None)
    for n, frame in enumerate(sequence.frames()):
        assert frame.image[0, 0, 0] == 40 * n
        np.testing.assert_allclose(frame.world_from_camera, POSES[n], atol=1e-9)
    assert sequence.notes == ("poses.txt is read as camera to world, OpenCV axes, in metres",)


def test_colour_and_depth_beside_poses_are_no_scannet(tmp_path):
    pictures(tmp_path / "color")
    write_depth(tmp_path / "depth", ".png")
    (tmp_path / "poses.txt").write_text(rows())
    sequence = open_sequence(tmp_path)
    assert (sequence.kind, sequence.has_poses, sequence.has_depth) == ("posed", True, True)
    (tmp_path / "poses.txt").unlink()
    assert open_sequence(tmp_path).kind == "scannet"


def test_matrices_of_four_lines_each_and_a_file_each(tmp_path):
    pictures(tmp_path / "a/rgb")
    (tmp_path / "a/pose.txt").write_text("".join(rows(p[None, r : r + 1], 4) for p in POSES
                                                 for r in range(4)))  # fmt: skip
    pictures(tmp_path / "b/rgb")
    (tmp_path / "b/pose").mkdir()
    for n in range(COUNT - 1):
        np.savetxt(tmp_path / f"b/pose/{n:03d}.txt", POSES[n])
    for folder, known in (("a", COUNT), ("b", COUNT - 1)):
        poses = [frame.world_from_camera for frame in frames_of(tmp_path / folder)]
        np.testing.assert_allclose(np.stack(poses[:known]), POSES[:known], atol=1e-9)
        assert all(pose is None for pose in poses[known:])
    assert "4 of 5 frames have a true pose" in open_sequence(tmp_path / "b").notes


@pytest.mark.parametrize(
    "text",
    ["20 0 8\n0 21 6\n0 0 1", "20 21 8 6", "20,0,8,0\n0,21,6,0\n0,0,1,0\n0,0,0,1",
     "20 0 8 0\n0 21 6 0\n0 0 1 0"],
)  # fmt: skip
def test_lenses(tmp_path, text):
    pictures(tmp_path)
    (tmp_path / "poses.txt").write_text(rows())
    (tmp_path / "K.txt").write_text(text)
    assert open_sequence(tmp_path).intrinsics.tolist() == [20, 21, 8, 6]


@pytest.mark.parametrize("suffix", [".png", ".npy", ".pfm", ".tiff"])
def test_depth_of_every_form(tmp_path, suffix):
    pictures(tmp_path / "images")
    (tmp_path / "poses.txt").write_text(rows())
    write_depth(tmp_path / "depth", suffix)
    sequence = open_sequence(tmp_path)
    unit = "millimetres" if suffix == ".png" else "metres"
    assert sequence.notes == (
        "poses.txt is read as camera to world, OpenCV axes, in metres",
        f"depth in depth/ is read as {unit}",
    )
    for n, frame in enumerate(sequence.frames()):
        np.testing.assert_allclose(frame.depth, DEPTH[n], atol=1e-6)


def test_depth_that_is_not_known_is_zero(tmp_path):
    pictures(tmp_path)
    (tmp_path / "poses.txt").write_text(rows())
    write_depth(tmp_path / "depth", ".npy")
    depth = DEPTH[0].astype(np.float32)
    depth[0, :4] = [np.inf, -np.inf, np.nan, -1]
    np.save(tmp_path / "depth/000.npy", depth)
    first = frames_of(tmp_path)[0].depth
    assert first[0, :4].tolist() == [0, 0, 0, 0]
    np.testing.assert_array_equal(first[1:], depth[1:])


def test_replicas_folder(tmp_path):
    """results/frame000000.jpg beside results/depth000000.png, and traj.txt."""
    pictures(tmp_path / "results", [f"frame{n:06d}.jpg" for n in range(COUNT)])
    write_depth(tmp_path / "results", ".png", "depth{:06d}")
    (tmp_path / "traj.txt").write_text(rows(numbers=16))
    frames = frames_of(tmp_path)
    assert [frame.name for frame in frames] == [f"frame{n:06d}" for n in range(COUNT)]
    np.testing.assert_allclose(frames[3].depth, DEPTH[3], atol=1e-6)


def test_kitti_odometry(tmp_path):
    """Poses are those of the first camera; calib.txt says where the others stand beside it."""
    root = tmp_path / "sequences/04"
    pictures(root / "image_2", [f"{n:06d}.png" for n in range(COUNT)])
    (tmp_path / "poses").mkdir()
    (tmp_path / "poses/04.txt").write_text(rows())
    calibration = {"P0": (20, 8, 6, 0, 0, 0), "P2": (20, 8, 6, 10, 2, 0.5)}
    (root / "calib.txt").write_text("".join(
        f"{name}: {f} 0 {x} {a} 0 {f} {y} {b} 0 0 1 {c}\n"
        for name, (f, x, y, a, b, c) in calibration.items()
    ))  # fmt: skip
    (root / "times.txt").write_text("\n".join(f"{0.1 * n:.6e}" for n in range(COUNT)))
    sequence = open_sequence(root)
    frames = list(sequence.frames())
    assert sequence.intrinsics.tolist() == [20, 20, 8, 6]
    assert [frame.time for frame in frames] == pytest.approx([0.1 * n for n in range(COUNT)])
    point = np.array([0.3, -0.2, 4.0, 1.0])  # in the first camera, of the second frame
    projection = np.array([[20, 0, 8, 10], [0, 20, 6, 2], [0, 0, 1, 0.5]])
    expected = projection @ point
    seen = (np.linalg.inv(frames[1].world_from_camera) @ POSES[1] @ point)[:3]
    lens = np.array([[20, 0, 8], [0, 20, 6], [0, 0, 1]])
    np.testing.assert_allclose(lens @ seen, expected, atol=1e-9)
    assert any("P2 is the lens" in note for note in sequence.notes)
    pictures(root / "image_0", [f"{n:06d}.png" for n in range(COUNT)])
    assert "image_2 are used, 5 in" in open_sequence(root).notes[-1]
    (root / "times.txt").write_text("0.0\n0.1\n")
    sequence = open_sequence(root)
    assert [frame.time for frame in sequence.frames()] == list(range(COUNT))
    assert f"times.txt is not of {COUNT} ascending times: frames are numbered" in sequence.notes


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("poses.txt", rows(POSES[:4]), "holds 4 poses for 5 pictures"),
        ("poses.txt", rows(numbers=8), "lines of 8 numbers, not of 12 or 16"),
        ("poses.txt", rows() + "1 2 3\n", "lines of 3, 12 numbers"),
        ("poses.txt", "", "lines of no numbers"),
        ("poses.txt", rows().replace("0", "x", 1), "which is not of numbers"),
        ("poses.txt", rows(2 * POSES), "is not rigid"),
        ("poses.txt", rows(np.swapaxes(POSES, 1, 2), 16), "has the last row"),
        ("poses.txt", rows(np.full((COUNT, 4, 4), np.nan)), "not finite"),
        ("K.txt", "1 2 3", "neither a camera matrix"),
        ("K.txt", "0 0 8\n0 0 6\n0 0 1", "neither a camera matrix"),
        ("K.txt", "fx 20", "which is not of numbers"),
    ],
)
def test_what_does_not_fit_is_refused_by_cause(tmp_path, name, text, message):
    pictures(tmp_path)
    (tmp_path / "poses.txt").write_text(rows())
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=message):
        open_sequence(tmp_path)
    assert len(frames_of(tmp_path, kind="images")) == COUNT


@pytest.mark.parametrize(
    ("suffix", "content"),
    [
        (".npy", b"no array"),
        (".npy", HUGE),
        (".pfm", b"Pf\n16 12\n-1\n1234"),
        (".png", b""),
        (".tiff", b"II"),
    ],
)
def test_damaged_depth_is_named(tmp_path, suffix, content):
    pictures(tmp_path)
    (tmp_path / "poses.txt").write_text(rows())
    write_depth(tmp_path / "depth", suffix)
    (tmp_path / f"depth/002{suffix}").write_bytes(content)
    with pytest.raises(InputError, match=r"002\."):
        frames_of(tmp_path)


def test_depth_of_other_names_is_said_to_be_left_out(tmp_path):
    pictures(tmp_path, [f"{word}.png" for word in "abcde"])
    (tmp_path / "poses.txt").write_text(rows())
    write_depth(tmp_path / "depth", ".npy")
    sequence = open_sequence(tmp_path)
    assert not sequence.has_depth
    assert any("no picture's name or number belongs to" in note for note in sequence.notes)


def test_truth_that_is_not_read_is_named(tmp_path):
    """Of any folder: what looks like poses, intrinsics, depth or masks."""
    pictures(tmp_path / "images")
    for name in ("depth_maps", "masks", "empty_masks", "cams", "sounds"):
        (tmp_path / name).mkdir()
        if not name.startswith("empty"):
            (tmp_path / name / "000.bin").write_bytes(b"0")
    for name in ("camera_poses.csv", "calib.yaml", "transforms.json", "notes.txt", "task.json"):
        (tmp_path / name).write_text("")
    (note,) = open_sequence(tmp_path).notes
    assert "camera_poses.csv, cams/, transforms.json (poses)" in note
    assert "calib.yaml (intrinsics)" in note
    assert "depth_maps/ (depth)" in note
    assert "masks/ (masks)" in note
    assert not any(word in note for word in ("empty", "sounds", "notes", "task", "images"))
    assert open_sequence(tmp_path / "images").notes == (note,)  # beside the pictures themselves
    (tmp_path / "poses.txt").write_text(rows())
    said = open_sequence(tmp_path, kind="images").notes[0]
    assert "poses.txt" in said
    assert "poses.txt (poses)" not in " ".join(open_sequence(tmp_path).notes)


def test_a_file_for_each_picture_is_named(tmp_path):
    pictures(tmp_path / "images")
    for n in range(COUNT):
        (tmp_path / "images" / f"{n:03d}.cam").write_text("")
    (note,) = open_sequence(tmp_path).notes
    assert re.search(r"000\.cam, 001\.cam.* \(one for each picture\)", note)
    for n in range(1, COUNT):
        (tmp_path / "images" / f"{n:03d}.cam").unlink()
    assert open_sequence(tmp_path).notes == ()
