"""Everything that a training run reads, and runs of several stages."""

import dataclasses
from typing import Literal

from tttlrm_jax.config.data import DataConfig, WalkConfig
from tttlrm_jax.config.model import ModelConfig
from tttlrm_jax.config.raster import RasterConfig
from tttlrm_jax.config.training import (
    LossConfig,
    MeshConfig,
    OptimizerConfig,
    SequenceTrainConfig,
    TrainConfig,
    WatchedRun,
    published_ratios,
)
from tttlrm_jax.config.ttt3r import TTT3RConfig
from tttlrm_jax.config.validation import (
    check_fields,
    require,
    require_directory_name,
    require_patches,
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunConfig(WatchedRun):
    """Everything a training run reads."""

    name: str
    model: ModelConfig = ModelConfig()
    raster: RasterConfig = RasterConfig(near=0.1)
    data: DataConfig = DataConfig()
    loss: LossConfig = LossConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    train: TrainConfig = TrainConfig()
    mesh: MeshConfig = MeshConfig()
    # what the weights have seen, for those who get them; "": made from the data above
    provenance: str = ""

    def __post_init__(self):
        super().__post_init__()
        check_fields("", self)
        require_directory_name("name", self.name)
        require_patches("data image ", self.data.image_size, self.model.patch_size)
        crop = self.train.crop
        require(
            crop is None or crop <= min(self.data.image_size), "train.crop", crop,
            f"exceeds a side of data.image_size={self.data.image_size}", "use less, or None",
        )  # fmt: skip
        self._check_chunks()
        self._check_attention()
        self._check_virtual()
        for count in self.train.view_counts:
            require(
                0 < count <= self.data.num_input_views, "train.view_counts", count,
                f"is not in 1..data.num_input_views={self.data.num_input_views}",
                "draw more views or use fewer",
            )  # fmt: skip
            self.with_input_views(count)
        require(
            self.data.synthetic.split == "train", "data.synthetic.split",
            self.data.synthetic.split, "is not what a run trains on",
            "use train; evaluation draws from eval by itself",
        )  # fmt: skip

    def with_input_views(self, count: int) -> "RunConfig":
        """The run with so many input views in every step. Raises ConfigError where chunks of the
        plan do not fit them."""
        data = dataclasses.replace(self.data, num_input_views=count)
        return dataclasses.replace(
            self, data=data, train=dataclasses.replace(self.train, view_counts=())
        )

    def pruning_ratios(self, num_input_views: int | None = None) -> tuple[float, float]:
        """Shares of the Gaussians of so many input views (by default those of the data) that are
        kept by opacity, and of the others at random."""
        if self.train.published_pruning:
            return published_ratios(num_input_views or self.data.num_input_views)
        return self.train.keep_ratio, self.train.random_ratio

    def _check_attention(self) -> None:
        if self.model.across_views == "ttt":
            return
        require(
            self.train.plan == "full", "train.plan", self.train.plan,
            "writes chunks, which model.across_views=attention cannot", "use full",
        )  # fmt: skip
        require(
            (self.mesh.seq, self.mesh.fsdp) == (1, 1), "mesh.seq, mesh.fsdp",
            (self.mesh.seq, self.mesh.fsdp),
            "part views, which model.across_views=attention cannot", "use mesh.data alone",
        )  # fmt: skip

    def _check_virtual(self) -> None:
        virtual, views = self.data.num_virtual_views, self.data.num_input_views
        if virtual is None:
            return
        field, train = "data.num_virtual_views", self.train
        fewest = min((views, *train.view_counts))
        require(
            virtual <= fewest, field, virtual, f"exceeds the {fewest} input views of a step",
            "use fewer",
        )  # fmt: skip
        require(
            self.model.kind == "tttlrm", field, virtual, "carry Gaussians, which an lvsm has not",
            "leave it out",
        )  # fmt: skip
        require(
            train.plan != "causal", field, virtual,
            "is not read by train.plan=causal, which reads the views of each chunk",
            "use full or sequential",
        )  # fmt: skip
        require(
            (self.mesh.seq, self.mesh.fsdp) == (1, 1), field, virtual,
            "chooses among all views of a scene, which mesh.seq and mesh.fsdp part",
            "use mesh.data alone",
        )  # fmt: skip

    def _check_chunks(self) -> None:
        views, train = self.data.num_input_views, self.train
        require(
            train.plan != "sequential" or views % train.chunk_views == 0, "train.chunk_views",
            train.chunk_views, f"does not divide data.num_input_views={views}", "use a divisor",
        )  # fmt: skip
        require(
            train.plan != "causal" or train.chunk_views <= views, "train.chunk_views",
            train.chunk_views, f"exceeds data.num_input_views={views}", "use fewer",
        )  # fmt: skip
        require(
            train.plan == "causal" or not train.chunk_counts, "train.chunk_counts",
            train.chunk_counts, f"is not read by train.plan={train.plan}", "use the causal plan",
        )  # fmt: skip
        possible = sorted({-(-views // size) for size in range(1, views + 1)})
        for count in train.chunk_counts:
            require(
                count in possible, "train.chunk_counts", count,
                f"is no number of equal chunks (but the last) of data.num_input_views={views}",
                f"use some of {possible}",
            )  # fmt: skip


@dataclasses.dataclass(frozen=True, kw_only=True)
class SequenceRunConfig(WatchedRun):
    """Everything a training run of the recurrent network reads."""

    name: str
    model: TTT3RConfig = TTT3RConfig()
    room: WalkConfig = WalkConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    train: SequenceTrainConfig = SequenceTrainConfig()
    mesh: MeshConfig = MeshConfig()
    provenance: str = ""  # as in RunConfig

    def __post_init__(self):
        super().__post_init__()
        check_fields("", self)
        require_directory_name("name", self.name)
        require(
            self.mesh.seq == 1, "mesh.seq", self.mesh.seq,
            "parts views, which a recurrent network reads one after another",
            "use mesh.data and mesh.fsdp",
        )  # fmt: skip
        require_patches("room.", (self.room.height, self.room.width), self.model.patch_size)


AnyRun = RunConfig | SequenceRunConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class CurriculumConfig:
    """Stages in order; names of stages become those of their run directories."""

    name: str
    stages: tuple[AnyRun, ...]  # of one kind
    optimizer_state: Literal["reset", "moments"] = "reset"  # what a stage does with Adam's moments

    def __post_init__(self):
        check_fields("curriculum", self)
        require_directory_name("name", self.name)
        require(len(self.stages) > 0, "stages", self.stages, "are none", "give at least one")
        kinds = {type(stage).__name__ for stage in self.stages}
        require(len(kinds) == 1, "stages", sorted(kinds), "are of several kinds", "use one")
        for stage in self.stages[1:]:
            require(
                stage.train.init_from is None, f"stages.{stage.name}.train.init_from",
                stage.train.init_from, "is set in a stage that follows another",
                "leave it out: stages start from the one before them",
            )  # fmt: skip
            require(
                stage.train.directory == self.stages[0].train.directory,
                f"stages.{stage.name}.train.directory", stage.train.directory,
                f"is not that of the first stage, {self.stages[0].train.directory}",
                "give one directory",
            )  # fmt: skip
