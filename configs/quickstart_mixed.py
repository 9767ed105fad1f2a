"""The shipped model's fourth run: furniture, sculptures and primitives, 4 or 8 input views.

Command   P="python -m tttlrm_jax.datasets.prepare"
          V="--config.num-views 12 --config.height 64 --config.width 64"
          $P shards/furniture furniture --archives *.sh3f $V
          $P shards/sculptures synthetic $V --config.generator sculptures \\
              --config.seed 3 --config.num-scenes 3072 --eval-scenes 24
          $P shards/primitives synthetic $V --config.generator primitives \\
              --config.seed 3 --config.num-scenes 2048 --eval-scenes 24
          $P shards/mixed join --directories shards/furniture shards/sculptures shards/primitives
          python train.py configs/quickstart_mixed.py
          It began at the third run's weights, which the package held at commit 7649f06; today's
          package holds this run's.
Time      47 minutes on 2 cores, 27 of them busy with other work; shards 17 minutes
Result    docs/experiments/shipped_model.md
"""

import dataclasses
from pathlib import Path

from tttlrm_jax.apps.train import load_config_file
from tttlrm_jax.checkpoints.directories import read_config
from tttlrm_jax.config import RunConfig
from tttlrm_jax.core.files.packaged_files import packaged

VIEWS = load_config_file(Path(__file__).with_name("quickstart_views.py"))
assert isinstance(VIEWS, RunConfig)

CONFIG = dataclasses.replace(
    VIEWS,
    name="quickstart_mixed",
    data=dataclasses.replace(
        read_config(packaged("quickstart")).data,
        source="shards",
        shard_directory="shards/mixed",
        num_input_views=8,
        num_target_views=2,
    ),
    train=dataclasses.replace(VIEWS.train, num_steps=2000, view_counts=(4, 8)),
)
