"""The model the package ships: procedural objects at 64x64 from 4 views, for 2 CPU cores.

Command   python train.py configs/quickstart.py --train.num-steps 2200   (stopped at 1881)
          python train.py configs/quickstart.py --name quickstart2 --train.num-steps 2700 \\
              --train.init-from runs/quickstart --optimizer.peak-lr 5e-4
Time      about 70 minutes on 2 cores (1.0 s a step), data rendered first
Result    17.6 dB on 256 held-out objects; configs/quickstart_views.py and quickstart_mixed.py went
          on from there, see docs/experiments/shipped_model.md
"""

from tttlrm_jax.config import (
    DataConfig,
    LossConfig,
    ModelConfig,
    OptimizerConfig,
    RasterConfig,
    RunConfig,
    SyntheticConfig,
    TrainConfig,
)

CONFIG = RunConfig(
    name="quickstart",
    model=ModelConfig(
        d_model=192,
        num_layers=6,
        patch_size=8,
        attention_head_dim=32,
        num_ttt_heads=2,
        ttt_inner_factor=2.0,
        sh_degree=0,
        newton_schulz_dtype="float32",  # cheaper than bfloat16 on CPU
        max_distance=1.6,  # cameras are at distance 1 from the object on average
        distance_anchor="origin",
        log_scale_offset=-4.2,  # about a pixel at 64x64
        log_scale_max=-2.0,
        opacity_offset=-1.0,
        colour_residual=True,  # colours need not be learnt through 192 channels
    ),
    raster=RasterConfig(near=0.1),
    data=DataConfig(
        synthetic=SyntheticConfig(num_scenes=8192, num_views=12, height=64, width=64),
        num_input_views=4,
        num_target_views=2,
        view_selection="kmeans",  # as in evaluation
        pose_normalisation="focus",
    ),
    loss=LossConfig(mse=1.0, opacity=0.002, depth=5.0, mask=0.2, depth_alignment="metric"),
    optimizer=OptimizerConfig(
        peak_lr=8e-4, warmup_steps=150, clip_norm=4.0, skip_norm=20.0, guard_from_step=100
    ),
    train=TrainConfig(
        num_steps=2600,
        batch_size=4,
        log_every=20,
        eval_every=200,
        eval_scenes=16,
        checkpoint_every=200,
    ),
)
