"""Everything that a training run reads."""

import dataclasses

from tttlrm_jax.config.data import DataConfig
from tttlrm_jax.config.model import ModelConfig
from tttlrm_jax.config.raster import RasterConfig
from tttlrm_jax.config.training import (
    LossConfig,
    MeshConfig,
    OptimizerConfig,
    TrainConfig,
    published_ratios,
)
from tttlrm_jax.config.validation import (
    check_fields,
    require,
    require_directory_name,
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunConfig:
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
        check_fields("", self)
        require_directory_name("name", self.name)
        height, width = self.data.image_size
        for field, value in (("height", height), ("width", width)):
            require(
                value % self.model.patch_size == 0, f"data image {field}", value,
                f"is not a multiple of model.patch_size={self.model.patch_size}",
                "change one of them",
            )  # fmt: skip
        self._check_chunks()
        self._check_attention()
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
        return dataclasses.replace(
            self,
            data=dataclasses.replace(self.data, num_input_views=count),
            train=dataclasses.replace(self.train, view_counts=()),
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
