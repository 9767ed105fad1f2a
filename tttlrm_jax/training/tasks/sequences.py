"""Trains the recurrent network on procedural rooms, by CUT3R's losses and with its state rule.

`train.py` runs it for configuration files whose `CONFIG` is a `RecurrentRunConfig`. Rooms follow
from seed and step, so a resumed run sees what an uninterrupted one would.
"""

import contextlib
import dataclasses
import functools
import json
import math
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from tttlrm_jax.checkpoints.directories import has_checkpoint, read_config_values
from tttlrm_jax.checkpoints.models import load_parameters
from tttlrm_jax.checkpoints.runs import RunCheckpoints
from tttlrm_jax.checkpoints.train_state import TrainState
from tttlrm_jax.config import config_to_dict
from tttlrm_jax.core.errors import ConfigError
from tttlrm_jax.core.geometry.pointmaps import unproject
from tttlrm_jax.core.geometry.pose_encoding import encoding_from_matrix
from tttlrm_jax.models import build_model, split_model
from tttlrm_jax.models.nn.layers import LINEAR_INIT_STD
from tttlrm_jax.models.nn.point_heads import POINT_CHANNELS
from tttlrm_jax.models.ttt3r import Frame, init_state, scan_frames
from tttlrm_jax.procedural.walks import render_walk, strided
from tttlrm_jax.training.logs import RunLog
from tttlrm_jax.training.losses.pointmaps import FrameTruth, frame_terms, scene_scale
from tttlrm_jax.training.nonfinite import NonfiniteWatch
from tttlrm_jax.training.optimizer import lr_schedule
from tttlrm_jax.training.stopping import StopRequest, listening
from tttlrm_jax.training.tasks.recurrent_config import RecurrentRunConfig
from tttlrm_jax.training.trainer import RunResult, check_writable, write_run_directory
from tttlrm_jax.training.update import updated_state
from tttlrm_jax.ttt.state_rules import build_state_rule

TRAINING_RULE = "cut3r"  # the gate of TTT3R is for use without training
STACKED_KERNEL_AXES = 3  # layer, in, out; kernels of convolutions have four
START_DEPTH = 3.0  # metres
HELD_OUT = 2**31  # room seeds from here on are never trained on
RESUMABLE = {"num_steps", "log_every", "eval_every", "eval_scenes", "checkpoint_every",
             "keep_checkpoints", "directory", "max_nonfinite"}  # fmt: skip


def room_batch(
    config: RecurrentRunConfig, seeds: list[int], num_frames: int, strides: list[int]
) -> tuple[Frame, FrameTruth]:
    """Stacked frames of the rooms with these seeds and what is true of them, `[frame, batch, ...]`.

    `strides` says for each room how many frames of its walk lie from one frame to the next. The
    world is the first camera of each sequence.
    """
    walks = [
        render_walk(seed, num_frames, strided(config.room, stride))
        for seed, stride in zip(seeds, strides, strict=True)
    ]
    images = np.stack([walk.images for walk in walks], axis=1).astype(np.float32) / 255
    points_self, points_world, poses = [], [], []
    for walk in walks:
        relative = np.linalg.inv(walk.world_from_camera[0]) @ walk.world_from_camera
        own = unproject(walk.depth, walk.intrinsics)
        turned = np.einsum("fij,fhwj->fhwi", relative[:, :3, :3], own)
        points_self.append(own)
        points_world.append(turned + relative[:, None, None, :3, 3])
        poses.append(encoding_from_matrix(relative))
    own, world, pose = (
        np.stack(parts, axis=1).astype(np.float32) for parts in (points_self, points_world, poses)
    )
    valid = np.isfinite(own).all(axis=-1)
    truth = FrameTruth(*(jnp.asarray(x) for x in (own, world, pose, valid)))
    return Frame(jnp.asarray(images)), truth


def sequence_loss(
    params: Any, frames: Frame, truth: FrameTruth, graph: Any, config: RecurrentRunConfig
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Loss of whole sequences, mean over frames, and its terms."""
    settings, rule = config.train, build_state_rule(TRAINING_RULE)
    scale = scene_scale(truth.points_world, truth.valid)

    def emit(index, out):
        seen = jax.tree.map(lambda x: x[index], truth)
        return frame_terms(out, seen, scale, settings.confidence_weight)

    state = init_state(params, frames.image.shape[1], graph=graph, rule=rule)
    _, terms = scan_frames(
        params, state, frames, graph=graph, rule=rule, behaviour="batch",
        remat=settings.remat, emit=emit,
    )  # fmt: skip
    terms = {name: jnp.mean(values) for name, values in terms.items()}
    loss = terms["points_self"] + terms["points_world"] + settings.pose_weight * terms["pose"]
    return loss, {**terms, "loss": loss}


def make_recurrent_optimizer(config: RecurrentRunConfig) -> optax.GradientTransformation:
    """AdamW with warm-up and cosine decay; weight decay on kernels only."""
    settings = config.optimizer

    def kernels(params):
        return jax.tree_util.tree_map_with_path(
            lambda path, _: getattr(path[-1], "key", None) == "kernel", params
        )

    return optax.adamw(
        lr_schedule(settings, config.train.num_steps), b1=settings.beta1, b2=settings.beta2,
        weight_decay=settings.weight_decay, mask=kernels,
    )  # fmt: skip


def starting_parameters(params: Any) -> Any:
    """Fresh parameters made fit for training a narrow network.

    Linear kernels get the spread of Glorot and Bengio (2010), eq. 16, in place of 0.02 whatever
    the width; only the last ones of the heads stay small. Biases of the heads say a wall
    `START_DEPTH` away and a camera that has not moved. Otherwise the first hundreds of steps go
    into that constant, and the picture's share in the features dies meanwhile.
    """

    def started(path, leaf):
        names = [key.key for key in path]
        last = names[0] == "head" and "fc2" in names
        if names[-1] == "kernel" and leaf.ndim <= STACKED_KERNEL_AXES and not last:
            return leaf * (math.sqrt(2 / sum(leaf.shape[-2:])) / LINEAR_INIT_STD)
        if names == ["head", "pose", "fc2", "bias"]:
            return leaf.at[3].set(1.0)  # w of the quaternion
        if last and names[-1] == "bias" and names[1] in ("self_view", "world"):
            channels = leaf.reshape(POINT_CHANNELS, -1)
            return channels.at[2].set(math.log1p(START_DEPTH)).reshape(leaf.shape)
        return leaf

    return jax.tree_util.tree_map_with_path(started, params)


def fresh_state(params: Any, config: RecurrentRunConfig) -> TrainState:
    """State before the first step."""
    zero = jnp.zeros((), jnp.int32)
    opt_state = make_recurrent_optimizer(config).init(params)
    return TrainState(step=zero, params=params, opt_state=opt_state, num_skipped=zero)


def recurrent_step(
    state: TrainState, frames: Frame, truth: FrameTruth, graph: Any, config: RecurrentRunConfig
) -> tuple[TrainState, dict[str, jax.Array]]:
    """Gradient through the whole sequence, guard, AdamW."""
    gradient = jax.grad(sequence_loss, has_aux=True)
    grads, metrics = gradient(state.params, frames, truth, graph, config)
    optimizer = make_recurrent_optimizer(config)
    return updated_state(state, grads, metrics, optimizer, config.optimizer)


def train_recurrent(
    config: RecurrentRunConfig, *, stop_at: int | None = None, stop: StopRequest | None = None
) -> RunResult:
    """Trains to `config.train.num_steps`, or to `stop_at`, from the newest checkpoint if any.

    Writes what `training.trainer.train` writes, without previews; `load_ttt3r` reads the directory.
    `init_from` is read at the first start only; `stop` is as in `training.trainer.train`. Raises
    ConfigError if the directory holds a run with other settings, InputError if it or `init_from`
    cannot be used.
    """
    settings = config.train
    directory = Path(settings.directory) / config.name
    last = min(settings.num_steps, settings.num_steps if stop_at is None else stop_at)
    with contextlib.ExitStack() as resources:
        stop = resources.enter_context(listening(stop))
        run, state = _prepared(config, directory, resources)
        state = run.until(state, last, stop)
    step = int(state.step)
    finished = step >= settings.num_steps
    return RunResult(step, stop.signal, finished, eval_psnr=None, directory=directory)


def _prepared(
    config: RecurrentRunConfig, directory: Path, resources: contextlib.ExitStack
) -> "tuple[_Run, TrainState]":
    """The parts of a run and the state it goes on from; `resources` closes its files."""
    settings = config.train
    check_writable(directory)
    _check_same_run(directory, config)
    graph, params = split_model(build_model(config.model, settings.seed))
    if not has_checkpoint(directory):
        params = _first_parameters(params, settings.init_from)
    state = fresh_state(params, config)
    write_run_directory(directory, config)
    checkpoints = RunCheckpoints(directory, settings.keep_checkpoints)
    resources.callback(checkpoints.close)
    state, _, said = checkpoints.restore_newest(state)
    log = RunLog(directory, int(state.step), settings.num_steps)
    resources.callback(log.close)
    for line in said:
        log.say(line)
    watch = NonfiniteWatch(directory, settings.max_nonfinite)
    return _Run(config, graph, checkpoints, log, watch), state


def _first_parameters(params: Any, init_from: str | None) -> Any:
    """What a run starts from: another one's parameters, or fresh ones."""
    return starting_parameters(params) if init_from is None else load_parameters(init_from, params)


class _Taken(NamedTuple):
    """A step whose metrics may still be on their way."""

    step: int  # batches seen after it
    metrics: dict[str, jax.Array]
    frames: Frame
    truth: FrameTruth


@dataclasses.dataclass
class _Run:
    """The parts of a run while it goes on."""

    config: RecurrentRunConfig
    graph: Any
    checkpoints: RunCheckpoints
    log: RunLog
    watch: NonfiniteWatch

    def until(self, state: TrainState, last: int, stop: StopRequest) -> TrainState:
        """Steps until `last` or a signal, then saves.

        Metrics of a step are read while the next one runs, so that rooms are drawn meanwhile.
        """
        settings = self.config.train
        run = jax.jit(functools.partial(recurrent_step, graph=self.graph, config=self.config))
        judge = jax.jit(functools.partial(sequence_loss, graph=self.graph, config=self.config))
        step = saved_step = int(state.step)  # before the first step there is nothing to save
        pending: _Taken | None = None
        while step < last and stop.signal is None:
            frames, truth = _training_batch(self.config, step)
            state, metrics = run(state, frames, truth)
            step += 1
            self._settle(pending)
            pending = _Taken(step, metrics, frames, truth)
            if step % settings.eval_every == 0 or step == settings.num_steps:
                pending = self._settle(pending)
                terms = judge(state.params, *_held_out_batch(self.config))[1]
                self._log("eval", step, terms)
            if step % settings.checkpoint_every == 0:
                self.checkpoints.save(state, {})
                saved_step = step
            self.log.advance()
        self._settle(pending)
        if saved_step != step:
            self.checkpoints.save(state, {})
        self.checkpoints.wait()
        return state

    def _settle(self, taken: _Taken | None) -> None:
        """Logs a step that is one to be logged; raises InputError as `NonfiniteWatch.judge` does"""
        if taken is None:
            return
        if taken.step % self.config.train.log_every == 0:
            self._log("train", taken.step, taken.metrics)
        arrays = {"images": taken.frames.image, **vars(taken.truth)}
        self.watch.judge(taken.step, taken.metrics, arrays)

    def _log(self, kind: str, step: int, values: dict[str, jax.Array]) -> None:
        self.log.write(kind, step, {name: float(value) for name, value in values.items()})


def _training_batch(config: RecurrentRunConfig, step: int) -> tuple[Frame, FrameTruth]:
    """The batch after `step` batches: rooms that no other step sees, of a drawn length."""
    settings = config.train
    rng = np.random.default_rng([settings.seed, step])
    num_frames = int(rng.choice(settings.frame_counts))
    seeds = rng.integers(0, HELD_OUT, settings.batch_size).tolist()
    strides = rng.choice(settings.strides, settings.batch_size).tolist()
    return room_batch(config, seeds, num_frames, strides)


def _held_out_batch(config: RecurrentRunConfig) -> tuple[Frame, FrameTruth]:
    """Rooms that are never trained on, strides in turn."""
    settings = config.train
    scenes = range(settings.eval_scenes)
    strides = [settings.strides[scene % len(settings.strides)] for scene in scenes]
    seeds = [HELD_OUT + scene for scene in scenes]
    return room_batch(config, seeds, max(settings.frame_counts), strides)


def _check_same_run(directory: Path, config: RecurrentRunConfig) -> None:
    """Raises ConfigError if the directory's run was started with other settings."""
    if not has_checkpoint(directory):
        return
    earlier = read_config_values(directory)
    current = json.loads(json.dumps(config_to_dict(config)))
    for part in current:
        old, new = earlier.get(part), current[part]
        if isinstance(new, dict) and isinstance(old, dict):
            new = {k: v for k, v in new.items() if part != "train" or k not in RESUMABLE}
            old = {k: v for k, v in old.items() if part != "train" or k not in RESUMABLE}
        if old != new:
            raise ConfigError(
                f"run directory {directory} holds a run with another {part}; choose another name "
                f"or train.directory"
            )
