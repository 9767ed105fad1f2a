"""Training of the recurrent network on sequences, by CUT3R's losses; `train.state_rule` in the
loop is CUT3R's own unless said otherwise.

Over a mesh the program of one device is parted by JAX: scenes along `data` (and `fsdp`), parameters
along `fsdp`.
"""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from tttlrm_jax.checkpoints.directories import has_checkpoint
from tttlrm_jax.checkpoints.train_state import TrainState
from tttlrm_jax.config.run import SequenceRunConfig
from tttlrm_jax.models.ttt3r import Frame, FrameOutput, init_state, scan_frames
from tttlrm_jax.parallel.mesh import Layout, make_mesh, put_whole
from tttlrm_jax.parallel.processes import host_value
from tttlrm_jax.training.initial import fresh_state
from tttlrm_jax.training.losses.pointmaps import FrameTruth, frame_terms, scene_scale
from tttlrm_jax.training.tasks.compiled import CompiledStep
from tttlrm_jax.training.tasks.rooms import RoomBatches, held_out_rooms
from tttlrm_jax.training.tasks.task import Arrays, Pictures, ReadByAll, Task, span
from tttlrm_jax.training.update import updated_state
from tttlrm_jax.training.watching.speed import Work
from tttlrm_jax.ttt.state_rules import build_state_rule


class SequenceTask(Task):
    """The task of a `SequenceRunConfig`. Rooms follow from it, and can always be drawn."""

    KINDS = ("ttt3r",)

    def __init__(self, config: SequenceRunConfig, directory: Path):
        self.config, self.warnings = config, []
        build_state_rule(config.train.state_rule)  # an unknown name fails here
        self._resumes = has_checkpoint(directory)
        self._mesh = make_mesh(config.mesh)
        self._layout = layout_of(config, self._mesh)

    def init(self) -> TrainState:
        self._graph, state = fresh_state(self.config, resumes=self._resumes)
        self._step = CompiledStep(self._train_step, self._mesh)
        self._judge = jax.jit(functools.partial(judged, graph=self._graph, config=self.config))
        return jax.tree.map(put_whole, state, self._layout.parameter_shardings(state))

    def batches(self, read: ReadByAll) -> RoomBatches:
        settings = self.config.train
        held_out = functools.partial(held_out_rooms, self.config.room, settings)
        self._held_out = read("held-out rooms", held_out)
        share = self._layout.scenes_of_process(settings.batch_size)
        return RoomBatches(self.config.room, settings, share)

    def step(
        self, state: TrainState, arrays: Arrays, step: int
    ) -> tuple[TrainState, dict[str, Any], Work]:
        del step
        sharding = self._layout.sharding(None, "batch")
        placed = {
            name: jax.make_array_from_process_local_data(sharding, x) for name, x in arrays.items()
        }
        frames = len(arrays["images"])
        kind = f"{frames} frames"
        state, metrics = self._step(kind, state, placed)
        return state, metrics, self._work(frames, self._step.flops(kind))

    def _work(self, frames: int, flops: float) -> Work:
        config = self.config
        views = frames * config.train.batch_size
        tokens = views * config.room.height * config.room.width // config.model.patch_size**2
        return Work(views, tokens, flops, self._step.compile_seconds)

    def _train_step(self, state: TrainState, arrays: dict[str, jax.Array]):
        gradient = jax.grad(sequence_loss, has_aux=True)
        grads, metrics = gradient(state.params, arrays, self._graph, self.config)
        new_state, metrics = updated_state(state, grads, metrics, self.config)
        shardings = self._layout.parameter_shardings(state)
        return jax.lax.with_sharding_constraint(new_state, shardings), metrics

    def evaluate(self, params: Any) -> tuple[dict[str, float], Pictures]:
        """Loss terms of held-out rooms; previews show true and predicted depth of two frames."""
        spec = PartitionSpec()
        if self.config.train.eval_scenes % self._layout.size("batch") == 0:
            spec = self._layout.spec(None, "batch")
        sharding = NamedSharding(self._mesh, spec)
        placed = {name: put_whole(x, sharding) for name, x in self._held_out.items()}
        terms, depth = self._judge(params, placed)
        scores = {name: float(value) for name, value in terms.items()}
        return scores, depth_pictures(self._held_out, host_value(depth))

    @staticmethod
    def described(config: SequenceRunConfig) -> str:
        frames = span(config.train.frame_counts)
        return f"rooms at {config.room.height}x{config.room.width}, {frames} frames"

    @staticmethod
    def check_mesh(config: SequenceRunConfig) -> None:
        layout_of(config, make_mesh(config.mesh))


def layout_of(config: SequenceRunConfig, mesh: Mesh) -> Layout:
    """How batches lie on a mesh; InputError where their scenes do not split."""
    return Layout.of(mesh, config.train.batch_size, views=1)


def sequence_loss(
    params: Any, arrays: dict[str, jax.Array], graph: Any, config: SequenceRunConfig
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Loss of whole sequences, `[frame, batch, ...]` as `room_batch` gives them, mean over frames,
    and its terms."""
    terms, _ = _by_frame(params, arrays, graph, config)
    return _weighted(terms, config)


def judged(
    params: Any, arrays: dict[str, jax.Array], graph: Any, config: SequenceRunConfig
) -> tuple[dict[str, jax.Array], jax.Array]:
    """The terms of `sequence_loss`, and predicted depth `[frame, batch, height, width]`."""
    terms, depth = _by_frame(params, arrays, graph, config, lambda out: out.points_self[..., 2])
    return _weighted(terms, config)[1], depth


def _by_frame(
    params: Any, arrays: dict[str, jax.Array], graph: Any, config: SequenceRunConfig,
    kept: Callable[[FrameOutput], Any] = lambda out: None,
) -> tuple[dict[str, jax.Array], Any]:  # fmt: skip
    """Loss terms of each frame, and what is `kept` of its output, both stacked by frame."""
    settings, rule = config.train, build_state_rule(config.train.state_rule)
    truth = FrameTruth(**{name: x for name, x in arrays.items() if name != "images"})
    scale = scene_scale(truth.points_world, truth.valid)

    def emit(index, out):
        seen = jax.tree.map(lambda x: x[index], truth)
        return frame_terms(out, seen, scale, settings.confidence_weight), kept(out)

    frames = Frame(arrays["images"])
    state = init_state(params, frames.image.shape[1], graph=graph, rule=rule)
    return scan_frames(
        params, state, frames, graph=graph, rule=rule, behaviour="batch",
        remat=settings.remat, emit=emit,
    )[1]  # fmt: skip


def _weighted(terms: dict[str, jax.Array], config: SequenceRunConfig):
    terms = {name: jnp.mean(values) for name, values in terms.items()}
    pose = config.train.pose_weight * terms["pose"]
    loss = terms["points_self"] + terms["points_world"] + pose
    return loss, {**terms, "loss": loss}


def depth_pictures(arrays: Arrays, depth: np.ndarray) -> Pictures:
    """All frames of each scene, then true and predicted depth of the first and the last.

    Depth `[frame, batch, height, width]` is grey, white at the scene's largest true one.
    """
    true = np.where(arrays["valid"], arrays["points_self"][..., 2], 0.0)
    largest = np.maximum(true.max(axis=(0, 2, 3), keepdims=True), 1e-6)
    shown = (
        np.repeat((z / largest)[[0, -1]].swapaxes(0, 1)[..., None], 3, axis=-1)
        for z in (true, depth)
    )
    return Pictures(arrays["images"].swapaxes(0, 1), *shown)
