"""The made scene of `capture_forms` as sequences with depth and true poses, for mutations."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.spatial.transform import Rotation

from experiments.capture_forms import MadeScene, save_pictures


def _save_depth(folder: Path, names: list[str], scene: MadeScene, units: int) -> None:
    """A wall 2 m away, as 16-bit PNG."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        Image.fromarray(np.full(scene.size, 2 * units, np.uint16)).save(folder / name)


def _matrix(values: np.ndarray) -> str:
    return "\n".join(" ".join(repr(float(value)) for value in row) for row in values) + "\n"


def seven_scenes(root: Path, scene: MadeScene) -> None:
    save_pictures(root, scene, "frame-{:06d}.color.png")
    names = [f"frame-{number:06d}.depth.png" for number in range(len(scene.images))]
    _save_depth(root, names, scene, 1000)
    for number, pose in enumerate(scene.world_from_camera):
        (root / f"frame-{number:06d}.pose.txt").write_text(_matrix(pose))


def tum(root: Path, scene: MadeScene) -> None:
    names = save_pictures(root / "rgb", scene, "{}.png")
    _save_depth(root / "depth", names, scene, 5000)
    stamps = [1000.0 + number / 30 for number in range(len(names))]
    for kind in ("rgb", "depth"):
        lines = [f"{t:.6f} {kind}/{name}" for t, name in zip(stamps, names, strict=True)]
        (root / f"{kind}.txt").write_text("\n".join(["# time file", *lines]) + "\n")
    poses = scene.world_from_camera
    rows = np.column_stack([
        stamps, poses[:, :3, 3], Rotation.from_matrix(poses[:, :3, :3]).as_quat()
    ])  # fmt: skip
    (root / "groundtruth.txt").write_text("# time pose\n" + _matrix(rows))


def scannet(root: Path, scene: MadeScene) -> None:
    names = save_pictures(root / "color", scene, "{}.png")
    _save_depth(root / "depth", names, scene, 1000)
    (root / "pose").mkdir()
    for number, pose in enumerate(scene.world_from_camera):
        (root / "pose" / f"{number}.txt").write_text(_matrix(pose))
    fx, fy, cx, cy = scene.lens
    lens = np.array([[fx, 0, cx, 0], [0, fy, cy, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    (root / "intrinsic").mkdir()
    (root / "intrinsic" / "intrinsic_color.txt").write_text(_matrix(lens))


def posed(root: Path, scene: MadeScene) -> None:
    names = save_pictures(root / "images", scene, "{:04d}.png")
    _save_depth(root / "depth", names, scene, 1000)
    (root / "poses.txt").write_text(_matrix(scene.world_from_camera[:, :3].reshape(-1, 12)))
    fx, fy, cx, cy = scene.lens
    (root / "K.txt").write_text(_matrix(np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])))


SEQUENCE_WRITERS: dict[str, Callable[[Path, MadeScene], None]] = {
    "7-Scenes": seven_scenes, "TUM": tum, "ScanNet": scannet, "poses.txt": posed,
}  # fmt: skip
