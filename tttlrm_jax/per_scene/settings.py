"""Settings of per-scene optimisation: refining what a model predicted, or fitting from nothing.

Step sizes are Adam's: a parameter moves by about its rate in every step. Those of positions count
in scene extents (`scene_extent`), all others in the units of the stored Gaussians.
"""

import dataclasses
from typing import Annotated

from tttlrm_jax.config.validation import (
    FINITE,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    Share,
    ShareBelow1,
    between,
    check_fields,
    require,
)

Rate = Annotated[NonNegativeFloat, FINITE]
ShDegree = Annotated[int, between(0, 4)]
# From which on spherical harmonics of degree 1, 2 and 3 are fitted. The third takes a third longer
# a step, and with 43 views of a room its views held back were 0.2 dB worse after 1200 steps.
VIEWS_FOR_DEGREE = (3, 6, 64)


@dataclasses.dataclass(frozen=True, kw_only=True)
class LearningRates:
    """Rates of the first step, and how they fall: in proportion to the time that there is, or with
    the steps alone, whatever the time, so that every moment is as good as an end."""

    mean: Rate
    colour: Rate  # of the constant SH coefficient
    detail: Rate  # of the others
    log_scale: Rate
    quaternion: Rate
    opacity_logit: Rate
    mean_end: Rate = 1.0  # share that the last step has
    other_end: Rate = 1.0
    mean_steps: PositiveFloat | None = None  # t steps from the first: a share 1 / (1 + t / this)
    other_steps: PositiveFloat | None = None  # a share 1 / sqrt(1 + t / this)

    def __post_init__(self):
        check_fields("rates", self)


@dataclasses.dataclass(frozen=True, kw_only=True)
class RefineConfig:
    """Few steps on all input views, from Gaussians that are already good."""

    steps: NonNegativeInt = 10
    rates: LearningRates = LearningRates(
        mean=0.006, colour=0.05, detail=0.0025, log_scale=0.1, quaternion=0.02,
        opacity_logit=0.4, mean_end=0.1, other_end=0.1,
    )  # fmt: skip
    ssim_weight: Share = 0.2

    def __post_init__(self):
        check_fields("", self)


@dataclasses.dataclass(frozen=True, kw_only=True)
class FitConfig:
    """3D Gaussian Splatting of one scene (Kerbl et al. 2023), one view a step.

    Growth, pruning and resets stop at `densify_until` of the steps.
    """

    steps: NonNegativeInt = 2000
    num_initial: PositiveInt = 2000  # Gaussians of a start without points
    capacity: PositiveInt = 16_384  # Gaussians there is room for; what would exceed it is refused
    sh_degree: ShDegree | None = 1  # None: follows the number of views, see `degree_for`
    sh_interval: PositiveInt = 1000  # steps until one more band of spherical harmonics joins in
    rates: LearningRates = LearningRates(
        mean=1.6e-3, colour=1e-2, detail=5e-4, log_scale=1e-2, quaternion=2e-3,
        opacity_logit=5e-2, mean_end=0.01,
    )  # fmt: skip
    ssim_weight: Share = 0.2
    # on positions of faint Gaussians, times their rate and their covariance in scene extents
    noise: Annotated[NonNegativeFloat, FINITE] = 0.0
    densify_from: int = 100
    densify_every: PositiveInt = 100
    densify_until: Share = 0.5  # share of the steps
    gradient_threshold: float = 2e-4  # of the loss by the position in halves of the image
    split_above: float = 0.01  # scene extents; larger Gaussians are split, smaller ones cloned
    split_factor: float = 1.6  # by which the halves are smaller
    prune_opacity: Share = 0.005
    prune_above: float = 0.5  # scene extents; Gaussians that large are removed
    reset_every: PositiveInt = 1000  # steps between resets of the opacity
    reset_opacity: Share = 0.01
    seed: int = 0

    def __post_init__(self):
        check_fields("", self)
        require(
            self.num_initial <= self.capacity, "num_initial", self.num_initial,
            f"exceeds capacity={self.capacity}", "start with fewer Gaussians or make room for more",
        )  # fmt: skip


@dataclasses.dataclass(frozen=True, kw_only=True)
class AnytimeConfig:
    """Steps on single views for as long as there is time, from a prediction or from nothing.

    `fit.steps` bounds the steps. Its rates are three times those of a fit from nothing (positions:
    one and a half times) and fall with the steps, whatever the time; density is controlled twice as
    often, from the start.
    """

    seconds: Annotated[PositiveFloat, FINITE] = 30.0  # without compiling
    memory_limit: Annotated[PositiveFloat, FINITE] | None = None  # GiB, see `per_scene.memory`
    num_kept: PositiveInt = 3000  # predicted Gaussians it starts from, drawn by opacity
    # where the prediction gains less on one colour (views held back, dB), fewer, beside new ones
    weak_gain: NonNegativeFloat = 3.0
    num_kept_weak: PositiveInt = 1000
    weak_opacity: Share = 0.04  # that these have at most: what is wrong must not hide the new ones
    # of the fitted views for each Gaussian at least (None: any): more of them learn views by heart
    pixels_per_gaussian: PositiveFloat | None = 10.0
    held_back: ShareBelow1 = 0.1  # share of the input views that only judge; 0: none
    # of the time, and steps, that each resolution below the last one gets at most
    level_share: ShareBelow1 = 0.25
    level_steps: PositiveInt = 150
    reset_steps: tuple[PositiveInt, ...] = ()  # after which opacities are reset
    refine_cameras: bool = False  # with the scene: a turn and a movement for each view
    exposure: bool = False  # with the scene: a gain and an offset for each view and channel
    fit: FitConfig = FitConfig(
        steps=3000, sh_degree=None, sh_interval=1, densify_from=50, densify_every=50,
        densify_until=0.7, prune_opacity=0.001, noise=2e6,
        rates=LearningRates(
            mean=2.4e-3, colour=3e-2, detail=1.5e-3, log_scale=3e-2, quaternion=6e-3,
            opacity_logit=0.15, mean_steps=50.0, other_steps=75.0,
        ),
    )  # fmt: skip

    def __post_init__(self):
        check_fields("", self)


def degree_for(num_views: int) -> int:
    """Degree of the spherical harmonics that so many views can tell: colours by direction need
    directions."""
    return sum(num_views >= needed for needed in VIEWS_FOR_DEGREE)


def with_degree(fit: FitConfig, num_views: int) -> FitConfig:
    """The settings with a degree, that of so many views where they name none."""
    if fit.sh_degree is not None:
        return fit
    return dataclasses.replace(fit, sh_degree=degree_for(num_views))


def required_degree(fit: FitConfig) -> int:
    """The degree of settings that `with_degree` was asked about."""
    assert fit.sh_degree is not None
    return fit.sh_degree


def anytime_config(
    seconds: float,
    *,
    steps: int | None = None,
    max_gaussians: int | None = None,
    memory_limit: float | None = None,
    refine_cameras: bool = False,
    exposure: bool = False,
) -> AnytimeConfig:
    """The usual settings with what is not None in place of theirs.

    Raises ConfigError for values out of range.
    """
    config = AnytimeConfig(
        seconds=seconds, memory_limit=memory_limit, refine_cameras=refine_cameras, exposure=exposure
    )
    fit = config.fit
    if steps is not None:
        fit = dataclasses.replace(fit, steps=steps)
    if max_gaussians is not None:
        require(max_gaussians >= 1, "max_gaussians", max_gaussians, "is below 1", "allow more")
        fit = with_capacity(fit, max_gaussians)
        config = dataclasses.replace(config, pixels_per_gaussian=None)
    return dataclasses.replace(config, fit=fit)


def with_capacity(fit: FitConfig, capacity: int) -> FitConfig:
    """The settings with other room for Gaussians."""
    initial = min(fit.num_initial, capacity)
    return dataclasses.replace(fit, capacity=capacity, num_initial=initial)
