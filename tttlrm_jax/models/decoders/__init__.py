"""Decoders by name: what tokens become."""

from typing import Any

from tttlrm_jax.config import ModelConfig
from tttlrm_jax.core.errors import ConfigError
from tttlrm_jax.models.decoders.gaussians import GaussianDecoder
from tttlrm_jax.models.decoders.triplane import TriplaneDecoder

DECODERS: dict[str, Any] = {"gaussians": GaussianDecoder, "triplane": TriplaneDecoder}


def decoder_of(config: ModelConfig) -> Any:
    """The entry of `DECODERS` for a model. Raises ConfigError for a name that is not there."""
    if config.decoder not in DECODERS:
        raise ConfigError.of(
            "model.decoder", config.decoder, "is unknown", f"use one of {', '.join(DECODERS)}"
        )
    return DECODERS[config.decoder]
