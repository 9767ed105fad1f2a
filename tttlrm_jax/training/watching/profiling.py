"""Traces of some steps, for Perfetto and for TensorBoard's profiler (xprof)."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import jax

from tttlrm_jax.config.training import steps_to_profile
from tttlrm_jax.core.errors import InputError

WARM = 2  # steps of a call that a number of steps passes by: the first one compiles
STEP = "train"  # annotation of every step


class StepTrace:
    """Traces the steps that `profile` names into `directory` (`plugins/profile/TIME/` there).

    `first` and `last` are the numbers of the steps that this call is going to take.
    """

    def __init__(
        self, profile: str, directory: Path, first: int, last: int, say: Callable[[str], None]
    ):
        self._directory, self._say = directory, say
        self._begin, self._end = self._steps(profile, first, last)
        self._running = False

    def _steps(self, profile: str, first: int, last: int) -> tuple[int, int]:
        """First and last step to trace, of 0 and 0 none."""
        asked = steps_to_profile(profile)
        if asked is None:
            return 0, 0
        begin, end = asked
        if begin is None:
            begin = first + WARM
            end = begin + end - 1
        begin, end = max(begin, first), min(end, last)
        if begin > end:
            self._say(f"profile={profile} names none of the steps {first} to {last}: no trace")
            return 0, 0
        return begin, end

    @contextlib.contextmanager
    def step(self, number: int) -> Iterator[None]:
        """The step with this number, named so in a trace; begins the trace where it is due."""
        if number == self._begin:
            self._start()
        with jax.profiler.StepTraceAnnotation(STEP, step_num=number):
            yield

    def ends_with(self, number: int) -> bool:
        """Whether the trace ends with this step."""
        return self._running and number == self._end

    def close(self) -> None:
        """Ends a trace that is running, and says where it is.

        Raises InputError where it cannot be written.
        """
        if not self._running:
            return
        self._running = False
        try:
            jax.profiler.stop_trace()
        except (OSError, jax.errors.JaxRuntimeError) as error:
            raise self._failed(error) from error
        folders = (self._directory / "plugins" / "profile").glob("*/perfetto_trace.json.gz")
        newest = max(folders, key=lambda path: path.stat().st_mtime)
        self._say(
            f"steps {self._begin} to {self._end} are traced in {newest.parent}: open {newest.name} "
            f"at ui.perfetto.dev, or the folder with tensorboard --logdir {self._directory}"
        )

    def _start(self) -> None:
        options = jax.profiler.ProfileOptions()
        options.python_tracer_level = 0  # every call of a Python function, or none
        try:
            jax.profiler.start_trace(
                self._directory, create_perfetto_trace=True, profiler_options=options
            )
        except (OSError, RuntimeError) as error:
            raise self._failed(error) from error
        self._running = True

    def _failed(self, error: Exception) -> InputError:
        reason = " ".join(str(error).split())[:200]
        return InputError.of(
            "profile", f"{self._begin}-{self._end}", f"cannot be traced ({reason})",
            "leave it out, or free space on the disk of train.directory",
        )  # fmt: skip
