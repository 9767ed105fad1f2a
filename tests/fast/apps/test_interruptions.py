"""Signals that a command must not lose."""

import gc
import signal
import threading
import time

import pytest

from tttlrm_jax.apps.interruptions import interruptible


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_amid_a_callback_of_the_collector_comes_again(number):
    """Python prints and ignores exceptions there, and JAX has such a callback."""
    before, amid = signal.signal(number, signal.default_int_handler), []

    def callback(phase, _):
        if phase == "start" and not amid:
            signal.raise_signal(number)
            amid.append(phase)

    def collect_and_wait():
        with interruptible():
            gc.collect()
            amid.append("after")  # nothing was raised in the callback
            time.sleep(10)

    gc.callbacks.append(callback)
    try:
        with pytest.raises(KeyboardInterrupt):
            collect_and_wait()
        assert amid == ["start", "after"]
    finally:
        gc.callbacks.remove(callback)
        assert signal.signal(number, before) is signal.default_int_handler


def test_an_ignored_signal_stays_ignored():
    """As that of a command in the background."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with interruptible():
            signal.raise_signal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)


def test_signals_interrupt_at_once_and_other_threads_are_left_alone():
    with pytest.raises(KeyboardInterrupt), interruptible():
        signal.raise_signal(signal.SIGTERM)
    handlers = []

    def work():
        with interruptible():
            handlers.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert handlers == [signal.getsignal(signal.SIGTERM)]
