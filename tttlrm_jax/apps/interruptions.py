"""Ctrl-C and SIGTERM in a command."""

import contextlib
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType

MOMENT = 0.02  # seconds


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Lets SIGTERM clean up as Ctrl-C does, and loses neither.

    Python prints and ignores exceptions amid callbacks of its collector (JAX has one, and tracing
    collects often), of weak references and amid `__del__`: the signal then comes again a moment
    later.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = [signal.SIGTERM]
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # not ignored, as by nohup
        numbers.append(signal.SIGINT)
    previous = {each: signal.signal(each, _interrupt) for each in numbers}
    others = sys.unraisablehook
    sys.unraisablehook = lambda ignored: _not_lost(ignored, others)
    try:
        yield
    finally:
        sys.unraisablehook = others
        for each, handler in previous.items():
            signal.signal(each, handler)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _not_lost(ignored: "sys.UnraisableHookArgs", others: Callable[..., None]) -> None:
    """An interrupt that Python would ignore comes again; all else is for the other hooks."""
    if not issubclass(ignored.exc_type, KeyboardInterrupt):
        others(ignored)
        return
    main = threading.main_thread().ident
    again = threading.Timer(MOMENT, signal.pthread_kill, [main, signal.SIGTERM])
    again.daemon = True
    again.start()
