"""Self-attention inside a window; in the models a window is one view."""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from tttlrm_jax.config import ModelConfig
from tttlrm_jax.nn.layers import linear, rms_norm
from tttlrm_jax.precision import einsum
from tttlrm_jax.types import typechecked

QK_NORM_EPS = 1.1920929e-07  # float32 machine epsilon: the reference left eps unset


@typechecked
def attend(
    query: Float[Array, "*batch token head d_head"],
    key: Float[Array, "*batch token head d_head"],
    value: Float[Array, "*batch token head d_head"],
    dtype,
    *,
    causal: bool = False,
) -> Float[Array, "*batch token head d_head"]:
    """Softmax attention with scale `1/sqrt(d_head)`; leading axes are separate windows."""
    logits = einsum("...qhd,...khd->...hqk", query, key, dtype=dtype)
    logits = logits * (query.shape[-1] ** -0.5)
    if causal:
        index = jnp.arange(query.shape[-3], dtype=jnp.int32)
        allowed = index[:, None] >= index[None, :]
        allowed = allowed.reshape((1,) * (logits.ndim - 2) + allowed.shape)
        logits = jnp.where(allowed, logits, -jnp.inf)
    weights = jax.nn.softmax(logits, axis=-1)
    return einsum("...hqk,...khd->...qhd", weights, value, dtype=dtype)


class WindowAttention(nnx.Module):
    """Multi-head self-attention over the token axis, with RMS-normalised queries and keys.

    No mask by default, no positional encoding, no biases. `qk_norm=False` and `causal=True` are
    the other variants of the reference.
    """

    def __init__(
        self,
        config: ModelConfig,
        *,
        projection_std: float,
        qk_norm: bool = True,
        causal: bool = False,
        rngs: nnx.Rngs,
    ):
        self.to_qkv = linear(config.d_model, 3 * config.d_model, config, rngs=rngs)
        self.c_proj = linear(
            config.d_model, config.d_model, config, rngs=rngs, init_std=projection_std
        )
        self.head_dim = config.attention_head_dim
        self.compute_dtype = config.compute_dtype
        self.causal = causal
        self.qk_norm = qk_norm
        if qk_norm:
            self.q_norm = nnx.Param(jnp.ones(self.head_dim, config.param_dtype))
            self.k_norm = nnx.Param(jnp.ones(self.head_dim, config.param_dtype))

    def __call__(
        self, x: Float[Array, "*window token d_model"]
    ) -> Float[Array, "*window token d_model"]:
        def split(part):
            return part.reshape(*part.shape[:-1], -1, self.head_dim)

        query, key, value = (split(part) for part in jnp.split(self.to_qkv(x), 3, axis=-1))
        if self.qk_norm:
            query = rms_norm(query, self.q_norm[...], QK_NORM_EPS)
            key = rms_norm(key, self.k_norm[...], QK_NORM_EPS)
        out = attend(query, key, value, self.compute_dtype, causal=self.causal)
        return self.c_proj(out.reshape(x.shape))
