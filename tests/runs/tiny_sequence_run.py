"""The smallest run of the recurrent network there is."""

from tttlrm_jax.config import OptimizerConfig
from tttlrm_jax.config.data import WalkConfig
from tttlrm_jax.config.run import SequenceRunConfig
from tttlrm_jax.config.training import SequenceTrainConfig
from tttlrm_jax.config.ttt3r import TTT3RConfig

CONFIG = SequenceRunConfig(
    name="tiny",
    model=TTT3RConfig(
        patch_size=8, encoder_width=16, encoder_heads=2, encoder_depth=1, ray_encoder_depth=1,
        ray_encoder_heads=2, decoder_width=16, decoder_depth=2, decoder_heads=2, state_heads=2,
        num_state_tokens=4, memory_slots=2, memory_heads=2, memory_depth=1, mlp_factor=2.0,
        head="linear", head_depth=1,
    ),
    room=WalkConfig(height=16, width=24, supersampling=1),
    optimizer=OptimizerConfig(peak_lr=3e-3, warmup_steps=2, guard_from_step=0, skip_norm=1e4),
    train=SequenceTrainConfig(
        num_steps=30, batch_size=2, frame_counts=(2,), log_every=1, eval_every=1000,
        eval_scenes=1, checkpoint_every=1000,
    ),
)  # fmt: skip
