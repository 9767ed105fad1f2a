"""Every configuration dataclass: frozen, typed, validated when built; defaults live only here.

A run is one Python file in `configs/` that builds a `RunConfig`; command lines override single
fields by their dotted names.
"""

import dataclasses
from typing import Literal

from tttlrm_jax.errors import ConfigError

Plan = Literal["full", "sequential"]
Remat = Literal["none", "block", "dots"]
Dtype = Literal["float32", "bfloat16", "float64"]


def _require(condition: bool, field: str, value, limit: str, remedy: str) -> None:
    if not condition:
        raise ConfigError(f"{field}={value} {limit}; {remedy}")


def _require_positive(prefix: str, config, *fields: str) -> None:
    for field in fields:
        value = getattr(config, field)
        _require(value > 0, f"{prefix}.{field}", value, "is not positive", "use a value above 0")


# ---- rasterizer -------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, kw_only=True)
class RasterConfig:
    """Constants of EWA splatting; defaults are those of gsplat 1.6.

    The published tttLRM weights were trained with `max_alpha=0.999`, `near=0.1`.
    """

    max_alpha: float = 0.99
    min_alpha: float = 1.0 / 255.0
    min_transmittance: float = 1e-4
    eps2d: float = 0.3  # px^2 added to the diagonal of the projected covariance
    near: float = 0.01
    far: float = 1e10
    antialiased: bool = False
    backend: Literal["reference", "tiled"] = "tiled"


# ---- model ------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """tttLRM and LaCT-LVSM trunk. Defaults are the published tttLRM configuration."""

    kind: Literal["tttlrm", "lvsm"] = "tttlrm"
    d_model: int = 768
    num_layers: int = 24
    patch_size: int = 8
    attention_head_dim: int = 64
    num_ttt_heads: int = 1
    ttt_inner_factor: float = 4.0
    mlp_factor: float = 4.0
    base_lr: float = 0.01  # of the inner loop; rates are softplus(lr_fc(x) + softplus^-1(base_lr))
    muon_steps: int = 5
    newton_schulz_dtype: Dtype = "bfloat16"
    compute_dtype: Dtype = "float32"
    param_dtype: Dtype = "float32"
    output_norm: Literal["merged", "head"] = "merged"  # RMSNorm over d_model, or per head (LaCT)
    elastic_strength: float = 0.0  # lambda of the elastic regulariser; 0 switches it off
    elastic_fisher_decay: float = 0.5
    elastic_anchor_decay: float = 0.8
    remat: Remat = "none"
    # Gaussian decoder
    sh_degree: int = 3
    max_distance: float = 500.0  # world units along the unit ray
    log_scale_offset: float = -2.3
    log_scale_max: float = -1.2
    opacity_offset: float = -2.0

    def __post_init__(self):
        _require_positive(
            "model", self, "d_model", "num_layers", "patch_size", "attention_head_dim",
            "num_ttt_heads", "ttt_inner_factor", "mlp_factor", "base_lr", "max_distance",
        )  # fmt: skip
        for field in ("attention_head_dim", "num_ttt_heads"):
            _require(
                self.d_model % getattr(self, field) == 0,
                f"model.{field}", getattr(self, field),
                f"does not divide model.d_model={self.d_model}", "use a divisor",
            )  # fmt: skip
        _require(
            0 <= self.sh_degree <= 4, "model.sh_degree", self.sh_degree, "is not in 0..4", "use 0..4"
        )
        _require(
            self.muon_steps >= 0, "model.muon_steps", self.muon_steps, "is negative", "use 0 or more"
        )
