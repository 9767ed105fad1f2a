"""Ctrl-C and SIGTERM in a command."""

import contextlib
import gc
import signal
import threading
from collections.abc import Iterator
from types import FrameType

MOMENT = 0.02  # seconds


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Lets SIGTERM clean up as Ctrl-C does, and loses neither.

    An exception amid a callback of Python's collector (JAX has one, and tracing collects often) is
    printed and ignored: the signal then comes again a moment later.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = [signal.SIGTERM]
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # not ignored, as by nohup
        numbers.append(signal.SIGINT)
    previous = {each: signal.signal(each, _interrupt) for each in numbers}
    try:
        yield
    finally:
        for each, handler in previous.items():
            signal.signal(each, handler)


def _interrupt(number: int, frame: FrameType | None) -> None:
    if not _is_of_collector(frame):
        raise KeyboardInterrupt
    again = threading.Timer(MOMENT, signal.raise_signal, [number])
    again.daemon = True
    again.start()


def _is_of_collector(frame: FrameType | None) -> bool:
    """Whether one of the collector's callbacks is running."""
    codes = {getattr(each, "__code__", None) for each in gc.callbacks}
    while frame is not None and frame.f_code not in codes:
        frame = frame.f_back
    return frame is not None
