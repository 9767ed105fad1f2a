"""The steps of a run on one device, compiled; `training.mesh` has the same over many."""

import functools
from typing import Any

import jax
import numpy as np

from tttlrm_jax.checkpoints.train_state import TrainState
from tttlrm_jax.training.objectives.gaussians import VGG19, Batch, StaticParts, batch_from_arrays
from tttlrm_jax.training.update import predict, train_step


class OneDevice:
    """What `MeshProgram` does, without a mesh."""

    def __init__(self, static: StaticParts):
        step = functools.partial(train_step, static=static)
        self._step = jax.jit(step, static_argnames="chunk_views")
        self._predict = jax.jit(functools.partial(predict, static=static))

    def place(self, state: TrainState) -> TrainState:
        return state

    def place_whole(self, tree: Any) -> Any:
        return tree

    def scenes_of_process(self, batch_size: int) -> tuple[int, int]:
        """(shard_index, shard_count) of the loader."""
        del batch_size
        return 0, 1

    def batch(self, arrays: dict[str, np.ndarray], batch_size: int, chunk_views: int) -> Batch:
        """A batch as the loader gives it, as records."""
        del batch_size, chunk_views
        return batch_from_arrays(arrays)

    def step(
        self, state: TrainState, batch: Batch, vgg19: VGG19 | None, chunk_views: int
    ) -> tuple[TrainState, dict[str, Any]]:
        """`train_step`."""
        return self._step(state, batch, vgg19=vgg19, chunk_views=chunk_views)

    def evaluate(
        self, params: Any, arrays: dict[str, np.ndarray]
    ) -> tuple[np.ndarray, dict[str, np.ndarray], dict[str, int]]:
        """(renderings of the targets [batch, view, height, width, 3], scores [batch] by name,
        counts of what the renderings left out)."""
        rendering, metrics = self._predict(params, batch=batch_from_arrays(arrays))
        lost = {name: int(metrics.pop(name)) for name in ("num_dropped", "num_invalid")}
        scores = {name: np.asarray(values) for name, values in metrics.items()}
        return np.asarray(rendering.rgb), scores, lost
