"""Cuts panoramas into perspective views, which captures can hold.

`python -m tttlrm_jax.captures.cut_panoramas CAPTURE DEST` reads cameras of the model
EQUIRECTANGULAR (transforms.json or COLMAP) and writes a capture with views of 90 degrees: ahead,
right, behind, left and, with `--poles`, up and down.
"""

import dataclasses
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import tyro

from tttlrm_jax.captures.camera_files import Frame, write_opencv_capture
from tttlrm_jax.captures.capture import read_cameras
from tttlrm_jax.captures.lenses.models import PANORAMA
from tttlrm_jax.captures.pictures.images import flatten, image_size, read_image
from tttlrm_jax.config.command_line import run_command
from tttlrm_jax.config.validation import PositiveInt, check_fields
from tttlrm_jax.core.errors import InputError

PROG = "python -m tttlrm_jax.captures.cut_panoramas"
PROPORTIONS = 0.02  # by which width over height may differ from 2


@dataclasses.dataclass(frozen=True, kw_only=True)
class CutConfig:
    """Which panoramas become which views."""

    capture: tyro.conf.Positional[str]
    destination: tyro.conf.Positional[str]  # a new folder
    size: PositiveInt | None = None  # pixels on a side of a view; None: a quarter of the width
    poles: bool = False  # views up and down as well

    def __post_init__(self):
        check_fields("", self)


def directions(poles: bool) -> np.ndarray:
    """Rotations [view, 3, 3] from a view's camera to the panorama's (OpenCV axes)."""
    turns = [(0, 90 * quarter) for quarter in range(4)] + ([(90, 0), (-90, 0)] if poles else [])
    made = []
    for pitch, yaw in np.radians(turns):
        (sp, cp), (sy, cy) = (np.sin(pitch), np.cos(pitch)), (np.sin(yaw), np.cos(yaw))
        up = np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])
        made.append(np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]]) @ up)
    return np.rint(np.stack(made))  # quarter turns


def cut(panorama: np.ndarray, rotation: np.ndarray, size: int) -> np.ndarray:
    """A view of 90 degrees, uint8 [size, size, 3], of a panorama uint8 [h, w, 3]; bilinear.

    Column w / 2 of the panorama lies ahead (+z), its right part at +x; row 0 is up (-y).
    """
    height, width = panorama.shape[:2]
    grid = (2 * np.arange(size) + 1) / size - 1
    y, x = np.meshgrid(grid, grid, indexing="ij")
    x, y, z = np.moveaxis(np.stack([x, y, np.ones_like(x)], -1) @ rotation.T, -1, 0)
    column = (np.arctan2(x, z) / (2 * np.pi) + 0.5) * width - 0.5
    row = np.clip((np.arctan2(y, np.hypot(x, z)) / np.pi + 0.5) * height - 0.5, 0, height - 1)
    left, top = np.floor(column).astype(int), np.floor(row).astype(int)
    across, down = (column - left)[..., None], (row - top)[..., None]
    right, bottom = (left + 1) % width, np.minimum(top + 1, height - 1)
    left = left % width
    upper = panorama[top, left] * (1 - across) + panorama[top, right] * across
    lower = panorama[bottom, left] * (1 - across) + panorama[bottom, right] * across
    return np.rint(upper * (1 - down) + lower * down).astype(np.uint8)


def cut_panoramas(config: CutConfig) -> None:
    """Writes the capture and says what it holds."""
    frames, target = read_cameras(config.capture, "capture", panoramas=True), config.destination
    other = next((frame for frame in frames if frame.distortion != PANORAMA), None)
    if other is not None:
        raise InputError(
            f"capture={config.capture}: frame {other.number} ({other.name}) is no panorama; its "
            "camera_model is not EQUIRECTANGULAR, so leave it out"
        )
    if Path(target).exists():
        raise InputError.of("destination", target, "exists", "name a new folder")
    widths = [_width(frame) for frame in frames]
    turns, size = directions(config.poles), config.size or max(1, widths[0] // 4)
    poses = np.repeat(np.stack([frame.world_from_camera for frame in frames]), len(turns), axis=0)
    poses[:, :3, :3] = poses[:, :3, :3] @ np.tile(turns, (len(frames), 1, 1))
    lenses = np.full((len(poses), 4), 0.5 * size)
    write_opencv_capture(Path(target), _views(frames, turns, size), poses, lenses)
    print(f"{len(poses)} views of {size}x{size} pixels of {len(frames)} panoramas in {target}")


def _views(frames: Sequence[Frame], turns: np.ndarray, size: int) -> Iterator[np.ndarray]:
    for frame in frames:
        pixels = flatten(read_image(frame.image_path))
        yield from (cut(pixels, turn, size) for turn in turns)


def _width(frame: Frame) -> int:
    """Of the picture. Raises InputError for one that does not show the whole sphere."""
    height, width = image_size(frame.image_path)
    if abs(width / (2 * height) - 1) > PROPORTIONS:
        raise InputError.of(
            f"image={frame.image_path}", f"{width}x{height} pixels", "is not twice as wide as high",
            "give panoramas of the whole sphere",
        )  # fmt: skip
    return width


def main(arguments: list[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    return run_command(CutConfig, cut_panoramas, PROG, arguments)


if __name__ == "__main__":
    sys.exit(main())
