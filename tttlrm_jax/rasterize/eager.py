"""Rendering outside of `jit`: nothing is dropped, and few programs are compiled."""

import math
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from tttlrm_jax.config import RasterConfig
from tttlrm_jax.core.arrays import on_device
from tttlrm_jax.core.types import Cameras, Gaussians, Splats
from tttlrm_jax.rasterize import in_parts
from tttlrm_jax.rasterize.render import (
    GSPLAT,
    MAX_CAPACITY,
    Rendering,
    fit_capacity,
    render,
    render_views,
)


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
        self._background, self.config = background, config
        self._programs: dict[Any, _Program] = {}  # by shapes
        self.seconds = 0.0  # that the newest rendering took, without compiling
        self.compile_seconds = 0.0  # that its program took to compile

    def __call__(
        self, scene: Splats | Gaussians, cameras: Cameras, *, growth: float = 1.0
    ) -> Rendering:
        """Renders a camera, or cameras with one leading axis. Raises InputError as `render`.

        A program that has to be compiled gets room for `growth` times as many intersections: for
        a scene that is known to grow.
        """
        splats = _activated(scene)
        capacity = fit_capacity(splats, cameras, config=self.config)
        return self._run(splats, cameras, capacity, growth)

    def frames(
        self, scene: Splats | Gaussians, cameras: Cameras, at_a_time: int
    ) -> Iterator[np.ndarray]:
        """Pictures [height, width, 3] of many cameras, one by one; `at_a_time` of them are held."""
        splats, count = _activated(scene), len(cameras.world_from_camera)
        cameras = jax.tree.map(np.asarray, cameras)  # indexing on the device compiles
        order = np.arange(-(-count // at_a_time) * at_a_time).reshape(-1, at_a_time)
        portions = [cameras[np.minimum(rows, count - 1)] for rows in order]
        capacity = max(fit_capacity(splats, portion, config=self.config) for portion in portions)
        for rows, portion in zip(order, portions, strict=True):
            pictures = np.asarray(self._run(splats, portion, capacity).rgb)
            yield from pictures[: count - rows[0]]

    def _run(
        self, splats: Splats, cameras: Cameras, capacity: int, growth: float = 1.0
    ) -> Rendering:
        shares = self._shares(cameras, capacity)
        program = self._program(splats, shares[0], capacity, growth)
        start = time.perf_counter()
        made = in_parts.side_by_side([partial(program.run, splats, share) for share in shares])
        rendering = jax.block_until_ready(made[0] if len(made) == 1 else _joined(made, cameras))
        self.seconds = time.perf_counter() - start
        self.compile_seconds = program.compile_seconds
        return rendering

    def _shares(self, cameras: Cameras, capacity: int) -> list[Cameras]:
        """The cameras as threads share them, as many for each; the last ones may be repeated."""
        count = len(cameras.world_from_camera) if cameras.world_from_camera.ndim > 2 else 1
        shares = min(count, in_parts.suitable_parts(self.config.backend, capacity))
        if shares == 1:
            return [cameras]
        cameras = jax.tree.map(np.asarray, cameras)  # indexing on the device compiles
        each = -(-count // shares)
        rows = np.minimum(np.arange(shares * each), count - 1).reshape(shares, each)
        return [cameras[row] for row in rows]

    def _program(
        self, splats: Splats, cameras: Cameras, capacity: int, growth: float
    ) -> "_Program":
        """The compiled program for these shapes, with at least this capacity."""
        leaves, structure = jax.tree.flatten((splats, cameras))
        key = (structure, tuple((x.shape, jnp.dtype(x.dtype)) for x in leaves))
        known = self._programs.get(key)
        if known is None or known.capacity < capacity:
            room = min(math.ceil(growth * capacity), MAX_CAPACITY)
            known = self._programs[key] = self._compiled(splats, cameras, room)
        return known

    def _compiled(self, splats: Splats, cameras: Cameras, capacity: int) -> "_Program":
        background = self._background
        if background is not None:
            background = jnp.asarray(background, splats.mean.dtype)
        one_or_many = render if cameras.world_from_camera.ndim == 2 else render_views

        def run(splats, cameras):
            return one_or_many(
                splats, cameras, background=background, config=self.config, capacity=capacity
            )

        start = time.perf_counter()
        compiled = jax.jit(run).lower(splats, cameras).compile()
        return _Program(capacity, compiled, time.perf_counter() - start)


class _Program(NamedTuple):
    """Compiled for scenes and cameras of given shapes."""

    capacity: int
    run: Callable[[Splats, Cameras], Rendering]
    compile_seconds: float


class Renderers:
    """Renderers by background and configuration: each is made once and keeps its programs.

    `make(background=..., config=...)` makes one: a `Renderer`, or what stands in for it.
    """

    def __init__(self, make: Callable[..., Any] = Renderer) -> None:
        self._make = make
        self._made: dict[Any, Any] = {}

    def __call__(self, background: tuple[float, ...], config: RasterConfig) -> Renderer:
        key = (tuple(background), config)
        if key not in self._made:
            self._made[key] = self._make(background=background, config=config)
        return self._made[key]


def _joined(made: list[Rendering], cameras: Cameras) -> Rendering:
    """The renderings of the cameras' shares as one."""
    count = len(cameras.world_from_camera)
    return jax.tree.map(lambda *parts: on_device(np.concatenate(parts)[:count]), *made)


def _activated(scene: Splats | Gaussians) -> Splats:
    return scene.activate() if isinstance(scene, Gaussians) else scene
