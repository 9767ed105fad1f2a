"""Settings of per-scene optimisation: refining what a model predicted, or fitting from nothing.

Step sizes are Adam's: a parameter moves by about its rate in every step. Those of positions count
in scene extents (`scene_extent`), all others in the units of the stored Gaussians.
"""

import dataclasses

from tttlrm_jax.core.errors import ConfigError


@dataclasses.dataclass(frozen=True, kw_only=True)
class LearningRates:
    """Rates of the first step; `*_end` is the share of them that the last step has."""

    mean: float
    colour: float  # of the constant SH coefficient
    detail: float  # of the others
    log_scale: float
    quaternion: float
    opacity_logit: float
    mean_end: float = 1.0
    other_end: float = 1.0

    def __post_init__(self):
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if not 0 <= value < float("inf"):
                raise ConfigError.of(f"rates.{field.name}", value, "is negative", "use 0 or more")


@dataclasses.dataclass(frozen=True, kw_only=True)
class RefineConfig:
    """Few steps on all input views, from Gaussians that are already good."""

    steps: int = 10
    rates: LearningRates = LearningRates(
        mean=0.006, colour=0.05, detail=0.0025, log_scale=0.1, quaternion=0.02,
        opacity_logit=0.4, mean_end=0.1, other_end=0.1,
    )  # fmt: skip
    ssim_weight: float = 0.2

    def __post_init__(self):
        _check_counts(self, ("steps",))
        _check_share(self, "ssim_weight")


@dataclasses.dataclass(frozen=True, kw_only=True)
class FitConfig:
    """3D Gaussian Splatting of one scene (Kerbl et al. 2023), one view a step.

    Growth, pruning and resets stop at `densify_until` of the steps.
    """

    steps: int = 2000
    num_initial: int = 2000  # Gaussians of a start without points
    capacity: int = 16_384  # Gaussians there is room for; what would exceed it is refused
    sh_degree: int = 1
    sh_interval: int = 1000  # steps after which one more band of spherical harmonics joins in
    rates: LearningRates = LearningRates(
        mean=1.6e-3, colour=1e-2, detail=5e-4, log_scale=1e-2, quaternion=2e-3,
        opacity_logit=5e-2, mean_end=0.01,
    )  # fmt: skip
    ssim_weight: float = 0.2
    densify_from: int = 100
    densify_every: int = 100
    densify_until: float = 0.5  # share of the steps
    gradient_threshold: float = 2e-4  # of the loss by the position in halves of the image
    split_above: float = 0.01  # scene extents; larger Gaussians are split, smaller ones cloned
    split_factor: float = 1.6  # by which the halves are smaller
    prune_opacity: float = 0.005
    prune_above: float = 0.5  # scene extents; Gaussians that large are removed
    reset_every: int = 1000  # steps between resets of the opacity
    reset_opacity: float = 0.01
    seed: int = 0

    def __post_init__(self):
        _check_counts(self, ("steps",))
        positive = ("num_initial", "capacity", "sh_interval", "densify_every", "reset_every")
        _check_counts(self, positive, 1)
        for name in ("ssim_weight", "densify_until", "prune_opacity", "reset_opacity"):
            _check_share(self, name)
        if self.num_initial > self.capacity:
            raise ConfigError.of(
                "num_initial", self.num_initial, f"exceeds capacity={self.capacity}",
                "start with fewer Gaussians or make room for more",
            )  # fmt: skip
        if not 0 <= self.sh_degree <= 4:
            raise ConfigError.of("sh_degree", self.sh_degree, "is not in 0..4", "use 0..4")


def _check_counts(config, names: tuple[str, ...], least: int = 0) -> None:
    for name in names:
        value = getattr(config, name)
        if not isinstance(value, int) or value < least:
            raise ConfigError.of(name, value, f"is not a whole number from {least}", "correct it")


def _check_share(config, name: str) -> None:
    value = getattr(config, name)
    if not 0 <= value <= 1:
        raise ConfigError.of(name, value, "is not in [0, 1]", "use a share")
