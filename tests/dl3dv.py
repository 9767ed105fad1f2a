"""Scenes in the layouts of DL3DV, made of rendered objects, with COLMAP's points of them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tttlrm_jax.config import SyntheticConfig
from tttlrm_jax.core.geometry.poses import encoding_from_matrix
from tttlrm_jax.procedural.objects import render_object

APPLIED = np.array([[0.0, 1, 0, 0.5], [1, 0, 0, 0], [0, 0, -1, 0]])  # world from COLMAP's


def write_nerfstudio(
    folder: Path,
    scene: dict[str, Any],
    factor: float = 4,
    pictures: str = "images_4",
    translations: float = 1.0,
    **more: Any,
) -> None:
    """`transforms.json` with cameras of `factor` times the size of the pictures beside it.

    Translations of the cameras are multiplied; `more` are further keys of the document.
    """
    (folder / pictures).mkdir(parents=True)
    height, width = scene["image"].shape[1:3]
    fx, fy, cx, cy = factor * scene["intrinsics"][0]
    frames = []
    for number, (image, pose) in enumerate(
        zip(scene["image"], scene["world_from_camera"], strict=True)
    ):
        name = f"frame_{number + 1:05d}.png"
        Image.fromarray(image[..., :3]).save(folder / pictures / name)
        matrix = pose @ np.diag([1.0, -1.0, -1.0, 1.0])
        matrix[:3, 3] *= translations
        frames.append({"file_path": f"images/{name}", "transform_matrix": matrix.tolist()})
    document = {
        "camera_model": "OPENCV", "w": round(factor * width), "h": round(factor * height),
        "fl_x": fx, "fl_y": fy, "cx": cx, "cy": cy, "k1": 0.0, "k2": 0.0, "p1": 0.0, "p2": 0.0,
        "frames": frames,
    }  # fmt: skip
    (folder / "transforms.json").write_text(json.dumps(document | more))


def write_points(
    folder: Path,
    scene: dict[str, Any],
    factor: float = 4,
    world: np.ndarray = APPLIED,
    noise: float = 0.0,
    lens: tuple[float, float] = (0.0, 0.0),
) -> None:
    """A COLMAP text model of the scene: points at its depth, seen where they project exactly.

    Cameras are of `factor` times the size; `world` [3, 4] takes COLMAP's world to the scene's.
    Observations are off by `noise` pixels (deviation) and distorted by k1, k2 of `lens`.
    """
    folder.mkdir(parents=True)
    poses, (height, width) = scene["world_from_camera"], scene["image"].shape[1:3]
    fx, fy, cx, cy = scene["intrinsics"][0]
    points = []
    for depth, pose in zip(scene["depth"], poses, strict=True):
        row, column = (place[::7] for place in np.nonzero(depth))
        z = depth[row, column].astype(np.float64)
        local = np.stack([(column + 0.5 - cx) / fx * z, (row + 0.5 - cy) / fy * z, z], axis=-1)
        points.append(local @ pose[:3, :3].T + pose[:3, 3])
    points = np.concatenate(points)
    whole = np.vstack([world, [0, 0, 0, 1]])
    rng = np.random.default_rng(0)
    images, tracks = [], [[] for _ in points]
    for number, pose in enumerate(poses, start=1):
        inverse = np.linalg.inv(pose)
        local = points @ inverse[:3, :3].T + inverse[:3, 3]
        x, y = local[:, :2].T / local[:, 2]
        radial = 1 + lens[0] * (x * x + y * y) + lens[1] * (x * x + y * y) ** 2
        pixel = factor * np.stack([fx * x * radial + cx, fy * y * radial + cy], axis=-1)
        pixel += rng.normal(0, noise, pixel.shape) if noise else 0.0
        inside = (local[:, 2] > 0) & (pixel > 0).all(axis=1)
        inside &= (pixel < factor * np.array([width, height])).all(axis=1)
        for place, point in enumerate(np.flatnonzero(inside)):
            tracks[point].append(f"{number} {place}")
        quaternion = encoding_from_matrix(inverse @ whole)  # translation, then w, x, y, z
        values = " ".join(f"{v:.12g}" for v in (*quaternion[3:], *quaternion[:3]))
        images.append(f"{number} {values} 1 frame_{number:05d}.png")
        seen = zip(pixel[inside], np.flatnonzero(inside) + 1, strict=True)
        images.append(" ".join(f"{x:.9g} {y:.9g} {point}" for (x, y), point in seen))
    theirs = (points - whole[:3, 3]) @ np.linalg.inv(whole[:3, :3]).T
    lines = [
        f"{number} {x:.12g} {y:.12g} {z:.12g} 9 9 9 0.1 {' '.join(track)}"
        for number, ((x, y, z), track) in enumerate(zip(theirs, tracks, strict=True), start=1)
    ]
    numbers = [factor * value for value in (fx, fy, cx, cy)]
    (folder / "cameras.txt").write_text(
        f"1 OPENCV {round(factor * width)} {round(factor * height)} "
        f"{' '.join(map(str, (*numbers, *lens)))} 0 0\n"
    )
    (folder / "images.txt").write_text("\n".join(images) + "\n")
    (folder / "points3D.txt").write_text("\n".join(lines) + "\n")


def write_benchmark(root: Path, frames: dict[str, int], height: int, width: int) -> None:
    """`HASH/nerfstudio/` for each name with so many frames, and `benchmark-meta.csv`."""
    lines = ["hash,indoor/outdoor,frequency"]
    for seed, (name, count) in enumerate(frames.items(), start=1):
        views = SyntheticConfig(
            num_views=count, height=height, width=width, max_primitives=2, supersampling=1
        )
        write_nerfstudio(root / name / "nerfstudio", render_object(seed, views))
        lines.append(f"{name},{('Indoor', 'Outdoor')[seed % 2]},high")
    (root / "benchmark-meta.csv").write_text("\n".join(lines) + "\n")
