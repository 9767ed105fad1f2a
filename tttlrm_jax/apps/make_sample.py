"""Writes a procedural object that no training run has seen as a capture directory.

`python -m tttlrm_jax.apps.make_sample` makes the sample capture that the package ships:
RGBA pictures and `opencv_cameras.json`.
"""

import dataclasses
import sys
from pathlib import Path

from tttlrm_jax.captures.camera_files import write_opencv_capture
from tttlrm_jax.config import SyntheticConfig
from tttlrm_jax.config.command_line import run_command
from tttlrm_jax.core.errors import InputError
from tttlrm_jax.procedural.objects import render_object, scene_seed

HELD_OUT = SyntheticConfig(split="eval", num_views=32)
PROG = "python -m tttlrm_jax.apps.make_sample"


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
    write_opencv_capture(
        Path(config.output), rendered["image"], rendered["world_from_camera"],
        rendered["intrinsics"], scene_name="sample",
    )  # fmt: skip


def main(arguments: list[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    return run_command(SampleConfig, write_sample, PROG, arguments)


if __name__ == "__main__":
    sys.exit(main())
