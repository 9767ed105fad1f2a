"""A memory of poses: what a frame looked like in general, and where it was."""

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from tttlrm_jax.config import Remat
from tttlrm_jax.config.ttt3r import TTT3RConfig
from tttlrm_jax.models.nn.layers import LINEAR_INIT_STD, linear
from tttlrm_jax.models.nn.rope_blocks import DecoderBlock
from tttlrm_jax.models.nn.stacking import scan_modules, stack_modules


class PoseMemory(nnx.Module):
    """Slots of key and value, read and written through decoder blocks without positions.

    There is no norm on the slots: their magnitude grows with the number of writes.
    """

    def __init__(self, config: TTT3RConfig, *, rngs: nnx.Rngs):
        width = config.decoder_width

        def block(rngs: nnx.Rngs) -> DecoderBlock:
            return DecoderBlock(2 * width, config.memory_heads, config, rngs)

        normal, dtype = nnx.initializers.normal(LINEAR_INIT_STD), config.param_dtype
        self.masked_token = nnx.Param(normal(rngs.params(), (1, 1, width), dtype))
        self.slots = nnx.Param(normal(rngs.params(), (1, config.memory_slots, 2 * width), dtype))
        self.key_projection = linear(config.encoder_width, width, config, rngs=rngs, use_bias=True)
        self.write_blocks = stack_modules(block, config.memory_depth, rngs)
        self.read_blocks = stack_modules(block, config.memory_depth, rngs)
        self.width, self.depth = width, config.memory_depth
        self.remat: Remat = config.remat

    def initial(self, batch: int) -> Float[Array, "batch slot 2*d_model"]:
        """The learned slots."""
        slots = self.slots[...]
        return jnp.broadcast_to(slots, (batch, *slots.shape[1:]))

    def write(
        self,
        slots: Float[Array, "batch slot 2*d_model"],
        key: Float[Array, "batch 1 d_encoder"],
        value: Float[Array, "batch 1 d_model"],
    ) -> Float[Array, "batch slot 2*d_model"]:
        """The slots after they have looked at one key and value."""
        pair = jnp.concatenate([self.key_projection(key).astype(value.dtype), value], axis=-1)
        return self._run(self.write_blocks, slots, pair)

    def read(
        self, key: Float[Array, "batch 1 d_encoder"], slots: Float[Array, "batch slot 2*d_model"]
    ) -> Float[Array, "batch 1 d_model"]:
        """The value that the slots hold for a key."""
        unknown = jnp.broadcast_to(self.masked_token[...], (key.shape[0], 1, self.width))
        pair = jnp.concatenate([self.key_projection(key).astype(slots.dtype), unknown], axis=-1)
        return self._run(self.read_blocks, pair, slots)[..., -self.width :]

    def _run(self, blocks, x, y):
        return scan_modules(
            blocks, lambda block, x: (block(x, y, None, None)[0], ()), x, self.remat
        )[0]
