"""A small made .sh3f archive of the form of Debian's: models, textures, licences and credits."""

import io
import zipfile

import numpy as np
import pytest
from PIL import Image

from tttlrm_jax.config import SyntheticConfig
from tttlrm_jax.core.errors import InputError
from tttlrm_jax.datasets.prepare import main
from tttlrm_jax.datasets.shards.furniture import Archive, furniture_records
from tttlrm_jax.datasets.shards.reader import ShardScenes
from tttlrm_jax.procedural.model_files import render_model
from tttlrm_jax.procedural.surfaces.wavefront import read_obj

CONFIG = SyntheticConfig(num_views=4, height=48, width=64, look_jitter=0.0)
RED, GREEN, BLUE = (220, 30, 30), (30, 200, 30), (30, 30, 220)
CUBE = """mtllib cube.mtl
v -1 -1 -1
v 1 -1 -1
v 1 1 -1
v -1 1 -1
v -1 -1 1
v 1 -1 1
v 1 1 1
v -1 1 1
vt 0 0
vt 1 0
vt 1 1
vt 0 1
usemtl top
f 4/1 8/2 7/3 3/4
usemtl sides
f 1/1 2/2 3/3 4/4
f -4/1 -3/2 -2/3 -1/4
f 1/1 5/2 8/3 4/4
f 2/1 6/2 7/3 3/4
usemtl bottom
f 1/1 2/2 6/3 5/4
usemtl glass
f 1/1 2/2 7/3
"""
MATERIALS = """newmtl top
map_Kd cube.png
newmtl sides
Kd 0.1 0.8 0.1
Ks 0 0 0
newmtl bottom
Kd 0.1 0.1 0.9
newmtl glass
Kd 1 1 1
d 0.1
"""


def texture():
    """Its left half red, its right half blue."""
    image = np.zeros((8, 8, 3), np.uint8)
    image[:, :4], image[:, 4:] = RED, BLUE
    out = io.BytesIO()
    Image.fromarray(image).save(out, "PNG")
    return out.getvalue()


def write_archive(path, licence="Public domain", **changes):
    files = {
        "PluginFurnitureCatalog.properties": (
            f"id=test\nname=Test\nlicense={licence}\n\n"
            "id#1=a\nname#1=Cube \\u00e9\nmodel#1=/made/cube.obj\nwidth#1=100\ndepth#1=50\n"
            "height#1=200\ncreator#1=Somebody\n\n"
            "name#2=Absent\nmodel#2=/made/absent.obj\nwidth#2=1\ndepth#2=1\nheight#2=1\n"
        ),
        "made/cube.obj": CUBE,
        "made/cube.mtl": MATERIALS,
        "made/cube.png": texture(),
    } | changes
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


@pytest.fixture
def archive(tmp_path):
    return write_archive(tmp_path / "made.sh3f")


def test_models_stand_upright_in_their_true_size(archive):
    opened = Archive(archive)
    piece = opened.pieces[0]
    assert piece.credit == "Cube é by Somebody; Public domain; made.sh3f"
    model = opened.load(piece)
    low, high = model.surface.vertices.min(axis=0), model.surface.vertices.max(axis=0)
    np.testing.assert_allclose(high - low, 2 * np.array([100, 50, 200]) / 229.13, rtol=1e-3)
    np.testing.assert_allclose(low + high, 0.0, atol=1e-6)
    assert len(model.surface.triangles) == 2 * 12  # both sides; the glass is left out


def test_top_and_bottom_are_where_they_belong(archive):
    """The picture lies on the face that was at y = 1; from below the bottom is seen."""
    opened = Archive(archive)
    model = opened.load(opened.pieces[0])
    for low, high, present, absent in ((80, 90, (0, 2), 1), (-90, -80, (2,), 0)):
        config = SyntheticConfig(
            num_views=2, height=48, width=48, min_elevation=low, max_elevation=high,
            look_jitter=0.0,
        )  # fmt: skip
        scene = render_model(model, 5, config)
        colours = scene["image"][scene["image"][..., 3] == 255][:, :3].astype(int)
        strongest = np.bincount(colours.argmax(axis=1), minlength=3) / len(colours)
        assert all(strongest[channel] > 0.2 for channel in present)
        assert strongest[absent] < 0.15


def test_records_and_command_keep_credits(archive, tmp_path, capsys):
    records = list(furniture_records([archive], CONFIG))
    assert [record.name for record in records] == ["made-0000"]
    assert "left out Absent: model=made/absent.obj does not exist" in capsys.readouterr().err
    arguments = ["--archives", str(archive), "--config.num-views", "4", "--config.height", "24",
                 "--config.width", "32"]  # fmt: skip
    assert main([str(tmp_path / "out"), "furniture", *arguments]) == 0
    scenes = ShardScenes(tmp_path / "out", "train", (24, 32), holdout_every=0)
    assert len(scenes) == 1
    assert scenes[0].read(np.array([0])).mask.max() == 1.0
    credit = (scenes.path / "CREDITS.txt").read_text(encoding="utf-8")
    assert credit == "Cube é by Somebody; Public domain; made.sh3f\n"


@pytest.mark.parametrize(
    ("licence", "taken"),
    [
        ("Creative Commons Attribution 3.0 license", True),
        ("CC0", True),
        ("Creative Commons Attribution-ShareAlike 3.0", False),
        ("Creative Commons Attribution-NonCommercial", False),
        ("GNU General Public License", False),
        ("", False),
    ],
)
def test_only_free_licences_are_taken(tmp_path, licence, taken):
    path = write_archive(tmp_path / "other.sh3f", licence)
    if taken:
        assert Archive(path).pieces
    else:
        with pytest.raises(InputError, match="neither public domain nor"):
            Archive(path)


def catalogue(*licences):
    """Cubes, each with a licence of its own or, where it is None, the archive's public domain."""
    lines = ["license=Public domain"]
    for number, licence in enumerate(licences, start=1):
        lines += [
            f"name#{number}=Cube {number}", f"model#{number}=/made/cube.obj",
            f"width#{number}=1", f"depth#{number}=1", f"height#{number}=1",
        ]  # fmt: skip
        lines += [] if licence is None else [f"license#{number}={licence}"]
    return {"PluginFurnitureCatalog.properties": "\n".join(lines)}


def test_pieces_under_an_unfree_licence_of_their_own_are_left_out(tmp_path, capsys):
    files = catalogue(
        None, "CC-BY-NC 4.0", "Creative Commons Attribution 3.0 license", "Free Art License", ""
    )
    path = write_archive(tmp_path / "mixed.sh3f", **files)
    records = list(furniture_records([path], SyntheticConfig(num_views=1, height=8, width=8)))
    assert [record.name for record in records] == ["mixed-0000", "mixed-0002", "mixed-0004"]
    assert [record.credit for record in records] == [
        "Cube 1 by unknown; Public domain; mixed.sh3f",
        "Cube 3 by unknown; Creative Commons Attribution 3.0 license; mixed.sh3f",
        "Cube 5 by unknown; Public domain; mixed.sh3f",
    ]
    said = capsys.readouterr().err
    assert said.count("left out") == 2
    assert "left out Cube 2: piece=Cube 2 has license='CC-BY-NC 4.0', which is neither" in said
    assert "left out Cube 4: piece=Cube 4 has license='Free Art License'" in said
    archive = Archive(path)
    with pytest.raises(InputError, match="piece=Cube 2 has license='CC-BY-NC"):
        archive.load(archive.pieces[1])


def test_bad_archives_are_named(tmp_path):
    (tmp_path / "no.sh3f").write_text("nothing")
    with pytest.raises(InputError, match="is no Sweet Home 3D catalogue"):
        Archive(tmp_path / "no.sh3f")


def test_a_model_of_glass_alone_is_named():
    text = "mtllib cube.mtl\nv 0 0 0\nv 1 0 0\nv 0 1 0\nusemtl glass\nf 1 2 3\n"
    files = {"a.obj": text.encode(), "cube.mtl": MATERIALS.encode(), "cube.png": texture()}
    with pytest.raises(InputError, match="is all to be seen through"):
        read_obj("a.obj", files.__getitem__)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("v 0 0 0\nf 1 2 3\n", "names a v that is not there"),
        ("v 0 0 zero\n", "is no Wavefront OBJ"),
        ("v 0 0 0\n", "has no faces"),
    ],
)
def test_bad_models_are_named(text, message):
    with pytest.raises(InputError, match=message):
        read_obj("a.obj", {"a.obj": text.encode()}.__getitem__)
