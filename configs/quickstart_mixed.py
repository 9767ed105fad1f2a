"""The shipped model's fourth run: sculptures, primitives and furniture, 4 or 8 input views.

Command   python -m tttlrm_jax.data.prepare_shards /tmp/shards/furniture furniture \\
              --archives *.sh3f --config.num-views 12 --config.height 64 --config.width 64
          ... synthetic --config.generator sculptures --config.num-scenes 3072 --config.seed 3 \\
              --eval-scenes 24                        (and primitives: 2048 scenes)
          ... join --directories FURNITURE SCULPTURES PRIMITIVES
          python train.py configs/quickstart_mixed.py --data.shard-directory MIX
Time      see docs/results.md
Result    see docs/results.md
"""

import dataclasses

from tttlrm_jax.commands.packaged_files import packaged
from tttlrm_jax.config import OptimizerConfig, TrainConfig
from tttlrm_jax.training.checkpoint import read_config

SHIPPED = packaged("quickstart")
BASE = read_config(SHIPPED)

CONFIG = dataclasses.replace(
    BASE,
    name="quickstart_mixed",
    data=dataclasses.replace(
        BASE.data,
        source="shards",
        shard_directory="shards/mixed",
        num_input_views=8,
        num_target_views=2,
    ),
    optimizer=OptimizerConfig(
        peak_lr=5e-4, warmup_steps=60, clip_norm=4.0, skip_norm=20.0, guard_from_step=40
    ),
    train=TrainConfig(
        num_steps=1500,
        batch_size=4,
        view_counts=(4, 8),
        init_from=str(SHIPPED),
        log_every=20,
        eval_every=150,
        eval_scenes=32,
        checkpoint_every=50,
    ),
)
