"""Transformer blocks with rotary positions: encoder, decoder (two sequences) and modulated ones.

Tokens are `[batch, token, channel]`, positions `[batch, token, 2]` (y, x) in patches, or None for
attention that does not know places. Norms are affine with eps 1e-6; linear layers have biases.
"""

import dataclasses

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from tttlrm_jax.config.ttt3r import TTT3RConfig
from tttlrm_jax.core.precision import einsum
from tttlrm_jax.models.nn.attention import attend
from tttlrm_jax.models.nn.layers import Dtypes, layer_norm, linear
from tttlrm_jax.models.nn.rope import apply_rope

BLOCK_NORM_EPS = 1e-6


class BiasedLayerNorm(nnx.Module):
    """Layer norm with weight and bias, in at least float32."""

    def __init__(self, channels: int, config: Dtypes):
        self.weight = nnx.Param(jnp.ones(channels, config.param_dtype))
        self.bias = nnx.Param(jnp.zeros(channels, config.param_dtype))

    def __call__(self, x: Array) -> Array:
        bias = self.bias[...].reshape((1,) * (x.ndim - 1) + (-1,))
        return layer_norm(x, self.weight[...], BLOCK_NORM_EPS) + bias


class BiasedMLP(nnx.Module):
    """`fc2(gelu(fc1(x)))` with the exact GELU."""

    def __init__(
        self, in_features: int, hidden: int, out_features: int, config: Dtypes, rngs: nnx.Rngs
    ):
        self.fc1 = linear(in_features, hidden, config, rngs=rngs, use_bias=True)
        self.fc2 = linear(hidden, out_features, config, rngs=rngs, use_bias=True)

    def __call__(self, x: Array) -> Array:
        return self.fc2(jax.nn.gelu(self.fc1(x), approximate=False))


@dataclasses.dataclass(frozen=True)
class Rope:
    """Base frequency of the rotary positions, and whether they are rounded to float16."""

    base: float
    half: bool = False

    def __call__(self, x: Array, positions: Array | None) -> Array:
        return x if positions is None else apply_rope(x, positions, self.base, half=self.half)


def split_heads(x: Array, heads: int) -> Float[Array, "batch token head d_head"]:
    return x.reshape(*x.shape[:-1], heads, -1)


class RopeAttention(nnx.Module):
    """Self-attention; query, key and value come out of one linear layer, in that order."""

    def __init__(self, width: int, heads: int, rope: Rope, config: Dtypes, rngs: nnx.Rngs):
        self.qkv = linear(width, 3 * width, config, rngs=rngs, use_bias=True)
        self.proj = linear(width, width, config, rngs=rngs, use_bias=True)
        self.heads, self.rope, self.dtype = heads, rope, config.compute_dtype

    def rotated(self, x: Array, positions: Array | None) -> tuple[Array, Array, Array]:
        """Query, key (both after RoPE) and value, `[batch, token, head, d_head]`."""
        query, key, value = (
            split_heads(part, self.heads) for part in jnp.split(self.qkv(x), 3, axis=-1)
        )
        return self.rope(query, positions), self.rope(key, positions), value

    def __call__(self, x: Array, positions: Array | None) -> Array:
        out = attend(*self.rotated(x, positions), self.dtype)
        return self.proj(out.reshape(x.shape))


class CrossAttention(nnx.Module):
    """Attention of `x` to `y`, whose tokens are keys and values."""

    def __init__(self, width: int, heads: int, rope: Rope, config: Dtypes, rngs: nnx.Rngs):
        def projection():
            return linear(width, width, config, rngs=rngs, use_bias=True)

        self.query, self.key = projection(), projection()
        self.value, self.proj = projection(), projection()
        self.heads, self.rope, self.dtype = heads, rope, config.compute_dtype

    def rotated(self, x, y, x_positions, y_positions) -> tuple[Array, Array]:
        """Query and key after RoPE, `[batch, token, head, d_head]`."""
        query = self.rope(split_heads(self.query(x), self.heads), x_positions)
        return query, self.rope(split_heads(self.key(y), self.heads), y_positions)

    def __call__(self, x, y, x_positions, y_positions) -> tuple[Array, Array]:
        """Attention's output and `alignment [batch, head, token]` (see `mean_scores`)."""
        query, key = self.rotated(x, y, x_positions, y_positions)
        out = attend(query, key, split_heads(self.value(y), self.heads), self.dtype)
        return self.proj(out.reshape(x.shape)), mean_scores(query, key)


def scores(query: Array, key: Array) -> Float[Array, "batch head query token"]:
    """Attention scores before the softmax, scaled by `1/sqrt(d_head)`."""
    return einsum("bqhd,bkhd->bhqk", query, key, dtype=query.dtype) * query.shape[-1] ** -0.5


def mean_scores(query: Array, key: Array) -> Float[Array, "batch head query"]:
    """Mean of `scores` over all keys; linear in the keys, so they are averaged first."""
    wide = jnp.promote_types(query.dtype, jnp.float32)
    mean_key = jnp.mean(key.astype(wide), axis=1)
    scaled = query.astype(wide) * query.shape[-1] ** -0.5
    return einsum("bqhd,bhd->bhq", scaled, mean_key, dtype=wide)


class EncoderBlock(nnx.Module):
    """`x += attention(norm(x))`, `x += mlp(norm(x))`."""

    def __init__(
        self, width: int, heads: int, config: TTT3RConfig, rngs: nnx.Rngs, half_rope: bool = False
    ):
        self.attention_norm = BiasedLayerNorm(width, config)
        self.attention = RopeAttention(
            width, heads, Rope(config.rope_base, half_rope), config, rngs
        )
        self.mlp_norm = BiasedLayerNorm(width, config)
        self.mlp = BiasedMLP(width, int(width * config.mlp_factor), width, config, rngs)

    def __call__(self, x: Array, positions: Array | None) -> Array:
        x = x + self.attention(self.attention_norm(x), positions).astype(x.dtype)
        return x + self.mlp(self.mlp_norm(x)).astype(x.dtype)


class DecoderBlock(nnx.Module):
    """An encoder block that looks at another sequence between its attention and its MLP."""

    def __init__(self, width: int, heads: int, config: TTT3RConfig, rngs: nnx.Rngs):
        rope = Rope(config.rope_base)
        self.attention_norm = BiasedLayerNorm(width, config)
        self.attention = RopeAttention(width, heads, rope, config, rngs)
        self.cross_norm = BiasedLayerNorm(width, config)
        self.other_norm = BiasedLayerNorm(width, config)
        self.cross_attention = CrossAttention(width, heads, rope, config, rngs)
        self.mlp_norm = BiasedLayerNorm(width, config)
        self.mlp = BiasedMLP(width, int(width * config.mlp_factor), width, config, rngs)

    def attended(self, x: Array, x_positions: Array | None) -> Array:
        """`x` after its self-attention."""
        return x + self.attention(self.attention_norm(x), x_positions).astype(x.dtype)

    def __call__(
        self, x: Array, y: Array, x_positions: Array | None, y_positions: Array | None
    ) -> tuple[Array, Float[Array, "batch head token"]]:
        """The new `x`, and how it is aligned with `y` (see `mean_scores`)."""
        x = self.attended(x, x_positions)
        looked, alignment = self.cross_attention(
            self.cross_norm(x), self.other_norm(y), x_positions, y_positions
        )
        x = x + looked.astype(x.dtype)
        return x + self.mlp(self.mlp_norm(x)).astype(x.dtype), alignment

    def cross_scores(self, x, y, x_positions, y_positions) -> Array:
        """All scores of the cross-attention, `[batch, head, x token, y token]`."""
        x = self.attended(x, x_positions)
        query, key = self.cross_attention.rotated(
            self.cross_norm(x), self.other_norm(y), x_positions, y_positions
        )
        return scores(query, key)


class ModulatedNorm(nnx.Module):
    """`norm(x) * (1 + scale) + shift`, with both from one vector per sample."""

    def __init__(self, width: int, config: Dtypes, rngs: nnx.Rngs):
        self.norm = BiasedLayerNorm(width, config)
        self.modulation = linear(width, 2 * width, config, rngs=rngs, use_bias=True)

    def __call__(
        self, x: Float[Array, "batch token d_model"], condition: Float[Array, "batch d_model"]
    ) -> Array:
        shift, scale = jnp.split(self.modulation(jax.nn.silu(condition))[:, None], 2, axis=-1)
        return self.norm(x) * (1 + scale) + shift


class ModulatedBlock(nnx.Module):
    """An encoder block whose norms are modulated by a condition."""

    def __init__(self, width: int, heads: int, config: TTT3RConfig, rngs: nnx.Rngs):
        self.attention_norm = ModulatedNorm(width, config, rngs)
        self.attention = RopeAttention(width, heads, Rope(config.rope_base), config, rngs)
        self.mlp_norm = ModulatedNorm(width, config, rngs)
        self.mlp = BiasedMLP(width, int(width * config.mlp_factor), width, config, rngs)

    def __call__(self, x: Array, condition: Array, positions: Array | None) -> Array:
        normed = self.attention_norm(x, condition)
        x = x + self.attention(normed, positions).astype(x.dtype)
        return x + self.mlp(self.mlp_norm(x, condition)).astype(x.dtype)
