"""Published checkpoints to parameters: one explicit name table per model."""

from tttlrm_jax.convert.names import IGNORED_PREFIXES, WRAPPER_PREFIXES, table
from tttlrm_jax.convert.published import (
    params_from_published,
    published_from_params,
    published_shapes,
)
from tttlrm_jax.convert.shapes import config_from_shapes

__all__ = [
    "IGNORED_PREFIXES", "WRAPPER_PREFIXES", "config_from_shapes", "params_from_published",
    "published_from_params", "published_shapes", "table",
]  # fmt: skip
