"""Per-scene optimisation of Gaussians on photographs: refinement, and 3DGS from nothing."""

from tttlrm_jax.per_scene.loop import Optimised
from tttlrm_jax.per_scene.refine import refine
from tttlrm_jax.per_scene.scratch import Fitted, fit_scene
from tttlrm_jax.per_scene.settings import FitConfig, LearningRates, RefineConfig

__all__ = [
    "FitConfig", "Fitted", "LearningRates", "Optimised", "RefineConfig", "fit_scene", "refine",
]  # fmt: skip
