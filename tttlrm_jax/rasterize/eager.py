"""Rendering outside of `jit`: nothing is dropped, and few programs are compiled."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tttlrm_jax.config import RasterConfig
from tttlrm_jax.core.types import Cameras, Gaussians, Splats
from tttlrm_jax.rasterize.render import GSPLAT, Rendering, fit_capacity, render, render_views


class Renderer:
    """Renders any scene from any cameras with a capacity that drops nothing.

    One program is compiled for every shape of Gaussians and cameras. It has room for the
    intersections of the first scene, is used for all scenes with no more of them, and is compiled
    anew with more room for one that has more. Reads numbers back from the device, so it cannot be
    called under `jit`: use `render` or `render_views` there.

        renderer = Renderer(background=(1.0, 1.0, 1.0))
        picture = renderer(gaussians, cameras).rgb   # one camera, or [view, height, width, 3]
    """

    def __init__(
        self, *, background: tuple[float, ...] | None = None, config: RasterConfig = GSPLAT
    ):
        """`background` has a value in [0, 1] per channel; None is black."""
        self._background, self._config = background, config
        self._programs: dict[Any, tuple[int, Callable]] = {}  # by shapes: capacity, program
        self.seconds = 0.0  # that the newest rendering took, without compiling
        self.compile_seconds = 0.0  # that the newest program took to compile

    def __call__(self, scene: Splats | Gaussians, cameras: Cameras) -> Rendering:
        """Renders a camera, or cameras with one leading axis. Raises InputError as `render`."""
        splats = _activated(scene)
        return self._run(splats, cameras, fit_capacity(splats, cameras, config=self._config))

    def frames(
        self, scene: Splats | Gaussians, cameras: Cameras, at_a_time: int
    ) -> Iterator[np.ndarray]:
        """Pictures [height, width, 3] of many cameras, one by one; `at_a_time` of them are held."""
        splats, count = _activated(scene), len(cameras.world_from_camera)
        capacity = fit_capacity(splats, cameras, config=self._config)
        for first in range(0, count, at_a_time):
            portion = np.minimum(np.arange(first, first + at_a_time), count - 1)
            pictures = np.asarray(self._run(splats, cameras[portion], capacity).rgb)
            yield from pictures[: count - first]

    def _run(self, splats: Splats, cameras: Cameras, capacity: int) -> Rendering:
        program = self._program(splats, cameras, capacity)
        start = time.perf_counter()
        rendering = jax.block_until_ready(program(splats, cameras))
        self.seconds = time.perf_counter() - start
        return rendering

    def _program(self, splats: Splats, cameras: Cameras, capacity: int) -> Callable:
        """The compiled program for these shapes, with at least this capacity."""
        leaves, structure = jax.tree.flatten((splats, cameras))
        key = (structure, tuple((x.shape, jnp.dtype(x.dtype)) for x in leaves))
        known = self._programs.get(key)
        if known is None or known[0] < capacity:
            known = self._programs[key] = capacity, self._compiled(splats, cameras, capacity)
        return known[1]

    def _compiled(self, splats: Splats, cameras: Cameras, capacity: int) -> Callable:
        background = self._background
        if background is not None:
            background = jnp.asarray(background, splats.mean.dtype)
        one_or_many = render if cameras.world_from_camera.ndim == 2 else render_views

        def run(splats, cameras):
            return one_or_many(
                splats, cameras, background=background, config=self._config, capacity=capacity
            )

        start = time.perf_counter()
        compiled = jax.jit(run).lower(splats, cameras).compile()
        self.compile_seconds = time.perf_counter() - start
        return compiled


def _activated(scene: Splats | Gaussians) -> Splats:
    return scene.activate() if isinstance(scene, Gaussians) else scene
