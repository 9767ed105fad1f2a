"""Configuration of TTT3R (and of CUT3R, whose weights it runs); defaults are the published ones."""

import dataclasses
from typing import Any, Literal

from tttlrm_jax.config.model import Dtype, Remat
from tttlrm_jax.config.validation import PositiveFloat, PositiveInt, check_fields, require

StatePositions = Literal["2d", "1d", "none"]
StateRate = Literal["none", "scalar", "input"]
Behaviour = Literal["streaming", "batch"]

TTT3R_KIND = "ttt3r"


@dataclasses.dataclass(frozen=True, kw_only=True)
class TTT3RConfig:
    """The recurrent network; defaults are those of `cut3r_512_dpt_4_64`.

    The published 224 px sibling differs in `head="linear"` only.
    """

    kind: Literal["ttt3r"] = TTT3R_KIND
    patch_size: PositiveInt = 16
    encoder_width: PositiveInt = 1024
    encoder_depth: PositiveInt = 24
    encoder_heads: PositiveInt = 16
    ray_encoder_depth: PositiveInt = 2
    ray_encoder_heads: PositiveInt = 16  # the reference has 16 whatever the width
    decoder_width: PositiveInt = 768
    decoder_depth: int = 12
    decoder_heads: PositiveInt = 12  # image branch and head blocks
    state_heads: PositiveInt = 16  # state branch
    num_state_tokens: PositiveInt = 768
    state_positions: StatePositions = "2d"
    state_rate: StateRate = "none"  # parameters of the state rule `learned`; published: none
    memory_slots: PositiveInt = 256
    memory_depth: PositiveInt = 2  # blocks that write, and as many that read
    memory_heads: PositiveInt = 12
    mlp_factor: PositiveFloat = 4.0
    rope_base: PositiveFloat = 100.0
    half_rope: bool = False  # round queries and keys of the image encoder to float16 around RoPE
    head: Literal["dpt", "linear"] = "dpt"
    head_depth: PositiveInt = 2  # modulated blocks before the world-frame points
    dpt_width: PositiveInt = 256
    dpt_last_width: PositiveInt = 128
    dpt_layer_widths: tuple[int, int, int, int] = (96, 192, 384, 768)
    compute_dtype: Dtype = "float32"
    param_dtype: Dtype = "float32"
    remat: Remat = "none"

    def __post_init__(self):
        check_fields("model", self)
        require(
            self.decoder_depth >= 2, "model.decoder_depth", self.decoder_depth,
            "is below 2: the heads look at two layers before the last", "use 2 or more",
        )  # fmt: skip
        self._check_heads("encoder_heads", "encoder_width", 4)
        self._check_heads("ray_encoder_heads", "encoder_width", 4)
        self._check_heads("decoder_heads", "decoder_width", 4)
        self._check_heads(
            "state_heads", "decoder_width", 1 if self.state_positions == "none" else 4
        )
        require(
            2 * self.decoder_width % self.memory_heads == 0, "model.memory_heads",
            self.memory_heads, f"does not divide 2 x model.decoder_width={2 * self.decoder_width}",
            "use a divisor",
        )  # fmt: skip
        require(
            len(self.dpt_layer_widths) == 4 and min(self.dpt_layer_widths) > 0,
            "model.dpt_layer_widths", self.dpt_layer_widths, "are not four positive widths",
            "give four",
        )  # fmt: skip
        require(
            self.head == "linear" or self.patch_size == 16, "model.patch_size", self.patch_size,
            "does not go with model.head=dpt, which enlarges 16 times", "use 16, or head=linear",
        )  # fmt: skip

    def _check_heads(self, heads: str, width: str, multiple: int) -> None:
        """RoPE in two dimensions needs head widths that are multiples of 4."""
        value, total = getattr(self, heads), getattr(self, width)
        require(
            total % (multiple * value) == 0, f"model.{heads}", value,
            f"does not split model.{width}={total} into heads of a multiple of {multiple}",
            "use another number of heads",
        )  # fmt: skip


def is_ttt3r(values: Any) -> bool:
    """Whether the content of a `config.json` is that of a TTT3R model."""
    model = values.get("model") if isinstance(values, dict) else None
    return isinstance(model, dict) and model.get("kind") == TTT3R_KIND
