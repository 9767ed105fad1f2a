"""The test-time-training layer (LaCT, arXiv 2505.23884): a memory written with gradients."""

import math

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float

from tttlrm_jax.config import ModelConfig
from tttlrm_jax.core.precision import accumulation_dtype, einsum, safe_norm
from tttlrm_jax.models.nn.layers import linear, rms_norm
from tttlrm_jax.ttt import (
    FastWeights,
    LayerState,
    Operation,
    TokenRates,
    initial_state,
    rule_from_config,
    run_operations,
)
from tttlrm_jax.ttt.rules import Gate, UpdateRule

UNIT_EPS = 1e-5
OUTPUT_NORM_EPS = 1e-5


def unit_vectors(x: Float[Array, "... channel"]) -> Float[Array, "... channel"]:
    """`x / (|x| + 1e-5)` along the last axis."""
    return x / (safe_norm(x, axis=-1) + UNIT_EPS)


class RuleGates(nnx.Module):
    """Logits of the gates an update rule learns: a bias per head, a kernel for gates of tokens.

    Kernels start at zero, so every gate starts at the rule's initial value.
    """

    def __init__(self, gates: tuple[Gate, ...], config: ModelConfig):
        heads, dtype = config.num_ttt_heads, jnp.dtype(config.param_dtype)
        initial = jnp.asarray([math.log(g.initial / (1 - g.initial)) for g in gates], dtype)
        self.bias = nnx.Param(jnp.broadcast_to(initial, (heads, len(gates))).reshape(-1))
        self.from_tokens = tuple(gate.from_tokens for gate in gates)
        if any(self.from_tokens):
            shape = (config.d_model, heads, sum(self.from_tokens))
            self.kernel = nnx.Param(jnp.zeros(shape, dtype))
        self.num_heads = heads

    def __call__(
        self, x: Float[Array, "batch token d_model"]
    ) -> tuple[Float[Array, "batch head token"], ...]:
        wide = accumulation_dtype(x.dtype)
        bias = self.bias[...].astype(wide).reshape(self.num_heads, -1)
        logits = [
            jnp.broadcast_to(b[None, :, None], (x.shape[0], self.num_heads, x.shape[1]))
            for b in bias.T
        ]
        if any(self.from_tokens):
            projected = einsum("btd,dhg->gbht", x.astype(wide), self.kernel[...], dtype=wide)
            own = iter(projected)
            learned = zip(logits, self.from_tokens, strict=True)
            logits = [b + next(own) if from_tokens else b for b, from_tokens in learned]
        return tuple(logits)


class TTTLayer(nnx.Module):
    """Queries, keys, values and learning rates of every token around one fast network per head.

    `output_norm="merged"` normalises all channels together (tttLRM's), `"head"` each head with
    shared weights (LaCT); they agree for one head. Rate channels are laid out (matrix, head).
    """

    def __init__(self, config: ModelConfig, *, projection_std: float, rngs: nnx.Rngs):
        d_head = config.d_model // config.num_ttt_heads
        d_hid = int(d_head * config.ttt_inner_factor)
        dtype = jnp.dtype(config.param_dtype)

        def draw(rows: int, columns: int):
            std = math.sqrt(2 / rows)
            shape = (config.num_ttt_heads, rows, columns)
            return nnx.Param(std * jax.random.normal(rngs.params(), shape, dtype))

        self.w0 = draw(d_head, d_hid)
        self.w1 = draw(d_hid, d_head)
        self.w2 = draw(d_head, d_hid)
        self.to_qkv = linear(config.d_model, 3 * config.d_model, config, rngs=rngs)
        self.c_proj = linear(
            config.d_model, config.d_model, config, rngs=rngs, init_std=projection_std
        )
        wide = str(accumulation_dtype(config.compute_dtype))
        self.lr_fc = linear(
            config.d_model, 3 * config.num_ttt_heads, config, rngs=rngs, use_bias=True, dtype=wide
        )
        norm_width = config.d_model if config.merges_output_norm else d_head
        self.o_norm = nnx.Param(jnp.ones(norm_width, dtype))
        self.config = config
        gates = self.rule().gates
        if gates:  # no other rule adds parameters, so published names fit
            self.rule_gates = RuleGates(gates, config)

    def rule(self) -> UpdateRule:
        return rule_from_config(self.config)

    def initial_state(self, batch: int) -> LayerState:
        """State with the learned initial weights, one copy per scene."""
        weights = FastWeights(gate=self.w0[...], down=self.w1[...], up=self.w2[...])
        weights = jax.tree.map(lambda w: w.astype(accumulation_dtype(w.dtype))[None], weights)
        weights = jax.tree.map(lambda w: jnp.broadcast_to(w, (batch, *w.shape[1:])), weights)
        return initial_state(weights, self.rule())

    def __call__(
        self,
        x: Float[Array, "batch token d_model"],
        operations: tuple[Operation, ...],
        state: LayerState,
        mask: Bool[Array, "batch token"] | None = None,
    ) -> tuple[Float[Array, "batch out d_model"], LayerState]:
        """Runs `operations` on the tokens; returns what they read and the new state.

        Tokens outside `mask` change no weights.
        """
        wide = accumulation_dtype(self.config.compute_dtype)
        qkv = jax.nn.silu(self.to_qkv(x).astype(wide))
        query, key, value = (self._split_heads(part) for part in jnp.split(qkv, 3, axis=-1))
        query, key, rates = unit_vectors(query), unit_vectors(key), self._rates(x)
        dtype = jnp.dtype(self.config.compute_dtype)
        out, state = run_operations(
            state, query, key, value, rates, operations, self.rule(), dtype, mask
        )
        return self.c_proj(self._merge_heads(out)), state

    def _split_heads(self, x):
        x = x.reshape(*x.shape[:2], self.config.num_ttt_heads, -1)
        return jnp.swapaxes(x, 1, 2)

    def _merge_heads(self, out: Float[Array, "batch head token d_head"]):
        out = jnp.swapaxes(out, 1, 2)
        merged_shape = (*out.shape[:2], self.config.d_model)
        if self.config.merges_output_norm:
            out = out.reshape(merged_shape)
        return rms_norm(out, self.o_norm[...], OUTPUT_NORM_EPS).reshape(merged_shape)

    def _rates(self, x) -> TokenRates:
        """`softplus(lr_fc(x) + c)` with `softplus(c) = base_lr`."""
        base = self.config.base_lr
        raw = self.lr_fc(x) + (base + math.log(-math.expm1(-base)))
        rates = jnp.moveaxis(jax.nn.softplus(raw), -1, 1)
        gate, down, up = jnp.split(rates, 3, axis=1)
        gates = self.rule_gates(x) if self.rule().gates else ()
        return TokenRates(gate=gate, down=down, up=up, gates=gates)
