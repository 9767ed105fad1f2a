"""A recurrent model goes through a sequence: one frame in, one frame's results out."""

import dataclasses
import functools
import time
from collections.abc import Iterator
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from tttlrm_jax.config.ttt3r import Behaviour
from tttlrm_jax.core.geometry.pose_encoding import matrix_from_encoding
from tttlrm_jax.models.ttt3r import Frame, init_state, step
from tttlrm_jax.models.ttt3r_schedule import PoseChain, schedule
from tttlrm_jax.sequences.frame_images import Fit
from tttlrm_jax.sequences.sequence import Sequence, SequenceFrame
from tttlrm_jax.ttt.state_rules import StateRule


@dataclasses.dataclass(frozen=True, kw_only=True)
class Prediction:
    """What a model says of one frame; world is the first camera since the last reset."""

    points_self: np.ndarray  # float32 [height, width, 3]
    confidence_self: np.ndarray  # float32 [height, width], 1 or more
    points_world: np.ndarray  # float32 [height, width, 3]
    camera_pose: np.ndarray  # float32 [7] translation, quaternion wxyz
    gate: float  # mean rate over state tokens


class FrameModel(Protocol):
    """Anything that takes frames of one sequence in order and keeps its own state."""

    def __call__(self, image: np.ndarray, *, reset: bool, update: bool) -> Prediction:
        """Reads uint8 [height, width, 3]; starts over after this frame where `reset` says so."""
        ...

    def restart(self) -> None:
        """Forgets everything: the next frame is the first of another sequence."""
        ...


class LiveModel:
    """TTT3R on one scene, one compiled step per frame."""

    def __init__(
        self, graph: Any, params: Any, rule: StateRule, behaviour: Behaviour = "streaming"
    ):
        self._params = params
        # compiled, so that all of it lies where the parameters do: else `step` compiles twice
        start = jax.jit(functools.partial(init_state, batch=1, graph=graph, rule=rule))
        self._initial = functools.partial(start, params)
        self._state = self._initial()
        self._step = jax.jit(functools.partial(step, graph=graph, rule=rule, behaviour=behaviour))

    def restart(self) -> None:
        self._state = self._initial()

    def __call__(self, image: np.ndarray, *, reset: bool, update: bool) -> Prediction:
        frame = Frame(
            image=jnp.asarray(image[None].astype(np.float32) / np.float32(255)),
            update=jnp.array([update]),
            reset=jnp.array([reset]),
        )
        self._state, out = self._step(self._params, self._state, frame)
        return Prediction(
            points_self=np.asarray(out.points_self[0]),
            confidence_self=np.asarray(out.confidence_self[0]),
            points_world=np.asarray(out.points_world[0]),
            camera_pose=np.asarray(out.camera_pose[0]),
            gate=float(out.gate.mean()),
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class FrameResult:
    """One frame with what was predicted of it."""

    frame: SequenceFrame
    image: np.ndarray  # uint8, as the model saw it
    prediction: Prediction
    world_from_camera: np.ndarray  # float64 [4, 4] in the world of the first frame
    points_world: np.ndarray  # float32 [height, width, 3]: that pose of the self-view points
    seconds: float  # fitting and the model, with a repeat of the frame before a reset


def run_sequence(
    model: FrameModel, sequence: Sequence, fit: Fit, *, reset_every: int = 0
) -> Iterator[FrameResult]:
    """Results of all frames in order, made while they are asked for.

    With `reset_every` the state starts over after every so many frames; the frame that ends a
    chunk is shown again as the first of the next, and poses go on from it.
    """
    visits, chain, image = schedule(None, reset_every=reset_every), PoseChain(), None
    for frame in sequence.frames():
        started, last = time.perf_counter(), image
        image = fit.image(frame.image)
        for visit in visits:
            shown = image if visit.keep else last  # the last one opens the chunk after it
            assert shown is not None
            prediction = model(shown, reset=visit.reset, update=visit.update)
            pose = chain.advance(matrix_from_encoding(prediction.camera_pose), visit.reset)
            if visit.keep:
                yield FrameResult(
                    frame=frame, image=image, prediction=prediction, world_from_camera=pose,
                    points_world=_placed(pose, prediction.points_self),
                    seconds=time.perf_counter() - started,
                )  # fmt: skip
                break


def _placed(pose: np.ndarray, points: np.ndarray) -> np.ndarray:
    return points @ pose[:3, :3].T.astype(np.float32) + pose[:3, 3].astype(np.float32)
