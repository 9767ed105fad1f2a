"""Sequences written to disk in the form of 7-Scenes, e.g. procedural rooms for evaluation."""

from pathlib import Path

import numpy as np
from PIL import Image

from tttlrm_jax.captures.depth_files import write_png_depth
from tttlrm_jax.procedural.walks import RenderedWalk


def write_seven_scenes(directory: Path, sequence: RenderedWalk) -> None:
    """Writes colour PNG, depth PNG in millimetres, poses and intrinsics into a new folder."""
    directory.mkdir(parents=True)
    fx, fy, cx, cy = sequence.intrinsics
    lens = np.array([[fx, 0.0, cx], [0.0, fy, cy], [0.0, 0.0, 1.0]])
    np.savetxt(directory / "camera-intrinsics.txt", lens)
    frames = zip(sequence.images, sequence.depth, sequence.world_from_camera, strict=True)
    for number, (image, depth, pose) in enumerate(frames):
        stem = directory / f"frame-{number:06d}"
        Image.fromarray(image).save(f"{stem}.color.png")
        write_png_depth(Path(f"{stem}.depth.png"), depth)
        np.savetxt(f"{stem}.pose.txt", pose)
