"""Signals that a command must not lose."""

import gc
import signal
import threading
import time
import weakref

import pytest

from tttlrm_jax.apps.interruptions import interruptible


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_amid_a_callback_of_the_collector_comes_again(number):
    """Python prints and ignores exceptions there, and JAX has such a callback."""
    before, amid = signal.signal(number, signal.default_int_handler), []

    def callback(phase, _):
        if phase == "start" and not amid:
            amid.append(phase)
            signal.raise_signal(number)

    def collect_and_wait():
        with interruptible():
            gc.collect()  # ignores what the callback raises
            for _ in range(1000):
                time.sleep(0.1)

    gc.callbacks.append(callback)
    try:
        with pytest.raises(KeyboardInterrupt):
            collect_and_wait()
        assert amid == ["start"]
    finally:
        gc.callbacks.remove(callback)
        assert signal.signal(number, before) is signal.default_int_handler


def test_a_signal_amid_a_weak_reference_comes_again():
    class Thing:
        pass

    thing, gone = Thing(), []

    def callback(reference):
        gone.append(reference)
        signal.raise_signal(signal.SIGTERM)

    reference = weakref.ref(thing, callback)
    things = [thing]
    del thing

    def lose_and_wait():
        with interruptible():
            things.clear()  # ignores what the callback raises
            for _ in range(1000):
                time.sleep(0.1)

    with pytest.raises(KeyboardInterrupt):
        lose_and_wait()
    assert gone == [reference]


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
