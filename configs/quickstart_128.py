"""The shipped model trained further at 128x128, for one GPU: a fifth run, not made yet.

Command   P="python -m tttlrm_jax.data.prepare_shards"
          V="--config.num-views 12 --config.height 128 --config.width 128"
          $P shards/sculptures128 synthetic $V --config.generator sculptures \\
              --config.seed 5 --config.num-scenes 3072 --eval-scenes 24
          $P shards/primitives128 synthetic $V --config.generator primitives \\
              --config.seed 5 --config.num-scenes 3072 --eval-scenes 24
          $P shards/mixed128 join --directories shards/sculptures128 shards/primitives128
          python train.py configs/quickstart_128.py
          furniture joins in the same way, see configs/quickstart_mixed.py
Time      not run; on 2 CPU cores only rehearsed, see docs/training.md
Result    none yet; bring back the weights with tttlrm_jax.training.checkpoint.export_model
"""

import dataclasses
import math

from tttlrm_jax.commands.packaged_files import packaged
from tttlrm_jax.config import OptimizerConfig, TrainConfig
from tttlrm_jax.training.checkpoint import read_config

SHIPPED = packaged("quickstart")
BASE = read_config(SHIPPED)

CONFIG = dataclasses.replace(
    BASE,
    name="quickstart_128",
    model=dataclasses.replace(
        BASE.model,
        compute_dtype="bfloat16",
        newton_schulz_dtype="bfloat16",
        log_scale_offset=BASE.model.log_scale_offset - math.log(2),  # about a pixel again
    ),
    data=dataclasses.replace(
        BASE.data,
        source="shards",
        shard_directory="shards/mixed128",
        num_input_views=8,
        num_target_views=4,
    ),
    optimizer=OptimizerConfig(
        peak_lr=5e-4, warmup_steps=100, clip_norm=4.0, skip_norm=20.0, guard_from_step=60
    ),
    train=TrainConfig(
        num_steps=6000,
        batch_size=32,
        view_counts=(4, 8),
        init_from=str(SHIPPED),
        log_every=20,
        eval_every=300,
        eval_scenes=32,
        checkpoint_every=300,
    ),
)
