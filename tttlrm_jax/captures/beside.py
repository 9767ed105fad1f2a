"""What lies beside photographs, looks like truth of them, and was not read: named, not passed over.

A name is judged by its words: `poses.csv`, `calib`, `K.txt`, `depth_maps`, `masks`. Of captures
pictures without a camera are named as well.
"""

import os
import re
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from tttlrm_jax.captures.pictures.paths import ENDINGS
from tttlrm_jax.core.errors import listed
from tttlrm_jax.core.files.natural_order import natural_order

# what a name may hold, by the words in it
WORDS = {
    "poses": (
        "pose", "poses", "traj", "trajectory", "extrinsic", "extrinsics", "groundtruth", "odometry",
        "cam", "cams", "camera", "cameras", "transforms", "c2w", "w2c", "cam2world", "world2cam",
        "colmap", "sparse", "bundle", "campose", "camposes", "gt", "truth",
    ),
    "intrinsics": (
        "intrinsic", "intrinsics", "calib", "calibration", "calibrations", "k", "lens", "kmatrix",
    ),
    "depth": ("depth", "depths", "depthmap", "depthmaps", "disp", "disparity", "disparities"),
    "masks": (
        "mask", "masks", "segmentation", "segmentations", "matte", "mattes", "alpha", "alphas",
        "silhouette", "silhouettes", "seg", "semantic", "semantics",
    ),
}  # fmt: skip
# words of pictures' names that say what they show in place of the scene
MAP_WORDS = (
    "depth", "depths", "depthmap", "disparity", "disp", "normal", "normals", "mask", "masks",
    "alpha", "matte", "segmentation", "semantic", "semantics", "instance", "label", "labels",
    "flow", "confidence", "albedo", "roughness", "metallic", "seg", "semseg", "sem", "conf",
    "uncertainty", "instances", "shading", "specular", "occlusion", "trimap", "silhouette",
)  # fmt: skip
_MAP_WORD = re.compile(rf"(?<![a-z])({'|'.join(MAP_WORDS)})(?![a-z])")
# files that may hold them; pictures and points are another matter
SUFFIXES = (
    "", ".txt", ".json", ".csv", ".tsv", ".xml", ".yaml", ".yml", ".npy", ".npz", ".mat", ".bin",
    ".pkl", ".log", ".cam", ".out", ".toml", ".db", ".tum", ".g2o", ".h5", ".xmp",
)  # fmt: skip
DEPTH_SUFFIXES = (".depth", ".npy", ".npz", ".exr", ".pfm", ".dpt")  # of depth beside pictures
MOST_NAMED = 4  # of each kind


def left_out(
    folder: Path,
    files: Iterable[Path],
    names: Collection[str] = (),
    pattern: re.Pattern[str] = re.compile(""),
    kinds: Collection[str] = tuple(WORDS),
) -> tuple[str, ...]:
    """A note that names what in a folder looks like truth and was not read.

    Read were `files`, with the folders they lie in, and what there has one of the `names` or a
    name of the `pattern`. Only what seems to hold one of `kinds` is named.
    """
    root, files = Path(os.path.abspath(folder)), list(files)
    used = {*names, *(_part(each, root) for each in files)}
    found: dict[str, list[str]] = {}
    for each in _entries(root):
        known = each.name in used or pattern.fullmatch(each.name)
        kind = None if known else _kind(each)
        if kind is not None and kind in kinds:
            found.setdefault(kind, []).append(each.name + "/" * each.is_dir())
    suffixes = set(DEPTH_SUFFIXES)
    if "poses" in kinds:  # of a sequence, whose pictures of other formats are named elsewhere
        suffixes = {*SUFFIXES, *DEPTH_SUFFIXES} - {".exr"}
    if beside_each := _sidecars(files, names, suffixes):
        found["one for each picture"] = beside_each
    if not found:
        return ()
    parts = [f"{listed(names, MOST_NAMED)} ({kind})" for kind, names in found.items()]
    return (f"not read, though beside the pictures: {'; '.join(parts)}",)


def map_word(path: Path) -> str | None:
    """What a picture's name says that it shows in place of the scene: depth, mask, ...; or None."""
    words = re.sub("([a-z])([A-Z])", r"\1_\2", path.stem).lower()
    found = _MAP_WORD.search(words)
    return found[1] if found else None


def without_cameras(
    root: Path, pictures: Collection[Path], used: Collection[Path], said: bool
) -> tuple[str, ...]:
    """Notes that name what lies in the folders of `pictures` and is none of them nor in `used`.

    First what shows depth, masks and the like by its name, there or in `root`, then pictures
    without a camera, unless they are `said` already.
    """
    known = {os.path.abspath(path) for path in (*pictures, *used)}
    folders = dict.fromkeys(Path(os.path.abspath(path)).parent for path in pictures)
    others = [
        path for folder in dict.fromkeys([*folders, Path(os.path.abspath(root))])
        for path in _entries(folder)
        if path.suffix.lower() in ENDINGS and not path.name.startswith(".")
        and str(path) not in known
    ]  # fmt: skip
    names = {os.path.basename(path) for path in known}
    maps = [path for path in others if path.stem in names or map_word(path)]
    rest = [path.name for path in others if path.parent in folders and path not in set(maps)]
    notes = []
    if maps:
        shown = listed([path.name for path in maps], MOST_NAMED)
        notes.append(f"not read, though beside the pictures: {shown} (maps by their names)")
    if rest and not said:
        have, are = ("has", "is") if len(rest) == 1 else ("have", "are")
        notes.append(
            f"{len(rest)} of {len(rest) + len(pictures)} pictures {have} no camera and {are} left "
            f"out: {listed(rest, MOST_NAMED)}"
        )
    return tuple(notes)


def unread_keys(frames: Collection[dict[str, Any]], shared: Mapping[str, Any]) -> tuple[str, ...]:
    """Notes on what a JSON file says of its frames or of all, and nothing here reads."""
    given = {
        key: None for entry in (shared, *frames) for key, value in entry.items()
        if isinstance(value, str) and key != "mask_path" and re.search("mask|depth|semantic", key)
    }  # fmt: skip
    lists = [f"{part}_filenames" for part in ("train", "val", "test")]
    more = [
        key for key, value in shared.items()
        if key != "frames" and isinstance(value, list) and value and isinstance(value[0], dict)
        and "file_path" in value[0]
    ]  # fmt: skip
    notes = []
    if given:
        notes.append(f"not read, though the frames have it: {listed(list(given))}")
    if more:
        notes.append(f"the frames in {listed(more)} are not read")
    if any(shared.get(key) for key in lists):
        notes.append(f"{', '.join(lists)} are not used: every 8th frame is a target")
    if shared.get("applied_transform") is not None:
        notes.append("applied_transform is not undone: cameras are in the world of the file")
    return tuple(notes)


def _sidecars(
    files: Collection[Path], names: Collection[str], suffixes: Collection[str]
) -> list[str]:
    """Files that lie beside half of `files` or more, are called like them and none of them."""
    stems = {(str(path.parent), path.stem) for path in files}
    known = {str(path) for path in files}
    found = [
        each.name for folder in dict.fromkeys(path.parent for path in files)
        for each in _entries(folder)
        if each.suffix and each.suffix.lower() in suffixes and (str(folder), each.stem) in stems
        and str(each) not in known and each.name not in names
    ]  # fmt: skip
    return found if 2 * len(found) >= len(stems) else []


def _entries(folder: Path) -> list[Path]:
    """What a folder holds, in order; nothing where it may not be looked into."""
    try:
        return natural_order(folder.iterdir(), lambda path: path.name)
    except OSError:
        return []


def _part(file: Path, root: Path) -> str:
    """The name within `root` below which a file lies; empty where it lies elsewhere."""
    place = Path(os.path.abspath(file))
    inside = place.relative_to(root).parts if place.is_relative_to(root) else ()
    return inside[0] if inside else ""


def _kind(path: Path) -> str | None:
    """What a file or folder seems to hold; None where its name does not tell, or it is empty."""
    if path.name.startswith(".") or (not path.is_dir() and path.suffix.lower() not in SUFFIXES):
        return None
    split = re.sub(r"([a-z])([A-Z])", r"\1 \2", path.name if path.is_dir() else path.stem)
    words = {word for word in re.split(r"[^a-z0-9]+|(?<=[a-z]{3})\d+", split.lower()) if word}
    words |= {word.rstrip("0123456789") for word in words if len(word) > 3}
    kind = next((kind for kind, known in WORDS.items() if words & set(known)), None)
    if kind is None or (path.is_dir() and not _entries(path)):
        return None
    return kind
