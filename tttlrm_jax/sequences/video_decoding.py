"""ffmpeg as a program: the frames of a film as they are stored, with their own times.

Nothing is doubled or dropped to reach a constant rate (`passthrough`). Pictures are turned as
the film says, cut as its edit list says, and have square pixels.
"""

import collections
import contextlib
import dataclasses
import queue
import re
import subprocess
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import imageio_ffmpeg
import numpy as np

from tttlrm_jax.core.errors import InputError

_FRAME = re.compile(r"\bn:\s*\d+ pts:\s*(-?\d+|NOPTS) .*? s:(\d+)x(\d+)")
_TIME_BASE = re.compile(r"config in time_base: (\d+)/(\d+)")
_KEPT_LINES = 20  # of what ffmpeg says while it decodes


@dataclasses.dataclass(frozen=True)
class DecodedFrame:
    """uint8 [height, width, 3], and seconds from the start of the film, None if it says none."""

    image: np.ndarray
    time: float | None


@dataclasses.dataclass(frozen=True)
class _Stamp:
    time: float | None
    size: tuple[int, int]  # height, width


class Decoding:
    """A film that is being decoded; `header` is what ffmpeg says of it before the first frame."""

    def __init__(self, pictures: IO[bytes], log: "_Log"):
        self._pictures, self._log = pictures, log

    @property
    def header(self) -> list[str]:
        return self._log.header

    @property
    def last_words(self) -> str:
        """The last line of what ffmpeg said; empty where it said nothing."""
        return next((line for line in reversed(self._log.lines) if line), "")

    def frames(self) -> Iterator[DecodedFrame]:
        """Frame after frame, all of the size of the first."""
        size = None
        while (stamp := self._log.stamps.get()) is not None:
            size = size or stamp.size
            content = self._pictures.read(3 * size[0] * size[1])
            if len(content) < 3 * size[0] * size[1]:
                return
            yield DecodedFrame(np.frombuffer(content, np.uint8).reshape(*size, 3), stamp.time)


class _Log(threading.Thread):
    """Reads what ffmpeg says: first of the film, then a line of every frame."""

    def __init__(self, stream: IO[bytes]):
        super().__init__(daemon=True)
        self._stream, self._unit = stream, 1.0
        self.header: list[str] = []
        self.lines: collections.deque[str] = collections.deque(maxlen=_KEPT_LINES)
        self.stamps: queue.SimpleQueue[_Stamp | None] = queue.SimpleQueue()

    def run(self) -> None:
        in_header = True
        for raw in self._stream:
            line = raw.decode("utf-8", errors="replace").rstrip()
            in_header = in_header and not line.startswith(("Stream mapping", "Output #"))
            if in_header:
                self.header.append(line)
            elif "showinfo" in line:
                self._showinfo(line)
                continue
            self.lines.append(line.strip())
        self.stamps.put(None)

    def _showinfo(self, line: str) -> None:
        unit, frame = _TIME_BASE.search(line), _FRAME.search(line)
        if unit is not None:
            self._unit = int(unit[1]) / max(int(unit[2]), 1)
        elif frame is not None:
            time = None if frame[1] == "NOPTS" else int(frame[1]) * self._unit
            self.stamps.put(_Stamp(time, (int(frame[3]), int(frame[2]))))


@contextlib.contextmanager
def decoding(path: Path) -> Iterator[Decoding]:
    """Decodes the first picture track of a film. Raises InputError where ffmpeg cannot start."""
    with warnings.catch_warnings():
        # JAX warns of every fork; this one only starts ffmpeg.
        warnings.filterwarnings("ignore", message="os.fork", category=RuntimeWarning)
        try:
            process = subprocess.Popen(
                _command(path), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )  # fmt: skip
        except (OSError, RuntimeError, ValueError) as error:
            raise InputError.of(
                "video", path, f"cannot be decoded ({error})", "check imageio-ffmpeg's program"
            ) from None
    assert process.stdout is not None
    assert process.stderr is not None
    log = _Log(process.stderr)
    log.start()
    try:
        yield Decoding(process.stdout, log)
    finally:
        process.kill()
        process.stdout.close()
        process.wait()
        log.join()
        process.stderr.close()


def _command(path: Path) -> list[str]:
    old = _major_version() < 5  # which has other names for the same
    passthrough = ["-vsync", "0"] if old else ["-fps_mode", "passthrough"]
    say_times = "showinfo" if old else "showinfo=checksum=0"
    return [
        imageio_ffmpeg.get_ffmpeg_exe(), "-nostdin", "-nostats", "-hide_banner",
        "-i", f"file:{path}", "-map", "0:V:0",
        "-vf", f"scale=w=trunc(iw*sar+0.5):h=ih,setsar=1,{say_times}",
        *passthrough, "-pix_fmt", "rgb24", "-f", "rawvideo", "pipe:1",
    ]  # fmt: skip


def _major_version() -> int:
    """Of ffmpeg; that of new ones where it names none, as builds of every day do."""
    found = re.match(r"n?(\d+)\.", imageio_ffmpeg.get_ffmpeg_version())
    return int(found[1]) if found else 5
