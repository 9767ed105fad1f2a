"""A network goes through a batch of walks under a state rule, with or without resets."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.ttt3r_length.walks import Walks
from tttlrm_jax.core.errors import InputError
from tttlrm_jax.core.geometry.pointmaps import unproject
from tttlrm_jax.core.geometry.poses import matrix_from_encoding
from tttlrm_jax.models.ttt3r import Frame, RecurrentState, init_state, step
from tttlrm_jax.models.ttt3r_schedule import PoseChain, schedule
from tttlrm_jax.ttt.state_rules import build_state_rule

STILL = "still"
RESETS = ", reset every "


@dataclasses.dataclass(frozen=True)
class Variant:
    """A state rule, and after how many frames the state starts over (0: never)."""

    rule: str
    reset_every: int = 0

    @classmethod
    def parse(cls, text: str) -> "Variant":
        """From `RULE` or `RULE@N`. Raises InputError for another N than a positive number."""
        rule, at, every = text.partition("@")
        if at and not (every.isdecimal() and int(every)):
            raise InputError.of("variant", text, "is not RULE or RULE@N", "write e.g. cut3r@16")
        build_state_rule(rule)
        return cls(rule, int(every) if at else 0)

    def __str__(self) -> str:
        return f"{self.rule}{RESETS}{self.reset_every}" if self.reset_every else self.rule


def is_reset(name: str) -> bool:
    """Whether the variant of this name starts its state over."""
    return RESETS in name


@dataclasses.dataclass(frozen=True, kw_only=True)
class Traces:
    """What was predicted of every frame, in the frame of the first camera."""

    poses: np.ndarray  # float64 [frame, scene, 4, 4]
    points_self: np.ndarray  # float32 [frame, scene, height, width, 3]
    change: np.ndarray  # [frame, scene] how far the state moved, over its norm
    rates: np.ndarray  # [frame, scene, state] of the state tokens
    memory: np.ndarray  # [frame, scene] root mean square of the pose memory

    @property
    def gate(self) -> np.ndarray:
        """Mean rates [frame, scene]."""
        return self.rates.mean(axis=2)

    def points_of(self, scene: int) -> np.ndarray:
        """Self-view points placed by the poses, [frame, height, width, 3], as `eval.py` does."""
        poses, points = self.poses[:, scene].astype(np.float32), self.points_self[:, scene]
        turned = np.einsum("fij,fhwj->fhwi", poses[:, :3, :3], points)
        return turned + poses[:, None, None, :3, 3]


def observed_step(params: Any, state: RecurrentState, frame: Frame, *, graph: Any, rule: Any):
    """`step`, and of its outputs what a trace holds."""
    moved, out = step(params, state, frame, graph=graph, rule=rule)
    size = jnp.sqrt(jnp.sum(state.tokens**2, axis=(1, 2)))
    change = jnp.sqrt(jnp.sum((moved.tokens - state.tokens) ** 2, axis=(1, 2))) / size
    memory = jnp.sqrt(jnp.mean(moved.memory**2, axis=(1, 2)))
    return moved, (out.camera_pose, out.points_self, change, out.gate, memory)


_compiled_start = jax.jit(init_state, static_argnames=("batch", "graph", "rule"))
_compiled_step = jax.jit(observed_step, static_argnames=("graph", "rule"))


def run_walks(params: Any, graph: Any, walks: Walks, variant: Variant) -> Traces:
    """All frames in order; a frame that ends a chunk opens the next, and poses go on from it."""
    num_frames, num_scenes = walks.images.shape[:2]
    rule = build_state_rule(variant.rule)
    state = _compiled_start(params, num_scenes, graph=graph, rule=rule)
    chains = [PoseChain() for _ in range(num_scenes)]
    kept: list[tuple[np.ndarray, ...]] = []
    for visit in schedule(num_frames, reset_every=variant.reset_every):
        frame = Frame(
            image=jnp.asarray(walks.images[visit.index].astype(np.float32) / np.float32(255)),
            update=jnp.full(num_scenes, visit.update),
            reset=jnp.full(num_scenes, visit.reset),
        )
        state, out = _compiled_step(params, state, frame, graph=graph, rule=rule)
        encoding, *others = (np.asarray(x) for x in out)
        matrices = matrix_from_encoding(encoding)
        poses = np.stack(
            [chain.advance(m, visit.reset) for chain, m in zip(chains, matrices, strict=True)]
        )
        if visit.keep:
            kept.append((poses, *others))
    poses, points, change, rates, memory = (np.stack(part) for part in zip(*kept, strict=True))
    return Traces(poses=poses, points_self=points, change=change, rates=rates, memory=memory)


def still_traces(walks: Walks) -> Traces:
    """What says nothing: the camera never moves, and everything is 1 m deep."""
    num_frames, num_scenes = walks.depth.shape[:2]
    flat = np.ones(walks.depth.shape[2:])
    walls = np.stack([unproject(flat, lens) for lens in walks.intrinsics]).astype(np.float32)
    points = np.broadcast_to(walls[None], (num_frames, *walls.shape))
    zero = np.zeros((num_frames, num_scenes))
    poses = np.broadcast_to(np.eye(4), (num_frames, num_scenes, 4, 4))
    return Traces(poses=poses, points_self=points, change=zero, rates=zero[..., None], memory=zero)
