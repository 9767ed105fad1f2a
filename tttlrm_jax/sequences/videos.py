"""Videos as sequences: every stored frame once, at its own time."""

from collections.abc import Iterator
from pathlib import Path

from tttlrm_jax.core.errors import InputError
from tttlrm_jax.sequences.sequence import FrameSelection, Sequence, SequenceFrame
from tttlrm_jax.sequences.video_decoding import decoding
from tttlrm_jax.sequences.video_promises import (
    WITHOUT_TIMES,
    FilmHeader,
    promise_of,
    read_header,
)


def open_video(path: Path, selection: FrameSelection) -> Sequence:
    """The chosen frames of a video, upright. Raises InputError where none can be decoded.

    Frames are those that are stored: numbers count them, and times are the file's.
    """
    with decoding(path) as film:
        first = next(film.frames(), None)
        header, reason = read_header(film.header), film.last_words
    if first is None:
        problem = "holds no frame" if header.num_tracks else "cannot be decoded"
        raise InputError.of(
            "video", path, f"{problem} ({reason[:120] or 'ffmpeg says nothing'})",
            "give one that plays, e.g. MP4 with H.264",
        )  # fmt: skip
    height, width = first.image.shape[:2]
    promise = promise_of(path, header)
    expected, least = selection.count(promise.most), selection.count(promise.least)
    steady = header.rate > 0 and selection.frames is None and not promise.counted
    return Sequence(
        name=path.stem, kind="video", image_size=(height, width), num_frames=None,
        expected_frames=expected or None, least_frames=least or None,
        estimated=promise.least < promise.most,
        steady_rate=header.rate / selection.stride if steady else None,
        decode=lambda: _decode(path, selection, header.rate or 1.0),
        notes=_notes(header, height, width),
    )  # fmt: skip


def _decode(path: Path, selection: FrameSelection, rate: float) -> Iterator[SequenceFrame]:
    with decoding(path) as film:
        frames, position = film.frames(), -1
        for number in selection.numbers(None):
            frame = None
            while position < number:
                frame, position = next(frames, None), position + 1
                if frame is None:
                    return
            assert frame is not None
            time = number / rate if frame.time is None else frame.time
            yield SequenceFrame(name=f"{number:06d}", time=time, image=frame.image)


def _notes(header: FilmHeader, height: int, width: int) -> tuple[str, ...]:
    notes = []
    if header.num_tracks > 1:
        notes.append(f"the film has {header.num_tracks} picture tracks: the first is read")
    if header.pixel_aspect not in ("1:1", "0:1"):
        notes.append(
            f"pixels of the film are {header.pixel_aspect}, not square: pictures are stretched to "
            f"{width}x{height}"
        )
    if header.kind in WITHOUT_TIMES:
        notes.append(
            f"the film is a bare {header.kind} stream without times: a constant rate is assumed"
        )
    return tuple(notes)
