"""Rows of `benchmarks.quality` that optimise scene by scene: refinement, and 3DGS from nothing."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tttlrm_jax.evaluation.scene import Renderer
from tttlrm_jax.models import merge_model
from tttlrm_jax.optimize import FitConfig, RefineConfig, fit_scene, photographs, refine
from tttlrm_jax.training.objective import Batch, StaticParts, pruned_for_rendering
from tttlrm_jax.types import Gaussians

Row = tuple[str, Callable[[Batch], np.ndarray]]  # name; batch -> [scene, target, height, width, 3]


class Seconds:
    """Seconds per scene by name of a row."""

    def __init__(self):
        self._all: dict[str, list[float]] = {}

    def add(self, name: str, seconds: float) -> None:
        self._all.setdefault(name, []).append(seconds)

    def mean(self, name: str) -> float | None:
        """None for rows that are not timed."""
        return float(np.mean(self._all[name])) if name in self._all else None


def refined(params: Any, static: StaticParts, steps: int, seconds: Seconds) -> Row:
    """The model's Gaussians after steps on the input views."""
    name, config = f"this model + {steps} steps", static.config
    settings = config.train

    @jax.jit
    def predicted(params, batch, key) -> Gaussians:
        model = merge_model(static.graph, params)
        made = model(batch.inputs, plan=settings.plan, chunk_views=settings.chunk_views)
        return pruned_for_rendering(made, config, key, batch)

    def answer(batch: Batch) -> np.ndarray:
        gaussians = predicted(params, batch, jax.random.key(settings.seed))

        def one(index: int) -> Gaussians:
            result = refine(
                jax.tree.map(lambda x: x[index], gaussians),
                photographs(_scene(batch.inputs, index)), RefineConfig(steps=steps),
                raster=config.raster, background=config.data.background,
            )  # fmt: skip
            seconds.add(name, result.seconds)
            return result.gaussians

        return _rendered(batch, static, one)

    return name, answer


def fitted(static: StaticParts, steps: int, seconds: Seconds) -> Row:
    """3D Gaussian Splatting from nothing on the input views."""
    name, config = f"3DGS from nothing, {steps} steps", static.config

    def answer(batch: Batch) -> np.ndarray:
        def one(index: int) -> Gaussians:
            result = fit_scene(
                photographs(_scene(batch.inputs, index)), FitConfig(steps=steps),
                raster=config.raster, background=config.data.background,
            )  # fmt: skip
            seconds.add(name, result.seconds)
            return result.gaussians

        return _rendered(batch, static, one)

    return name, answer


def _scene(views, index: int):
    """One scene of a batch, as a batch of one."""
    return jax.tree.map(lambda x: x[index : index + 1], views)


def _rendered(batch: Batch, static: StaticParts, one: Callable[[int], Gaussians]) -> np.ndarray:
    config, pictures = static.config, []
    for index in range(batch.inputs.image.shape[0]):
        cameras = jax.tree.map(lambda x, i=index: jnp.asarray(x[i]), batch.targets.cameras)
        renderer = Renderer(cameras, config.data.background, config.raster)
        pictures.append(renderer(one(index)).value)
    return np.stack(pictures)
