"""Scenes of DL3DV and of Tanks&Temples are captures, in whichever of their layouts."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from tests.dl3dv import write_nerfstudio
from tests.fast.captures.test_colmap import write_model
from tttlrm_jax.captures.capture import load_views, read_capture
from tttlrm_jax.captures.collections import read_dl3dv
from tttlrm_jax.core.errors import InputError

NAMES = [f"frame_{number + 1:05d}.png" for number in range(12)]


def write_splat(folder, scene, factor):
    """`gaussian_splat/`: COLMAP's model of pictures `factor` times as large as those beside it."""
    write_model(
        folder / "sparse" / "0", scene["world_from_camera"], NAMES,
        factor * scene["intrinsics"][0], size=(factor * 44, factor * 30), binary=True,
    )  # fmt: skip


def holds(capture, scene, name="0a1b"):
    """The capture has the scene's cameras, with the lens of the pictures that are there."""
    assert capture.name == name
    assert [frame.name.rpartition("/")[2] for frame in capture.frames] == NAMES
    np.testing.assert_allclose(capture.world_from_camera, scene["world_from_camera"], atol=1e-5)
    for frame in capture.frames:
        np.testing.assert_allclose(frame.intrinsics, scene["intrinsics"][0], rtol=1e-5)
    image, cameras = load_views(capture, [3], 30, 44)
    np.testing.assert_allclose(cameras.intrinsics[0], scene["intrinsics"][0], rtol=1e-5)
    np.testing.assert_array_equal(image[0], np.float32(scene["image"][3, ..., :3] / 255))
    return " ".join(capture.notes)


@pytest.mark.parametrize("inner", ["", "nerfstudio", "colmap"])
def test_transforms_of_the_whole_size_beside_images_4(tmp_path, rendered, inner):
    """`HASH/` of the 960P and 480P sets, `HASH/nerfstudio` of the benchmark, `HASH/colmap`."""
    write_nerfstudio(tmp_path / "0a1b" / inner, rendered)
    said = holds(read_capture(tmp_path / "0a1b"), rendered)
    assert "intrinsics for the whole size are scaled to that of images_4" in said
    holds(read_capture(tmp_path / "0a1b" / inner), rendered)  # as named


def test_both_forms_of_the_benchmark(tmp_path, rendered):
    root = tmp_path / "0a1b"
    write_nerfstudio(root / "nerfstudio", rendered)
    shutil.copytree(root / "nerfstudio" / "images_4", root / "gaussian_splat" / "images_4")
    write_splat(root / "gaussian_splat", rendered, 4)
    said = holds(read_capture(root), rendered)
    assert (
        "cameras are those of nerfstudio/transforms.json; "
        "gaussian_splat/sparse/0/cameras.bin was not read" in said
    )
    holds(read_capture(root / "gaussian_splat"), rendered)
    shutil.rmtree(root / "nerfstudio")
    assert "scaled to that of images_4" in holds(read_capture(root), rendered)


def test_a_video_in_2k(tmp_path, rendered):
    """Some scenes have `images_4` at an eighth of the size that their cameras are for."""
    write_nerfstudio(tmp_path / "0a1b", rendered, factor=8)
    said = holds(read_capture(tmp_path / "0a1b"), rendered)
    assert "intrinsics for 352x240 pixels are scaled to pictures of 44x30" in said


def test_tanks_and_temples_of_3d_gaussian_splatting(tmp_path, rendered):
    """Cameras of the photographs, beside which lie pictures of half their size."""
    root = tmp_path / "truck"
    write_nerfstudio(root, rendered, pictures="images")
    (root / "transforms.json").unlink()
    write_splat(root, rendered, 2)
    said = holds(read_capture(root), rendered, "truck")
    assert "intrinsics for 88x60 pixels are scaled to pictures of 44x30 in" in said


def test_pictures_of_other_proportions_are_refused(tmp_path, rendered):
    root = tmp_path / "truck"
    write_nerfstudio(root, rendered, pictures="images")
    (root / "transforms.json").unlink()
    write_splat(root, rendered, 2)
    for path in (root / "images").iterdir():
        Image.open(path).resize((40, 40)).save(path)
    with pytest.raises(InputError, match="is 40x40 pixels, its camera says 88x60"):
        load_views(read_capture(root), [3], 16, 16)


def test_notes_of_the_camera_file_are_kept(tmp_path, rendered):
    """As they are without a folder of pictures; those on where pictures lie do not apply."""
    folder = tmp_path / "0a1b" / "nerfstudio"
    write_nerfstudio(folder, rendered)
    shutil.copytree(folder / "images_4", folder / "images_2")  # where else they are looked for
    path = folder / "transforms.json"
    document = json.loads(path.read_text())
    document["frames"].reverse()
    path.write_text(json.dumps(document))
    said = holds(read_dl3dv(path, "images_4", "0a1b"), rendered)
    assert "frames are taken in the order of their names" in said
    assert "images_2" not in said
