"""Constants of splatting, and who draws."""

import dataclasses
from typing import Literal

from tttlrm_jax.config.validation import (
    check_fields,
    require,
    require_positive,
)


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
    # Who draws: docs/guides/rasterizer.md has the table.
    backend: Literal["auto", "reference", "tiled", "balanced", "pallas", "pallas_interpret"] = (
        "auto"
    )

    def __post_init__(self):
        check_fields("raster", self)
        require_positive("raster", self, "max_alpha", "min_alpha", "min_transmittance", "near")
        require(self.eps2d >= 0, "raster.eps2d", self.eps2d, "is negative", "use 0 or more")
        require(
            self.max_alpha < 1, "raster.max_alpha", self.max_alpha, "is not below 1", "lower it"
        )
        require(
            self.near < self.far, "raster.near", self.near,
            f"is not below raster.far={self.far}", "swap or widen them",
        )  # fmt: skip
