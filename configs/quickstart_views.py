"""The shipped model's third run: trained further with 4 or 8 input views, on other objects.

Command   python train.py configs/quickstart_views.py
          from the second run's weights, which the package held at commit 326657c
Time      68 minutes on 2 busy cores
Result    18.4 dB at 8 views on 64 held-out objects (nearest view 13.5), 17.5 dB at 4
"""

import dataclasses

from tttlrm_jax.checkpoints.directories import read_config
from tttlrm_jax.config import OptimizerConfig, TrainConfig
from tttlrm_jax.core.files.packaged_files import packaged

SHIPPED = packaged("quickstart")
BASE = read_config(SHIPPED)

CONFIG = dataclasses.replace(
    BASE,
    name="quickstart_views",
    data=dataclasses.replace(
        BASE.data,
        synthetic=dataclasses.replace(BASE.data.synthetic, num_scenes=4096, seed=1),
        num_input_views=8,
        num_target_views=2,
    ),
    optimizer=OptimizerConfig(
        peak_lr=5e-4, warmup_steps=60, clip_norm=4.0, skip_norm=20.0, guard_from_step=40
    ),
    train=TrainConfig(
        num_steps=1200,
        batch_size=4,
        view_counts=(4, 8, 8),
        init_from=str(SHIPPED),
        log_every=20,
        eval_every=150,
        eval_scenes=32,
        checkpoint_every=50,
    ),
)
