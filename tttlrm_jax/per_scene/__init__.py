"""Per-scene optimisation of Gaussians on photographs: few steps of refinement,
improving until time is over, and 3DGS from nothing."""

from tttlrm_jax.per_scene.anytime import Improved, Moment, improve
from tttlrm_jax.per_scene.loop import Optimised
from tttlrm_jax.per_scene.refine import refine
from tttlrm_jax.per_scene.scratch import Fitted, fit_scene
from tttlrm_jax.per_scene.settings import AnytimeConfig, FitConfig, LearningRates, RefineConfig

__all__ = [
    "AnytimeConfig", "FitConfig", "Fitted", "Improved", "LearningRates", "Moment", "Optimised",
    "RefineConfig", "fit_scene", "improve", "refine",
]  # fmt: skip
