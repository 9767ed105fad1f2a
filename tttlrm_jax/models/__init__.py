"""Complete models: parts assembled, parameters defined."""

from typing import Literal

import jax
from flax import nnx

from tttlrm_jax.config import ModelConfig, Plan, published_ratios
from tttlrm_jax.config.ttt3r import TTT3RConfig
from tttlrm_jax.core.errors import ConfigError
from tttlrm_jax.core.types import Gaussians, Views
from tttlrm_jax.models.decoders import DECODERS, decoder_of
from tttlrm_jax.models.graph import ModelGraph, merge_model, split_model
from tttlrm_jax.models.lvsm import LVSM
from tttlrm_jax.models.streaming import (
    StreamState,
    init_stream,
    live_query,
    live_step,
    query,
    scan_stream,
    split_into_chunks,
    step,
)
from tttlrm_jax.models.ttt3r_network import TTT3R
from tttlrm_jax.models.tttlrm import TTTLRM, gaussian_usage, prune

MODELS = {"tttlrm": TTTLRM, "lvsm": LVSM, "ttt3r": TTT3R}


def build_model(config: ModelConfig | TTT3RConfig, seed: int = 0) -> nnx.Module:
    """The model that `config.kind` names, randomly initialised.

    Raises ConfigError if it asks for float64 while JAX has it switched off.
    """
    return _assembled(config, nnx.Rngs(seed))


def gives(config: ModelConfig) -> Literal["gaussians", "scenes", "images"]:
    """What a model of posed images gives: Gaussians, scenes that its decoder draws, or images.

    Raises ConfigError for a decoder that is not known.
    """
    return "images" if config.kind == "lvsm" else decoder_of(config).gives


def abstract_model(config: ModelConfig | TTT3RConfig) -> nnx.Module:
    """The model with shapes and dtypes in place of arrays: costs no memory."""

    def make():
        rngs = nnx.Rngs(0)
        rngs.default = _OneKey(0, tag="default")
        return _assembled(config, rngs)

    return nnx.eval_shape(make)


class _OneKey(nnx.RngStream):
    """A stream of one key: when it counts keys, Flax makes JAX search the whole trace each time."""

    def __call__(self) -> jax.Array:
        return self.key[...]


def _assembled(config: ModelConfig | TTT3RConfig, rngs: nnx.Rngs) -> nnx.Module:
    dtypes = {config.param_dtype, config.compute_dtype}
    if isinstance(config, ModelConfig):
        dtypes.add(config.newton_schulz_dtype)
    if "float64" in dtypes and not jax.config.jax_enable_x64:
        raise ConfigError(
            "model dtype=float64 needs JAX's 64-bit mode; set JAX_ENABLE_X64=1 or use float32"
        )
    return MODELS[config.kind](config, rngs=rngs)


def reconstruct(
    model: TTTLRM,
    inputs: Views,
    virtual: Views | None = None,
    plan: Plan = "full",
    chunk_views: int = 1,
) -> Gaussians:
    """Gaussians `[batch, gaussian]` of posed views, before pruning; see `TTTLRM.__call__`."""
    return model(inputs, virtual, plan=plan, chunk_views=chunk_views)


__all__ = [
    "DECODERS", "LVSM", "MODELS", "TTT3R", "TTTLRM", "ModelGraph", "StreamState", "abstract_model",
    "build_model", "decoder_of", "gaussian_usage", "gives", "init_stream", "live_query",
    "live_step", "merge_model", "prune", "published_ratios", "query", "reconstruct",
    "scan_stream", "split_into_chunks", "split_model", "step",
]  # fmt: skip
