"""One block: window attention, TTT layer, MLP, each `x + f(LayerNorm(x))`; and the trunk."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float

from tttlrm_jax.config import ModelConfig
from tttlrm_jax.models.nn.attention import WindowAttention
from tttlrm_jax.models.nn.global_attention import GlobalAttention, wider_mlp
from tttlrm_jax.models.nn.layers import LINEAR_INIT_STD, MLP, LayerNorm
from tttlrm_jax.models.nn.stacking import rematerialised, stack_modules
from tttlrm_jax.models.nn.ttt_layer import TTTLayer
from tttlrm_jax.parallel.mesh import STACKED, gather_parameters
from tttlrm_jax.ttt import LayerState, Operation

SUBLAYERS_PER_BLOCK = 3


class Block(nnx.Module):
    """Tokens are `[batch, view, token, d_model]`: attention sees one view, the TTT layer all.

    With `model.across_views=attention` softmax attention takes the place of the TTT layer, and the
    MLP is wider by the parameters that this saves.

    The operations of the TTT layer must emit one output per token, in token order.
    """

    def __init__(self, config: ModelConfig, *, rngs: nnx.Rngs):
        std = LINEAR_INIT_STD
        if config.kind == "lvsm":
            std /= (SUBLAYERS_PER_BLOCK * config.num_layers) ** 0.5
        self.attention_norm = LayerNorm(config.d_model, config)
        self.attention = WindowAttention(config, projection_std=std, rngs=rngs)
        self.ttt_norm = LayerNorm(config.d_model, config)
        attends = config.across_views == "attention"
        if attends:
            self.view_attention = GlobalAttention(config, projection_std=std, rngs=rngs)
        else:
            self.ttt = TTTLayer(config, projection_std=std, rngs=rngs)
        self.mlp_norm = LayerNorm(config.d_model, config)
        wider = wider_mlp(config) if attends else 0
        self.mlp = MLP(config, projection_std=std, wider=wider, rngs=rngs)
        self.attends = attends

    @property
    def across_views(self) -> Any:
        """The layer that joins the views: a `TTTLayer`, or a `GlobalAttention`, without state."""
        return self.view_attention if self.attends else self.ttt

    def attention_branch(self, x: Array) -> Array:
        return self.attention(self.attention_norm(x)).astype(x.dtype)

    def ttt_branch(self, x, operations, state, mask=None) -> tuple[Array, LayerState]:
        batch, view, token, d_model = x.shape
        flat = self.ttt_norm(x).reshape(batch, view * token, d_model)
        out, state = self.across_views(flat, operations, state, mask)
        return out.reshape(x.shape).astype(x.dtype), state

    def mlp_branch(self, x: Array) -> Array:
        return self.mlp(self.mlp_norm(x)).astype(x.dtype)

    def __call__(
        self,
        x: Float[Array, "batch view token d_model"],
        operations: tuple[Operation, ...],
        state: LayerState,
        mask: Bool[Array, "batch all_tokens"] | None = None,
    ) -> tuple[Float[Array, "batch view token d_model"], LayerState]:
        x = x + self.attention_branch(x)
        branch, state = self.ttt_branch(x, operations, state, mask)
        x = x + branch
        return x + self.mlp_branch(x), state


def stack_blocks(config: ModelConfig, rngs: nnx.Rngs) -> Block:
    """Blocks with a leading layer axis on every parameter."""
    return stack_modules(lambda rngs: Block(config, rngs=rngs), config.num_layers, rngs)


def initial_states(blocks: Block, batch: int) -> LayerState:
    """States of all layers before any update, with a leading layer axis."""
    graph, params = nnx.split(blocks)
    params = gather_parameters(params, (STACKED,), stacked=True)
    return jax.vmap(lambda p: nnx.merge(graph, p).across_views.initial_state(batch))(params)


def run_blocks(
    blocks: Block,
    x: Float[Array, "batch view token d_model"],
    operations: tuple[Operation, ...],
    state: Any | None = None,
    remat: str = "none",
    view_mask: Bool[Array, "batch view"] | None = None,
) -> tuple[Float[Array, "batch view token d_model"], Any]:
    """Scans all layers over the tokens; `state` has a leading layer axis.

    Without `state` every layer starts from its learned initial weights. The returned state is
    that after the operations: with it the function is one step of a stream. Views outside
    `view_mask` change no weights.
    """
    mask = None if view_mask is None else jnp.repeat(view_mask, x.shape[2], axis=1)
    graph, params = nnx.split(blocks)

    def body(x, layer):
        layer_params, layer_state = layer
        block = nnx.merge(graph, gather_parameters(layer_params, (STACKED,)))
        if layer_state is None:
            layer_state = block.across_views.initial_state(x.shape[0])
        return block(x, operations, layer_state, mask)

    return jax.lax.scan(rematerialised(body, remat), x, (params, state))
