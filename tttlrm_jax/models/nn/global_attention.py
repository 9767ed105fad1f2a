"""Softmax attention over the tokens of all views, in place of a TTT layer (as in GS-LRM).

For comparison: its cost grows with the square of the views, and it keeps no state that a stream
could go on from.
"""

from jaxtyping import Array, Bool, Float

from tttlrm_jax.config import ModelConfig
from tttlrm_jax.core.errors import InputError
from tttlrm_jax.models.nn.attention import WindowAttention, attend, attend_in_blocks
from tttlrm_jax.ttt import Operation


def wider_mlp(config: ModelConfig) -> int:
    """Hidden channels by which a block's MLP is wider with attention, so that the block has as many
    parameters as with a TTT layer (of the default rule), up to half a channel's."""
    d_model, heads = config.d_model, config.num_ttt_heads
    d_head = d_model // heads
    fast_weights = 3 * heads * d_head * int(d_head * config.ttt_inner_factor)
    rates = 3 * heads * (d_model + 1)
    output_norm = d_model if config.merges_output_norm else d_head
    own = 2 * config.attention_head_dim  # norms of queries and keys
    return round((fast_weights + rates + output_norm - own) / (2 * d_model))


class GlobalAttention(WindowAttention):
    """Multi-head attention with RMS-normalised queries and keys; called as a `TTTLayer` is.

    Keys and values are those of the tokens that would update fast weights.
    """

    def initial_state(self, batch: int) -> None:
        """There is no state."""
        del batch

    def __call__(  # type: ignore[override]
        self,
        x: Float[Array, "batch token d_model"],
        operations: tuple[Operation, ...],
        state: None,
        mask: Bool[Array, "batch token"] | None = None,
    ) -> tuple[Float[Array, "batch token d_model"], None]:
        """All tokens attend to the updating ones. Raises InputError for plans but the full one."""
        del state
        num_keys = _updating_tokens(operations, x.shape[1], mask)
        query, key, value = self.heads(x)
        if num_keys == x.shape[1]:
            out = attend_in_blocks(query, key, value, self.compute_dtype)
        else:
            out = attend(query, key[:, :num_keys], value[:, :num_keys], self.compute_dtype)
        return self.c_proj(out.reshape(x.shape)), None


def _updating_tokens(operations: tuple[Operation, ...], num_token: int, mask) -> int:
    """How many of the first tokens update in the full plan."""
    if len(operations) == 2 and mask is None:
        write, read = operations
        writes = write.update and not write.apply and write.start == 0
        if writes and read == Operation(0, num_token, apply=True):
            return write.end
    raise InputError(
        "model.across_views=attention keeps no state to write chunks into; use the full plan, or a "
        "model with ttt"
    )
