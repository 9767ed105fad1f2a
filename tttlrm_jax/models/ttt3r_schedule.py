"""Which frame of a sequence comes when, and how poses go on across resets.

Resets cut a sequence into chunks. The frame that carries a reset is fed once more as the first of
the next chunk, whose world is that frame's camera; what is said of it the second time is dropped,
and the poses of the chunk are placed behind its pose. Any number of chunks chains up that way.
"""

import dataclasses
from collections.abc import Iterator

import numpy as np

from tttlrm_jax.core.errors import InputError


@dataclasses.dataclass(frozen=True)
class Visit:
    """One turn of the recurrence: which frame is fed, and what becomes of it."""

    index: int  # of the frame in its sequence
    reset: bool  # the state starts over after it
    update: bool  # the state may change
    keep: bool  # its outputs are the frame's results


def schedule(
    num_frames: int | None,
    *,
    reset_every: int = 0,
    revisit: int = 1,
    update_revisits: bool = True,
) -> Iterator[Visit]:
    """Visits of a sequence in order; endless where `num_frames` is None.

    Every `reset_every`-th frame resets the state (0: none does) and is visited twice. `revisit`
    goes through the sequence that often and keeps the last pass; without `update_revisits` only
    the first pass writes. Raises InputError for values out of range, and for an endless sequence
    that is to be visited again.
    """
    for name, value, low in (("reset_every", reset_every, 0), ("revisit", revisit, 1)):
        if value < low:
            raise InputError.of(name, value, f"is below {low}", f"use {low} or more")
    if num_frames is not None and num_frames < 1:
        raise InputError.of("num_frames", num_frames, "make no sequence", "give at least one")
    if num_frames is None and revisit > 1:
        raise InputError.of(
            "revisit", revisit, "needs the number of frames", "use revisit=1 for a live stream"
        )
    if reset_every and revisit > 1:
        raise InputError.of(
            "revisit", revisit, f"does not go with reset_every={reset_every}: a reset forgets the "
            f"pass before", "use one of the two",
        )  # fmt: skip
    return _visits(num_frames, reset_every, revisit, update_revisits)


def _visits(num_frames, reset_every, revisit, update_revisits) -> Iterator[Visit]:
    for turn in range(revisit):
        index = 0
        update, keep = turn == 0 or update_revisits, turn == revisit - 1
        while num_frames is None or index < num_frames:
            reset = reset_every > 0 and (index + 1) % reset_every == 0
            yield Visit(index, reset, update, keep)
            if reset:
                yield Visit(index, reset=False, update=True, keep=False)
            index += 1


class PoseChain:
    """Places poses of consecutive chunks in the world of the first one."""

    def __init__(self) -> None:
        self._base = np.eye(4)

    def advance(self, world_from_camera: np.ndarray, reset: bool) -> np.ndarray:
        """The 4x4 pose in the first chunk's world; after a `reset` frame the next chunk starts.

        Visits that repeat a frame are passed like any other.
        """
        placed = self._base @ np.asarray(world_from_camera, np.float64)
        if reset:
            self._base = placed
        return placed
