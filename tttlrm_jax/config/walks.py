"""Procedural rooms that a camera walks through; `procedural.walks` draws them."""

import dataclasses
import math

from tttlrm_jax.core.errors import ConfigError

OPEN_RANGES = {
    "min_fov": (0.0, 180.0), "max_fov": (0.0, 180.0), "min_side": (0.0, math.inf),
    "max_side": (0.0, math.inf),
}  # fmt: skip


@dataclasses.dataclass(frozen=True, kw_only=True)
class WalkConfig:
    """Size of pictures, of rooms and of a walk; ConfigError where no room follows from it."""

    height: int = 48
    width: int = 64
    min_fov: float = 55.0  # degrees across the width, one per sequence
    max_fov: float = 75.0
    min_boxes: int = 4
    max_boxes: int = 9
    min_side: float = 4.0  # metres, of the floor
    max_side: float = 8.0
    supersampling: int = 2  # its square of rays per pixel for colour; depth has one, in the middle
    walk_speed: float = 0.05  # metres per frame, about the mean
    turn_speed: float = 1.5  # degrees per frame, about the mean
    start_range: float = 360.0  # degrees of headings from +x on that a walk begins with
    compass: bool = False  # walls, floor and ceiling keep their hues from room to room

    def __post_init__(self):
        for name in ("height", "width", "min_boxes", "supersampling"):
            if getattr(self, name) < 1:
                raise ConfigError.of(f"room.{name}", getattr(self, name), "is below 1", "use 1+")
        for name, (least, most) in OPEN_RANGES.items():
            value = getattr(self, name)
            if not least < value < most:
                raise ConfigError.of(
                    f"room.{name}", value, f"is not between {least:g} and {most:g}",
                    "use a value inside",
                )  # fmt: skip
        for name in ("walk_speed", "turn_speed", "start_range"):
            value, most = getattr(self, name), 360.0 if name == "start_range" else math.inf
            if not (math.isfinite(value) and 0 <= value <= most):
                limit = f"is not a finite number from 0 to {most:g}"
                raise ConfigError.of(f"room.{name}", value, limit, "use a value inside")
        for low, high in (("min_fov", "max_fov"), ("min_boxes", "max_boxes"),
                          ("min_side", "max_side")):  # fmt: skip
            if getattr(self, low) > getattr(self, high):
                raise ConfigError.of(
                    f"room.{low}", getattr(self, low), f"exceeds room.{high}", "exchange them"
                )
