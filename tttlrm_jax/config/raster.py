"""Constants of splatting, and who draws."""

import dataclasses
from typing import Annotated, Literal

from tttlrm_jax.config.validation import (
    Bound,
    NonNegativeFloat,
    PositiveFloat,
    check_fields,
    require,
)

MaxAlpha = Annotated[PositiveFloat, Bound(lambda a: a < 1, "is not below 1", "lower it")]


@dataclasses.dataclass(frozen=True, kw_only=True)
class RasterConfig:
    """Constants of EWA splatting; defaults are those of gsplat 1.6.

    The published tttLRM weights were trained with `max_alpha=0.999`, `near=0.1`.
    """

    max_alpha: MaxAlpha = 0.99
    min_alpha: PositiveFloat = 1.0 / 255.0
    min_transmittance: PositiveFloat = 1e-4
    eps2d: NonNegativeFloat = 0.3  # px^2 added to the diagonal of the projected covariance
    near: PositiveFloat = 0.01
    far: float = 1e10
    antialiased: bool = False
    # Who draws: docs/guides/rasterizer.md has the table.
    backend: Literal["auto", "reference", "tiled", "balanced", "pallas", "pallas_interpret"] = (
        "auto"
    )

    def __post_init__(self):
        check_fields("raster", self)
        require(
            self.near < self.far, "raster.near", self.near,
            f"is not below raster.far={self.far}", "swap or widen them",
        )  # fmt: skip
