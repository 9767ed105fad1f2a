"""Scenes in the layouts of DL3DV, made of rendered objects."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tttlrm_jax.config import SyntheticConfig
from tttlrm_jax.procedural.objects import render_object


def write_nerfstudio(
    folder: Path, scene: dict[str, Any], factor: float = 4, pictures: str = "images_4"
) -> None:
    """`transforms.json` with cameras of `factor` times the size of the pictures beside it."""
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
        frames.append({"file_path": f"images/{name}", "transform_matrix": matrix.tolist()})
    document = {
        "camera_model": "OPENCV", "w": round(factor * width), "h": round(factor * height),
        "fl_x": fx, "fl_y": fy, "cx": cx, "cy": cy, "k1": 0.0, "k2": 0.0, "p1": 0.0, "p2": 0.0,
        "frames": frames,
    }  # fmt: skip
    (folder / "transforms.json").write_text(json.dumps(document))


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
