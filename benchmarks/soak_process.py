"""`train.py` as `benchmarks.soak` starts it: with a board that says what the process is doing.

    python -m benchmarks.soak_process BOARD configs/NAME.py [--field value ...]

The board is a file of two int32 counts, mapped into memory, so that it outlives SIGKILL:

- `DRAWS`: items of a batch that are being drawn (views chosen, read and normalised) right now
- `STEPS`: training steps that have been started and whose metrics have not been read

Nothing else differs from `train.py`.
"""

import functools
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np

from tttlrm_jax.apps.train import main as train_main
from tttlrm_jax.datasets import pipeline
from tttlrm_jax.training.nonfinite import NonfiniteWatch
from tttlrm_jax.training.tasks.mesh_program import MeshProgram

DRAWS, STEPS = range(2)


def open_board(path: Path, *, new: bool = False) -> np.memmap:
    """The two counts; `new` sets them to zero."""
    return np.memmap(path, np.int32, "w+" if new else "r+", shape=(2,))


def note_activities(board: np.ndarray) -> None:
    """Makes this process keep its board."""
    lock = threading.Lock()

    def add(count: int, amount: int) -> None:
        with lock:
            board[count] += amount

    def counted(function: Callable, count: int, before: int, after: int) -> Callable:
        @functools.wraps(function)
        def call(*arguments, **options):
            add(count, before)
            try:
                return function(*arguments, **options)
            finally:
                add(count, after)

        return call

    pipeline.draw_item = counted(pipeline.draw_item, DRAWS, 1, -1)
    MeshProgram.step = counted(MeshProgram.step, STEPS, 0, 1)  # not while it is compiled
    NonfiniteWatch.judge = counted(NonfiniteWatch.judge, STEPS, -1, 0)


def main() -> int:
    note_activities(open_board(Path(sys.argv[1])))
    return train_main(sys.argv[2:])


if __name__ == "__main__":
    sys.exit(main())
