"""Pictures where COLMAP and captures read them, and cameras that they share."""

import numpy as np
import pytest
from PIL import Image

from tttlrm_jax.captures.pictures.images import EXIF_ORIENTATION, exif_orientation, read_image
from tttlrm_jax.structure_from_motion.colmap_steps import EXIF_IFD, camera_groups
from tttlrm_jax.structure_from_motion.placing import place_pictures, write_feature_masks
from tttlrm_jax.structure_from_motion.sources import find_source
from tttlrm_jax.structure_from_motion.workplace import workplace

FOCAL, MAKE = 0x920A, 0x010F


def turned_jpeg(path, orientation):
    exif = Image.Exif()
    exif[EXIF_ORIENTATION] = orientation
    exif.get_ifd(EXIF_IFD)[FOCAL] = 4.2
    levels = np.zeros((24, 32, 3), np.uint8)
    levels[:8] = 255  # the upper third, as stored
    Image.fromarray(levels).save(path, exif=exif)


@pytest.fixture
def place(photographs, tmp_path):
    with workplace(tmp_path / "out", "desk-sfm", photographs) as opened:
        opened.begin("digest")
        yield opened


def test_photographs_are_linked_or_written_upright(photographs, place):
    turned_jpeg(photographs / "p1.jpg", 6)
    (photographs / "p1.png").unlink()
    Image.open(photographs / "p2.png").save(photographs / "p2.webp", lossless=True)
    (photographs / "p2.png").unlink()
    names = place_pictures(find_source(photographs), place, 100)
    assert names == ["p0.png", "p1.jpg", "p2.png", "p3.png", "p4.png"]
    assert (place.images / "p0.png").resolve() == photographs / "p0.png"
    upright = read_image(place.images / "p1.jpg")
    assert upright.shape == (32, 24, 3)
    assert upright[:, 18:].min() > 200  # turned clockwise by 90 degrees
    assert upright[:, :14].max() < 60
    assert exif_orientation(place.images / "p1.jpg") == 1
    kept = Image.open(place.images / "p1.jpg").getexif().get_ifd(EXIF_IFD)
    assert float(kept[FOCAL]) == pytest.approx(4.2)
    np.testing.assert_array_equal(
        read_image(place.images / "p2.png"), read_image(photographs / "p2.webp")
    )
    assert "2 pictures are upright copies: p1.jpg, p2.webp" in place.record["notes"]
    (photographs / "p0.png").unlink()  # what is placed is not placed again
    assert place_pictures(find_source(photographs), place, 100) == names


def test_masks_and_transparency_say_where_features_count(photographs, place):
    masks = photographs / "masks"
    masks.mkdir()
    half = np.zeros((24, 32), np.uint8)
    half[:, 16:] = 255
    Image.fromarray(half).save(masks / "p0.png")
    Image.fromarray(half).save(photographs / "dynamic_mask_p1.png")
    Image.fromarray(np.dstack([read_image(photographs / "p2.png"), half])).save(
        photographs / "p2.png"
    )
    turned_jpeg(photographs / "p3.jpg", 6)
    (photographs / "p3.png").unlink()
    Image.fromarray(np.flipud(half)).save(masks / "p3.png")
    names = place_pictures(find_source(photographs), place, 100)
    folder = write_feature_masks(place, names)
    assert folder is not None
    found = {name: np.asarray(Image.open(folder / f"{name}.png")) for name in names}
    np.testing.assert_array_equal(found["p0.png"], half)
    np.testing.assert_array_equal(found["p1.png"], 255 - half)
    np.testing.assert_array_equal(found["p2.png"], half)
    np.testing.assert_array_equal(found["p3.jpg"], np.rot90(np.flipud(half), -1))
    assert found["p4.png"].min() == 255


def test_names_have_no_blanks(photographs, place):
    """COLMAP's lists of pairs part names by them."""
    (photographs / "p1.png").rename(photographs / "p 0.png")
    (photographs / "p2.png").rename(photographs / "p_0.png")
    (photographs / "p3.png").rename(photographs / "#p\t0.png")
    names = place_pictures(find_source(photographs), place, 100)
    assert sorted(names) == ["_p_0.png", "p0.png", "p4.png", "p_0.png", "p_0_.png"]
    known = [(place.images / name).resolve() for name in names]
    assert known == list(find_source(photographs).pictures)


def test_no_masks_where_all_counts(photographs, place):
    names = place_pictures(find_source(photographs), place, 100)
    assert write_feature_masks(place, names) is None


def test_pictures_of_one_size_body_and_zoom_share_a_camera(tmp_path):
    exif, zoomed = Image.Exif(), Image.Exif()
    exif[MAKE] = zoomed[MAKE] = "maker"
    exif.get_ifd(EXIF_IFD)[FOCAL] = 4.2
    zoomed.get_ifd(EXIF_IFD)[FOCAL] = 8.4
    sizes = [(32, 24), (24, 32), (32, 24), (32, 24), (32, 24)]
    for number, (size, own) in enumerate(zip(sizes, [None, None, exif, zoomed, exif], strict=True)):
        Image.new("RGB", size).save(tmp_path / f"{number}.jpg", exif=own or Image.Exif())
    paths = [tmp_path / f"{number}.jpg" for number in range(5)]
    assert camera_groups(paths) == [[0], [1], [2, 4], [3]]
