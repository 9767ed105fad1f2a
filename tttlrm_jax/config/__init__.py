"""Every configuration dataclass: frozen, typed, validated when built; defaults live only here.

A run is one Python file in `configs/` that builds a `RunConfig`; command lines override single
fields by their dotted names.
"""

from tttlrm_jax.config.data import DataConfig, SyntheticConfig
from tttlrm_jax.config.evaluation import Accumulate, EvalConfig, Fit
from tttlrm_jax.config.model import (
    ChunkWeights,
    Dtype,
    ModelConfig,
    Plan,
    Remat,
    RuleConfig,
    RuleField,
)
from tttlrm_jax.config.plain import config_from_dict, config_to_dict
from tttlrm_jax.config.raster import RasterConfig
from tttlrm_jax.config.run import RunConfig
from tttlrm_jax.config.training import (
    MANY_VIEWS,
    LossConfig,
    MeshConfig,
    OptimizerConfig,
    TrainConfig,
    published_ratios,
)

__all__ = [
    "MANY_VIEWS", "Accumulate", "ChunkWeights", "DataConfig", "Dtype", "EvalConfig", "Fit",
    "LossConfig", "MeshConfig", "ModelConfig", "OptimizerConfig", "Plan", "RasterConfig",
    "Remat", "RuleConfig", "RuleField", "RunConfig", "SyntheticConfig", "TrainConfig",
    "config_from_dict", "config_to_dict", "published_ratios",
]  # fmt: skip
