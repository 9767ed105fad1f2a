"""Per-scene optimisation of Gaussians on photographs: refinement, and 3DGS from nothing."""

from tttlrm_jax.per_scene.objective import Photographs
from tttlrm_jax.per_scene.refine import Refined, photographs, refine
from tttlrm_jax.per_scene.scratch import Fitted, fit_scene
from tttlrm_jax.per_scene.settings import FitConfig, LearningRates, RefineConfig

__all__ = [
    "FitConfig", "Fitted", "LearningRates", "Photographs", "RefineConfig", "Refined", "fit_scene",
    "photographs", "refine",
]  # fmt: skip
