"""Rays through a field of density and colour: samples, compositing, `march`."""

from tttlrm_jax.volume.compositing import Marched, composite
from tttlrm_jax.volume.march import Field, march

__all__ = ["Field", "Marched", "composite", "march"]
