"""Every camera model of COLMAP against pycolmap (tests/golden/lenses.npz)."""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tttlrm_jax.captures.capture import CaptureScene, read_capture
from tttlrm_jax.captures.lenses.distortion import Distortion, fold_radius, undistort
from tttlrm_jax.captures.lenses.models import (
    EQUIRECTANGULAR,
    LENS_MODELS,
    NEUTRAL,
    READABLE,
    ModelDistortion,
)
from tttlrm_jax.core.errors import InputError

GOLDEN = np.load(Path(__file__).parents[2] / "golden" / "lenses.npz")
EXACT = 1e-9  # pixels
LEVEL = 1  # of 255


def camera(name):
    """Intrinsics and distortion of the recorded camera."""
    values, number = GOLDEN[f"{name}/parameters"], LENS_MODELS[name].num_focal
    lens = np.array([*values[:1], *values[number - 1 : number + 2]])
    return lens, ModelDistortion(name, tuple(values[number + 2 :]))


def test_the_table_is_that_of_colmap():
    recorded = {key.partition("/")[0] for key in GOLDEN.files if "/" in key}
    assert recorded == set(READABLE) == set(LENS_MODELS) - {EQUIRECTANGULAR}
    for name in READABLE:
        assert LENS_MODELS[name].number == GOLDEN[f"{name}/number"]
        assert len(LENS_MODELS[name].parameters) == len(GOLDEN[f"{name}/parameters"])


@pytest.mark.parametrize("name", READABLE)
def test_points_appear_where_colmap_has_them(name):
    lens, distortion = camera(name)
    u, v = distortion.apply(*GOLDEN["points"].T)
    ours = np.stack([u * lens[0] + lens[2], v * lens[1] + lens[3]], -1)
    np.testing.assert_allclose(ours, GOLDEN[f"{name}/appear"], atol=EXACT)


@pytest.mark.parametrize("name", READABLE)
def test_undistorted_pictures_equal_colmaps(name):
    """pycolmap leaves black what lies outside, and half a pixel more than we do."""
    lens, distortion = camera(name)
    theirs = GOLDEN[f"{name}/straight"]
    picture = np.repeat(GOLDEN["picture"][..., None], 3, axis=-1)
    ours = undistort(picture, lens, distortion, (GOLDEN[f"{name}/ideal"], theirs.shape))
    inside = theirs > 0
    assert (ours[inside][:, 3] == 255).all()
    assert inside.mean() > 0.7
    difference = np.abs(ours[inside][:, :3].astype(int) - theirs[inside][:, None])
    assert difference.max() <= LEVEL
    outside = ours[..., 3] == 0
    assert not ours[outside].any()
    assert not (outside & inside).any()
    near = ~inside & ~outside  # a border of at most one pixel on every side
    assert near.sum() <= 2 * sum(theirs.shape)


@pytest.mark.parametrize("name", NEUTRAL)
def test_neutral_coefficients_are_no_distortion(name):
    rest = (0.0,) * len(LENS_MODELS[name].coefficients)
    distortion = ModelDistortion(name, (0.0, 1.3) if name == "EUCM" else rest)
    assert not distortion
    u, v = distortion.apply(*GOLDEN["points"].T)
    np.testing.assert_allclose(np.stack([u, v], -1), GOLDEN["points"], atol=1e-12)


def test_fisheyes_without_coefficients_are_distortion():
    for name in set(READABLE) - set(NEUTRAL):
        zero = ModelDistortion(name, (0.0,) * len(LENS_MODELS[name].coefficients))
        assert zero
        u, v = zero.apply(np.array([0.0, 1.0]), np.array([0.0, 0.0]))
        np.testing.assert_allclose([u, v], [[0, np.pi / 4], [0, 0]], atol=1e-12)


def test_a_lens_that_folds_back_shows_nothing_twice():
    """1 - 0.4 r^2 grows until 3 * 0.4 r^2 = 1; corners lie at r = 1.25."""
    folding, lens = Distortion(k1=-0.4), np.array([40.0, 40, 40, 30])
    assert fold_radius(folding, 1.25) == pytest.approx(np.sqrt(1 / 1.2), abs=1e-3)
    assert fold_radius(folding, 0.9) == np.inf
    white = np.full((60, 80, 3), 255, np.uint8)
    alpha = undistort(white, lens, folding)[..., 3]
    y, x = np.mgrid[:60, :80] + 0.5
    radius = np.hypot((x - 40) / 40, (y - 30) / 40)
    assert (alpha[radius < 0.91] == 255).all()
    assert (alpha[radius > 0.92] == 0).all()
    division = ModelDistortion("SIMPLE_DIVISION", (0.3,))  # without image beyond r^2 = 1 / 1.2
    assert fold_radius(division, 1.25) == pytest.approx(np.sqrt(1 / 1.2), abs=1e-3)
    assert not np.isnan(undistort(white, lens, division)).any()


def test_colour_of_transparent_pixels_does_not_bleed():
    lens = np.array([40.0, 40, 20, 10])
    image = np.full((20, 40, 4), 200, np.uint8)
    image[:, 20:] = (255, 0, 255, 0)
    image[:, :20, 3] = 255
    straight = undistort(image, lens, Distortion(k1=-0.1))
    seen = straight[..., 3] > 0
    assert (straight[seen][:, :3] == 200).all()
    assert len(np.unique(straight[..., 3])) > 2  # mixed at the border


@pytest.mark.parametrize(
    ("lens", "expected"),
    [
        ({"camera_model": "OPENCV_FISHEYE", "k1": 0.1, "k4": 0.01},
         ModelDistortion("OPENCV_FISHEYE", (0.1, 0.0, 0.0, 0.01))),
        ({"is_fisheye": True, "k1": 0.1, "p1": 0.0},
         ModelDistortion("OPENCV_FISHEYE", (0.1, 0.0, 0.0, 0.0))),
        ({"camera_model": "SIMPLE_RADIAL_FISHEYE", "k1": 0.1},
         ModelDistortion("SIMPLE_RADIAL_FISHEYE", (0.1,))),
        ({"camera_model": "FULL_OPENCV", "k1": 0.1, "k4": 0.2, "k6": 0.3},
         ModelDistortion("FULL_OPENCV", (0.1, 0.0, 0.0, 0.0, 0.0, 0.2, 0.0, 0.3))),
        ({"camera_model": "FISHEYE"}, ModelDistortion("FISHEYE", ())),
        ({"camera_model": "FOV", "omega": 0.9}, ModelDistortion("FOV", (0.9,))),
        ({"camera_model": "EUCM", "alpha": 0.6, "beta": 1.1}, ModelDistortion("EUCM", (0.6, 1.1))),
        ({"camera_model": "SIMPLE_RADIAL", "k": 0.1}, Distortion(k1=0.1)),
        ({"camera_model": "OPENCV", "k1": 0.1, "k4": 0.2}, Distortion(k1=0.1, k4=0.2)),
    ],
)  # fmt: skip
def test_lenses_of_transforms(capture_directory, camera_file, lens, expected):
    camera_file.to_transforms(**lens)
    assert read_capture(capture_directory).frames[3].distortion == expected


@pytest.mark.parametrize(
    ("lens", "words"),
    [
        (
            {"camera_model": "OPENCV_FISHEYE", "p1": 0.1},
            "p1=0.1, which camera_model=OPENCV_FISHEYE",
        ),
        ({"camera_model": "FISHEYE", "k1": 0.1}, "k1=0.1, which camera_model=FISHEYE"),
        ({"camera_model": "FOV"}, "FOV and no omega"),
        ({"camera_model": "FOV", "omega": "wide"}, r"distortion=\['wide'\] are not all finite"),
        ({"camera_model": "PINHOLE", "is_fisheye": True}, "is_fisheye=True and camera_model=PINH"),
        ({"camera_model": "LENSLET"}, "camera_model=LENSLET.*EUCM.*undistort the images first"),
        ({"camera_model": ["OPENCV"]}, r"camera_model=\['OPENCV'\].*undistort the images first"),
    ],
)
def test_lenses_that_contradict_themselves(capture_directory, camera_file, lens, words):
    camera_file.to_transforms(**lens)
    with pytest.raises(InputError, match=words) as error:
        read_capture(capture_directory)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "lens", [{"camera_model": EQUIRECTANGULAR}, {"latlong": True}, {"equirectangular": 1}]
)
def test_panoramas_are_refused_with_a_remedy(capture_directory, camera_file, lens):
    camera_file.to_transforms(**lens)
    with pytest.raises(InputError, match=r"EQUIRECTANGULAR; .*captures\.cut_panoramas CAPTURE"):
        read_capture(capture_directory)


@pytest.mark.parametrize(("k1", "outside"), [(0.4, True), (-0.1, False)])
def test_what_lies_outside_the_photograph_is_no_coverage(
    capture_directory, camera_file, k1, outside
):
    for path in (capture_directory / "images").iterdir():
        Image.open(path).convert("RGB").save(path)
    camera_file.to_transforms(k1=k1)
    capture = read_capture(capture_directory)
    assert capture.has_alpha()
    scene = CaptureScene(capture, (30, 44), "lact", (0.0, 1.0, 0.0), use_valid=True)
    views = scene.read(np.array([3, 8]))
    assert (views.mask[:, 0, 0] == (0 if outside else 1)).all()
    assert (views.mask[:, 15, 22] == 1).all()
    assert (views.valid is not None) == outside
    if outside:
        np.testing.assert_array_equal(views.valid, views.mask > 0.98)
        np.testing.assert_array_equal(views.image[:, 0, 0], [[0, 1, 0]] * 2)


def test_a_lens_that_shows_nothing_is_named(capture_directory, camera_file):
    camera_file.to_transforms(k1=-1e9)
    scene = CaptureScene(read_capture(capture_directory), (30, 44), "lact", (0.0, 1.0, 0.0))
    with pytest.raises(InputError, match=re.escape("shows no pixel of the photograph")):
        scene.read(np.array([3]))
