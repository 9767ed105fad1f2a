"""Configuration of a training run of the recurrent network on procedural rooms."""

import dataclasses

from tttlrm_jax.config.training import CommonTrainConfig, MeshConfig, OptimizerConfig
from tttlrm_jax.config.ttt3r import TTT3RConfig
from tttlrm_jax.config.validation import (
    check_fields,
    require,
    require_directory_name,
    require_positive,
)
from tttlrm_jax.config.walks import WalkConfig


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
class SequenceRunConfig:
    """Everything a training run of the recurrent network reads."""

    name: str
    model: TTT3RConfig = dataclasses.field(default_factory=TTT3RConfig)
    room: WalkConfig = dataclasses.field(default_factory=WalkConfig)
    optimizer: OptimizerConfig = OptimizerConfig()
    train: SequenceTrainConfig = SequenceTrainConfig()
    mesh: MeshConfig = MeshConfig()
    provenance: str = ""  # as in RunConfig

    def __post_init__(self):
        check_fields("", self)
        require_directory_name("name", self.name)
        require(
            self.mesh.seq == 1, "mesh.seq", self.mesh.seq,
            "parts views, which a recurrent network reads one after another",
            "use mesh.data and mesh.fsdp",
        )  # fmt: skip
        for side in ("height", "width"):
            value = getattr(self.room, side)
            require(
                value % self.model.patch_size == 0, f"room.{side}", value,
                f"is not a multiple of model.patch_size={self.model.patch_size}", "change one",
            )  # fmt: skip
