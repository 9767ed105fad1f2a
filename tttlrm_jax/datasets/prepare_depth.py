"""Stores monocular disparity beside captures, for the scale-invariant depth loss.

`python -m tttlrm_jax.datasets.prepare_depth CAPTURE --model ID` runs a depth-estimation model of
Hugging Face (a directory, or a name found in the local cache) on every frame and writes
`disparity/NAME.png` (`depth_files`). Train with `--data.capture-depth True`, `--loss.depth` above 0
and `--loss.depth-alignment relative`. Frames that have it already are kept.
"""

import dataclasses
import sys
from collections.abc import Iterable

import numpy as np
import tyro
from PIL import Image
from tqdm import tqdm

from tttlrm_jax.captures.camera_files import Frame
from tttlrm_jax.captures.capture import Capture, read_capture
from tttlrm_jax.captures.collections import CollectionConfig, open_collection
from tttlrm_jax.captures.pictures.depth_files import disparity_path, write_disparity
from tttlrm_jax.captures.pictures.frame_pixels import read_pixels
from tttlrm_jax.captures.pictures.images import flatten
from tttlrm_jax.config.command_line import run_command
from tttlrm_jax.core.errors import InputError
from tttlrm_jax.datasets.depth_models import Prediction, Predictor, load_predictor

PROG = "python -m tttlrm_jax.datasets.prepare_depth"


@dataclasses.dataclass(frozen=True, kw_only=True)
class DepthConfig:
    """Which captures get disparity from which model."""

    capture: tyro.conf.Positional[str]
    model: str  # a directory or a name of the hub
    layout: str = "capture"  # captures, dl3dv or realestate: CAPTURE is a folder of such
    image_folder: str = "images_4"  # of DL3DV scenes
    prediction: Prediction = "auto"  # what the model gives: as its configuration says
    skip_broken: bool = False  # of a folder, leave captures that cannot be read out
    device: str = "cpu"
    download: bool = False  # ask the hub for a model that is not in the local cache
    overwrite: bool = False

    def captures(self) -> Iterable[Capture]:
        if self.layout == "capture":
            return [read_capture(self.capture)]
        shared = {name: getattr(self, name) for name in ("layout", "image_folder", "skip_broken")}
        return open_collection(CollectionConfig(directory=self.capture, **shared))


def store_disparity(
    capture: Capture, predict: Predictor, overwrite: bool = False, progress: bool = False
) -> int:
    """Predicts and writes the disparity of every frame that lacks it; returns how many did.

    The model sees the frame undistorted and on white. Transparent and masked pixels, and those
    beyond the photograph's edge, are stored as unknown.
    """
    missing = [
        frame
        for frame in capture.frames
        if overwrite or not disparity_path(capture.directory, frame.name).is_file()
    ]
    for frame in tqdm(missing, desc=capture.name, unit="frame", disable=not progress):
        write_disparity(disparity_path(capture.directory, frame.name), _disparity(frame, predict))
    return len(missing)


def _disparity(frame: Frame, predict: Predictor) -> np.ndarray:
    """Float32 [height, width] of the frame's pixels, NaN where unknown."""
    pixels = read_pixels(frame)
    height, width = pixels.shape[:2]
    disparity = np.asarray(predict(flatten(pixels)), np.float32)
    if disparity.ndim != 2 or not np.isfinite(disparity).any():
        raise InputError(
            f"image={frame.image_path}: the model gave shape {disparity.shape} and "
            f"{int(np.isfinite(disparity).sum())} finite values; use a model for depth estimation"
        )
    if disparity.shape != (height, width):
        resized = Image.fromarray(disparity).resize((width, height), Image.Resampling.BILINEAR)
        disparity = np.array(resized)
    if pixels.shape[-1] == 4:
        disparity = np.where(pixels[..., 3] >= 128, disparity, np.float32(np.nan))
    return disparity


def prepare(config: DepthConfig) -> None:
    """Stores the disparity of all captures and counts their frames."""
    captures = config.captures()
    predict = load_predictor(config.model, config.prediction, config.device, config.download)
    for capture in captures:
        count = store_disparity(capture, predict, config.overwrite, progress=True)
        print(f"{capture.name}: {count} of {len(capture)} frames")


def main(arguments: list[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    return run_command(DepthConfig, prepare, PROG, arguments)


if __name__ == "__main__":
    sys.exit(main())
