"""Per-scene optimisation of Gaussians on photographs: refinement, and 3DGS from nothing."""

from tttlrm_jax.optimize.objective import Photographs
from tttlrm_jax.optimize.refine import Refined, photographs, refine
from tttlrm_jax.optimize.scratch import Fitted, fit_scene
from tttlrm_jax.optimize.settings import FitConfig, LearningRates, RefineConfig

__all__ = [
    "FitConfig", "Fitted", "LearningRates", "Photographs", "RefineConfig", "Refined", "fit_scene",
    "photographs", "refine",
]  # fmt: skip
