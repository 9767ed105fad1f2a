"""Writes a procedural object that no training run has seen as a capture directory.

`python -m tttlrm_jax.commands.make_sample` makes the sample capture that the package ships:
RGBA pictures and `opencv_cameras.json`.
"""

import dataclasses
import json
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from tttlrm_jax.command_line import EXIT_BAD_INPUT, parse_arguments
from tttlrm_jax.config import SyntheticConfig
from tttlrm_jax.data import render_object, scene_seed
from tttlrm_jax.errors import InputError
from tttlrm_jax.geometry.poses import rigid_inverse

HELD_OUT = SyntheticConfig(split="eval", num_views=32)
PROG = "python -m tttlrm_jax.commands.make_sample"


@dataclasses.dataclass(frozen=True, kw_only=True)
class SampleConfig:
    """Which object is written where."""

    output: str = "tttlrm_jax/assets/sample_capture"
    index: int = 0  # of the held-out objects
    object: SyntheticConfig = HELD_OUT


def write_sample(config: SampleConfig) -> None:
    """Renders the object and writes `images/*.png` and `opencv_cameras.json`."""
    if config.object.split != "eval":
        raise InputError.of(
            "object.split", config.object.split, "is what models are trained on", "use eval"
        )
    rendered = render_object(scene_seed(config.object, config.index), config.object)
    directory = Path(config.output)
    (directory / "images").mkdir(parents=True, exist_ok=True)
    frames = []
    for number, (image, pose, intrinsics) in enumerate(
        zip(rendered["image"], rendered["world_from_camera"], rendered["intrinsics"], strict=True)
    ):
        name = f"images/{number:03d}.png"
        Image.fromarray(image).save(directory / name, optimize=True)
        frames.append(_frame(name, image.shape, pose, intrinsics))
    document = {"scene_name": "sample", "frames": frames}
    (directory / "opencv_cameras.json").write_text(json.dumps(document, indent=1) + "\n")


def _frame(name: str, shape: tuple[int, ...], pose: np.ndarray, intrinsics: np.ndarray) -> dict:
    fx, fy, cx, cy = (round(float(value), 6) for value in intrinsics)
    w2c = np.round(rigid_inverse(pose), 9).tolist()
    size = {"w": shape[1], "h": shape[0]}
    return {"file_path": name, **size, "fx": fx, "fy": fy, "cx": cx, "cy": cy, "w2c": w2c}


def main(arguments: list[str]) -> int:
    """Runs the command; returns its exit code."""
    try:
        write_sample(parse_arguments(SampleConfig, arguments, PROG))
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
