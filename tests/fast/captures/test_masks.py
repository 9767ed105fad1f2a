"""Masks beside photographs give what the same masks give as transparency."""

import json

import numpy as np
import pytest
from PIL import Image

from tttlrm_jax.captures.capture import CaptureScene, read_capture
from tttlrm_jax.core.errors import InputError

COUNTS = np.zeros((30, 44), bool)
COUNTS[5:25, 8:30] = True


def read(directory, frames=(3, 8)):
    scene = CaptureScene(read_capture(directory), (30, 44), "lact", (1.0, 1.0, 1.0))
    return scene.read(np.array(frames))


@pytest.fixture
def photographs(capture_directory):
    """The capture as opaque photographs, and what it is with `COUNTS` as their transparency."""
    for path in sorted((capture_directory / "images").iterdir()):
        image = np.array(Image.open(path).convert("RGB"))
        Image.fromarray(np.dstack([image, np.uint8(255 * COUNTS)])).save(path)
    expected = read(capture_directory)
    for path in (capture_directory / "images").iterdir():
        Image.open(path).convert("RGB").save(path)
    return capture_directory, expected


def save_masks(folder, name="{:06d}.png", frames=range(12), pixels=None):
    folder.mkdir(exist_ok=True, parents=True)
    pixels = np.uint8(255 * COUNTS) if pixels is None else pixels
    for number in frames:
        Image.fromarray(pixels).save(folder / name.format(number))


def name_masks(camera_file, name="masks/{:06d}.png", frames=range(12)):
    def change(document):
        for number in frames:
            document["frames"][number]["mask_path"] = name.format(number)

    camera_file.edit(change)


def assert_same(views, expected):
    np.testing.assert_array_equal(views.image, expected.image)
    np.testing.assert_array_equal(views.mask, expected.mask)


@pytest.mark.parametrize("transforms", [False, True])
def test_mask_path(photographs, camera_file, transforms):
    root, expected = photographs
    if transforms:
        camera_file.to_transforms()
    save_masks(root / "other")
    name_masks(camera_file, "other/{:06d}.png")
    assert_same(read(root), expected)
    (note,) = read_capture(root).notes
    assert note.startswith("masks of 12 of 12 frames (mask_path) count as transparency: black is")


@pytest.mark.parametrize(
    ("folder", "name"),
    [
        ("masks", "{:06d}.png"), ("masks", "{:06d}.png.png"), ("masks", "{:06d}.jpg"),
        ("mask", "{:06d}.png"), ("images/masks", "{:06d}.png"), ("masks", "{:06d}_mask.png"),
    ],
)  # fmt: skip
def test_folders_of_masks(photographs, folder, name):
    root, expected = photographs
    save_masks(root / folder, name)
    views = read(root)
    if name.endswith("jpg"):
        np.testing.assert_allclose(views.mask, expected.mask, atol=0.15)
    else:
        assert_same(views, expected)
    assert folder.rpartition("/")[2] + "/" in read_capture(root).notes[0]


def test_masks_above_the_capture_are_another_ones(photographs):
    root, _ = photographs
    save_masks(root.parent / "masks")
    assert read_capture(root).notes == ()
    assert read(root).mask is None


def test_dynamic_masks_hide_what_is_not_black(photographs):
    root, expected = photographs
    moving = np.where(COUNTS, 0, 40).astype(np.uint8)
    save_masks(root / "images", "dynamic_mask_{:06d}.png", pixels=moving)
    assert_same(read(root), expected)
    assert "what is not black is left out" in read_capture(root).notes[0]


@pytest.mark.parametrize(
    "kind", ["0 and 1", "bool", "RGB", "palette", "16 bits", "0 and 1 in 16 bits", "twice the size"]
)
def test_masks_of_other_kinds(photographs, camera_file, kind):
    root, expected = photographs
    (root / "masks").mkdir()
    made = {
        "0 and 1": lambda: Image.fromarray(np.uint8(COUNTS)),
        "bool": lambda: Image.fromarray(COUNTS),
        "RGB": lambda: Image.fromarray(np.uint8(255 * COUNTS)).convert("RGB"),
        "palette": lambda: Image.fromarray(np.uint8(255 * COUNTS)).convert("P"),
        "0 and 1 in 16 bits": lambda: Image.fromarray(COUNTS.astype(np.uint16)),
        "16 bits": lambda: Image.fromarray(np.where(COUNTS, 65535, 0).astype(np.uint16)),
        "twice the size": lambda: Image.fromarray(np.uint8(255 * COUNTS)).resize((88, 60), 0),
    }
    for number in range(12):
        made[kind]().save(root / f"masks/{number:06d}.png")
    name_masks(camera_file)
    assert_same(read(root), expected)


def test_frames_without_mask_count_whole(photographs):
    root, expected = photographs
    save_masks(root / "masks", frames=range(8))
    views, capture = read(root), read_capture(root)
    np.testing.assert_array_equal(views.image[0], expected.image[0])
    assert (views.mask[1] == 1).all()
    assert capture.has_alpha()
    assert "masks of 8 of 12 frames" in capture.notes[0]


def test_a_mask_and_transparency_are_multiplied(capture_directory, rendered):
    save_masks(capture_directory / "masks")
    alpha = rendered["image"][[3, 8], ..., 3] / 255
    np.testing.assert_allclose(read(capture_directory).mask, alpha * COUNTS, atol=0.51 / 255)


@pytest.mark.parametrize(
    ("pixels", "words"),
    [
        (np.full((30, 30), 255, np.uint8), "30x30 pixels, and its picture 44x30"),
        (np.where(COUNTS, 7, 2).astype(np.uint8), "levels up to 7 of 255"),
        (np.dstack([np.uint8(255 * COUNTS), *[np.zeros((30, 44), np.uint8)] * 2]), "is coloured"),
        (np.dstack([np.uint8(255 * COUNTS)] * 4), "is transparent itself"),
    ],
)
def test_masks_that_are_none(photographs, pixels, words):
    root, _ = photographs
    save_masks(root / "masks", pixels=pixels)
    with pytest.raises(InputError, match=words):
        read(root)


@pytest.mark.parametrize("name", ["masks/none.png", "", 7, "images"])
def test_mask_path_of_no_file(photographs, camera_file, name):
    root, _ = photographs
    camera_file.edit(lambda document: document["frames"][3].update(mask_path=name))
    with pytest.raises(InputError, match=r"frame 3 .*mask_path=.* is no file"):
        read_capture(root)


def test_masks_are_undistorted_with_their_picture(photographs, camera_file):
    root, _ = photographs
    save_masks(root / "masks")
    camera_file.to_transforms(k1=0.3)
    bent = read(root)
    for number in range(12):
        path = root / f"images/{number:06d}.png"
        image = np.array(Image.open(path).convert("RGB"))
        Image.fromarray(np.dstack([image, np.uint8(255 * COUNTS)])).save(path)
        (root / f"masks/{number:06d}.png").unlink()
    assert_same(read(root), bent)


def test_a_mask_for_all_frames(photographs, camera_file):
    root, expected = photographs
    camera_file.to_transforms()
    save_masks(root / "car", frames=[0])
    camera_file.edit(lambda document: document.update(mask_path="car/000000.png"))
    assert_same(read(root), expected)
    assert json.loads((root / "transforms.json").read_text())["mask_path"] == "car/000000.png"


def test_masks_and_depth_elsewhere_are_named(photographs):
    root, _ = photographs
    save_masks(root / "dynamic_masks")
    save_masks(root / "depth")
    save_masks(root / "disparity")
    (note,) = read_capture(root).notes
    assert note.endswith("beside the pictures: depth/ (depth); dynamic_masks/ (masks)")
    assert read(root).mask is None


def test_what_is_beside_the_pictures_and_not_read_is_named(photographs, camera_file):
    """Masks of other conventions, keys of other programs, and pictures without a camera."""
    root, _ = photographs
    camera_file.to_transforms()
    save_masks(root / "images", "{:06d}_mask.png")
    save_masks(root, "dynamic_mask_{:06d}.png", frames=[1])
    Image.new("RGB", (44, 30)).save(root / "images" / "later.png")
    for number in range(12):
        (root / "images" / f"{number:06d}.depth").write_bytes(b"0")
    camera_file.edit(
        lambda document: document.update(
            applied_transform=[[1, 0, 0, 0]], train_filenames=["a"],
            test_frames=document["frames"][:2],
            frames=[each | {"depth_file_path": "d.png"} for each in document["frames"]],
        )
    )  # fmt: skip
    notes = "; ".join(read_capture(root).notes)
    for said in (
        "000000_mask.png, 000001_mask.png, 000002_mask.png, 000003_mask.png and 9 more (maps",
        "1 of 13 pictures has no camera and is left out: later.png",
        "000003.depth and 8 more (one for each picture)",
        "the frames have it: depth_file_path", "the frames in test_frames are not read",
        "applied_transform is not undone",
        "train_filenames, val_filenames, test_filenames are not used",
    ):  # fmt: skip
        assert said in notes
    assert read(root).mask is None


def test_masks_beside_are_those_of_frames_that_name_none(photographs, camera_file):
    root, expected = photographs
    save_masks(root / "masks")
    save_masks(root / "other", frames=[3])
    name_masks(camera_file, "other/{:06d}.png", frames=[3])
    assert_same(read(root), expected)
    assert "12 of 12 frames (mask_path, masks/)" in read_capture(root).notes[0]


@pytest.mark.parametrize(
    ("folder", "name", "known"),
    [
        ("masks", "{:06d}.png", True),
        ("images", "dynamic_mask_{:06d}.png", False),
        ("own", "", False),
    ],
)
def test_what_is_left_out_is_background_or_not_known(photographs, camera_file, folder, name, known):
    """A folder of masks cuts an object out; the others say what is to be left out."""
    root, _ = photographs
    pixels = np.uint8(255 * (~COUNTS if name.startswith("dynamic") else COUNTS))
    save_masks(root / folder, name or "{:06d}.png", pixels=pixels)
    if not name:
        name_masks(camera_file, "own/{:06d}.png")
    scene = CaptureScene(
        read_capture(root), (30, 44), "lact", (1.0, 1.0, 1.0), use_valid=True
    )  # fmt: skip
    valid = scene.read(np.array([3, 8])).valid
    if known:
        assert valid is None
    else:
        np.testing.assert_array_equal(valid, np.stack([COUNTS] * 2))
