"""How fast a run steps: seconds, what it waits for, FLOPs and their share of the peak, memory.

Nothing here asks a device to wait: the clock is read where the loop has the metrics of a step
anyway.
"""

import contextlib
import time
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
from tqdm import tqdm

from tttlrm_jax.core.host_memory import resident_bytes
from tttlrm_jax.training.watching.chips import chip_of

GIB = 2**30
TERA = 1e12


class Work(NamedTuple):
    """What one step does, over all devices and processes."""

    views: int  # pictures of the batch, inputs and targets
    tokens: int  # of the input pictures
    flops: float  # of matrix products, what is recomputed too
    compile_seconds: float  # that this process has compiled steps so far


class SpeedMeter:
    """Adds up steps from one record to the next.

    Compiling and what runs `apart` (evaluation, checkpoints, traces) count for no step.
    """

    def __init__(self, devices: Sequence[Any]):
        self._devices = devices
        chip = chip_of(devices[0].device_kind)
        self._peak = None if chip is None else chip.tflops * TERA * len(devices)
        self._compiled = 0.0
        self._start()

    def _start(self) -> None:
        self._since = time.perf_counter()
        self._waited = self._apart = 0.0
        self._steps = self._views = self._tokens = 0
        self._flops = 0.0

    def unknown_peak(self) -> str | None:
        """What to say of chips whose peak is not known."""
        if self._peak is not None:
            return None
        kind = self._devices[0].device_kind
        return f"speed/utilisation is not recorded: the peak of {kind} is not known; FLOP/s are"

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """While the next batch is waited for."""
        begun = time.perf_counter()
        yield
        self._waited += time.perf_counter() - begun

    @contextlib.contextmanager
    def apart(self) -> Iterator[None]:
        """While something else than steps is done; the device has to have ended them before."""
        begun = time.perf_counter()
        yield
        self._apart += time.perf_counter() - begun

    def count(self, work: Work) -> float:
        """Counts a step; returns the seconds that it spent compiling."""
        self._steps += 1
        self._views += work.views
        self._tokens += work.tokens
        self._flops += work.flops
        compiling = work.compile_seconds - self._compiled
        self._compiled = work.compile_seconds
        self._apart += compiling
        return compiling

    def record(self) -> dict[str, float]:
        """Figures of the steps since the last record, by name; none where there was no step."""
        if not self._steps:
            return {}
        seconds = max(time.perf_counter() - self._since - self._apart, 1e-9)
        values = {
            "speed/seconds_per_step": seconds / self._steps,
            "speed/data_wait_per_step": self._waited / self._steps,
            "speed/views_per_second": self._views / seconds,
            "speed/tokens_per_second": self._tokens / seconds,
            "speed/tflop_per_second": self._flops / seconds / TERA,
        }
        if self._peak is not None:
            values["speed/utilisation"] = self._flops / seconds / self._peak
        self._start()
        return values | memory_values()


def memory_values() -> dict[str, float]:
    """GiB that this process holds on its host and, at most, on one of its devices, now and at
    their highest so far; what is not known is left out."""
    values: dict[str, float] = {}
    resident = resident_bytes()
    if resident is not None:
        values["memory/host_gib"] = resident / GIB
    stats: list[Any] = [device.memory_stats() or {} for device in jax.local_devices()]
    names = {"bytes_in_use": "device_gib", "peak_bytes_in_use": "device_peak_gib"}
    for key, name in names.items():
        known = [each[key] for each in stats if key in each]
        if known:
            values[f"memory/{name}"] = max(known) / GIB
    return values


def shown(values: dict[str, float]) -> str:
    """The figures of a record in a few words, for the progress bar; none without a time."""
    seconds = values.get("speed/seconds_per_step")
    if seconds is None:
        return ""
    waiting = 100 * values["speed/data_wait_per_step"] / seconds
    words = [f"{seconds:.3g} s/step", f"data wait {waiting:.0f} %"]
    for name in ("views", "tokens"):
        words.append(f"{tqdm.format_sizeof(values[f'speed/{name}_per_second'])} {name}/s")
    if "speed/utilisation" in values:
        words.append(f"{100 * values['speed/utilisation']:.0f} % of peak")
    else:
        words.append(f"{values['speed/tflop_per_second']:.2g} TFLOP/s")
    for name in ("memory/device_peak_gib", "memory/host_gib"):
        if name in values:
            words.append(f"{values[name]:.1f} GiB")
            break
    if values.get("num_skipped"):
        words.append(f"{values['num_skipped']:.0f} skipped")
    return ", ".join(words)
