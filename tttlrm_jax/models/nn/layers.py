"""Norms, linear layers and the MLP: thin modules over pure functions."""

import jax
import jax.numpy as jnp
from flax import nnx
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array, Float

from tttlrm_jax.config import ModelConfig
from tttlrm_jax.config.ttt3r import TTT3RConfig
from tttlrm_jax.core.precision import accumulation_dtype, matmul_precision
from tttlrm_jax.core.types import typechecked

LAYER_NORM_EPS = 1e-5
LINEAR_INIT_STD = 0.02
LINEAR_OUTPUT = "linear"  # its name for rematerialisation policies
Dtypes = ModelConfig | TTT3RConfig  # of which most layers read the dtypes alone


@typechecked
def layer_norm(
    x: Float[Array, "... channel"], weight: Float[Array, " channel"], eps: float = LAYER_NORM_EPS
) -> Float[Array, "... channel"]:
    """`(x - mean) / sqrt(biased variance + eps) * weight` over the last axis, at least float32."""
    x = x.astype(accumulation_dtype(x.dtype))
    centred = x - jnp.mean(x, axis=-1, keepdims=True)
    variance = jnp.mean(centred * centred, axis=-1, keepdims=True)
    return centred * jax.lax.rsqrt(variance + eps) * _last_axis(weight, x.ndim)


@typechecked
def rms_norm(
    x: Float[Array, "... channel"], weight: Float[Array, " channel"], eps: float
) -> Float[Array, "... channel"]:
    """`x / sqrt(mean(x^2) + eps) * weight` over the last axis, at least float32."""
    x = x.astype(accumulation_dtype(x.dtype))
    mean_square = jnp.mean(x * x, axis=-1, keepdims=True)
    return x * jax.lax.rsqrt(mean_square + eps) * _last_axis(weight, x.ndim)


def _last_axis(weight, ndim: int):
    return weight.reshape((1,) * (ndim - 1) + weight.shape)


class LayerNorm(nnx.Module):
    """Layer norm with a weight and no bias."""

    def __init__(self, channels: int, config: ModelConfig):
        self.weight = nnx.Param(jnp.ones(channels, config.param_dtype))

    def __call__(self, x: Array) -> Array:
        return layer_norm(x, self.weight[...])


class Linear(nnx.Linear):
    """Flattens leading axes first: the kernel's gradient is then one plain matrix product.

    XLA's CPU backend otherwise copies the transposed cotangent, at twice the time of the backward
    pass.
    """

    def __call__(self, inputs: Array) -> Array:
        flat = super().__call__(inputs.reshape(-1, inputs.shape[-1]))
        flat = checkpoint_name(flat, LINEAR_OUTPUT)
        return flat.reshape(*inputs.shape[:-1], self.out_features)


def linear(
    in_features: int,
    out_features: int,
    config: Dtypes,
    *,
    rngs: nnx.Rngs,
    init_std: float = LINEAR_INIT_STD,
    use_bias: bool = False,
    dtype: str | None = None,
) -> Linear:
    """A linear layer with normal weights; operands in `dtype`, by default the compute dtype."""
    dtype = dtype or config.compute_dtype
    return Linear(
        in_features,
        out_features,
        use_bias=use_bias,
        dtype=jnp.dtype(dtype),
        param_dtype=jnp.dtype(config.param_dtype),
        precision=matmul_precision(dtype),
        kernel_init=nnx.initializers.normal(init_std),
        rngs=rngs,
    )


class MLP(nnx.Module):
    """`c_proj(gelu(c_fc(x)))` with the exact GELU; `wider` hidden channels more than configured."""

    def __init__(
        self, config: ModelConfig, *, projection_std: float, wider: int = 0, rngs: nnx.Rngs
    ):
        hidden = int(config.d_model * config.mlp_factor) + wider
        self.c_fc = linear(config.d_model, hidden, config, rngs=rngs)
        self.c_proj = linear(hidden, config.d_model, config, rngs=rngs, init_std=projection_std)

    def __call__(self, x: Float[Array, "... d_model"]) -> Float[Array, "... d_model"]:
        return self.c_proj(jax.nn.gelu(self.c_fc(x), approximate=False))
