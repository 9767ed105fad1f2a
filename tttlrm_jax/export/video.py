"""H.264 video that plays everywhere: yuv420p, even sizes, index at the front."""

import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import imageio_ffmpeg
import numpy as np

from tttlrm_jax.core.errors import InputError
from tttlrm_jax.core.pictures import enlarge, enlargement, to_uint8

RATE_FACTOR = 18  # CRF: visually lossless for H.264
MIN_SIDE = 384  # pixels; smaller renderings are enlarged by a whole factor, pixels kept crisp


def write_video(
    path: Path | str, frames: Iterable, *, frames_per_second: float = 24, min_side: int = MIN_SIDE
) -> int:
    """Writes frames [height, width, 3] in [0, 1] or uint8, one size, and returns how many.

    Frames are taken one by one, so a generator needs no memory for the whole film. A last odd row
    or column is doubled, since yuv420p halves the colour resolution. Raises InputError if there
    are no frames or their sizes differ.
    """
    writer, first_shape, count = None, None, 0
    try:
        for frame in frames:
            pixels = to_uint8(frame)
            shown = _enlarged_to_even(pixels, min_side)
            if writer is None:
                first_shape = pixels.shape
                writer = _open(path, shown.shape, frames_per_second)
            if pixels.shape != first_shape:
                raise InputError.of(
                    f"frames[{count}].shape", pixels.shape, f"differs from {first_shape}",
                    "give frames of one size",
                )  # fmt: skip
            writer.send(np.ascontiguousarray(shown))
            count += 1
    finally:
        if writer is not None:
            writer.close()
    if writer is None:
        raise InputError("frames=[] hold no picture; give at least one")
    return count


def _open(path, shape: tuple[int, ...], frames_per_second: float):
    write_frames: Any = imageio_ffmpeg.write_frames
    writer = write_frames(
        str(path), (shape[1], shape[0]), fps=frames_per_second, codec="libx264",
        pix_fmt_out="yuv420p", ffmpeg_log_level="error",
        macro_block_size=1,  # sizes are even already
        quality=None,  # the rate factor decides
        output_params=["-crf", str(RATE_FACTOR), "-movflags", "+faststart"],
    )  # fmt: skip
    with warnings.catch_warnings():
        # JAX warns of every fork; this one only starts ffmpeg.
        warnings.filterwarnings("ignore", message="os.fork", category=RuntimeWarning)
        writer.send(None)
    return writer


def _enlarged_to_even(pixels: np.ndarray, min_side: int) -> np.ndarray:
    enlarged = enlarge(pixels, enlargement(pixels.shape[0], pixels.shape[1], min_side))
    height, width = enlarged.shape[:2]
    return np.pad(enlarged, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
