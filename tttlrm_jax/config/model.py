"""The networks of tttLRM and LaCT-LVSM, and update rules by name."""

import dataclasses
from typing import Annotated, Any, Literal

import tyro

from tttlrm_jax.config.validation import (
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    PositiveShare,
    between,
    check_fields,
    require,
)
from tttlrm_jax.core.errors import ConfigError

Plan = Literal["full", "sequential", "causal"]
ChunkWeights = Literal["uniform", "linear", "last"]
Remat = Literal["none", "block", "dots", "linear"]
Dtype = Literal["float32", "bfloat16", "float64"]


@dataclasses.dataclass(frozen=True)
class RuleConfig:
    """An update rule by name, with options by name; `ttt.rules` knows both and checks them.

    Options are plain values or, for what a rule wraps, another `RuleConfig`. Left out ones take
    the rule's defaults. Command lines set it with `--rule NAME --rule.option value`.
    """

    name: str
    options: tuple[tuple[str, Any], ...] = ()  # sorted by name: equal rules are equal and hash

    @classmethod
    def of(cls, name: str, **options: Any) -> "RuleConfig":
        return cls(name, tuple(sorted(options.items())))

    def __str__(self) -> str:
        """`name(option=value, ...)`."""
        options = ", ".join(f"{key}={value}" for key, value in self.options)
        return f"{self.name}({options})" if options else self.name

    def to_dict(self) -> dict[str, Any]:
        """`{"name": ..., option: value, ...}`, for JSON."""
        plain = {k: v.to_dict() if isinstance(v, RuleConfig) else v for k, v in self.options}
        return {"name": self.name, **plain}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "RuleConfig":
        """Inverse of `to_dict`. Raises ConfigError without a name."""
        options = {k: cls.from_dict(v) if isinstance(v, dict) else v for k, v in values.items()}
        name = options.pop("name", None)
        if not isinstance(name, str):
            raise ConfigError(f"rule={values} has no name; give one, such as muon")
        return cls.of(name, **options)


# No argument of its own: `apps.rule_arguments` reads `--rule`.
RuleField = Annotated[RuleConfig, tyro.conf.Fixed, tyro.conf.Suppress]
OptionalRule = Annotated[RuleConfig | None, tyro.conf.Fixed, tyro.conf.Suppress]
MUON = RuleConfig.of("muon", rate=1.0, steps=5)  # the published rule, every option named


@dataclasses.dataclass(frozen=True, kw_only=True)
class TriplaneConfig:
    """Three planes of features around the origin, and how rays read them."""

    side: PositiveInt = 64  # cells along a plane
    token_side: PositiveInt = 2  # cells along what one token decodes to
    channels: PositiveInt = 32  # of a cell
    hidden: PositiveInt = 64  # width of the network from features to density and colour
    extent: PositiveFloat = 1.0  # half the side of the box that the planes span
    samples: PositiveInt = 48  # along a ray, one in each of as many equal parts
    importance_samples: NonNegativeInt = 48  # more, where the first ones met something
    min_transmittance: PositiveShare = 1e-4  # rays end where less light comes through
    rays_at_a_time: PositiveInt = 4096  # bounds the memory

    def __post_init__(self):
        check_fields("model.triplane", self)
        require(
            self.side % self.token_side == 0, "model.triplane.token_side", self.token_side,
            f"does not divide model.triplane.side={self.side}", "use a divisor",
        )  # fmt: skip


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """tttLRM and LaCT-LVSM trunk. Defaults are the published tttLRM configuration."""

    kind: Literal["tttlrm", "lvsm"] = "tttlrm"
    d_model: PositiveInt = 768
    num_layers: PositiveInt = 24
    # what joins the views: the TTT layer or, to compare, softmax attention of equal parameters
    across_views: Literal["ttt", "attention"] = "ttt"
    patch_size: PositiveInt = 8
    attention_head_dim: PositiveInt = 64
    num_ttt_heads: PositiveInt = 1
    ttt_inner_factor: PositiveFloat = 4.0
    mlp_factor: PositiveFloat = 4.0
    base_lr: PositiveFloat = 0.01  # inner loop; rates are softplus(lr_fc(x) + softplus^-1(base_lr))
    rule: RuleField = MUON
    newton_schulz_dtype: Dtype = "bfloat16"
    compute_dtype: Dtype = "float32"
    param_dtype: Dtype = "float32"
    output_norm: Literal["auto", "merged", "head"] = "auto"  # RMSNorm over d_model, or per head
    remat: Remat = "none"
    decoder: str = "gaussians"  # of kind tttlrm: a name in `models.decoders.DECODERS`
    triplane: TriplaneConfig = TriplaneConfig()  # of decoder triplane
    # Gaussian decoder
    sh_degree: Annotated[int, between(0, 4)] = 3
    max_distance: PositiveFloat = 500.0  # range of distances along the unit ray, world units
    distance_anchor: Literal["camera", "origin"] = "camera"  # start of the range, or its middle
    log_scale_offset: float = -2.3
    log_scale_max: float = -1.2
    opacity_offset: float = -2.0
    colour_residual: bool = False  # predict colours as differences from the pixel (not published)

    def __post_init__(self):
        check_fields("model", self)
        for field in ("attention_head_dim", "num_ttt_heads"):
            require(
                self.d_model % getattr(self, field) == 0,
                f"model.{field}", getattr(self, field),
                f"does not divide model.d_model={self.d_model}", "use a divisor",
            )  # fmt: skip

    @property
    def merges_output_norm(self) -> bool:
        """One output norm over all heads, as in tttLRM, or one per head, as in LaCT's LVSM."""
        if self.output_norm == "auto":
            return self.kind == "tttlrm"
        return self.output_norm == "merged"
