"""The shipped model trained further at 128x128, for one GPU: a fifth run, not made yet.

Command   P="python -m tttlrm_jax.datasets.prepare"
          V="--config.num-views 12 --config.height 128 --config.width 128 --workers $(nproc)"
          $P shards/sculptures128 synthetic $V --config.generator sculptures \\
              --config.seed 5 --config.num-scenes 3072 --eval-scenes 24
          $P shards/primitives128 synthetic $V --config.generator primitives \\
              --config.seed 5 --config.num-scenes 3072 --eval-scenes 24
          $P shards/mixed128 join --directories shards/sculptures128 shards/primitives128
          python train.py configs/quickstart_128.py
          furniture joins in the same way, see configs/quickstart_mixed.py
Time      not run; rehearsed on 2 CPU cores: 3 steps of 2 scenes, shards of 8 scenes
Result    none yet; bring back the weights with tttlrm_jax.checkpoints.models.export_model
"""

import dataclasses
import math
from pathlib import Path

from tttlrm_jax.apps.train import load_config_file
from tttlrm_jax.config import RunConfig

MIXED = load_config_file(Path(__file__).with_name("quickstart_mixed.py"))
assert isinstance(MIXED, RunConfig)

CONFIG = dataclasses.replace(
    MIXED,
    name="quickstart_128",
    model=dataclasses.replace(
        MIXED.model,
        compute_dtype="bfloat16",
        newton_schulz_dtype="bfloat16",
        log_scale_offset=MIXED.model.log_scale_offset - math.log(2),  # about a pixel again
    ),
    data=dataclasses.replace(MIXED.data, shard_directory="shards/mixed128", num_target_views=4),
    optimizer=dataclasses.replace(MIXED.optimizer, warmup_steps=100, guard_from_step=60),
    train=dataclasses.replace(
        MIXED.train, num_steps=6000, batch_size=32, eval_every=300, checkpoint_every=300
    ),
)
