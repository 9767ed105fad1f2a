"""Videos as sequences: ffmpeg decodes frame by frame through a pipe."""

import contextlib
import math
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import imageio_ffmpeg
import numpy as np

from tttlrm_jax.core.errors import InputError
from tttlrm_jax.sequences.sequence import FrameSelection, Sequence, SequenceFrame


def open_video(path: Path, selection: FrameSelection) -> Sequence:
    """The chosen frames of a video, upright. Raises InputError where none can be decoded."""
    with _opened(path) as (pictures, header):
        first = next(pictures, None)
    if first is None:
        raise InputError.of("video", path, "holds no frame", "give one that plays")
    width, height = header["size"]
    rate, duration = float(header.get("fps") or 0), float(header.get("duration") or 0)
    promised = max(round(duration * rate), _avi_frames(path))
    uncertain = _uncertain_frames(rate, duration, has_sound="audio_codec" in header)
    expected, least = (
        sum(1 for _ in selection.numbers(count)) if count > 0 else 0
        for count in (promised, promised - uncertain)
    )
    return Sequence(
        name=path.stem, kind="video", image_size=(height, width), num_frames=None,
        expected_frames=expected or None, least_frames=least or None, estimated=uncertain > 0,
        decode=lambda: _decode(path, selection, rate or 1.0),
    )  # fmt: skip


def _uncertain_frames(rate: float, duration: float, *, has_sound: bool) -> int:
    """By how many frames duration times frame rate may be too large for a video that is whole.

    ffmpeg gives both rounded to two decimals, and as duration that of the longest track.
    """
    rounding = 0.005 * (rate + duration)
    if rounding < 0.5 and not has_sound:
        return 0
    return max(1, math.ceil(rounding))


def _avi_frames(path: Path) -> int:
    """Frames that the header of an AVI file counts (dwTotalFrames of avih); 0 for other files.

    ffmpeg shortens the duration of one that is cut off to what its size allows.
    """
    with path.open("rb") as file:
        head = file.read(52)
    if (head[:4], head[8:12], head[24:28]) != (b"RIFF", b"AVI ", b"avih"):
        return 0
    return int.from_bytes(head[48:52], "little")


def _decode(path: Path, selection: FrameSelection, rate: float) -> Iterator[SequenceFrame]:
    with _opened(path) as (pictures, header):
        width, height = header["size"]
        position = -1
        for number in selection.numbers(None):
            content = None
            while position < number:
                content, position = next(pictures, None), position + 1
                if content is None:
                    return
            picture = np.frombuffer(content or b"", np.uint8).reshape(height, width, 3)
            yield SequenceFrame(name=f"{number:06d}", time=number / rate, image=picture)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[tuple[Iterator[bytes], dict[str, Any]]]:
    """Raw RGB pictures, and the header. Raises InputError where ffmpeg cannot go on."""
    stream: Any = imageio_ffmpeg.read_frames(str(path), pix_fmt="rgb24")
    try:
        with warnings.catch_warnings():
            # JAX warns of every fork; this one only starts ffmpeg.
            warnings.filterwarnings("ignore", message="os.fork", category=RuntimeWarning)
            header = next(stream)
        yield stream, header
    except (RuntimeError, OSError, StopIteration, ValueError, KeyError) as error:
        lines = [line for line in str(error).splitlines() if line.strip()]
        reason = lines[-1].strip()[:120] if lines else type(error).__name__
        raise InputError.of(
            "video", path, f"cannot be decoded ({reason})",
            "give one that plays, e.g. MP4 with H.264",
        ) from None  # fmt: skip
    finally:
        stream.close()
