"""A small recurrent network on procedural rooms: poses and pointmaps from 64x48 pictures.

Command   python train.py configs/ttt3r_small.py
Time      not run to its end yet; compiling its three lengths takes about 100 CPU seconds, a
          step then under a second of wall time on two busy cores
Result    a run directory for `eval.py --model ttt3r --checkpoint runs/ttt3r_small`
"""

from tttlrm_jax.config import OptimizerConfig
from tttlrm_jax.config_ttt3r import TTT3RConfig
from tttlrm_jax.data.rooms import RoomConfig
from tttlrm_jax.training.recurrent_config import RecurrentRunConfig, RecurrentTrainConfig

CONFIG = RecurrentRunConfig(
    name="ttt3r_small",
    model=TTT3RConfig(
        patch_size=8,
        encoder_width=128,
        encoder_depth=4,
        encoder_heads=4,
        ray_encoder_depth=1,
        ray_encoder_heads=4,
        decoder_width=96,
        decoder_depth=4,
        decoder_heads=4,
        state_heads=4,
        num_state_tokens=64,
        memory_slots=32,
        memory_depth=1,
        memory_heads=4,
        head="linear",
        head_depth=1,
    ),
    room=RoomConfig(height=48, width=64, walk_speed=0.04, turn_speed=0.6),
    optimizer=OptimizerConfig(
        peak_lr=7e-4, warmup_steps=200, guard_from_step=0, clip_norm=1.0, skip_norm=1e4
    ),
    train=RecurrentTrainConfig(
        num_steps=9000,
        batch_size=4,
        frame_counts=(2, 4, 8),
        strides=(1, 2, 4, 8, 16),
        remat=False,
        pose_weight=3.0,
        eval_scenes=20,
        checkpoint_every=250,
    ),
)
