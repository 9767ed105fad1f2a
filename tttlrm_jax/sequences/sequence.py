"""Ordered pictures of one moving camera, read one by one: folders of images, RGB-D, videos.

`open_sequence` recognises the form by `READERS` (in `readers.py`); opening reads lists,
headers and poses, and holds all of them to their limits; pixels are decoded only while
`Sequence.frames` is iterated, one frame at a time, so memory does not grow with length.

Depth is float32 z in metres with 0 where it is not known; poses are `world_from_camera` of OpenCV
cameras; intrinsics are those of the stored colour picture, pixel centres at +0.5.
"""

import dataclasses
import math
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from tttlrm_jax.captures.lenses.sizes import intrinsics_for
from tttlrm_jax.captures.pictures.images import exif_orientation
from tttlrm_jax.core.errors import InputError
from tttlrm_jax.core.geometry.poses import pose_problem
from tttlrm_jax.sequences.frame_images import read_upright, upright_size

MIN_FRAMES = 2
AS_STORED = (0, 1)  # EXIF orientations that turn nothing
ASPECT_TOLERANCE = 0.03  # of depth against colour: sensors with borders differ a little
RATE_TOLERANCE = 0.02  # by which the frames of a film of constant rate may miss their number
_PART = re.compile("([0-9]{1,7})(?:-([0-9]{1,7}))?")


@dataclasses.dataclass(frozen=True, kw_only=True)
class SequenceFrame:
    """One decoded frame; what is not known is None."""

    name: str
    time: float  # seconds; the frame's number where nothing tells the time
    image: np.ndarray  # uint8 [height, width, 3]
    path: Path | None = None  # the file whose pixels these are, as they are stored
    depth: np.ndarray | None = None  # float32 [height', width'] metres
    world_from_camera: np.ndarray | None = None  # [4, 4]


@dataclasses.dataclass(frozen=True, kw_only=True)
class FrameFiles:
    """One frame on disk."""

    name: str
    time: float
    image: Path
    depth: Path | None = None
    world_from_camera: np.ndarray | None = None


@dataclasses.dataclass(frozen=True)
class FrameFolder:
    """What a folder holds."""

    files: list[FrameFiles]
    read_depth: Callable[[Path], np.ndarray] | None = None
    intrinsics: np.ndarray | None = None  # [4] of the stored pictures
    notes: tuple[str, ...] = ()  # what was guessed or left out, a sentence each
    used: frozenset[str] = frozenset()  # names in the folder that were read, beside frames' files
    lens_of_file: bool = True  # else it is the data set's, for pictures of any size


@dataclasses.dataclass(frozen=True, kw_only=True)
class FrameSelection:
    """Which frames of a sequence are used: numbers counted from 0, in order.

    Either `frames`, such as 0-99,200, or from `start` on every `stride`-th; at most `max_frames`.
    """

    start: int = 0
    stride: int = 1
    max_frames: int | None = None
    frames: str | None = None

    def __post_init__(self):
        for name, least in (("start", 0), ("stride", 1), ("max_frames", 1)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise InputError.of(name, value, f"is below {least}", f"use {least} or more")
        if self.frames is not None and (self.start, self.stride) != (0, 1):
            raise InputError.of(
                "frames", self.frames, "is given beside start or stride", "leave one of them out"
            )
        self.named()

    def named(self) -> set[int] | None:
        """The numbers that `frames` lists; None without it."""
        if self.frames is None:
            return None
        numbers: set[int] = set()
        for part in self.frames.split(","):
            match = _PART.fullmatch(part.strip())
            if match is None or int(match[2] or match[1]) < int(match[1]):
                raise InputError.of(
                    "frames", self.frames, "is not an ascending list of numbers",
                    "write e.g. 0-99,200",
                )  # fmt: skip
            numbers.update(range(int(match[1]), int(match[2] or match[1]) + 1))
        return numbers

    def count(self, total: int) -> int:
        """How many `numbers` there are."""
        named = self.named()
        if named is None:
            chosen = max(0, -(-(total - self.start) // self.stride))
        else:
            chosen = sum(number < total for number in named)
        return chosen if self.max_frames is None else min(chosen, self.max_frames)

    def numbers(self, total: int | None) -> Iterator[int]:
        """The chosen frame numbers in order; endless where `total` is None and nothing ends it."""
        named, number, given = self.named(), self.start, 0
        last = math.inf if total is None else total - 1
        if named is not None:
            last = min(last, max(named))
        while number <= last and (self.max_frames is None or given < self.max_frames):
            if named is None or number in named:
                given += 1
                yield number
            number += self.stride


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sequence:
    """A sequence that is open: what is known before any picture is decoded."""

    name: str
    kind: str
    image_size: tuple[int, int]  # height, width, upright
    num_frames: int | None  # None: a video whose length is not certain
    expected_frames: int | None  # for progress: num_frames, or what a video's header promises
    decode: Callable[[], Iterator[SequenceFrame]]
    least_frames: int | None = None  # what expected_frames surely means of a video that is whole
    estimated: bool = False  # expected_frames is only about right
    steady_rate: float | None = None  # chosen frames per second for which an estimate holds
    intrinsics: np.ndarray | None = None  # [4] fx, fy, cx, cy
    has_depth: bool = False
    has_poses: bool = False
    notes: tuple[str, ...] = ()  # what was guessed or left out, a sentence each
    lens_problem: str | None = None  # why there are no intrinsics, though a file gives some

    def frames(self) -> Iterator[SequenceFrame]:
        """Decodes frame after frame. Raises InputError at the first that cannot be used.

        Fewer than two frames, a picture of another size and depth of another size end it.
        """
        count, depth_size = 0, None
        for frame in self.decode():
            if frame.image.shape[:2] != self.image_size:
                raise _size_error(frame.name, frame.image.shape[:2], self.image_size)
            if frame.depth is not None:
                depth_size = depth_size or frame.depth.shape
                _check_depth_size(frame, depth_size)
            count += 1
            yield frame
        check_length(count, self.name)

    def shortfall(self, decoded: int, seconds: float | None = None) -> str | None:
        """What to say where all frames were asked for and a video gave fewer than it promises.

        `seconds` lie between its first and its last frame: an estimate from duration and rate
        says nothing of a film whose rate changes.
        """
        if self.least_frames is None or decoded >= self.least_frames:
            return None
        if self.steady_rate is not None and seconds is not None:
            steady = seconds * self.steady_rate + 1
            if abs(steady - decoded) > 1 + RATE_TOLERANCE * decoded:
                return None
        promised = f"{self.expected_frames} promised"
        if self.estimated:
            promised = f"about {self.expected_frames} estimated from duration and frame rate"
        return (
            f"frames: {decoded} of {promised} could be decoded; the file may be cut off or damaged"
        )


def folder_sequence(
    name: str,
    kind: str,
    folder: FrameFolder,
    selection: FrameSelection,
    skip_bad_poses: bool,
    intrinsics_scale: float | None = None,
) -> Sequence:
    """The sequence of the chosen files, whose headers and poses are checked here.

    Raises InputError where a chosen number does not exist, fewer than two frames are left,
    pictures have different sizes or a pose is not a rigid transform; with `skip_bad_poses` frames
    of such poses are left out. Intrinsics are multiplied by `intrinsics_scale`; without it those
    of pictures of another size are left out, and a note says so.
    """
    files, read_depth = folder.files, folder.read_depth
    check_length(len(files), name)
    chosen = [files[number] for number in selection.numbers(len(files))]
    named = selection.named()
    if named and max(named) >= len(files):
        raise InputError.of(
            "frames", max(named), f"is beyond the {len(files)} frames of {name}", "correct it"
        )
    chosen = _with_good_poses(chosen, skip_bad_poses)
    check_length(len(chosen), f"{name} as selected")
    size = upright_size(chosen[0].image)
    for each in chosen[1:]:
        other = upright_size(each.image)
        if other != size:
            raise _size_error(each.name, other, size)

    scale = intrinsics_scale if folder.lens_of_file else None
    intrinsics, problem = intrinsics_for(folder.intrinsics, size, scale)
    left_out = () if problem is None else (f"intrinsics are left out: {problem}",)
    if intrinsics_scale is not None:
        of_file = "the intrinsics of the file are" if intrinsics is not None and scale else (
            "no intrinsics of a file are there to be"
        )  # fmt: skip
        left_out += (f"{of_file} multiplied by {intrinsics_scale:g}, as asked",)

    def decode() -> Iterator[SequenceFrame]:
        for each in chosen:
            known = None if each.depth is None or read_depth is None else read_depth(each.depth)
            yield SequenceFrame(
                name=each.name, time=each.time, image=read_upright(each.image), depth=known,
                path=each.image if exif_orientation(each.image) in AS_STORED else None,
                world_from_camera=each.world_from_camera,
            )  # fmt: skip

    return Sequence(
        name=name, kind=kind, image_size=size, num_frames=len(chosen),
        expected_frames=len(chosen), decode=decode, intrinsics=intrinsics,
        has_depth=read_depth is not None and any(each.depth is not None for each in chosen),
        has_poses=any(each.world_from_camera is not None for each in chosen),
        notes=(*folder.notes, *left_out), lens_problem=problem,
    )  # fmt: skip


def check_length(count: int, name: str) -> None:
    """Raises InputError for fewer than two frames."""
    if count < MIN_FRAMES:
        raise InputError.of(
            "frames", count, f"in {name} make no sequence", "give at least two pictures in order"
        )


def _with_good_poses(files: list[FrameFiles], skip: bool) -> list[FrameFiles]:
    kept = []
    for each in files:
        pose = each.world_from_camera
        problem = None if pose is None else pose_problem(pose)
        if problem is None:
            kept.append(each)
        elif not skip:
            raise InputError(
                f"pose of frame {each.name} {problem}; correct it or leave such frames out with "
                "--skip-bad-poses"
            )
    return kept


def _size_error(name: str, size: tuple[int, ...], expected: tuple[int, int]) -> InputError:
    return InputError.of(
        f"image size of frame {name}", f"{size[1]}x{size[0]}",
        f"differs from {expected[1]}x{expected[0]} of the first frame",
        "give pictures of one size and orientation",
    )  # fmt: skip


def _check_depth_size(frame: SequenceFrame, expected: tuple[int, ...]) -> None:
    assert frame.depth is not None
    height, width = frame.depth.shape
    if frame.depth.shape != expected:
        raise InputError.of(
            f"depth size of frame {frame.name}", f"{width}x{height}",
            f"differs from {expected[1]}x{expected[0]} of the first", "give depth of one size",
        )  # fmt: skip
    aspect = width / height * frame.image.shape[0] / frame.image.shape[1]
    if abs(aspect - 1) > ASPECT_TOLERANCE:
        raise InputError.of(
            f"depth size of frame {frame.name}", f"{width}x{height}",
            f"has not the proportions of its {frame.image.shape[1]}x{frame.image.shape[0]} picture",
            "give depth registered to the pictures",
        )  # fmt: skip
