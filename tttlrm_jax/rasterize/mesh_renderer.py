"""Rendering outside of `jit` over devices that each hold a part of the cloud and of the images.

A drop-in for `eager.Renderer`: whole clouds and cameras go in, whole pictures come out on the host,
and nothing is dropped.
"""

import functools
import math
import time
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from tttlrm_jax.config import MeshConfig, RasterConfig
from tttlrm_jax.core.errors import InputError
from tttlrm_jax.core.types import Cameras, Gaussians, Splats
from tttlrm_jax.parallel.mesh import device_bytes, put_whole
from tttlrm_jax.parallel.processes import host_value
from tttlrm_jax.rasterize.exchange import PartRendering, Parts, render_parts
from tttlrm_jax.rasterize.render import (
    GSPLAT,
    Rendering,
    capacity_for,
    intersections,
)

AXES = ("seq", "fsdp")  # of the mesh, over which Gaussians and parts of images lie


class MeshRenderer:
    """Renders any scene from any cameras over a mesh; see `eager.Renderer`."""

    def __init__(
        self,
        mesh: Mesh,
        settings: MeshConfig,
        *,
        background: tuple[float, ...] | None = None,
        config: RasterConfig = GSPLAT,
    ):
        """`settings` say how Gaussians are exchanged; `background` as in `eager.Renderer`."""
        self._mesh, self._settings, self._background = mesh, settings, background
        self.config = config
        self._axes = tuple(axis for axis in AXES if mesh.shape[axis] > 1) or AXES[:1]
        self._devices = math.prod(mesh.shape[axis] for axis in self._axes)
        self._programs: dict[Any, Any] = {}
        self.seconds = 0.0  # that the newest rendering took, without compiling
        self.compile_seconds = 0.0  # that its program took to compile
        self.bytes_per_device: dict[str, int] = {}  # of its program

    def __call__(
        self, scene: Splats | Gaussians, cameras: Cameras, *, growth: float = 1.0
    ) -> Rendering:
        """A camera, or cameras with one leading axis; NumPy arrays. `growth` is not needed."""
        del growth
        if cameras.world_from_camera.ndim == 2:
            return jax.tree.map(lambda x: x[0], self(scene, cameras[None]))
        splats = self._placed(scene)
        return self._run(splats, cameras, self._capacity(splats, cameras))

    def frames(
        self, scene: Splats | Gaussians, cameras: Cameras, at_a_time: int
    ) -> Iterator[np.ndarray]:
        """Pictures [height, width, 3] of many cameras, one by one; `at_a_time` of them are held."""
        splats, count = self._placed(scene), len(cameras.world_from_camera)
        capacity = self._capacity(splats, cameras)
        for first in range(0, count, at_a_time):
            portion = np.minimum(np.arange(first, first + at_a_time), count - 1)
            yield from self._run(splats, cameras[portion], capacity).rgb[: count - first]

    def _placed(self, scene: Splats | Gaussians) -> Splats:
        """The cloud over the devices, in order, filled up to equal parts with what cannot show."""
        splats = scene.activate() if isinstance(scene, Gaussians) else scene
        count = splats.mean.shape[0]
        missing = max(-(-count // self._devices), 1) * self._devices - count
        sharding = NamedSharding(self._mesh, PartitionSpec(self._axes))

        def placed(x, fill):
            padding = [(0, missing)] + [(0, 0)] * (x.ndim - 1)
            return put_whole(np.pad(np.asarray(x), padding, constant_values=fill), sharding)

        return Splats(
            mean=placed(splats.mean, 0), quaternion=placed(splats.quaternion, 1),
            scale=placed(splats.scale, 1), opacity=placed(splats.opacity, 0),
            features=placed(splats.features, 0),
        )  # fmt: skip

    def _capacity(self, splats: Splats, cameras: Cameras) -> int:
        """Slots of a part that hold every intersection of any camera's whole picture."""
        whole = PartitionSpec()

        def local(splats, cameras):
            return lax.psum(intersections(splats, cameras, self.config), self._axes)

        count = self._mapped(local, whole)
        needed = self._compiled("count", count, splats, self._whole(cameras))
        return capacity_for(int(np.max(host_value(needed(splats, self._whole(cameras))))))

    def _run(self, splats: Splats, cameras: Cameras, capacity: int) -> Rendering:
        num_views = len(cameras.world_from_camera)
        mapped, parts = self.drawing(num_views, cameras.height, capacity)
        placed = self._whole(cameras)
        program = self._compiled(("render", capacity), mapped, splats, placed)
        start = time.perf_counter()
        made = jax.block_until_ready(program(splats, placed))
        self.seconds = time.perf_counter() - start
        self.bytes_per_device = device_bytes(program)
        return self._joined(jax.tree.map(host_value, made), parts)

    def drawing(self, num_views: int, height: int, slots: int | None = None) -> tuple[Any, Parts]:
        """What is compiled: parted Gaussians and whole cameras to each device's parts of so many
        pictures; and these parts. `slots` as in `render_parts`."""
        parts = Parts.of(num_views, height, self._devices)
        local = functools.partial(self._parts, parts=parts, slots=slots)
        return self._mapped(local, PartitionSpec(self._axes)), parts

    def _parts(self, splats: Splats, cameras: Cameras, *, parts: Parts, slots: int | None):
        background = self._background
        held, share = splats.mean.shape[0], self._settings.exchange_capacity
        return render_parts(
            splats, cameras, parts, self._axes,
            background=None if background is None else jnp.asarray(background, splats.mean.dtype),
            config=self.config, exchange=self._settings.exchange,
            capacity=math.ceil(share * held), slots=slots,
        )  # fmt: skip

    def _joined(self, made: PartRendering, parts: Parts) -> Rendering:
        """Whole pictures. Raises InputError where the exchange left Gaussians out."""
        if made.num_unsent.sum():
            raise InputError.of(
                "mesh.exchange_capacity", self._settings.exchange_capacity,
                f"leaves {made.num_unsent.sum()} Gaussians out of pictures", "raise it, up to 1",
            )  # fmt: skip
        rgb, depth, alpha = (parts.join(x[None])[0] for x in (made.rgb, made.depth, made.alpha))
        used = (parts.num_views, parts.bands)
        dropped, invalid = (
            x[: math.prod(used)].reshape(used).sum(axis=1)
            for x in (made.num_dropped, made.num_invalid)
        )
        return Rendering(rgb, depth, alpha, dropped, invalid)

    def _mapped(self, local, out_specs):
        specs = (PartitionSpec(self._axes), PartitionSpec())
        return jax.shard_map(
            local, mesh=self._mesh, in_specs=specs, out_specs=out_specs, check_vma=False
        )

    def _whole(self, cameras: Cameras) -> Cameras:
        sharding = NamedSharding(self._mesh, PartitionSpec())
        return jax.tree.map(lambda x: put_whole(x, sharding), cameras)

    def _compiled(self, name: Any, function, splats: Splats, cameras: Cameras):
        """The function for arguments of these shapes, compiled once."""
        leaves, structure = jax.tree.flatten((splats, cameras))
        key = (name, structure, tuple((x.shape, str(x.dtype)) for x in leaves))
        if key not in self._programs:
            start = time.perf_counter()
            compiled = jax.jit(function).lower(splats, cameras).compile()
            self._programs[key] = compiled, time.perf_counter() - start
        compiled, self.compile_seconds = self._programs[key]
        return compiled
