"""What cameras are looked for of, and by what it is known again."""

import numpy as np
import pytest
from PIL import Image

from tttlrm_jax.core.errors import InputError
from tttlrm_jax.structure_from_motion.sources import find_source


def test_a_folder_of_photographs(photographs):
    source = find_source(photographs)
    assert (source.name, source.path, source.film) == ("desk", photographs, None)
    assert [path.name for path in source.pictures] == [f"p{n}.png" for n in range(5)]


@pytest.mark.parametrize("inner", ["images", "images_undistort"])
def test_pictures_in_a_folder_below(photographs, inner):
    """In one of the usual names, or in the only one; masks and captures are none."""
    place = photographs / inner
    place.mkdir()
    for path in photographs.glob("*.png"):
        path.rename(place / path.name)
    masks = photographs / "masks"
    masks.mkdir()
    for path in place.iterdir():
        Image.fromarray(np.full((24, 32), 255, np.uint8)).save(masks / path.name)
    source = find_source(photographs)
    assert (source.name, source.path) == ("desk", place)
    assert [mask.path.parent for mask in source.masks] == [masks] * 5
    named = find_source(place)
    assert named.name == ("desk" if inner == "images" else inner)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda folder: folder / "absent", "capture=.*absent does not exist; name a folder"),
        (lambda folder: folder / "p0.png", "is one picture, whose camera cannot be found"),
        (lambda folder: folder / "transforms.json", "is a file of cameras; name the folder"),
        (lambda folder: folder / "few", r"pictures=2 in .*few are too few .*; give 3 or more"),
        (lambda folder: folder / "none", r"pictures=0 in .*none.*it holds the video walk.mp4"),
        (lambda folder: folder / "none" / "walk.mp4", "video=.*cannot be decoded"),
    ],
    ids=["absent", "one picture", "camera file", "few", "none", "no film"],
)
def test_what_has_no_cameras_to_be_found(photographs, make, said):
    (photographs / "transforms.json").write_text("{}")
    for folder in ("few", "none"):
        (photographs / folder).mkdir()
    for number in range(2):
        picture = (photographs / f"p{number}.png").read_bytes()
        (photographs / "few" / f"p{number}.png").write_bytes(picture)
    (photographs / "none" / "walk.mp4").write_bytes(b"no film")
    with pytest.raises(InputError, match=said):
        find_source(make(photographs))


def test_a_source_is_known_by_its_contents(photographs):
    before = find_source(photographs).digest("a")
    assert find_source(photographs).digest("a") == before
    assert find_source(photographs).digest("b") != before
    picture = photographs / "p3.png"
    content = picture.read_bytes()
    Image.fromarray(np.zeros((24, 32, 3), np.uint8)).save(picture)
    assert find_source(photographs).digest("a") != before
    picture.write_bytes(content)
    assert find_source(photographs).digest("a") == before
    mask = photographs / "dynamic_mask_p3.png"
    Image.fromarray(np.zeros((24, 32), np.uint8)).save(mask)
    masked = find_source(photographs)
    assert len(masked.pictures) == 5
    assert masked.digest("a") != before
    picture.unlink()
    assert find_source(photographs).digest("a") != before
