"""A small triplane model, and the Gaussian one of equal trunk to hold it against, on made objects.

Command   python train.py configs/triplane_small.py
          python train.py configs/triplane_small_gaussians.py      the same data and steps
Time      see docs/experiments/triplanes.md
Result    see docs/experiments/triplanes.md
"""

import dataclasses

from tttlrm_jax.checkpoints.directories import read_config
from tttlrm_jax.config import LossConfig, OptimizerConfig, TrainConfig
from tttlrm_jax.config.model import TriplaneConfig
from tttlrm_jax.core.files.packaged_files import packaged

SHIPPED = read_config(packaged("quickstart"))
GAUSSIANS = dataclasses.replace(
    SHIPPED,
    name="triplane_small_gaussians",
    model=dataclasses.replace(SHIPPED.model, d_model=64, num_layers=3),
    data=dataclasses.replace(
        SHIPPED.data,
        synthetic=dataclasses.replace(
            SHIPPED.data.synthetic, num_scenes=256, num_views=8, height=64, width=64
        ),
        num_input_views=4,
        num_target_views=2,
    ),
    loss=LossConfig(mse=1.0, opacity=0.0, depth=0.0),
    optimizer=OptimizerConfig(
        peak_lr=1e-3, warmup_steps=40, clip_norm=4.0, skip_norm=20.0, guard_from_step=50
    ),
    train=TrainConfig(
        num_steps=400, batch_size=4, log_every=10, eval_every=100, eval_scenes=16,
        checkpoint_every=100,
    ),
)  # fmt: skip

CONFIG = dataclasses.replace(
    GAUSSIANS,
    name="triplane_small",
    model=dataclasses.replace(
        GAUSSIANS.model,
        decoder="triplane",
        triplane=TriplaneConfig(
            side=32, token_side=4, channels=16, hidden=32, extent=0.6, samples=24,
            importance_samples=16,
        ),
    ),
    train=dataclasses.replace(GAUSSIANS.train, crop=24),
)  # fmt: skip
