"""How many frames a film promises: what its file counts for the picture track alone.

MP4 and MOV have a table of samples (ISO/IEC 14496-12), AVI a number in its header. Other films
have a duration and a rate, whose product says it for a constant rate only.
"""

import dataclasses
import itertools
import math
import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

MAX_INDEX = 2**26  # bytes of an MP4's index that are read
MAX_BOXES = 2**16  # of an MP4 before its index
WITHOUT_TIMES = ("h264", "hevc", "m4v", "mjpeg", "mpegvideo", "obu", "vvc")  # bare streams
_DURATION = re.compile(r"Duration\s*: (\d+):(\d+):(\d+(?:\.\d+)?)", re.IGNORECASE)
_STREAM = re.compile(r"\s+Stream #0:\d+.*?: (\w+): ")
_RATE = re.compile(r"([\d.]+)(k?) (?:fps|tbr)\b")
_ASPECT = re.compile(r"\bSAR (\d+:\d+)")


@dataclasses.dataclass(frozen=True, kw_only=True)
class FilmHeader:
    """What ffmpeg says of a film before it decodes; 0 or empty where it says nothing."""

    kind: str = ""  # of file, such as mov,mp4,m4a,3gp,3g2,mj2
    duration: float = 0.0  # seconds of the picture track
    alone: bool = True  # whether that is certain, and not of a longer track
    rate: float = 0.0  # frames per second, about
    num_tracks: int = 0  # of pictures
    pixel_aspect: str = "1:1"


@dataclasses.dataclass(frozen=True)
class Promise:
    """Frames that a whole file gives: at most `most`, at least `least`; 0 is unknown."""

    most: int = 0
    least: int = 0
    counted: bool = False  # else it holds for films of a constant rate only


def read_header(lines: list[str]) -> FilmHeader:
    """From ffmpeg's text."""
    kind = next((line.split(", from")[0].partition(", ")[2] for line in lines
                 if line.startswith("Input #0")), "")  # fmt: skip
    starts = [n for n, line in enumerate(lines) if _STREAM.match(line)]
    parts = [lines[a:b] for a, b in itertools.pairwise([*starts, len(lines)])]
    films = [each for each in parts if _STREAM.match(each[0])[1] == "Video"]  # type: ignore
    films = [each for each in films if "(attached pic)" not in each[0]]
    if not films:
        return FilmHeader(kind=kind)
    whole = _seconds(lines[: starts[0]])
    own, rate, aspect = _seconds(films[0]), _RATE.search(films[0][0]), _ASPECT.findall(films[0][0])
    return FilmHeader(
        kind=kind, duration=own or whole, alone=own > 0 or len(parts) == 1, num_tracks=len(films),
        rate=float(rate[1]) * (1000 if rate[2] else 1) if rate else 0.0,
        pixel_aspect=aspect[-1] if aspect else "1:1",
    )  # fmt: skip


def _seconds(lines: list[str]) -> float:
    for line in lines:
        if found := _DURATION.search(line):
            return 3600 * int(found[1]) + 60 * int(found[2]) + float(found[3])
    return 0.0


def promise_of(path: Path, header: FilmHeader) -> Promise:
    """What the file counts, else what duration and rate of the picture track say."""
    with path.open("rb") as file:
        counted = _avi_frames(file)
        if counted:
            return Promise(counted, counted)  # repeated frames too, which are empty
        table = _sample_table(file)
    if table is not None:
        count, kept = table
        if kept >= 1:
            return Promise(count, count, counted=True)
        return Promise(round(count * kept), max(0, math.floor(count * kept) - 2))
    count = round(header.duration * header.rate)
    uncertain = uncertain_frames(header.rate, header.duration)
    return Promise(count, max(0, count - uncertain) if header.alone else 0)


def uncertain_frames(rate: float, duration: float) -> int:
    """By how many frames duration times frame rate may be too large for a film that is whole.

    ffmpeg gives both rounded to two decimals.
    """
    rounding = 0.005 * (rate + duration)
    return 0 if rounding < 0.5 else max(1, math.ceil(rounding))


def _avi_frames(file: BinaryIO) -> int:
    """Frames that the header of an AVI file counts (dwTotalFrames of avih); 0 for other files.

    ffmpeg shortens the duration of one that is cut off to what its size allows.
    """
    file.seek(0)
    head = file.read(52)
    if (head[:4], head[8:12], head[24:28]) != (b"RIFF", b"AVI ", b"avih"):
        return 0
    return int.from_bytes(head[48:52], "little")


# ---- MP4 and MOV --------------------------------------------------------------------------------


def _sample_table(file: BinaryIO) -> tuple[int, float] | None:
    """Samples of the first picture track, and what share of its time the edit list keeps.

    None for other files, and where the samples lie in fragments that no table counts.
    """
    index = _index(file)
    if index is None:
        return None
    try:
        boxes = list(_boxes(index))
        film_unit = _clock(_inner(index, b"mvhd"))[0]
        tracks = [body for kind, body in boxes if kind == b"trak"]
        track = next((body for body in tracks if _handler(body) == b"vide"), b"")
        count = _num_samples(track)
        unit, length = _clock(_inner(track, b"mdia", b"mdhd"))
        kept = _edited(track)
        share = 1.0 if kept is None else kept / film_unit / (length / unit)
        if not count:
            return None
        # a share that is short by less than a frame cuts none
        return count, 1.0 if share > 1 - 0.9 / count else max(share, 0.0)
    except (struct.error, ZeroDivisionError, IndexError):
        return None


def _index(file: BinaryIO) -> bytes | None:
    """The body of the box moov; None where there is none."""
    end, start = file.seek(0, 2), 0
    for _ in range(MAX_BOXES):
        if start + 8 > end:
            return None
        file.seek(start)
        head = file.read(16)
        size, kind = struct.unpack(">I4s", head[:8])
        skip = 8
        if size == 1 and len(head) == 16:
            size, skip = struct.unpack(">Q", head[8:])[0], 16
        size = end - start if size == 0 else size
        if kind == b"moov":
            file.seek(start + skip)
            return file.read(min(size - skip, MAX_INDEX)) if size > skip else None
        if size < 8 or (start == 0 and kind not in (b"ftyp", b"wide", b"mdat", b"free", b"skip")):
            return None
        start += size
    return None


def _boxes(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Kinds and bodies of the boxes that follow each other in `content`."""
    start = 0
    while start + 8 <= len(content):
        size, kind = struct.unpack_from(">I4s", content, start)
        skip = 8
        if size == 1:
            size, skip = struct.unpack_from(">Q", content, start + 8)[0], 16
        if size < skip:
            return
        yield kind, content[start + skip : start + size]
        start += size


def _inner(content: bytes, *path: bytes) -> bytes:
    """The body of the first box of each kind, one inside the other; empty without it."""
    for kind in path:
        content = next((body for found, body in _boxes(content) if found == kind), b"")
    return content


def _handler(track: bytes) -> bytes:
    return _inner(track, b"mdia", b"hdlr")[8:12]


def _clock(header: bytes) -> tuple[int, int]:
    """Units per second and duration in them of the boxes mvhd and mdhd."""
    long = header[0] == 1
    return struct.unpack_from(">IQ" if long else ">II", header, 20 if long else 12)


def _num_samples(track: bytes) -> int:
    for kind, body in _boxes(_inner(track, b"mdia", b"minf", b"stbl")):
        if kind in (b"stsz", b"stz2"):
            return struct.unpack_from(">I", body, 8)[0]
    return 0


def _edited(track: bytes) -> int | None:
    """How long the parts are, in the film's unit, that the edit list shows; None without one."""
    lists = [body for kind, body in _boxes(track) if kind == b"edts"]
    if not lists:
        return None
    body = _inner(lists[0], b"elst")
    entry = ">QqI" if body[0] == 1 else ">IiI"
    count = struct.unpack_from(">I", body, 4)[0]
    step, total = struct.calcsize(entry), 0
    for place in range(8, min(8 + count * step, len(body) - step + 1), step):
        length, start, _ = struct.unpack_from(entry, body, place)
        total += length if start >= 0 else 0
    return total or None
