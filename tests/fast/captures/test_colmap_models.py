"""Which COLMAP model is read, where its pictures are, and images.txt of other writers."""

import json
import shutil

import numpy as np
import pytest

from tests.fast.captures.test_colmap import FORMATS, write_model
from tttlrm_jax.captures.capture import load_views, read_capture
from tttlrm_jax.captures.colmap.models import find_models, pose_lines
from tttlrm_jax.core.errors import InputError

NAMES = [f"{number:06d}.png" for number in range(12)]


@pytest.fixture
def shot(capture_directory, rendered):
    """Root of the capture without its camera file, and `write(folder, count, names, ...)`."""
    (capture_directory / "opencv_cameras.json").unlink()

    def write(folder, count=12, names=NAMES, **options):
        poses = rendered["world_from_camera"][:count]
        lens = rendered["intrinsics"][0]
        write_model(capture_directory / folder, poses, names[:count], lens, **options)

    return capture_directory, write


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize(
    ("models", "chosen"),
    [
        ({"sparse/0": 5, "sparse/1": 12}, "sparse/1"),
        ({"sparse/2": 4, "sparse/10": 4}, "sparse/2"),
        ({"sparse/0": 5, "colmap/sparse/0": 9, "sparse": 3}, "colmap/sparse/0"),
        ({"model": 12, "models/0": 3, "models/1": 12}, "models/1"),
        ({"sfm": 12, "sfm/models/0": 7}, "sfm"),
        ({"sparse/0": 5, "dense/sparse": 9}, "dense/sparse"),
        ({"sparse/0": 9, "distorted/sparse/0": 9}, "sparse/0"),
    ],
)
def test_the_model_of_the_most_images(shot, kind, models, chosen):
    root, write = shot
    for folder, count in sorted(models.items()):
        write(folder, count, binary=kind == "bin")
    capture = read_capture(root)
    assert len(capture) == models[chosen]
    assert f"{chosen} is read" in " ".join(capture.notes)
    for folder, count in models.items():
        assert len(read_capture(root / folder)) == count  # as named
    assert capture.name == "toy"


def test_undistorted_pictures_beside_a_larger_model_of_them(shot):
    root, write = shot
    write("sparse/0", 5)
    write("dense/sparse", 12)
    shutil.copytree(root / "images", root / "dense/images")
    capture = read_capture(root)
    assert capture.frames[0].image_path.is_relative_to(root / "dense/images")
    assert "sparse/0 with 5 images, dense/sparse with 12 images" in capture.notes[0]


def test_one_model_is_no_choice(shot):
    root, write = shot
    write("sparse/0", binary=True)
    write("sparse/1", binary=True)
    shutil.rmtree(root / "sparse/1")
    assert read_capture(root).notes == ()
    assert len(find_models(root)) == 1


def test_the_folder_of_models_may_be_named(shot):
    root, write = shot
    write("sparse/0", 3)
    write("sparse/1", 7)
    assert len(read_capture(root / "sparse")) == 7


def test_of_text_and_binary_the_larger(shot):
    root, write = shot
    write("sparse/0", 12)
    write("other", 5, binary=True)
    for path in (root / "other").iterdir():
        shutil.move(path, root / "sparse/0" / path.name)
    assert len(read_capture(root)) == 12


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize(
    ("prefix", "folder", "said"),
    [
        ("", "images", ""), ("", "input", "toy/input"), ("images/", "images", ""),
        ("images/", "input", "without the images/"), ("", "images_2", "toy/images_2"),
        ("/home/me/desk/images/", "images", "without the home/me/desk/"),
    ],
)  # fmt: skip
def test_where_pictures_lie(shot, kind, prefix, folder, said):
    root, write = shot
    write("sparse/0", names=[prefix + name for name in NAMES], binary=kind == "bin")
    (root / "images").rename(root / folder)
    capture = read_capture(root)
    assert capture.name == "toy"
    assert said in " ".join(capture.notes)
    load_views(capture, [2], 15, 22)


def test_missing_pictures_say_where_they_were_looked_for(shot):
    root, write = shot
    write("sparse/0")
    (root / "images").rename(root / "photos")
    with pytest.raises(InputError, match=r"do not exist \(looked in .*toy/images, .*toy/input"):
        read_capture(root)


def test_order_of_names_without_padding(shot):
    root, write = shot
    names = [f"frame{number + 1}.png" for number in range(12)]
    for old, new in zip(NAMES, names, strict=True):
        (root / "images" / old).rename(root / "images" / new)
    write("sparse/0", names=names, binary=True)
    assert [frame.name for frame in read_capture(root).frames] == names


POSE = "1 0.5 0.5 0.5 0.5 1 2 3 1 a b.png"


@pytest.mark.parametrize(
    ("lines", "count"),
    [
        (["# c", POSE, "", POSE, ""], 2),
        ([POSE, POSE, POSE], 3),
        ([POSE, "1 2 -1 3.5 4 7", POSE, POSE, "1 2 3"], 3),
        (["", POSE, "", "", POSE], 2),
        ([POSE, "1 2 -1", "", POSE], 2),
    ],
)
def test_lines_of_points_may_be_left_out(lines, count):
    assert list(pose_lines(lines)) == [POSE] * count


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_text_without_lines_of_points_and_with_a_mark(shot, encoding):
    root, write = shot
    write("sparse/0", points=0)
    before = read_capture(root).world_from_camera
    for name in ("cameras.txt", "images.txt"):
        path = root / "sparse/0" / name
        lines = [line for line in path.read_text().splitlines() if line]
        path.write_bytes("\r\n".join(lines).encode(encoding))
    np.testing.assert_array_equal(read_capture(root).world_from_camera, before)


def test_a_model_and_transforms_give_the_same_targets(shot, rendered):
    """Names without padding, frames of both files in any order."""
    root, write = shot
    names = [f"frame{number + 1}.png" for number in range(12)]
    for old, new in zip(NAMES, names, strict=True):
        (root / "images" / old).rename(root / "images" / new)
    write("sparse/0", names=names, binary=True)
    of_model = read_capture(root)
    lens = dict(zip(("fl_x", "fl_y", "cx", "cy"), rendered["intrinsics"][0].tolist(), strict=True))
    frames = [
        {
            "file_path": f"images/{name}",
            "transform_matrix": (pose @ np.diag([1, -1, -1, 1])).tolist(),
        }
        for name, pose in zip(names, rendered["world_from_camera"], strict=True)
    ]
    document = lens | {
        "w": 44,
        "h": 30,
        "frames": [frames[n] for n in (3, 11, 0, *range(4, 11), 1, 2)],
    }
    (root / "transforms.json").write_text(json.dumps(document))
    of_json = read_capture(root)
    assert [frame.image_path.name for frame in of_json.frames] == names
    np.testing.assert_array_equal(of_model.split(3)[1], of_json.split(3)[1])
    np.testing.assert_allclose(of_model.world_from_camera, of_json.world_from_camera, atol=1e-9)
