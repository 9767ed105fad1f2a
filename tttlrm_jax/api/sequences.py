"""TTT3R goes through a sequence of pictures without cameras: one in, pose, depth and points out.

The world is the first frame's camera (OpenCV: x right, y down, z forward), lengths are in metres
as far as the weights know them.
"""

import dataclasses
import functools
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import jax
import numpy as np

from tttlrm_jax.checkpoints.models import trained_size
from tttlrm_jax.config import RuleConfig
from tttlrm_jax.config.evaluation import PUBLISHED_SIZE
from tttlrm_jax.config.ttt3r import Behaviour, TTT3RConfig
from tttlrm_jax.core.arrays import on_device
from tttlrm_jax.core.errors import InputError
from tttlrm_jax.core.geometry.poses import matrix_from_encoding
from tttlrm_jax.models import merge_model
from tttlrm_jax.models.ttt3r import Frame, init_state, step
from tttlrm_jax.models.ttt3r_schedule import PoseChain, schedule
from tttlrm_jax.sequences.frame_images import Fit, FitMode, check_patches, plan_fit
from tttlrm_jax.sequences.sequence import Sequence, SequenceFrame
from tttlrm_jax.ttt.state_rules import STATE_RULES, StateRule, build_state_rule

DEFAULT_STATE_RULE = "ttt3r"


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
            image=on_device(image[None].astype(np.float32) / np.float32(255)),
            update=on_device([update]),
            reset=on_device([reset]),
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
    unit: float = 1.0  # of this chunk in the first chunk's, by depths of frames that both saw


class FrameStream:
    """One sequence, frame after frame; memory does not grow with its length.

    An example:

        stream = tj.load("ttt3r_small").stream()
        for image in images:                  # uint8 [height, width, 3], one size
            result = stream.step(image)
            result.world_from_camera, result.points_world
    """

    def __init__(self, model: FrameModel, fit: Callable[[int, int], Fit], reset_every: int = 0):
        """`fit` says how pictures of a height and width are cut to the network's patches.

        With `reset_every` the state starts over after every so many frames; the frame that ends a
        chunk is shown again as the first of the next, and poses go on from it.
        """
        self.model, self._plan, self._fit = model, fit, None
        self._visits, self._chain = schedule(None, reset_every=reset_every), PoseChain()
        self._image: np.ndarray | None = None  # the newest frame as the model saw it
        self._unit, self._depth = 1.0, 1.0  # of this chunk; median depth of the newest frame
        self.num_frames = 0

    def step(self, image: np.ndarray) -> FrameResult:
        """Shows one picture, uint8 [height, width, 3] (sRGB), of the size of the first.

        Raises InputError for another size or type, and for sizes that no multiple of the patch
        fits into.
        """
        number = self.num_frames
        return self.show(SequenceFrame(name=str(number), time=float(number), image=image))

    def run(self, sequence: Sequence) -> Iterator[FrameResult]:
        """Results of all frames of a sequence in order, made while they are asked for."""
        return map(self.show, sequence.frames())

    def show(self, frame: SequenceFrame) -> FrameResult:
        """`step` of a frame with its name and time."""
        started, last = time.perf_counter(), self._image
        image = self._image = self._fitted(frame.image)
        self.num_frames += 1
        for visit in self._visits:
            shown = image if visit.keep else last  # the last one opens the chunk after it
            assert shown is not None
            prediction = self.model(shown, reset=visit.reset, update=visit.update)
            pose = self._chain.advance(matrix_from_encoding(prediction.camera_pose), visit.reset)
            depth = float(np.median(prediction.points_self[..., 2]))
            if not visit.keep:
                self._unit *= self._depth / depth if depth > 0 else np.nan
            self._depth = depth
            if visit.keep:
                break
        turned = prediction.points_self @ pose[:3, :3].T.astype(np.float32)
        return FrameResult(
            frame=frame, image=image, prediction=prediction, world_from_camera=pose,
            points_world=turned + pose[:3, 3].astype(np.float32),
            seconds=time.perf_counter() - started, unit=self._unit,
        )  # fmt: skip

    def _fitted(self, picture: np.ndarray) -> np.ndarray:
        check_picture(picture)
        if self._fit is None:
            self._fit = check_patches(self._plan(*picture.shape[:2]))
        if picture.shape[:2] != self._fit.source:
            raise InputError.of(
                "image", f"{picture.shape[0]}x{picture.shape[1]} pixels",
                f"is not of the stream's {self._fit.source[0]}x{self._fit.source[1]}", "resize it",
            )  # fmt: skip
        return self._fit.image(picture)


def check_picture(picture: np.ndarray) -> None:
    """Raises InputError for anything but uint8 [height, width, 3]."""
    if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8:
        raise InputError.of(
            "image", f"{picture.dtype}{list(picture.shape)}",
            "is not uint8 [height, width, 3]", "convert it to RGB of 8 bits",
        )  # fmt: skip


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class SequenceModel:
    """TTT3R (arXiv 2509.26645): pictures in order, without cameras, to poses, depth and points.

    `graph` (static) and `params` are those of `split_model`, for the pure functions of
    `tttlrm_jax.models.ttt3r`.
    """

    config: TTT3RConfig
    graph: Any = dataclasses.field(repr=False)
    params: Any = dataclasses.field(repr=False)
    path: Path  # directory the weights were read from

    def network(self) -> Any:
        """The Flax module with its parameters."""
        return merge_model(self.graph, self.params)

    def picture_size(self) -> int:
        """Longer side in pixels that pictures are fitted to: as trained, else as published."""
        return max(trained_size(self.path) or (PUBLISHED_SIZE,))

    def reconstruct(self, capture: Any, views: int | None = None, **options: Any) -> Any:
        """Raises InputError: there are no Gaussians. Use `stream()`."""
        raise InputError.of(
            "model.kind", "ttt3r", "gives poses, depth and points of a sequence, no Gaussians",
            "use model.stream() with step(image) or run(sequence)",
        )  # fmt: skip

    def stream(
        self,
        *,
        rule: RuleConfig | str = DEFAULT_STATE_RULE,
        size: int | None = None,
        fit: FitMode = "crop",
        reset_every: int = 0,
        behaviour: Behaviour = "streaming",
    ) -> FrameStream:
        """A stream before its first picture.

        `rule` says how the state is written (`cut3r`, `ttt3r`, `ema`). Pictures are fitted to
        `size` pixels on the longer side (None: as trained), the middle of them (`crop`) or all,
        squeezed (`resize`). The state starts over after every `reset_every` frames (0: never).
        Raises InputError for a rule that is not known.
        """
        live = self.live(STATE_RULES.complete(rule), behaviour)
        longest = self.picture_size() if size is None else size
        return FrameStream(live, lambda high, wide: plan_fit(high, wide, longest, fit), reset_every)

    def live(self, rule: RuleConfig, behaviour: Behaviour = "streaming") -> LiveModel:
        """The compiled step with a state of its own."""
        return LiveModel(self.graph, self.params, build_state_rule(rule), behaviour)
