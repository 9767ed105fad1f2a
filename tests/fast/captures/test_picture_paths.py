"""Pictures are found where people keep them; what was chosen is said."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from tttlrm_jax.captures.capture import load_views, read_capture
from tttlrm_jax.core.errors import InputError


def rename_all(camera_file, change):
    def edit(document):
        for frame in document["frames"]:
            frame["file_path"] = change(frame["file_path"])

    camera_file.edit(edit)


@pytest.mark.parametrize(
    ("folder", "said"),
    [("input", "toy/input"), ("rgb", "toy/rgb"), ("", "without the images/ of their names")],
)
def test_other_folders(capture_directory, folder, said):
    before = load_views(read_capture(capture_directory), [3], 16, 24)[0]
    if folder:
        (capture_directory / "images").rename(capture_directory / folder)
    else:
        for path in (capture_directory / "images").iterdir():
            shutil.move(path, capture_directory / path.name)
    capture = read_capture(capture_directory)
    np.testing.assert_array_equal(load_views(capture, [3], 16, 24)[0], before)
    assert said in " ".join(capture.notes)


NAMES = {
    "backslashes": lambda name: name.replace("/", "\\"),
    "another machine": lambda name: "/home/me/desk/" + name,
    "another system": lambda name: "C:\\desk\\" + name.replace("/", "\\"),
    "no ending": lambda name: "./" + name.removesuffix(".png"),
    "upper case": lambda name: name.replace(".png", ".PNG"),
}


@pytest.mark.parametrize("form", ["opencv_cameras.json", "transforms.json"])
@pytest.mark.parametrize("kind", NAMES)
def test_names_of_certain_meaning(capture_directory, camera_file, form, kind):
    before = [frame.image_path for frame in read_capture(capture_directory).frames]
    if form == "transforms.json":
        camera_file.to_transforms()
    rename_all(camera_file, NAMES[kind])
    capture = read_capture(capture_directory)
    assert [frame.image_path.resolve() for frame in capture.frames] == [
        path.resolve() for path in before
    ]
    assert all("\\" not in frame.name for frame in capture.frames) or kind == "another system"


def test_composed_and_decomposed_letters_are_one(capture_directory, camera_file):
    (capture_directory / "images/000003.png").rename(capture_directory / "images/cafe\u0301.png")
    camera_file.edit_frame(3, file_path="images/caf\u00e9.png")
    assert read_capture(capture_directory).frames[3].image_path.is_file()


def test_a_name_that_fits_two_files_is_refused(capture_directory, camera_file):
    shutil.copy(capture_directory / "images/000003.png", capture_directory / "images/000003.jpg")
    camera_file.edit_frame(3, file_path="images/000003")
    with pytest.raises(InputError, match=r"000003 has no ending, and 000003\.png, 000003\.jpg"):
        read_capture(capture_directory)


def test_missing_pictures_say_where_they_were_looked_for(capture_directory):
    (capture_directory / "images").rename(capture_directory / "photographs of mine")
    with pytest.raises(InputError, match=r"do not exist \(looked in .*toy, .*toy/images, .*input"):
        read_capture(capture_directory)


def test_names_that_would_be_one_file_are_not_guessed(capture_directory, camera_file):
    rename_all(camera_file, lambda name: f"{int(name[7:13]) % 2}/000000.png")
    (capture_directory / "000000.png").write_bytes(b"")
    with pytest.raises(InputError, match="do not exist"):
        read_capture(capture_directory)


@pytest.mark.parametrize("form", ["opencv_cameras.json", "transforms.json"])
def test_pictures_at_a_part_of_their_size_scale_the_lens(capture_directory, camera_file, form):
    if form == "transforms.json":
        camera_file.to_transforms()
    before = read_capture(capture_directory)
    (capture_directory / "images_2").mkdir()
    for path in (capture_directory / "images").iterdir():
        with Image.open(path) as picture:
            picture.resize((22, 15)).save(capture_directory / "images_2" / path.name)
    shutil.rmtree(capture_directory / "images")
    after = read_capture(capture_directory)
    np.testing.assert_allclose(after.frames[5].intrinsics, before.frames[5].intrinsics / 2)
    assert after.image_size(5) == (15, 22)
    said = "intrinsics for the whole size are scaled to that of images_2"
    assert said in after.notes
    load_views(after, [5], 15, 22)
    for path in (capture_directory / "images_2").iterdir():
        Image.open(path).resize((44, 30)).save(path)
    whole = read_capture(capture_directory)
    np.testing.assert_array_equal(whole.frames[5].intrinsics, before.frames[5].intrinsics)
    assert said not in whole.notes


def test_frames_of_transforms_are_in_order_of_their_names(capture_directory, camera_file):
    names = [frame.name for frame in read_capture(capture_directory).frames]
    camera_file.to_transforms()
    assert read_capture(capture_directory).notes == ()
    camera_file.edit(lambda document: document["frames"].reverse())
    capture = read_capture(capture_directory)
    assert [frame.name for frame in capture.frames] == names
    assert list(capture.frame_numbers) == list(range(len(names)))
    assert "order of their names" in " ".join(capture.notes)
    camera_file.edit(lambda document: document.update({"fold_8_kmeans_2_input": [3, 7]}))
    listed = read_capture(capture_directory)  # numbers of the file's order
    assert [listed.frames[n].name for n in listed.folds[2]] == [names[-4], names[-8]]


def test_lists_of_blender(capture_directory, camera_file):
    before = read_capture(capture_directory)
    angle = 2 * np.arctan(22 / before.frames[0].intrinsics[0])
    camera_file.to_transforms()
    rename_all(camera_file, lambda name: "./" + name.removesuffix(".png"))
    document = json.loads((capture_directory / "transforms.json").read_text())
    (capture_directory / "transforms.json").unlink()
    for key in ("fl_x", "fl_y", "cx", "cy", "w", "h"):
        del document[key]
    document["camera_angle_x"] = angle
    for part, frames in (("train", document["frames"][:8]), ("test", document["frames"][8:])):
        text = json.dumps(document | {"frames": frames})
        (capture_directory / f"transforms_{part}.json").write_text(text)
    capture = read_capture(capture_directory)
    assert len(capture) == 8
    np.testing.assert_allclose(capture.frames[7].intrinsics, before.frames[7].intrinsics)
    assert "transforms_test.json beside it not" in " ".join(capture.notes)
    assert len(read_capture(capture_directory / "transforms_test.json")) == 4
