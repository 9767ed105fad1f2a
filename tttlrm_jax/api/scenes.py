"""The evaluation of one scene: inputs through the model, targets rendered, scored, compared.

Everything here happens in the frame the model was trained in: poses normalised as its data
configuration says. `PosedScene.similarity` leads there from the frame of the capture.
"""

import dataclasses
import math
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tttlrm_jax.captures.capture import Capture, CaptureScene
from tttlrm_jax.captures.images import round_to_patch
from tttlrm_jax.config import Accumulate, DataConfig, EvalConfig, Plan, RasterConfig, RunConfig
from tttlrm_jax.core.errors import InputError
from tttlrm_jax.core.geometry.poses import PoseNormalisation, normalise_poses
from tttlrm_jax.core.types import Cameras, Gaussians, Splats, Views
from tttlrm_jax.metrics.baselines import mean_colour, nearest_input
from tttlrm_jax.metrics.images import psnr, ssim
from tttlrm_jax.metrics.lpips import LPIPS
from tttlrm_jax.models import merge_model, prune, reconstruct, split_model
from tttlrm_jax.models.live_stream import StreamHistory
from tttlrm_jax.rasterize import fit_capacity, render_views

MAX_PSNR = 100.0  # dB; what equal pictures count as
# Within 0.4 dB of reading all views again, either way, on three captures; its cost stays flat.
DEFAULT_ACCUMULATE: Accumulate = "append"


@dataclasses.dataclass(frozen=True, kw_only=True)
class PosedScene:
    """Input and target views of a capture, ready for the model."""

    name: str
    input_names: list[str]
    target_names: list[str]
    inputs: Views  # [1, input, ...]
    targets: Views  # [1, target, ...]
    target_mask: np.ndarray | None  # [target, height, width] coverage; None without transparency
    similarity: PoseNormalisation  # from the capture's frame


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """How a scene is read and reconstructed: the command's wishes over what was trained."""

    views: int  # inputs
    background: tuple[float, float, float]
    plan: Plan
    chunk_views: int
    keep_ratio: float
    random_ratio: float
    accumulate: Accumulate
    seed: int

    @classmethod
    def resolve(
        cls, config: EvalConfig, run: RunConfig, saved: Mapping[str, Any] | None = None
    ) -> "Settings":
        """Fields that are None in `config` come from `saved`, what a saved stream was made with,
        else from the configuration of the checkpoint.

        A model that was not trained in chunks is streamed in chunks of as many views as it was
        trained with: what it learned to take in by one update.
        """
        keep_ratio, random_ratio = run.pruning_ratios(config.views)
        trained = {
            "views": run.data.num_input_views,
            "background": run.data.background,
            "plan": run.train.plan,
            "chunk_views": run.train.chunk_views,
            "keep_ratio": keep_ratio,
            "random_ratio": random_ratio,
            "accumulate": DEFAULT_ACCUMULATE,
        }
        wanted = {name: getattr(config, name) for name in trained}
        given = {name: value for name, value in wanted.items() if value is not None}
        chosen = trained | dict(saved or {}) | given
        if chosen["plan"] == "causal" and run.train.plan == "full":
            chosen["chunk_views"] = (given | dict(saved or {})).get("chunk_views", trained["views"])
        return cls(seed=config.seed, **chosen)

    def pruned_as_trained(self, config: EvalConfig, run: RunConfig) -> "Settings":
        """The settings with the run's shares for as many views, where none are asked for."""
        keep_ratio, random_ratio = run.pruning_ratios(self.views)
        return dataclasses.replace(
            self,
            keep_ratio=keep_ratio if config.keep_ratio is None else config.keep_ratio,
            random_ratio=random_ratio if config.random_ratio is None else config.random_ratio,
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scores:
    """Per target view, NumPy float64."""

    psnr: np.ndarray
    ssim: np.ndarray
    psnr_foreground: np.ndarray | None  # inside the capture's masks; NaN where a mask is empty
    lpips: np.ndarray | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Answer:
    """Pictures [target, height, width, 3] and what they score."""

    pictures: np.ndarray
    scores: Scores


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evaluated:
    """All that one evaluation found out."""

    gaussians: Gaussians  # one scene, pruned, in the normalised frame
    ours: Answer
    baselines: dict[str, Answer]
    seconds: dict[str, float]
    stream: StreamHistory | None = None  # of the causal plan
    refinement: "Refinement | None" = None  # where the Gaussians were refined on the inputs


@dataclasses.dataclass(frozen=True, kw_only=True)
class Refinement:
    """What refining the Gaussians on the input views started from."""

    before: Answer
    losses: np.ndarray  # before each step


@dataclasses.dataclass(frozen=True, kw_only=True)
class Timed:
    """A result, the seconds to compile the program and the seconds it then took."""

    value: Any
    compile_seconds: float
    seconds: float


def fitted_resolution(
    capture_size: tuple[int, int], trained_size: tuple[int, int], patch_size: int
) -> tuple[int, int]:
    """Height and width with the aspect of the capture and about as many pixels as in training.

    Both are multiples of the patch size.
    """
    height, width = capture_size
    scale = math.sqrt(trained_size[0] * trained_size[1] / (height * width))
    return round_to_patch(height * scale, width * scale, patch_size)


def pose_scene(
    capture: Capture,
    input_frames: np.ndarray,
    target_frames: np.ndarray,
    size: tuple[int, int],
    background: tuple[float, float, float],
    config: DataConfig,
    similarity: PoseNormalisation | None = None,
) -> PosedScene:
    """Loads the frames and normalises their poses as in training, or by `similarity`.

    Raises InputError for images that cannot be read or do not fit their cameras.
    """
    frames = np.concatenate([input_frames, target_frames])
    views = CaptureScene(capture, size, config.capture_resize, background).read(frames)
    raw = capture.world_from_camera[frames]
    reference = raw if config.normalise_over == "all" else raw[: len(input_frames)]
    if similarity is None:
        similarity = normalise_poses(raw, config.pose_normalisation, reference)[1]
    poses = similarity.apply_poses(raw)

    def part(where: slice) -> Views:
        intrinsics = jnp.asarray(views.intrinsics[where], jnp.float32)
        cameras = Cameras(jnp.asarray(poses[where], jnp.float32)[None], intrinsics[None], *size)
        return Views(jnp.asarray(views.image[where])[None], cameras)

    first, last = slice(0, len(input_frames)), slice(len(input_frames), None)
    mask = None if views.mask is None else views.mask[last]
    return PosedScene(
        name=capture.name,
        input_names=[capture.frames[index].name for index in input_frames],
        target_names=[capture.frames[index].name for index in target_frames],
        inputs=part(first),
        targets=part(last),
        target_mask=None if mask is None or mask.min() == 1.0 else mask,
        similarity=similarity,
    )


def compiled_reconstruct(model, inputs: Views, config: Settings) -> Callable[[Any], Timed]:
    """A function of a model's parameters, compiled once for several models of one shape.

    It gives the Gaussians of the only scene, pruned, without the batch axis, and raises
    InputError if none of them is finite: the parameters are broken.
    """
    graph, params = split_model(model)

    def run(params, inputs, key):
        gaussians = reconstruct(
            merge_model(graph, params), inputs, plan=config.plan, chunk_views=config.chunk_views
        )
        if config.keep_ratio < 1:
            gaussians = prune(gaussians, config.keep_ratio, config.random_ratio, key)
        return jax.tree.map(lambda x: x[0], gaussians)

    key = jax.random.key(config.seed)
    start = time.perf_counter()
    compiled = jax.jit(run).lower(params, inputs, key).compile()
    compile_seconds = time.perf_counter() - start

    def timed(params) -> Timed:
        start = time.perf_counter()
        gaussians = jax.block_until_ready(compiled(params, inputs, key))
        seconds = time.perf_counter() - start
        if not np.isfinite(gaussians.mean).all(axis=-1).any():
            raise InputError(
                "the model's Gaussians are not finite; use another checkpoint or update rule"
            )
        return Timed(value=gaussians, compile_seconds=compile_seconds, seconds=seconds)

    return timed


class Renderer:
    """Renders scenes of one size from cameras (one leading axis) of one shape; drops nothing.

    The program is compiled for the intersections of the first scene and used for all scenes that
    have no more of them.
    """

    def __init__(self, cameras: Cameras, background: tuple[float, ...], config: RasterConfig):
        self._cameras, self._config = cameras, config
        self._background = jnp.asarray(background, cameras.world_from_camera.dtype)
        self._capacity, self._compile_seconds = 0, 0.0
        self._compiled: Callable | None = None

    def __call__(self, gaussians: Gaussians, cameras: Cameras | None = None) -> Timed:
        """Pictures [view, height, width, 3] as a NumPy array; other cameras may be given."""
        cameras = self._cameras if cameras is None else cameras
        splats = gaussians.activate()
        capacity = fit_capacity(splats, cameras, config=self._config)
        compiled = self._compiled
        if compiled is None or capacity > self._capacity:
            compiled = self._compile(splats, capacity)
        start = time.perf_counter()
        pictures = np.asarray(compiled(splats, cameras))
        seconds = time.perf_counter() - start
        return Timed(value=pictures, compile_seconds=self._compile_seconds, seconds=seconds)

    def _compile(self, splats: Splats, capacity: int) -> Callable:
        def run(splats, cameras):
            return render_views(
                splats, cameras, background=self._background, config=self._config,
                capacity=capacity,
            ).rgb  # fmt: skip

        start = time.perf_counter()
        compiled = jax.jit(run).lower(splats, self._cameras).compile()
        self._compile_seconds = time.perf_counter() - start
        self._compiled, self._capacity = compiled, capacity
        return compiled


def render_frames(
    gaussians: Gaussians,
    cameras: Cameras,
    background: tuple[float, ...],
    config: RasterConfig,
    at_a_time: int,
) -> Iterator[np.ndarray]:
    """Pictures [height, width, 3] of many cameras, one by one, from one compiled program.

    Only `at_a_time` of them are held; nothing is dropped.
    """
    splats = gaussians.activate()
    colour = jnp.asarray(background, splats.mean.dtype)
    capacity = fit_capacity(splats, cameras, config=config)

    @jax.jit
    def run(splats, cameras):
        return render_views(
            splats, cameras, background=colour, config=config, capacity=capacity
        ).rgb

    count = len(cameras.world_from_camera)
    for start in range(0, count, at_a_time):
        wanted = np.arange(start, start + at_a_time)
        pictures = run(splats, cameras[np.minimum(wanted, count - 1)])
        yield from np.asarray(pictures)[: count - start]


def score(images: np.ndarray, scene: PosedScene, lpips: LPIPS | None = None) -> Scores:
    """Scores pictures [target, height, width, 3] against the scene's targets.

    A picture equal to its target counts as `MAX_PSNR`.
    """
    made, target = jnp.asarray(images), scene.targets.image[0]
    mask = scene.target_mask
    foreground = None
    if mask is not None:
        foreground = np.minimum(_float64(_psnr(made, target, jnp.asarray(mask))), MAX_PSNR)
    return Scores(
        psnr=np.minimum(_float64(_psnr(made, target)), MAX_PSNR),
        ssim=_float64(_ssim(made, target)),
        psnr_foreground=foreground,
        lpips=None if lpips is None else _float64(lpips(made, target)),
    )


def baseline_pictures(scene: PosedScene) -> dict[str, np.ndarray]:
    """Pictures [target, height, width, 3] of the baselines that need no model, by name."""
    inputs = np.asarray(scene.inputs.image[0])
    input_poses, target_poses = (
        np.asarray(views.cameras.world_from_camera[0], np.float64)
        for views in (scene.inputs, scene.targets)
    )
    return {
        "mean_colour": mean_colour(inputs, len(target_poses)),
        "nearest_input": nearest_input(inputs, input_poses, target_poses)[0],
    }


def _float64(values) -> np.ndarray:
    return np.asarray(values, np.float64)


_psnr = jax.jit(psnr)
_ssim = jax.jit(ssim)
