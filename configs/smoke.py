"""A smoke run: every part of training, small enough for a test on 2 CPU cores.

Command   python train.py configs/smoke.py
Time      about a minute, most of it compilation
Result    the loss falls; the pictures are blobs
"""

from tttlrm_jax.config import (
    DataConfig,
    LossConfig,
    ModelConfig,
    OptimizerConfig,
    RunConfig,
    SyntheticConfig,
    TrainConfig,
)

CONFIG = RunConfig(
    name="smoke",
    model=ModelConfig(
        d_model=32,
        num_layers=2,
        patch_size=8,
        attention_head_dim=16,
        num_ttt_heads=2,
        ttt_inner_factor=2.0,
        sh_degree=1,
        newton_schulz_dtype="float32",
        max_distance=2.5,
        log_scale_offset=-3.5,
        log_scale_max=-2.0,
    ),
    data=DataConfig(
        synthetic=SyntheticConfig(num_scenes=16, num_views=6, height=24, width=32),
        num_input_views=2,
        num_target_views=2,
    ),
    loss=LossConfig(opacity=0.002, depth=0.1, mask=0.2, depth_alignment="metric"),
    optimizer=OptimizerConfig(peak_lr=1e-3, warmup_steps=5, guard_from_step=5),
    train=TrainConfig(
        num_steps=40,
        batch_size=2,
        log_every=5,
        eval_every=20,
        eval_scenes=2,
        checkpoint_every=10,
    ),
)
