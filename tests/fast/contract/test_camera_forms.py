"""Promises of every form of cameras: a made scene written in it is the same capture; what is wrong
is refused in one sentence; of two forms in a folder it is said which one was read."""

import dataclasses
import re

import numpy as np
import pytest
from PIL import Image

from experiments.capture_forms import NERFSTUDIO_TURN, WRITERS, MadeScene
from tttlrm_jax.captures.capture import load_views, read_capture
from tttlrm_jax.captures.forms.table import FORMS
from tttlrm_jax.captures.lenses.distortion import Distortion
from tttlrm_jax.core.errors import InputError

HEIGHT, WIDTH = 30, 44
CENTRED = (52.0, 52.0, 22.0, 15.0)
OFF_CENTRE = (52.0, 52.0, 23.25, 14.5)
TWO_FOCAL = (52.0, 49.5, 23.25, 14.5)
BROWN = (-0.21, 0.06, -0.011, 0.003, 0.0015, -0.0025)
WITHOUT_NAMES = ("LLFF", "IDR")  # forms that match pictures by their order


@pytest.fixture(scope="module")
def made(rendered):
    """The scene with the plainest lens, which every form holds. Its cameras are moved off their
    circle: on it two are equally near to a mean, and rounding decides which one is an input."""
    poses = np.array(rendered["world_from_camera"])
    poses[:, :3, 3] += 0.2 * np.random.default_rng(0).normal(size=(12, 3))
    return MadeScene(rendered["image"], poses, CENTRED)


def lens_of(form: str, scene: MadeScene) -> MadeScene:
    """The scene with all of a lens that a form holds."""
    written = WRITERS[form]
    lens = CENTRED
    if written.centre:
        lens = TWO_FOCAL if written.aspect else OFF_CENTRE
    count = written.radial
    distortion = (
        *BROWN[:count],
        *[0.0] * (4 - count),
        *(BROWN[4:] if written.tangential else (0, 0)),
    )
    return dataclasses.replace(scene, lens=lens, distortion=distortion)


def expected_poses(form: str, scene: MadeScene) -> np.ndarray:
    """nerfstudio's cameras stay in the frame of the file."""
    turn = NERFSTUDIO_TURN if form == "nerfstudio" else np.eye(4)
    return turn @ scene.world_from_camera


@pytest.mark.parametrize("form", WRITERS)
def test_a_made_scene_is_the_same_capture_in_every_form(tmp_path, made, form):
    scene = lens_of(form, made)
    WRITERS[form].write(tmp_path, scene)
    capture = read_capture(tmp_path)
    assert (len(capture), capture.name) == (
        12,
        "clip" if form == "RealEstate10K" else tmp_path.name,
    )
    np.testing.assert_allclose(
        capture.world_from_camera, expected_poses(form, scene), rtol=0, atol=1e-6
    )
    lenses = np.stack([frame.intrinsics for frame in capture.frames])
    np.testing.assert_allclose(lenses, np.tile(scene.lens, (12, 1)), rtol=0, atol=1e-6)
    k1, k2, k3, k4, p1, p2 = scene.distortion
    for frame in capture.frames:
        assert frame.distortion == Distortion(k1=k1, k2=k2, k3=k3, k4=k4, p1=p1, p2=p2)
    assert capture.image_size(3) == (HEIGHT, WIDTH)
    assert list(capture.frame_numbers) == list(range(12))


@pytest.mark.parametrize("form", WRITERS)
def test_pictures_inputs_and_targets_are_the_same_in_every_form(tmp_path, made, form):
    """Hence every score is."""
    WRITERS["opencv_cameras.json"].write(tmp_path / "one", made)
    WRITERS[form].write(tmp_path / "two", made)
    one, two = read_capture(tmp_path / "one"), read_capture(tmp_path / "two")
    for first, second in zip(one.split(1), two.split(1), strict=True):
        np.testing.assert_array_equal(first, second)
    pictures = [load_views(capture, [10, 2], 16, 24)[0] for capture in (one, two)]
    np.testing.assert_array_equal(*pictures)


def test_every_form_of_the_table_is_written_here(tmp_path, made):
    found = set()
    for form, written in WRITERS.items():
        written.write(tmp_path / form, made)
        found |= {each.name for each in FORMS if each.find(tmp_path / form)}
    lacking = {form.name for form in FORMS} - found
    assert lacking <= {"transforms_test.json", "transforms_val.json"}


@pytest.mark.parametrize("form", WRITERS)
def test_a_missing_picture_is_named_or_the_counts_are(tmp_path, made, form):
    WRITERS[form].write(tmp_path, made)
    picture = sorted(tmp_path.rglob("*.png"))[5]
    picture.unlink()
    words = re.escape(picture.stem)
    if form in WITHOUT_NAMES:
        words = "has 12 cameras, .* has 11 pictures"
    with pytest.raises(InputError, match=words) as error:
        read_capture(tmp_path)
    assert "\n" not in str(error.value)
    if form not in WITHOUT_NAMES:
        assert len(read_capture(tmp_path, skip_missing=True)) == 11


@pytest.mark.parametrize("form", WRITERS)
def test_a_picture_that_is_none_is_named(tmp_path, made, form):
    WRITERS[form].write(tmp_path, made)
    picture = sorted(tmp_path.rglob("*.png"))[2]
    picture.write_bytes(b"no picture")
    with pytest.raises(InputError, match=re.escape(picture.name)):
        load_views(read_capture(tmp_path), np.arange(12), 8, 8)


def replaced(path, old, new):
    text = path.read_text()
    assert re.search(old, text), old
    path.write_text(re.sub(old, new, text, count=1))


# in a file of a form: what is replaced (a pattern), by what, the words of the refusal
DAMAGES = {
    ("Polycam", "*.json"): [
        ('"t_12": ', '"t_99": ', "lacks t_12"),
        ('"fx": 5', '"fx": "long", "f": 5', "is not 4 finite numbers"),
        ('"fx": 5', '"fx": -5', "not positive"),
        ('"width": 44', '"width": 0', "not whole and positive"),
        ("(?s).{9}$", "", "is not JSON"),
        ('"t_00": [^,]+', '"t_00": 7', "is not rigid"),
    ],
    ("Record3D", "metadata.json"): [
        (r', \[[^]]+\]\]}$', "]}", "11 poses for 12 pictures"),
        (r'"poses": \[\[[^]]+', '"poses": [[0, 0, 0, 0, 1, 2, 3', "frame 0: .*length 0"),
        (r'"K": [^]]+', '"K": [50, 0, 22, 0, 50, 15, 0, 0, 1', "column by column"),
        ('"w": 44', '"wide": 44', "width, height"),
    ],
    ("Record3D per frame", "metadata.json"): [
        (r'Coeffs": \[\[[^]]+\], ', 'Coeffs": [', "11 entries for 12"),
    ],
    ("RealityCapture CSV", "cameras.csv"): [
        (",f,px", ",g,px", "no column f; export Internal/External"),
        ("\n000004.png,", "\n", "row 5 has 15 entries for 16"),
        ("(4.png),[^,]+", r"\1,nan", "000004.png: .*finite numbers"),
        ("000004.png", "000005.png", "two cameras to 000005.png"),
        ("((,[^,]+){6}),42[^,]*,", r"\1,-3,", "not positive"),
    ],
    ("RealityCapture XMP", "*.xmp"): [
        ("brown4t2", "rational", "has the lens rational"),
        ("Rotation>[^ ]+ ", "Rotation>", "Rotation.*9 finite numbers"),
        ("Rotation>[^<]+<", f"Rotation>{'0 ' * 9}<", "singular"),
        ("FocalLength35mm", "Focal", "no FocalLength35mm"),
        ('Skew="0"', 'Skew="0.1"', "Skew=0.1"),
        ("</x:xmpmeta>", "", "is not XML"),
    ],
    ("Metashape", "cameras.xml"): [
        ('made" type="frame"', 'made" type="fisheye"', "type fisheye"),
        ('sensor_id="0"', 'sensor_id="7"', "sensor 7, which is not listed"),
        ("<f>.*</f>", "", "no calibration with f"),
        ("<transform>[^ ]+ ", "<transform>", "transform=.*16 finite"),
        ("<k1>", "<b2>4</b2><k1>", "skew=4"),
        ("<document", '<!DOCTYPE d [<!ENTITY a "b">]><document', "entities"),
    ],
    ("Bundler", "list.txt"): [
        ("(?s)000011.*", "", "12 cameras, .* names 11 pictures"),
    ],
    ("Bundler", "bundle.out"): [
        ("(?s)^(.{900}).*", r"\1", "finite numbers"),
        (r"\n(\S+) \S+ \S+\n", r"\n\1 0\n", "camera 0: lines.*15 finite numbers"),
    ],
    ("RealEstate10K", "clip.txt"): [
        ("3( [^ ]+){5} 0.0 ", r"3\1\1 0.0 ", "not 19 finite numbers"),
        (r"(\n5000000003( \S+){6})( \S+){12}", r"\1" + " 0" * 12, "3: .* singular"),
    ],
}  # fmt: skip


@pytest.mark.parametrize(
    ("form", "file", "old", "new", "words"),
    [(*place, *damage) for place, damages in DAMAGES.items() for damage in damages],
)
def test_what_is_wrong_is_refused_in_one_sentence(tmp_path, made, form, file, old, new, words):
    WRITERS[form].write(tmp_path, made)
    replaced(sorted(tmp_path.rglob(file))[0], old, new)
    check_refused(tmp_path, words)


def check_refused(folder, words):
    with pytest.raises(InputError, match=words) as error:
        read_capture(folder)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 600


@pytest.mark.parametrize(
    ("rows", "columns", "value", "words"),
    [
        (3, slice(0, 12), 0.0, "row 3: its pose is singular"),
        (3, 2, np.nan, "row 3: entries.*finite"),
        (3, 4, 30.5, "not whole"),
        (3, 14, -2.0, "not positive"),
    ],
)
def test_wrong_rows_of_llff_are_named(tmp_path, made, rows, columns, value, words):
    WRITERS["LLFF"].write(tmp_path, made)
    array = np.load(tmp_path / "poses_bounds.npy")
    array[rows, columns] = value
    np.save(tmp_path / "poses_bounds.npy", array)
    check_refused(tmp_path, words)


def test_arrays_that_are_none_are_named(tmp_path, made):
    for form in ("LLFF", "IDR"):
        WRITERS[form].write(tmp_path / form, made)
    rows = np.load(tmp_path / "LLFF" / "poses_bounds.npy")
    np.save(tmp_path / "LLFF" / "poses_bounds.npy", rows[:, :15])
    check_refused(tmp_path / "LLFF", r"shape \(12, 15\), not")
    (tmp_path / "LLFF" / "poses_bounds.npy").write_bytes(b"nothing")
    check_refused(tmp_path / "LLFF", "is no NumPy array")
    (tmp_path / "IDR" / "cameras.npz").write_bytes(b"PK")
    check_refused(tmp_path / "IDR", r"is no \.npz file")


@pytest.mark.parametrize(
    ("matrix", "words"),
    [
        (np.zeros((4, 4)), "world_mat_3 is singular"),
        (np.eye(3), r"world_mat_3 has shape \(3, 3\)"),
        (np.array([[50, 9, 22, 0], [0, 50, 15, 0], [0, 0, 1, 0.0]]), "skew"),
        (None, "no world_mat_3"),
    ],
)
def test_wrong_matrices_of_idr_are_named(tmp_path, made, matrix, words):
    WRITERS["IDR"].write(tmp_path, made)
    arrays = {**np.load(tmp_path / "cameras.npz"), "world_mat_3": matrix}
    if matrix is None:
        del arrays["world_mat_3"]
    np.savez(tmp_path / "cameras.npz", **arrays)
    check_refused(tmp_path, words)


def test_bundler_without_its_list(tmp_path, made):
    WRITERS["Bundler"].write(tmp_path, made)
    (tmp_path / "list.txt").unlink()
    check_refused(tmp_path, "no list of its pictures")


@pytest.mark.parametrize(
    ("taken", "other"),
    [("COLMAP text", "LLFF"), ("transforms.json", "Metashape"), ("Bundler", "LLFF")],
)
def test_of_two_forms_it_is_said_which_one_was_read(tmp_path, made, taken, other):
    WRITERS[other].write(tmp_path, made)
    WRITERS[taken].write(tmp_path, made)
    (note,) = read_capture(tmp_path).notes
    places = {
        "COLMAP text": "sparse/0/cameras.txt", "LLFF": "poses_bounds.npy",
        "transforms.json": "transforms.json", "Metashape": "cameras.xml", "Bundler": "bundle.out",
    }  # fmt: skip
    assert f"those of {places[taken]}; {places[other]} was not read" in note


def test_of_two_files_of_one_form_it_is_said_which_one_was_read(tmp_path, made):
    WRITERS["Metashape"].write(tmp_path, made)
    (tmp_path / "old.xml").write_text((tmp_path / "cameras.xml").read_text())
    (tmp_path / "beyond.xml").write_text("<document><something/></document>")
    (note,) = read_capture(tmp_path).notes
    assert note == "cameras are those of cameras.xml; old.xml was not read"
    assert not read_capture(tmp_path / "old.xml").notes


@pytest.mark.parametrize("form", ["RealityCapture CSV", "Bundler", "LLFF", "Metashape", "IDR"])
def test_a_file_that_is_named_itself_is_read(tmp_path, made, form):
    WRITERS[form].write(tmp_path, made)
    path = next(path for each in FORMS for path in each.find(tmp_path))
    assert len(read_capture(path)) == 12


def test_what_is_not_aligned_is_left_out_and_said(tmp_path, made):
    for form in ("Bundler", "Metashape", "RealityCapture XMP"):
        WRITERS[form].write(tmp_path / form, made)
    replaced(tmp_path / "Bundler" / "bundle.out", r"v0.3\n12 1\n(\S+ \S+ \S+\n){5}",
             "v0.3\n12 1\n" + "0 0 0\n" * 5)  # fmt: skip
    replaced(tmp_path / "Metashape" / "cameras.xml", "<transform>.*</transform>", "")
    (tmp_path / "RealityCapture XMP" / "images" / "000000.xmp").unlink()
    for form in ("Bundler", "Metashape", "RealityCapture XMP"):
        capture = read_capture(tmp_path / form)
        assert len(capture) == 11
        (note,) = [note for note in capture.notes if "left out" in note]
        assert note.startswith("1 of 12")
        assert "000000" in note


def test_hidden_files_of_other_programs_are_no_pictures(tmp_path, made):
    for form in WITHOUT_NAMES:
        WRITERS[form].write(tmp_path / form, made)
        picture = next((tmp_path / form).rglob("*.png"))
        picture.with_name("._" + picture.name).write_bytes(b"Mac")
        assert len(read_capture(tmp_path / form)) == 12


def test_of_several_chunks_of_metashape_the_largest_is_read(tmp_path, made):
    WRITERS["Metashape"].write(tmp_path, made)
    file = tmp_path / "cameras.xml"
    before, chunk, after = re.split("(?s)(<chunk.*</chunk>)", file.read_text())
    small = re.sub("(?s)<camera .*</camera>", "", chunk).replace('label="1"', 'label="small"')
    file.write_text(before + small + chunk + after)
    capture = read_capture(tmp_path)
    assert len(capture) == 12
    assert "of 2 chunks 1 is read, with 12 cameras" in capture.notes[0]


def test_bundler_with_points_behind_its_cameras(tmp_path, made):
    """Some programs write cameras that look along +z in this form."""
    WRITERS["Bundler"].write(tmp_path, made)
    behind = made.world_from_camera[0] @ [0.0, 0.0, -1.0, 1.0]
    text = " ".join(map(str, behind[:3]))
    replaced(tmp_path / "bundle.out", r"[^\n]+\n255 0 0", f"{text}\n255 0 0")
    with pytest.raises(InputError, match="positive z"):
        read_capture(tmp_path)


def test_names_of_other_machines_and_other_endings(tmp_path, made):
    WRITERS["Bundler"].write(tmp_path / "a", made)
    names = (tmp_path / "a" / "list.txt").read_text()
    (tmp_path / "a" / "list.txt").write_text(re.sub(r"(?m)^(?=.)", r"C:\\photos\\desk\\", names))
    assert len(read_capture(tmp_path / "a")) == 12
    WRITERS["RealityCapture CSV"].write(tmp_path / "b", made)
    table = tmp_path / "b" / "cameras.csv"
    table.write_text(table.read_text().replace(".png", ".jpg"))
    capture = read_capture(tmp_path / "b")
    assert len(capture) == 12
    assert any("other endings" in note for note in capture.notes)


def test_llff_with_smaller_pictures(tmp_path, made):
    """Only `images_2` is there, as often: the lens is that of its pictures."""
    WRITERS["LLFF"].write(tmp_path, made)
    (tmp_path / "images").rename(tmp_path / "images_2")
    for path in (tmp_path / "images_2").iterdir():
        Image.open(path).resize((WIDTH // 2, HEIGHT // 2)).save(path)
    capture = read_capture(tmp_path)
    assert capture.image_size() == (15, 22)
    np.testing.assert_allclose(capture.frames[0].intrinsics, np.array(CENTRED) / 2)


def test_names_without_padding_are_matched_in_plain_order_and_said(tmp_path, made):
    """As LLFF's and NeuS's own tools sort; the frames come in natural order nevertheless."""
    WRITERS["LLFF"].write(tmp_path, made)
    order = sorted(range(12), key=str)  # 0, 1, 10, 11, 2, ...
    for number in range(12):
        (tmp_path / "images" / f"{number:06d}.png").rename(tmp_path / "images" / f"{number}.png")
    array = np.load(tmp_path / "poses_bounds.npy")
    np.save(tmp_path / "poses_bounds.npy", array[order])
    capture = read_capture(tmp_path)
    np.testing.assert_allclose(capture.world_from_camera, made.world_from_camera, atol=1e-9)
    assert any("plain order" in note for note in capture.notes)


def test_polycam_prefers_corrected_cameras(tmp_path, made):
    WRITERS["Polycam"].write(tmp_path, made)
    keyframes = tmp_path / "keyframes"
    for kind in ("images", "cameras"):
        (keyframes / kind).rename(keyframes / f"corrected_{kind}")
    WRITERS["Polycam"].write(tmp_path, made)
    capture = read_capture(tmp_path)
    assert capture.frames[0].image_path.parent.name == "corrected_images"


def test_metashape_reads_one_component_and_stays_in_its_frame(tmp_path, made):
    WRITERS["Metashape"].write(tmp_path, made)
    path = tmp_path / "cameras.xml"
    replaced(path, 'component_id="0"', 'component_id="1"')
    replaced(path, "</sensors>", "</sensors><transform><scale>7</scale></transform>")
    capture = read_capture(tmp_path)
    np.testing.assert_allclose(capture.world_from_camera, made.world_from_camera[1:], atol=1e-9)
    assert any("component 0 of 2" in note for note in capture.notes)
    assert any("its transform is not applied" in note for note in capture.notes)


def test_angles_of_reality_capture_by_hand(tmp_path, made):
    """Heading 90: the top of a picture taken straight down points east; pitch 90: level, north."""
    WRITERS["RealityCapture CSV"].write(tmp_path, made)
    path = tmp_path / "cameras.csv"
    header = path.read_text().split("\n")[0]
    rows = ["000000.png,1,2,3,90,0,0,36,0,0", "000001.png,1,2,3,0,90,0,36,0.25,-0.125"]
    path.write_text("\n".join([header.rpartition(",k1")[0], *rows]))
    down, north = read_capture(tmp_path).frames  # the second one is level: heading plus roll count
    np.testing.assert_allclose(down.world_from_camera[:3, 2], [0, 0, -1], atol=1e-12)
    np.testing.assert_allclose(-down.world_from_camera[:3, 1], [1, 0, 0], atol=1e-12)
    np.testing.assert_allclose(north.world_from_camera[:3, 2], [0, 1, 0], atol=1e-12)
    np.testing.assert_allclose(-north.world_from_camera[:3, 1], [0, 0, 1], atol=1e-12)
    np.testing.assert_allclose(north.intrinsics, [44, 44, 22 + 11, 15 - 5.5])


@pytest.mark.parametrize("turn", [0.0, 40.0, 200.0])
def test_level_cameras_in_the_angles_of_reality_capture(tmp_path, made, turn):
    """There heading and roll turn about one axis, so that only both together count."""
    level = np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])  # right, down, forward: looks along +y
    angle = np.radians(turn)
    c, s = np.cos(angle), np.sin(angle)
    poses = np.array(made.world_from_camera)
    poses[:, :3, :3] = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]) @ level
    scene = dataclasses.replace(made, world_from_camera=poses)
    WRITERS["RealityCapture CSV"].write(tmp_path, scene)
    np.testing.assert_allclose(read_capture(tmp_path).world_from_camera, poses, atol=1e-9)


def test_an_archive_is_to_be_unpacked(tmp_path):
    (tmp_path / "scan.r3d").write_bytes(b"PK")
    with pytest.raises(InputError, match="is an archive; unpack it"):
        read_capture(tmp_path / "scan.r3d")


def test_upright_photographs_of_reality_capture_are_upright(tmp_path, made):
    """Rotation and angles of two exported photographs, held level by hand: down is down."""
    WRITERS["RealityCapture XMP"].write(tmp_path / "a", made)
    rotation = (
        "0.412555 0.910841 0.012889 0.041206 -0.004526 -0.999140 -0.910000 0.412732 -0.039399"
    )
    path = tmp_path / "a" / "images" / "000000.xmp"
    replaced(path, "Rotation>[^<]+<", f"Rotation>{rotation}<")
    WRITERS["RealityCapture CSV"].write(tmp_path / "b", made)
    replaced(
        tmp_path / "b" / "cameras.csv", "\n000000.png(,[^,]+){6},",
        "\n000000.png,0.348,-0.457,1.875,-26.486056,87.227408,14.715319,",
    )  # fmt: skip
    for folder in ("a", "b"):
        pose = read_capture(tmp_path / folder).frames[0].world_from_camera
        down, forward = pose[:3, 1], pose[:3, 2]
        assert down[2] < -0.99
        assert abs(forward[2]) < 0.1
