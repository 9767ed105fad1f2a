"""Published checkpoints to parameters: one explicit name table per model."""

from tttlrm_jax.convert.names import IGNORED_PREFIXES, WRAPPER_PREFIXES, table
from tttlrm_jax.convert.published import (
    params_from_published,
    published_from_params,
    published_shapes,
)
from tttlrm_jax.convert.shapes import config_from_shapes
from tttlrm_jax.convert.ttt3r_tensors import config_from_ttt3r_shapes, settle

__all__ = [
    "IGNORED_PREFIXES", "WRAPPER_PREFIXES", "config_from_shapes", "config_from_ttt3r_shapes",
    "params_from_published", "published_from_params", "published_shapes", "settle", "table",
]  # fmt: skip
