"""Training steps over a mesh: the step of one device, run by each on its part of the batch.

A mesh of one device runs exactly the program without a mesh.

    program = MeshProgram(static)
    state = program.place(state)                             # parameters and moments over fsdp
    batch = program.batch(arrays, batch_size, chunk_views)   # scenes over data, views over seq
    state, metrics = program.step(state, batch, vgg19, chunk_views)

Loss and gradients equal one device's but for the order of summation (and for which Gaussians random
pruning keeps, see `models.global_rank`). Every chunk of the sequential and causal plans is spread
over all devices: views are dealt out so that each holds an equal share of each chunk.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AbstractMesh, Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Float

from tttlrm_jax.checkpoints.train_state import TrainState
from tttlrm_jax.config import RunConfig
from tttlrm_jax.core.errors import ConfigError
from tttlrm_jax.metrics.images import psnr
from tttlrm_jax.parallel.mesh import (
    Layout,
    gather_outer_parameters,
    make_mesh,
    put_whole,
    view_order,
)
from tttlrm_jax.parallel.processes import host_value, meet
from tttlrm_jax.training.objectives import batch_loss, objective_of
from tttlrm_jax.training.objectives.batches import VGG19, Batch, StaticParts, batch_from_arrays
from tttlrm_jax.training.objectives.causal import psnr_by_name
from tttlrm_jax.training.objectives.gaussians import parts_on
from tttlrm_jax.training.tasks.compiled import CompiledStep
from tttlrm_jax.training.update import train_step


def layout_of(
    config: RunConfig, mesh: Mesh | AbstractMesh, batch_size: int, chunk_views: int
) -> Layout:
    """How a run's batches lie on a mesh; InputError where scenes, views or chunks do not split."""
    chunk = None if config.train.plan == "full" else chunk_views
    return Layout.of(mesh, batch_size, config.data.num_input_views, chunk)


def check_batches(config: RunConfig, mesh: Mesh | AbstractMesh) -> None:
    """Raises InputError where batches of a run, its chunks or the parts of `train.micro_batches`
    do not split over a mesh; for all input views, not for `train.view_counts`."""
    train, views = config.train, config.data.num_input_views
    sizes = [train.chunk_views, *(-(-views // count) for count in train.chunk_counts)]
    layouts = [layout_of(config, mesh, train.batch_size, size) for size in sizes]
    part = train.batch_size // train.micro_batches
    data, fsdp = mesh.shape["data"], mesh.shape["fsdp"]
    if part % data or layout_of(config, mesh, part, sizes[0]).table != layouts[0].table:
        raise ConfigError.of(
            "train.micro_batches", train.micro_batches,
            f"leaves {part} scenes for {data} x {fsdp} devices of data and fsdp",
            "use fewer, or a batch that is a multiple of both",
        )  # fmt: skip


class MeshProgram:
    """Compiled steps of a run over a mesh, and the placing of what goes into them.

    The mesh is by default the run's own, of one device where it names no other. Raises InputError
    where it does not fit the devices or the batches.
    """

    def __init__(self, static: StaticParts, mesh: Mesh | None = None):
        config = static.config
        mesh = make_mesh(config.mesh) if mesh is None else mesh
        self.config, self.static, self.mesh = config, static, mesh
        self._whole = NamedSharding(mesh, PartitionSpec())
        self._step = CompiledStep(self._train_step, mesh, ("chunk_views",))
        self._predict = jax.jit(self._renderings)
        self._rendering: dict[int, Any] = {}  # renderings by number of scenes
        check_batches(config, mesh)

    # ---- placing --------------------------------------------------------------------------

    def state_shardings(self, state: TrainState) -> TrainState:
        """Where each array of a training state lies: moments as their parameters."""
        layout = Layout.of(self.mesh, self.mesh.shape["data"], self.mesh.shape["seq"])
        return layout.parameter_shardings(state)

    def place(self, state: TrainState) -> TrainState:
        """The same state, the same on all processes, on the mesh."""
        return jax.tree.map(put_whole, state, self.state_shardings(state))

    def place_whole(self, tree: Any) -> Any:
        """A copy on every device."""
        return jax.tree.map(lambda x: put_whole(x, self._whole), tree)

    def scenes_of_process(self, batch_size: int) -> tuple[int, int]:
        """(shard_index, shard_count) of the loader, as `Layout.scenes_of_process`."""
        layout = self._layout(batch_size, self.config.train.chunk_views)
        return layout.scenes_of_process(batch_size)

    def batch(self, arrays: dict[str, np.ndarray], batch_size: int, chunk_views: int) -> Batch:
        """This process's share of a batch, as the loader gives it, as one of all processes."""
        layout = self._layout(batch_size, chunk_views)
        host = self._arranged(arrays, layout, chunk_views)
        first = self.scenes_of_process(batch_size)[0] * len(arrays["input_image"])

        def put(array, sharding):
            shape = (batch_size, *array.shape[1:])

            def piece(index):
                start, stop, _ = index[0].indices(batch_size)
                return array[(slice(start - first, stop - first), *index[1:])]

            return jax.make_array_from_callback(shape, sharding, piece)

        return jax.tree.map(put, host, _batch_shardings(host, layout))

    def _arranged(self, arrays, layout: Layout, chunk_views: int) -> Batch:
        """The batch as host arrays, inputs dealt out and targets cut for the mesh."""
        batch = batch_from_arrays(arrays, np.asarray)
        if self.mesh.size == 1:
            return batch
        scenes, num_views, *_ = batch.inputs.image.shape
        chunk = num_views if self.config.train.plan == "full" else chunk_views
        order = view_order(num_views, chunk, layout.size("view"))
        parts = parts_on(layout.size("part"), batch.targets.cameras, self.config)
        return batch.replace(
            inputs=batch.inputs[:, order],
            targets=batch.targets.replace(image=parts.cut(batch.targets.image)),
            target_mask=jax.tree.map(parts.cut, batch.target_mask),
            input_depth=jax.tree.map(lambda z: z[:, order], batch.input_depth),
            input_number=np.tile(order.astype(np.int32), (scenes, 1)),
        )

    def abstract_batch(self, batch_size: int, chunk_views: int) -> Batch:
        """Shapes of a batch with what the loss needs, placed; for compiling without data."""
        data, loss = self.config.data, self.config.loss
        shapes: dict[str, tuple[int, ...]] = {}
        for half, views in (("input", data.num_input_views), ("target", data.num_target_views)):
            shapes[f"{half}_image"] = (1, views, *data.image_size, 3)
            shapes[f"{half}_world_from_camera"] = (1, views, 4, 4)
            shapes[f"{half}_intrinsics"] = (1, views, 4)
        if loss.depth:
            shapes["input_depth"] = shapes["input_image"][:-1]
        if loss.mask:
            shapes["target_mask"] = shapes["target_image"][:-1]
        if data.random_background:
            shapes["background"] = (1, 3)
        arrays: dict[str, np.ndarray] = {
            name: np.broadcast_to(np.float32(0), s) for name, s in shapes.items()
        }
        if data.num_virtual_views is not None:
            virtual = np.arange(data.num_virtual_views, dtype=np.int32)
            arrays["virtual_index"] = virtual[None]
        layout = self._layout(batch_size, chunk_views)
        one = self._arranged(arrays, layout, chunk_views)

        def placed(x, sharding):
            shape = (batch_size, *x.shape[1:])
            return jax.ShapeDtypeStruct(shape, x.dtype, sharding=sharding)

        return jax.tree.map(placed, one, _batch_shardings(one, layout))

    def _layout(self, batch_size: int, chunk_views: int) -> Layout:
        return layout_of(self.config, self.mesh, batch_size, chunk_views)

    # ---- steps ----------------------------------------------------------------------------

    def step(
        self, state: TrainState, batch: Batch, vgg19: VGG19 | None = None, chunk_views: int = 1
    ) -> tuple[TrainState, dict[str, Any]]:
        """`train_step` over the mesh; except on CPUs the state that is given is used up."""
        return self._step(_kind(chunk_views), state, batch, vgg19, chunk_views=chunk_views)

    def step_flops(self, chunk_views: int) -> float:
        """Matrix-product FLOPs, of all devices, of a step that has been taken."""
        return self._step.flops(_kind(chunk_views))

    @property
    def compile_seconds(self) -> float:
        """What this process has spent compiling steps so far."""
        return self._step.compile_seconds

    def lower_step(
        self, state: TrainState, batch: Batch, chunk_views: int, vgg19: VGG19 | None = None
    ) -> jax.stages.Lowered:
        """The step for arrays of these shapes and shardings, ready to be compiled. It uses up the
        state, as on accelerators: what it says of memory is meant for them."""
        step = jax.jit(self._train_step, static_argnames="chunk_views", donate_argnums=0)
        return step.lower(state, batch, vgg19, chunk_views=chunk_views)

    def _train_step(self, state, batch, vgg19, *, chunk_views: int):
        loss = functools.partial(self.loss, chunk_views=chunk_views)
        new_state, metrics = train_step(state, batch, self.static, vgg19, loss)
        shardings = self.state_shardings(state)
        return jax.lax.with_sharding_constraint(new_state, shardings), metrics

    def loss(
        self, params: Any, *, batch: Batch, key: Any, vgg19: VGG19 | None = None, chunk_views: int
    ) -> tuple[Any, dict[str, Any]]:
        """`batch_loss` over the mesh; to be compiled by the caller."""
        layout = self._layout(batch.inputs.image.shape[0], chunk_views)
        held_chunk = max(chunk_views // layout.size("view"), 1)

        def local(held, batch, key, vgg19):
            with layout.region(params):
                whole = gather_outer_parameters(held)
                return batch_loss(whole, self.static, batch, key, vgg19, held_chunk)

        return self._mapped(local, layout, params, batch, PartitionSpec())(
            params, batch, jax.random.key_data(key), vgg19
        )

    def _mapped(self, local, layout: Layout, params, batch, out_specs):
        """`local(params, batch, key, vgg19)` on every device.

        Replication is not tracked: sums are stated where they are needed, and derivatives are
        taken of the mapped function as a whole, where those of replicated inputs add up.
        """
        specs = jax.tree.map(lambda s: s.spec, _batch_shardings(batch, layout))

        def with_key(held, batch, key_data, vgg19):
            return local(held, batch, jax.random.wrap_key_data(key_data), vgg19)

        if self.mesh.size == 1:
            return with_key
        return jax.shard_map(
            with_key,
            mesh=self.mesh,
            in_specs=(layout.parameter_specs(params), specs, PartitionSpec(), PartitionSpec()),
            out_specs=out_specs,
            check_vma=False,
        )

    def evaluate(
        self, params: Any, arrays: dict[str, np.ndarray]
    ) -> tuple[np.ndarray, dict[str, np.ndarray], dict[str, int]]:
        """Renderings, scores and lost work of a batch that all processes hold, of any size."""
        scenes, chunk_views = len(arrays["input_image"]), self.config.train.chunk_views
        size = -(-scenes // self.mesh.shape["data"]) * self.mesh.shape["data"]
        padded = padded_batch(arrays, size)
        shard, count = self.scenes_of_process(size)
        own = {name: x[shard * size // count :][: size // count] for name, x in padded.items()}
        images, lost = self.predict(params, own, size, chunk_views)
        images = images[:, :scenes]
        quality = [np.asarray(_scene_psnr(rgb, arrays["target_image"])) for rgb in images]
        scores = {"psnr": quality[-1]}
        if self.config.train.plan == "causal":
            scores |= psnr_by_name(quality, chunk_views, arrays["input_image"].shape[1])
        return images[-1], scores, lost

    def predict(
        self, params: Any, arrays: dict[str, np.ndarray], batch_size: int, chunk_views: int
    ) -> tuple[np.ndarray, dict[str, int]]:
        """Renderings of a batch's targets on the host, [chunk, batch, view, height, width, 3], and
        what they left out. The chunk axis has one entry but for the causal plan."""
        batch = self.batch(arrays, batch_size, chunk_views)
        if batch_size not in self._rendering:
            self._rendering[batch_size] = self._predict.lower(params, batch).compile()
            meet(f"rendering compiled for {batch_size} scenes")
        rgb, lost = self._rendering[batch_size](params, batch)
        part_devices = self._layout(batch_size, chunk_views).size("part")
        parts = parts_on(part_devices, batch.targets.cameras, self.config)
        images = np.stack([parts.join(chunk) for chunk in host_value(rgb)])
        return images, {name: int(count) for name, count in lost.items()}

    def _renderings(self, params: Any, batch: Batch):
        train = self.config.train
        layout = self._layout(batch.inputs.image.shape[0], train.chunk_views)
        held_chunk = max(train.chunk_views // layout.size("view"), 1)
        images_of = objective_of(self.config).images

        def local(held, batch, key, vgg19):
            del vgg19
            with layout.region(params):
                whole = gather_outer_parameters(held)
                return tuple(images_of(whole, self.static, batch, key, held_chunk))

        out_specs = (layout.spec(None, "batch", "part"), PartitionSpec())
        key_data = jax.random.key_data(jax.random.key(train.seed))
        return self._mapped(local, layout, params, batch, out_specs)(params, batch, key_data, None)


def _kind(chunk_views: int) -> str:
    return f"chunks of {chunk_views}"


@jax.jit
def _scene_psnr(
    rgb: Float[Array, "batch view height width 3"],
    target: Float[Array, "batch view height width 3"],
) -> Float[Array, " batch"]:
    """PSNR in dB of each scene, mean over its views."""
    return jnp.mean(psnr(rgb, target), axis=1)


def padded_batch(arrays: dict[str, np.ndarray], batch_size: int) -> dict[str, np.ndarray]:
    """The batch with its last scene repeated until there are `batch_size`."""
    missing = batch_size - len(arrays["input_image"])
    return {
        name: np.concatenate([x, np.repeat(x[-1:], missing, axis=0)]) for name, x in arrays.items()
    }


def _batch_shardings(batch: Batch, layout: Layout) -> Any:
    """A batch with shardings in place of arrays."""
    views, parts = layout.sharding("batch", "view"), layout.sharding("batch", "part")
    scenes = layout.sharding("batch")
    places = {"image": parts, "target_mask": parts, "cameras": scenes, "background": scenes}
    places["virtual_index"] = scenes

    def place(path, leaf):
        del leaf
        names = [getattr(key, "name", "") for key in path]
        if names[0] in ("inputs", "input_depth", "input_number"):
            return views
        return next(places[name] for name in reversed(names) if name in places)

    return jax.tree_util.tree_map_with_path(place, batch)
