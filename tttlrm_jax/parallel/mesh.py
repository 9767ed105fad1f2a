"""Meshes: which device holds what, and the sums that cross devices.

A mesh has three axes. `data` parts scenes, `seq` parts the views of one scene (hence its tokens,
hence its Gaussians, hence the pixels that are rendered), `fsdp` parts parameters and optimizer
state. Devices along `fsdp` also take a share of the scenes, or else of the views, where these
divide; where neither does they repeat each other's work.

Everything else names *logical* axes, and `TABLE` maps those to the mesh. A program over a mesh is
the program of one device, run by each on its part inside `jax.shard_map`: within `Layout.region`,
`total(x, "token")` sums over the devices that part the tokens and `gather_parameters` completes the
parameters of a layer. Outside of a region both return what they are given, so one device runs
exactly the program without them.
"""

import contextlib
import contextvars
import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

import jax
import numpy as np
from jax import lax
from jax.sharding import AbstractMesh, AxisType, Mesh, NamedSharding, PartitionSpec

from tttlrm_jax.config import MeshConfig
from tttlrm_jax.core.errors import ConfigError, InputError

AXES = ("data", "seq", "fsdp")
# logical axis -> mesh axes; `part` is a share of the target images (see rasterize.exchange)
TABLE: dict[str, tuple[str, ...]] = {
    "batch": ("data",),
    "view": ("seq",),
    "token": ("seq",),
    "gaussian": ("seq",),
    "part": ("seq",),
    "parameter": ("fsdp",),
}
ALONG_VIEWS = ("view", "token", "gaussian", "part")
STACKED = "blocks"  # parameters below this name carry a leading layer axis

_Tree = TypeVar("_Tree")
_Path = tuple[str, ...]


def make_mesh(config: MeshConfig, devices: Sequence[Any] | None = None) -> Mesh:
    """The mesh of all devices, of all processes, or of those given.

    Raises ConfigError as `mesh_sizes`, and where processes would leave a device idle.
    """
    devices = jax.devices() if devices is None else list(devices)
    sizes = mesh_sizes(config, len(devices))
    known = math.prod(sizes)
    if known < len(devices) and jax.process_count() > 1:
        raise ConfigError(
            f"mesh data x seq x fsdp={'x'.join(map(str, sizes))} leaves {len(devices) - known} of "
            f"{len(devices)} devices idle, which processes cannot do; raise a size or use -1"
        )
    grid = np.asarray(devices[:known]).reshape(sizes)
    return Mesh(grid, AXES, axis_types=(AxisType.Auto,) * len(AXES))


def mesh_sizes(config: MeshConfig, num_devices: int) -> tuple[int, int, int]:
    """Devices along each of `AXES`, of so many; -1 takes what the others leave.

    Raises ConfigError where the sizes need more, or do not divide them.
    """
    sizes = (config.data, config.seq, config.fsdp)
    known = math.prod(size for size in sizes if size != -1)
    if -1 in sizes:
        if num_devices % known:
            raise ConfigError(
                f"mesh data x seq x fsdp={'x'.join(map(str, sizes))} does not divide the "
                f"{num_devices} devices; use sizes whose product does"
            )
        data, seq, fsdp = (num_devices // known if size == -1 else size for size in sizes)
        return data, seq, fsdp
    if known > num_devices:
        raise ConfigError(
            f"mesh data x seq x fsdp={'x'.join(map(str, sizes))} needs {known} devices, there are "
            f"{num_devices}; lower a size, or simulate devices on CPU with "
            f"XLA_FLAGS=--xla_force_host_platform_device_count={known}"
        )
    return sizes


@dataclasses.dataclass(frozen=True)
class Layout:
    """A mesh and the table from logical axes to its axes, for batches of certain sizes."""

    mesh: Mesh | AbstractMesh  # the latter where only sizes matter
    table: Mapping[str, tuple[str, ...]]

    @classmethod
    def of(
        cls, mesh: Mesh | AbstractMesh, batch: int, views: int, chunk_views: int | None = None
    ) -> "Layout":
        """Spreads `batch` scenes of `views` input views, or of chunks of so many, over a mesh.

        Raises InputError for a number that does not split over its mesh axis.
        """
        require_split("batch_size", batch, "data", mesh.shape["data"])
        for field, number in (("input views", views), ("chunk_views", chunk_views)):
            if number is not None:
                require_split(field, number, "seq", mesh.shape["seq"])
        table, fsdp = dict(TABLE), mesh.shape["fsdp"]
        per_device = math.gcd(views, chunk_views or views) // mesh.shape["seq"]
        if batch % (mesh.shape["data"] * fsdp) == 0:
            table["batch"] += ("fsdp",)
        elif per_device % fsdp == 0:
            table |= {axis: (*table[axis], "fsdp") for axis in ALONG_VIEWS}
        return cls(mesh, table)

    def size(self, logical: str) -> int:
        """Number of devices that part a logical axis."""
        return math.prod(self.mesh.shape[axis] for axis in self.table[logical])

    def spec(self, *logical: str | None) -> PartitionSpec:
        """Partition of an array with these leading logical axes; None leaves one whole."""
        return PartitionSpec(*(None if axis is None else self.table[axis] for axis in logical))

    def sharding(self, *logical: str | None) -> NamedSharding:
        return NamedSharding(self.mesh, self.spec(*logical))

    def scenes_of_process(self, batch_size: int, process: int | None = None) -> tuple[int, int]:
        """(index, count) of the share of every batch that a process, by default this one, reads.

        Processes that hold views of the same scenes read the same share. Raises InputError where
        shares differ in size.
        """
        process = jax.process_index() if process is None else process
        indices = self.sharding("batch").devices_indices_map((batch_size,))
        shares = {}
        for device, (rows,) in indices.items():
            start, stop, _ = rows.indices(batch_size)
            shares.setdefault(device.process_index, set()).update(range(start, stop))
        mine = shares[process]
        count, rest = divmod(batch_size, len(mine))
        index = min(mine) // len(mine)
        blocks = {tuple(sorted(share)) for share in shares.values()}
        if rest or len(blocks) != count or max(mine) - min(mine) + 1 != len(mine):
            raise InputError.of(
                "train.batch_size", batch_size, "parts unequally over the processes",
                "use a multiple of mesh.data x mesh.fsdp, and mesh sizes that divide a process's "
                "devices or are multiples of them",
            )  # fmt: skip
        return index, count

    def parameter_specs(self, params: Any) -> Any:
        """Specs of a tree of parameters (or optimizer state shaped like it).

        Each matrix is parted along its longest axis that divides, never along the layer axis;
        vectors and scalars are whole on every device.
        """
        size = self.mesh.shape["fsdp"]

        def spec(path, leaf) -> PartitionSpec:
            axis = _parted_axis(_names(path), leaf.shape, size)
            return PartitionSpec() if axis is None else PartitionSpec(*(None,) * axis, "fsdp")

        return jax.tree_util.tree_map_with_path(spec, params)

    def parameter_shardings(self, params: Any) -> Any:
        """Shardings of a tree like parameters."""
        specs = self.parameter_specs(params)
        return jax.tree.map(lambda spec: NamedSharding(self.mesh, spec), specs)

    @contextlib.contextmanager
    def region(self, params: Any) -> Iterator[None]:
        """Makes `total` and `gather_parameters` act: for the body of a `shard_map` over the mesh.

        `params` are the whole parameters or their shapes. On a mesh of one device nothing acts.
        """
        if self.mesh.size == 1:
            yield
            return
        size = self.mesh.shape["fsdp"]
        leaves = jax.tree_util.tree_flatten_with_path(params)[0]
        axes = {_names(path): _parted_axis(_names(path), x.shape, size) for path, x in leaves}
        token = _current.set(_Region(self, {k: v for k, v in axes.items() if v is not None}))
        try:
            yield
        finally:
            _current.reset(token)


@dataclasses.dataclass(frozen=True)
class _Region:
    layout: Layout
    parted: dict[_Path, int]  # axis along which a parameter is parted, by its path


_current: contextvars.ContextVar[_Region | None] = contextvars.ContextVar("mesh", default=None)


def current_layout() -> Layout | None:
    """The layout of the region being traced, None outside of one."""
    region = _current.get()
    return None if region is None else region.layout


def axes_of(*logical: str) -> tuple[str, ...]:
    """Mesh axes of logical axes in the region, each once; none outside of one."""
    layout = current_layout()
    if layout is None:
        return ()
    return tuple(dict.fromkeys(axis for name in logical for axis in layout.table[name]))


def total(tree: _Tree, *logical: str) -> _Tree:
    """Sums over the devices that part these logical axes."""
    axes = axes_of(*logical)
    return lax.psum(tree, axes) if axes else tree


def maximum(x: jax.Array, *logical: str) -> jax.Array:
    """Largest over the devices that part these logical axes; a constant of differentiation."""
    axes = axes_of(*logical)
    return lax.pmax(lax.stop_gradient(x), axes) if axes else x


def average(tree: _Tree, *logical: str) -> _Tree:
    """Mean over the devices that part these logical axes: that of equally many items each."""
    axes = axes_of(*logical)
    return lax.pmean(tree, axes) if axes else tree


def gather_parameters(params: _Tree, prefix: _Path = (), *, stacked: bool = False) -> _Tree:
    """Completes parameters that are parted over `fsdp`; their gradients are parted again.

    `prefix` is where `params` lie in the model. Those of one layer, taken from the stack, have
    lost the layer axis unless `stacked`.
    """
    region = _current.get()
    if region is None or not region.parted:
        return params
    dropped = int(bool(prefix) and prefix[0] == STACKED and not stacked)
    parameter = region.layout.table["parameter"]

    def gather(path, leaf):
        axis = region.parted.get((*prefix, *_names(path)))
        if axis is None:
            return leaf
        return lax.all_gather(leaf, parameter, axis=axis - dropped, tiled=True)

    return jax.tree_util.tree_map_with_path(gather, params)


def gather_outer_parameters(params: dict[str, Any]) -> dict[str, Any]:
    """Completes all parameters but the blocks': these are gathered layer by layer."""
    outer = {name: value for name, value in params.items() if name != STACKED}
    return {**params, **gather_parameters(outer)}


def view_order(num_views: int, chunk_views: int, devices: int) -> np.ndarray:
    """Number of the view at each place, [view], such that equal parts hold equal shares of each
    chunk (a shorter last one included), chunk after chunk."""
    chunks = np.split(np.arange(num_views), range(chunk_views, num_views, chunk_views))
    shares = [chunk.reshape(devices, -1) for chunk in chunks]
    return np.concatenate(shares, axis=1).reshape(-1)


def device_bytes(compiled: Any) -> dict[str, int]:
    """What a compiled program plans on each device, in bytes: `arguments`, `results`, `working`
    memory beside them (activations, exchange buffers), and the `peak`, their sum. Empty where XLA
    does not say."""
    analysis = compiled.memory_analysis()
    if analysis is None:
        return {}
    arguments, results = analysis.argument_size_in_bytes, analysis.output_size_in_bytes
    working = analysis.temp_size_in_bytes
    return {
        "arguments": arguments, "results": results, "working": working,
        "peak": arguments + results + working - analysis.alias_size_in_bytes,
    }  # fmt: skip


def put_whole(x: Any, sharding: NamedSharding) -> jax.Array:
    """An array that every process has whole, on the devices of a sharding."""
    host = np.asarray(x)
    return jax.make_array_from_callback(host.shape, sharding, lambda index: host[index])


def require_split(field: str, number: int, axis: str, size: int) -> None:
    """Raises InputError unless `number` items part equally over a mesh axis."""
    if number % size == 0 and number > 0:
        return
    below, above = number // size * size, -(-max(number, 1) // size) * size
    remedy = f"use {below} or {above}" if below else f"use {above}, or a smaller mesh.{axis}"
    raise InputError(
        f"{field}={number} do not split over mesh axis '{axis}' of size {size}; {remedy}"
    )


def _parted_axis(names: _Path, shape: tuple[int, ...], size: int) -> int | None:
    """The longest axis of a matrix that `size` divides, without a stack's layer axis."""
    first = int(STACKED in names)
    if size == 1 or len(shape) - first < 2:
        return None
    candidates = [axis for axis in range(first, len(shape)) if shape[axis] % size == 0]
    return max(candidates, key=lambda axis: (shape[axis], axis), default=None)


def _names(path) -> _Path:
    """A path as names; wrappers that modules put around an array do not count."""
    keys = (getattr(key, "key", getattr(key, "name", None)) for key in path)
    return tuple(str(key) for key in keys if key is not None and key != "value")
