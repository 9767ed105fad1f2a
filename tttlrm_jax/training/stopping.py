"""Signals that end a run: between two steps, for all of its processes after the same one.

Before the first step there is nothing to save: they end the run after the preparation at work,
which may be cut short, again for all processes.
"""

import contextlib
import signal
import threading
import time
from collections.abc import Iterator
from types import FrameType
from typing import Any

import jax

from tttlrm_jax.parallel.processes import largest_of_processes

# Asking the other processes waits for them and for the device, so it is not done every step; nor
# seldom, since the time until it is done goes off the grace before a SIGKILL.
ASK_SECONDS = 5.0
ASK_STEPS = 8
_ASKED = 2**30  # larger than any time in milliseconds


class Stopped(BaseException):
    """SIGTERM where there is nothing to save. No Exception: it is not a failure to be handled."""


def listening(stop: "StopRequest | None") -> contextlib.AbstractContextManager["StopRequest"]:
    """The request of a caller, who goes on listening afterwards, else a new one."""
    return StopRequest() if stop is None else contextlib.nullcontext(stop)


class StopRequest:
    """Turns SIGINT and SIGTERM into a flag that the loop reads between steps."""

    def __init__(self):
        self.signal: signal.Signals | None = None
        self._previous: dict[int, Any] = {}
        self._at_once = False
        self._steps_left, self._steps_between = 0, 1
        self._asked_at: float | None = None

    def __enter__(self) -> "StopRequest":
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._previous[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *exception) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    @contextlib.contextmanager
    def at_once(self) -> Iterator[None]:
        """A signal raises Stopped, an earlier one too. For plain Python that waits or renders: JAX,
        and imports, do not survive it everywhere."""
        self._at_once = True
        try:
            if self.signal is not None:
                raise Stopped
            yield
        finally:
            self._at_once = False

    def noted_by_any(self) -> bool:
        """Whether any process has a signal; all have to ask, at about the same time."""
        return largest_of_processes(int(self.signal is not None)) > 0

    def agreed(self) -> bool:
        """Whether to stop; to be called before every step.

        In one process as soon as it has a signal. In several, all get the same answer: they ask
        each other every `ASK_STEPS` steps, or more often where that is longer than `ASK_SECONDS`.
        """
        if jax.process_count() == 1:
            return self.signal is not None
        if self._steps_left > 0:
            self._steps_left -= 1
            return False
        return self._ask()

    def _ask(self) -> bool:
        """One number tells both, whether any has a signal and how long the slowest has taken."""
        now = time.monotonic()
        taken = ASK_SECONDS if self._asked_at is None else now - self._asked_at
        milliseconds = min(int(1000 * taken), _ASKED - 1)
        largest = largest_of_processes(milliseconds if self.signal is None else _ASKED)
        self._asked_at = now
        per_step = max(largest, 1) / self._steps_between
        self._steps_between = min(max(int(1000 * ASK_SECONDS / per_step), 1), ASK_STEPS)
        self._steps_left = self._steps_between - 1
        return largest == _ASKED

    def _note(self, number: int, frame: FrameType | None) -> None:
        del frame
        if self.signal is not None:  # a second one means it
            raise KeyboardInterrupt
        self.signal = signal.Signals(number)
        if self._at_once:
            raise Stopped
