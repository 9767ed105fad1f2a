"""Self-attention inside a window; in the models a window is one view."""

import math

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float

from tttlrm_jax.config import ModelConfig
from tttlrm_jax.core.devices import target_device
from tttlrm_jax.core.precision import einsum
from tttlrm_jax.core.types import typechecked
from tttlrm_jax.models.nn.layers import linear, rms_norm

QK_NORM_EPS = 1.1920929e-07  # float32 machine epsilon: the reference left eps unset
MAX_LOGITS = 2**28  # 1 GiB of float32 logits; beyond it queries are taken in blocks
# Windows computed at once on a CPU hold at most this many: 16 MiB of float32, for its caches.
CPU_GROUP_LOGITS = 2**22


@typechecked
def attend(
    query: Float[Array, "*batch query head d_head"],
    key: Float[Array, "*batch token head d_head"],
    value: Float[Array, "*batch token head d_head"],
    dtype,
    *,
    allowed: Bool[Array, "query token"] | None = None,
) -> Float[Array, "*batch query head d_head"]:
    """Softmax attention with scale `1/sqrt(d_head)`; leading axes are separate windows."""
    logits = einsum("...qhd,...khd->...hqk", query, key, dtype=dtype)
    logits = logits * (query.shape[-1] ** -0.5)
    if allowed is not None:
        mask = allowed.reshape((1,) * (logits.ndim - 2) + allowed.shape)
        logits = jnp.where(mask, logits, -jnp.inf)
    weights = jax.nn.softmax(logits, axis=-1)
    return einsum("...hqk,...khd->...qhd", weights, value, dtype=dtype)


def attend_in_blocks(
    query: Float[Array, "*batch token head d_head"],
    key: Float[Array, "*batch token head d_head"],
    value: Float[Array, "*batch token head d_head"],
    dtype,
    *,
    causal: bool = False,
    max_logits: int = MAX_LOGITS,
) -> Float[Array, "*batch token head d_head"]:
    """`attend` that never holds more than `max_logits` logits, in either direction.

    Where all logits fit it is `attend` itself; on a CPU over groups of at most
    `CPU_GROUP_LOGITS`. Otherwise windows are taken one at a time, each in the fewest equal blocks
    of queries that fit; the backward pass recomputes a block.
    """
    *batch, tokens, heads, d_head = query.shape
    allowed = _causal_mask(tokens) if causal else None
    count, window_logits = math.prod(batch), heads * tokens * tokens
    windows = tuple(x.reshape(count, tokens, heads, d_head) for x in (query, key, value))
    if count * window_logits <= max_logits:
        group = max(1, CPU_GROUP_LOGITS // window_logits)
        if target_device().platform != "cpu" or group >= count:
            return attend(query, key, value, dtype, allowed=allowed)
        out = jax.lax.map(
            lambda w: attend(w[0], w[1], w[2], dtype, allowed=allowed), windows, batch_size=group
        )
        return out.reshape(query.shape)
    block = next(
        tokens // n for n in range(1, tokens + 1)
        if tokens % n == 0 and (heads * tokens * (tokens // n) <= max_logits or n == tokens)
    )  # fmt: skip

    @jax.checkpoint
    def one_block(window_query, window_key, window_value, rows):
        return attend(window_query, window_key, window_value, dtype, allowed=rows)

    def one_window(window):
        window_query, window_key, window_value = window
        blocks = window_query.reshape(-1, block, heads, d_head)
        rows = None if allowed is None else allowed.reshape(-1, block, tokens)
        out = jax.lax.map(
            lambda pair: one_block(pair[0], window_key, window_value, pair[1]), (blocks, rows)
        )
        return out.reshape(tokens, heads, d_head)

    return jax.lax.map(one_window, windows).reshape(query.shape)


def _causal_mask(tokens: int) -> Bool[Array, "token token"]:
    index = jnp.arange(tokens, dtype=jnp.int32)
    return index[:, None] >= index[None, :]


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

    def heads(self, x: Float[Array, "*window token d_model"]) -> tuple[Array, Array, Array]:
        """Queries, keys and values `[*window, token, head, d_head]`."""

        def split(part):
            return part.reshape(*part.shape[:-1], -1, self.head_dim)

        query, key, value = (split(part) for part in jnp.split(self.to_qkv(x), 3, axis=-1))
        if self.qk_norm:
            query = rms_norm(query, self.q_norm[...], QK_NORM_EPS)
            key = rms_norm(key, self.k_norm[...], QK_NORM_EPS)
        return query, key, value

    def __call__(
        self, x: Float[Array, "*window token d_model"]
    ) -> Float[Array, "*window token d_model"]:
        query, key, value = self.heads(x)
        out = attend_in_blocks(query, key, value, self.compute_dtype, causal=self.causal)
        return self.c_proj(out.reshape(x.shape))
