"""What lies beside photographs, looks like truth of them, and was not read: named, not passed over.

A name is judged by its words: `poses.csv`, `calib`, `K.txt`, `depth_maps`, `masks`.
"""

import os
import re
from collections.abc import Collection, Iterable
from pathlib import Path

from tttlrm_jax.core.errors import listed
from tttlrm_jax.core.files.natural_order import natural_order

# what a name may hold, by the words in it
WORDS = {
    "poses": (
        "pose", "poses", "traj", "trajectory", "extrinsic", "extrinsics", "groundtruth", "odometry",
        "cam", "cams", "camera", "cameras", "transforms", "c2w", "w2c", "cam2world", "world2cam",
        "colmap", "sparse", "bundle", "campose", "camposes",
    ),
    "intrinsics": (
        "intrinsic", "intrinsics", "calib", "calibration", "calibrations", "k", "lens", "kmatrix",
    ),
    "depth": ("depth", "depths", "depthmap", "depthmaps", "disp", "disparity", "disparities"),
    "masks": (
        "mask", "masks", "segmentation", "segmentations", "matte", "mattes", "alpha", "alphas",
        "silhouette", "silhouettes",
    ),
}  # fmt: skip
# files that may hold them; pictures and points are another matter
SUFFIXES = (
    "", ".txt", ".json", ".csv", ".tsv", ".xml", ".yaml", ".yml", ".npy", ".npz", ".mat", ".bin",
    ".pkl", ".log", ".cam", ".out", ".toml", ".db", ".tum", ".g2o", ".h5",
)  # fmt: skip
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
    root = Path(os.path.abspath(folder))
    used = {*names, *(_part(each, root) for each in files)}
    found: dict[str, list[str]] = {}
    for each in _entries(root):
        known = each.name in used or pattern.fullmatch(each.name)
        kind = None if known else _kind(each)
        if kind is not None and kind in kinds:
            found.setdefault(kind, []).append(each.name + "/" * each.is_dir())
    if not found:
        return ()
    parts = [f"{listed(names, MOST_NAMED)} ({kind})" for kind, names in found.items()]
    return (f"not read, though beside the pictures: {'; '.join(parts)}",)


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
