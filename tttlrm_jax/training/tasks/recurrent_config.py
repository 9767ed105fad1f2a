"""Configuration of a training run of the recurrent network on procedural rooms."""

import dataclasses

from tttlrm_jax.config import OptimizerConfig
from tttlrm_jax.config.ttt3r import TTT3RConfig
from tttlrm_jax.config.validation import check_fields, require, require_positive
from tttlrm_jax.procedural.walks import WalkConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class RecurrentTrainConfig:
    """Length of a run, its batches and its losses; fields as in `TrainConfig`."""

    num_steps: int = 2000
    batch_size: int = 4
    frame_counts: tuple[int, ...] = (2, 4, 8)  # frames per sequence, drawn per step
    strides: tuple[int, ...] = (1,)  # frames of the walk from one to the next, drawn per sequence
    remat: bool = True  # the backward pass computes every frame again: slower, less memory
    seed: int = 0
    init_from: str | None = None  # run or model directory whose parameters the run starts from
    confidence_weight: float = 0.2  # of -log confidence (alpha of DUSt3R and CUT3R)
    pose_weight: float = 1.0
    log_every: int = 20
    eval_every: int = 500
    eval_scenes: int = 8
    checkpoint_every: int = 500
    keep_checkpoints: int = 2
    max_nonfinite: int = 10  # steps in a row with a loss or gradient that is not finite end the run
    directory: str = "runs"

    def __post_init__(self):
        check_fields("train", self)
        require_positive(
            "train", self, "num_steps", "batch_size", "confidence_weight", "log_every",
            "eval_every", "eval_scenes", "checkpoint_every", "keep_checkpoints", "max_nonfinite",
        )  # fmt: skip
        for field in ("seed", "pose_weight"):
            value = getattr(self, field)
            require(value >= 0, f"train.{field}", value, "is negative", "use 0 or more")
        for field, example in (("frame_counts", "(2, 4, 8)"), ("strides", "(1, 2, 4)")):
            values = getattr(self, field)
            require(
                len(values) > 0 and min(values) >= 1, f"train.{field}", values,
                "are not all positive", f"use e.g. {example}",
            )  # fmt: skip


@dataclasses.dataclass(frozen=True, kw_only=True)
class RecurrentRunConfig:
    """Everything a training run of the recurrent network reads."""

    name: str
    model: TTT3RConfig = dataclasses.field(default_factory=TTT3RConfig)
    room: WalkConfig = dataclasses.field(default_factory=WalkConfig)
    optimizer: OptimizerConfig = dataclasses.field(default_factory=OptimizerConfig)
    train: RecurrentTrainConfig = dataclasses.field(default_factory=RecurrentTrainConfig)

    def __post_init__(self):
        check_fields("", self)
        require(
            self.name not in ("", ".", "..") and not set(self.name) & set("/\\\0"), "name",
            repr(self.name), "is not the name of a directory", "use a word without slashes",
        )  # fmt: skip
        for side in ("height", "width"):
            value = getattr(self.room, side)
            require(
                value % self.model.patch_size == 0, f"room.{side}", value,
                f"is not a multiple of model.patch_size={self.model.patch_size}", "change one",
            )  # fmt: skip
