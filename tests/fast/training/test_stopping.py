"""When processes ask each other whether to stop, with the other processes and the clock played."""

import signal

import pytest

from tttlrm_jax.training import stopping, trainer
from tttlrm_jax.training.stopping import ASK_SECONDS, ASK_STEPS, Stopped, StopRequest


class Played:
    """A clock, and a number from another process; counts how often they were asked."""

    def __init__(self, monkeypatch, processes: int):
        self.now, self.other, self.asked = 0.0, 0, 0
        monkeypatch.setattr(stopping.jax, "process_count", lambda: processes)
        monkeypatch.setattr(stopping, "largest_of_processes", self._largest)
        monkeypatch.setattr(stopping.time, "monotonic", lambda: self.now)

    def _largest(self, number: int) -> int:
        self.asked += 1
        return max(number, self.other)

    def run(self, stop: StopRequest, steps: int, seconds: float) -> int:
        """Steps taken before all have agreed to stop, `steps` at most."""
        for step in range(steps):
            if stop.agreed():
                return step
            self.now += seconds
        return steps


def test_one_process_stops_at_once_and_asks_nobody(monkeypatch):
    played, stop = Played(monkeypatch, 1), StopRequest()
    assert played.run(stop, 5, 1.0) == 5
    stop.signal = signal.SIGTERM
    assert stop.agreed()
    assert played.asked == 0


@pytest.mark.parametrize(
    ("seconds", "between"), [(0.01, ASK_STEPS), (ASK_SECONDS / 2, 2), (3 * ASK_SECONDS, 1)]
)
def test_processes_ask_seldom_but_in_time(monkeypatch, seconds, between):
    played, stop = Played(monkeypatch, 2), StopRequest()
    played.run(stop, 200, seconds)
    assert played.asked == pytest.approx(200 / between, abs=2)
    stop.signal = signal.SIGTERM
    assert played.run(stop, 200, seconds) <= between


def test_a_signal_of_another_process_and_its_slowness_count(monkeypatch):
    played, stop = Played(monkeypatch, 2), StopRequest()
    played.other = int(1000 * ASK_SECONDS * ASK_STEPS)  # it needs longer than is to pass
    assert played.run(stop, 100, 0.01) == 100
    assert played.asked >= 90
    played.other = stopping._ASKED
    assert played.run(stop, 100, 0.01) <= 1
    assert stop.signal is None


def cut_short(stop: StopRequest, work) -> None:
    with stop.at_once():
        work()
        pytest.fail("the signal did not end it")


def test_a_signal_is_noted_or_ends_what_may_be_cut_short():
    def terminate():
        signal.raise_signal(signal.SIGTERM)

    with StopRequest() as stop:
        with pytest.raises(Stopped):
            cut_short(stop, terminate)
        assert stop.noted_by_any()
        with pytest.raises(Stopped):  # of the earlier signal
            cut_short(stop, lambda: pytest.fail("the work began"))
        with pytest.raises(KeyboardInterrupt):  # the second one
            terminate()
    with StopRequest() as stop:
        with stop.at_once():
            pass
        terminate()
        assert stop.signal == signal.SIGTERM


def test_a_signal_of_another_process_ends_preparations(monkeypatch):
    played, stop = Played(monkeypatch, 2), StopRequest()
    assert not stop.noted_by_any()
    played.other = 1
    assert stop.noted_by_any()


@pytest.mark.parametrize("first", [True, False])
def test_the_others_read_after_the_first_one_and_not_after_its_signal(monkeypatch, first):
    """Every process meets twice, whichever it is: before and after the others have read."""
    played, stop, events = Played(monkeypatch, 2), StopRequest(), []
    monkeypatch.setattr(trainer, "is_first_process", lambda: first)
    monkeypatch.setattr(trainer, "meet", lambda name: events.append("met"))

    def read() -> str:
        events.append("read")
        return "scenes"

    assert trainer._read_by_all("scenes", read, stop) == "scenes"
    assert events == (["read", "met", "met"] if first else ["met", "read", "met"])
    events.clear()
    played.other = 1  # the signal of the other process
    with pytest.raises(Stopped):
        trainer._read_by_all("scenes", read, stop)
    assert events == (["read", "met"] if first else ["met"])
