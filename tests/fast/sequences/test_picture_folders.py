"""Which pictures of a folder are frames, in which order, and what is said of the others."""

import re

import numpy as np
import pytest
from PIL import Image

from tttlrm_jax.core.errors import InputError
from tttlrm_jax.sequences.readers import open_sequence


def fill(folder, names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix.lower() in (".heic", ".dng", ".exr"):
            path.write_bytes(b"other")
        else:
            Image.new("RGB", (32, 24)).save(path)
    return folder


FOUR = [f"{n:04d}" for n in range(4)]
FOLDERS = {
    "plain": ([f"{n}.jpg" for n in FOUR], [f"{n}.jpg" for n in FOUR], ""),
    "depth and normals of Blender": (
        [f"r_{n}{kind}.png" for n in range(12) for kind in ("", "_depth_0001", "_normal_0001")],
        [f"r_{n}.png" for n in range(12)],
        r"24 pictures .* left out: depth, normal beside",
    ),
    "masks by name": (
        [f"{n}{kind}.png" for n in FOUR for kind in ("", ".mask")], [f"{n}.png" for n in FOUR],
        r"4 pictures \(0000\.mask\.png.*mask beside",
    ),
    "depth alone": ([f"depth_{n}.png" for n in FOUR], [f"depth_{n}.png" for n in FOUR], ""),
    "one name twice": (
        [f"{n}.{ending}" for n in FOUR for ending in ("png", "jpg")], [f"{n}.jpg" for n in FOUR],
        r"4 pictures \(0000\.png.*0000\.jpg has the same name",
    ),
    "some twice": (
        [*(f"{n}.png" for n in FOUR), "0002.jpg"], [f"{n}.png" for n in FOUR],
        r"0002\.jpg is left out: 0002\.png has the same name",
    ),
    "formats that are not read": (
        [*(f"IMG_{n}.JPG" for n in FOUR), "IMG_0004.HEIC", "IMG_0005.HEIC"],
        [f"IMG_{n}.JPG" for n in FOUR], r"2 pictures \(IMG_0004\.HEIC, IMG_0005\.HEIC\) are left",
    ),
    "depth in a format that is not read": (
        [f"{n}{rest}" for n in FOUR for rest in (".png", "_depth.exr")],
        [f"{n}.png" for n in FOUR], r"4 pictures \(0000_depth\.exr.* left out: depth beside",
    ),
    "masks as COLMAP calls them": (
        [f"{n}{rest}" for n in FOUR for rest in (".jpg", ".jpg.png")],
        [f"{n}.jpg" for n in FOUR], r"4 pictures \(0000\.jpg\.png.* left out: a map beside",
    ),
    "words in letters of two sizes": (
        [f"{word}{n}.png" for n in FOUR for word in ("room", "roomDepth", "seg_")],
        [f"room{n}.png" for n in FOUR], r"8 pictures .* left out: depth, seg beside",
    ),
    "images before strays": (
        [*(f"images/{n}.jpg" for n in FOUR), "cover.jpg", "map.png"],
        [f"images/{n}.jpg" for n in FOUR], r"/images are used, 2 in .* left out",
    ),
    "one picture in images": (
        [*(f"{n}.jpg" for n in FOUR), "images/cover.jpg"], [f"{n}.jpg" for n in FOUR],
        r"are used, 1 in .*images left out",
    ),
    "input": ([f"input/{n}.jpg" for n in FOUR], [f"input/{n}.jpg" for n in FOUR], ""),
    "hidden files": (
        [*(f"{n}.jpg" for n in FOUR), "._0001.jpg"], [f"{n}.jpg" for n in FOUR], "",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", FOLDERS)
def test_frames_of_a_folder(tmp_path, kind):
    names, frames, said = FOLDERS[kind]
    sequence = open_sequence(fill(tmp_path / "walk", names))
    assert [frame.name for frame in sequence.frames()] == [
        name.rpartition("/")[2].rpartition(".")[0] for name in frames
    ]
    if not said:
        assert sequence.notes == ()
    else:
        (note,) = sequence.notes
        assert re.search(said, note)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["a.HEIC", "b.HEIC"], r"2 pictures \(a\.HEIC, b\.HEIC\) are there: convert them"),
        (["walk.mp4"], r"it holds the video walk\.mp4: name that file"),
        (["photos/a.jpg"], "frames=0 in walk make no sequence"),
        (
            ["seq-10/a.jpg", "seq-10/b.jpg", "seq-9/a/b.jpg", "seq-9/a/c.jpg"],
            "pictures lie in seq-10: name that folder",
        ),
        (["JPEG/480p/bear/0.jpg", "JPEG/480p/bear/1.jpg"], "lie in JPEG/480p/bear: name that"),
    ],
)
def test_a_folder_without_frames_says_what_it_holds(tmp_path, names, message):
    for name in names:
        (tmp_path / "walk" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "walk" / name).write_bytes(b"")
    with pytest.raises(InputError, match=message):
        open_sequence(tmp_path / "walk")


def write_tum(folder, encoding="utf-8", rows=None, name="rgb/{}.png"):
    numbers = range(4)
    for n in numbers:
        fill(folder, [name.format(n)])
    rows = rows or [f"{10.0 + n} {name.format(n)}" for n in numbers]
    (folder / "rgb.txt").write_bytes(("# list\n" + "\n".join(rows)).encode(encoding))
    truth = "".join(f"{10.0 + n} {n} 0 0 0 0 0 1\n" for n in numbers)
    (folder / "groundtruth.txt").write_bytes(truth.encode(encoding))
    return folder


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"encoding": "utf-8-sig"}, ""),
        ({"encoding": "utf-16"}, ""),
        ({"name": "my walk/picture {}.png"}, ""),
        ({"rows": [f"{10.0 + n} rgb\\{n}.png" for n in range(4)]}, ""),
        ({"rows": [f"{10.0 + n} rgb/{n}.png {10.0 + n} depth/{n}.png" for n in range(4)]}, ""),
        ({"rows": [f"{10.0 + n}, rgb/{n}.png" for n in range(4)]}, ""),
        ({"rows": [f"{10.0 + n} rgb/{n}.png" for n in (2, 0, 3, 1)]}, "order of their stamps"),
    ],
    ids=str,
)
def test_lists_of_tum(tmp_path, options, said):
    sequence = open_sequence(write_tum(tmp_path / "walk", **options))
    frames = list(sequence.frames())
    assert [frame.time for frame in frames] == [10, 11, 12, 13]
    assert [frame.world_from_camera[0, 3] for frame in frames] == [0, 1, 2, 3]
    assert [frame.name[-1] for frame in frames] == list("0123")
    assert said in " ".join(sequence.notes)
    np.testing.assert_equal(bool(sequence.notes), bool(said))
