"""Ends a run whose loss stays not finite, and keeps the batch it happened on."""

from pathlib import Path
from typing import Any

import jax
import numpy as np

from tttlrm_jax.core.errors import InputError


class NonfiniteWatch:
    """Counts steps in a row whose loss or gradient is not finite (they change no parameters)."""

    def __init__(self, directory: Path, limit: int):
        self._directory, self._limit = directory, limit
        self._in_a_row = 0

    def judge(self, step: int, metrics: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        """Looks at `loss` and `grad_norm` of the step that made `step` batches seen.

        Raises InputError for the `limit`-th bad step in a row, with `arrays`, its batch, saved as
        `.npz` in the run's directory; each process saves its share.
        """
        judged = np.asarray([metrics["loss"], metrics["grad_norm"]])
        self._in_a_row = 0 if np.isfinite(judged).all() else self._in_a_row + 1
        if self._in_a_row < self._limit:
            return
        path = self._directory / f"nonfinite_{step:08d}_process{jax.process_index()}.npz"
        np.savez(path, allow_pickle=False, **arrays)
        raise InputError.of(
            "loss", float(judged[0]),
            f"or its gradient is not finite for {self._in_a_row} steps in a row, up to step {step} "
            f"(its batch is in {path})",
            "look at that batch, lower optimizer.peak_lr, or raise train.max_nonfinite",
        )  # fmt: skip
