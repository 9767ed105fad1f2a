"""Which frames of a capture are inputs, which are targets, and in what order inputs come."""

import dataclasses
import re

import numpy as np

from tttlrm_jax.api.scenes import Settings
from tttlrm_jax.captures.capture import Capture
from tttlrm_jax.captures.view_selection import TARGET_STRIDE, select_kmeans, split_every
from tttlrm_jax.checkpoints.streams import StreamRecord
from tttlrm_jax.config import EvalConfig
from tttlrm_jax.core.errors import InputError

PART = re.compile(r"(\d+)(?:-(\d+))?")


def choose_frames(
    capture: Capture, config: EvalConfig, settings: Settings, saved: StreamRecord | None
) -> tuple[np.ndarray, np.ndarray, Settings]:
    """Positions of inputs and targets, and the settings with what follows from their number.

    Every 8th frame is a target. Inputs are those that `--frames` names, in its order, else chosen
    by k-means; a stream takes these in the order of the capture, and leaves out frames that a
    saved stream has seen. Raises InputError where there are too few, or a chunk is larger than
    the stream.
    """
    if config.frames is not None:
        inputs, targets = _named_frames(capture, config.frames, saved)
    elif saved is not None:
        inputs, targets = _unseen_frames(capture, settings.views, saved)
    else:
        inputs, targets = _split(capture, settings.views)
    chunk_views = settings.chunk_views
    if settings.plan == "causal":
        inputs = inputs if config.frames is not None else np.sort(inputs)
        chunk_views = _chunk_views(config, chunk_views, len(inputs), saved)
    return inputs, targets, dataclasses.replace(
        settings, views=len(inputs), chunk_views=chunk_views
    )  # fmt: skip


def _split(capture: Capture, num_inputs: int) -> tuple[np.ndarray, np.ndarray]:
    """Input and target frames of the every-8th protocol."""
    if num_inputs >= len(capture):
        raise InputError.of(
            "views", num_inputs, f"needs more than the {len(capture)} frames of {capture.name}, "
            "of which every 8th is a target", "use fewer input views or a longer capture",
        )  # fmt: skip
    return capture.split(num_inputs)


def _named_frames(
    capture: Capture, text: str, saved: StreamRecord | None
) -> tuple[np.ndarray, np.ndarray]:
    """Frames such as 1-7,9 by their numbers in the camera file."""
    position = {int(number): place for place, number in enumerate(capture.frame_numbers)}
    numbers: list[int] = []
    for part in text.split(","):
        match = PART.fullmatch(part.strip())
        if match is None:
            raise InputError.of("frames", text, "is not a list of numbers", "write e.g. 1-7,9")
        first, last = int(match[1]), int(match[2] or match[1])
        numbers += range(first, last + 1) if first <= last else range(first, last - 1, -1)
    targets = split_every(len(capture), frame_numbers=capture.frame_numbers)[1]
    seen = _seen_places(capture, saved)
    for wrong, limit, remedy in (
        ([n for n in numbers if n not in position], f"are not in {capture.name}", "correct them"),
        (
            [n for n in numbers if n % TARGET_STRIDE == 0],
            f"are targets (every {TARGET_STRIDE}th), on which scores are taken", "leave them out",
        ),
        (sorted({n for n in numbers if numbers.count(n) > 1}), "come twice", "name each once"),
        (
            [n for n in numbers if position.get(n) in seen],
            "are in the state already", "leave them out",
        ),
    ):  # fmt: skip
        if wrong:
            raise InputError.of("frames", ",".join(map(str, wrong)), limit, remedy)
    if not len(targets):
        raise InputError(
            f"capture {capture.name} has none of its frames 0, {TARGET_STRIDE}, ..., which are "
            "the targets; restore their images"
        )
    return np.array([position[number] for number in numbers]), targets


def _unseen_frames(
    capture: Capture, num_inputs: int, saved: StreamRecord
) -> tuple[np.ndarray, np.ndarray]:
    """Inputs by k-means among the frames that a stream has not seen; targets as ever."""
    candidates, targets = split_every(len(capture), frame_numbers=capture.frame_numbers)
    seen = _seen_places(capture, saved)
    new = [n for n in candidates if n not in seen]
    if num_inputs > len(new):
        raise InputError.of(
            "views", num_inputs, f"exceeds the {len(new)} frames of {capture.name} that the state "
            "has not seen and that are no targets", "use fewer views or another capture",
        )  # fmt: skip
    if not len(targets):
        raise InputError(
            f"capture {capture.name} has none of its frames 0, {TARGET_STRIDE}, ..., which are "
            "the targets; restore their images"
        )
    return np.array(new)[select_kmeans(capture.world_from_camera[new], num_inputs)], targets


def _seen_places(capture: Capture, saved: StreamRecord | None) -> set[int]:
    """Positions of the capture's frames that a saved stream holds, by capture and name."""
    held = set() if saved is None else set(saved.frames)
    return {n for n, frame in enumerate(capture.frames) if (capture.name, frame.name) in held}


def _chunk_views(
    config: EvalConfig, chunk_views: int, num_views: int, saved: StreamRecord | None
) -> int:
    """Views per chunk: as asked for, as in the saved stream, or no more than there are."""
    if saved is not None and chunk_views == saved.chunk_views:
        return chunk_views
    if config.chunk_views is not None and chunk_views > num_views:
        raise InputError.of(
            "chunk_views", chunk_views, f"is larger than the stream of {num_views} views",
            "use smaller chunks or more views",
        )  # fmt: skip
    return min(chunk_views, num_views)
