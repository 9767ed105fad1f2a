"""By what a run knows its captures again: cameras and pictures, not where or when they were put.

Of every file of a capture its size counts, its beginning and its end: not every byte of the
pictures, and not its time, so that a copied capture is the same.
"""

import collections
import dataclasses
import hashlib
import os
from pathlib import Path
from typing import Any

import numpy as np

from tttlrm_jax.captures.camera_files import Frame
from tttlrm_jax.captures.capture import Capture, read_capture
from tttlrm_jax.captures.pictures.depth_files import disparity_path
from tttlrm_jax.checkpoints.records import read_record, write_record
from tttlrm_jax.config import DataConfig
from tttlrm_jax.core.errors import InputError, listed

CAPTURES_FILE = "captures.json"  # in a run's directory
FINGERPRINTED = 4096  # bytes of the beginning and of the end of a file


@dataclasses.dataclass(frozen=True)
class CaptureIdentity:
    """What makes a capture the one that a run was started with."""

    name: str
    frames: int
    cameras: str  # digest of names, poses and lenses
    pictures: str  # digest of pictures, masks and disparity

    def change(self, now: "CaptureIdentity") -> str | None:
        """What of this capture differs now, in words."""
        if self.frames != now.frames:
            return f"{self.name} has {now.frames} frames (was {self.frames})"
        parts = [
            part for part in ("cameras", "pictures") if getattr(self, part) != getattr(now, part)
        ]
        return f"{self.name} has other {' and '.join(parts)}" if parts else None


def record_captures(directory: Path, data: DataConfig) -> None:
    """Writes the identity of a run's captures beside its configuration, if it has any.

    Raises InputError where it cannot be written or a capture cannot be read.
    """
    if data.source == "captures":
        found = [dataclasses.asdict(each) for each in _identities(data)]
        write_record(directory / CAPTURES_FILE, {"captures": found})


def changed_captures(directory: Path, data: DataConfig) -> list[str] | None:
    """How the captures of `data` differ from those that the run in `directory` was started with.

    None where the run kept no record. Raises InputError where they, or it, cannot be read.
    """
    before = read_record(
        directory / CAPTURES_FILE,
        lambda found: [CaptureIdentity(**each) for each in found["captures"]],
        "the captures are the run's own",
    )  # fmt: skip
    return None if before is None else _changes(before, _identities(data))


def _changes(before: list[CaptureIdentity], now: list[CaptureIdentity]) -> list[str]:
    names, names_now = [each.name for each in before], [each.name for each in now]
    if names != names_now:
        was, now_there = collections.Counter(names), collections.Counter(names_now)
        gone, new = list((was - now_there).elements()), list((now_there - was).elements())
        said = [f"without {listed(gone)}"] if gone else []
        said += [f"with {listed(new)} besides"] if new else []
        return said or ["the same captures in another order"]
    changes = (was.change(each) for was, each in zip(before, now, strict=True))
    return [change for change in changes if change is not None]


def _identities(data: DataConfig) -> list[CaptureIdentity]:
    return [_identity(read_capture(each), data) for each in data.capture_directories]


def _identity(capture: Capture, data: DataConfig) -> CaptureIdentity:
    cameras, pictures = hashlib.sha256(), hashlib.sha256()
    for frame in capture.frames:
        cameras.update(_camera(frame, capture.directory))
        pictures.update(_file(frame.image_path))
        if frame.mask is not None and frame.mask.path is not None:
            pictures.update(b"mask" + _file(frame.mask.path))
        if data.capture_depth:
            pictures.update(b"disparity" + _file(disparity_path(capture.directory, frame.name)))
    digests = cameras.hexdigest(), pictures.hexdigest()
    return CaptureIdentity(capture.name, len(capture), *digests)


def _camera(frame: Frame, directory: Path) -> bytes:
    """What the camera file says of a frame, with the place of its picture in the capture."""
    place = os.path.relpath(frame.image_path, directory)
    said = (place, frame.number, frame.size, frame.distortion)
    numbers: Any = (frame.intrinsics, frame.world_from_camera)
    return repr(said).encode() + b"".join(np.asarray(x, np.float64).tobytes() for x in numbers)


def _file(path: Path) -> bytes:
    """Size, beginning and end of a file. Raises InputError where it cannot be read."""
    try:
        with open(path, "rb") as stream:
            size = os.fstat(stream.fileno()).st_size
            begin = stream.read(FINGERPRINTED)
            stream.seek(max(0, size - FINGERPRINTED))
            return f"{size} ".encode() + begin + stream.read(FINGERPRINTED)
    except OSError as error:
        raise InputError.of(
            "capture file", path, f"cannot be read ({error.strerror})", "restore it"
        ) from error
