"""SIGTERM as an exception."""

import contextlib
import signal
import threading
from collections.abc import Iterator


class Stopped(BaseException):
    """SIGTERM where there is nothing to save. No Exception: it is not a failure to be handled."""


@contextlib.contextmanager
def sigterm_raises(error: type[BaseException]) -> Iterator[None]:
    """Within it SIGTERM raises `error`; does nothing outside of the main thread."""

    def interrupt(number, frame):
        raise error

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)
