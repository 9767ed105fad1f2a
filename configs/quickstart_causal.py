"""The shipped model trained further as a stream: 8 views in chunks of 1, 2 or 4.

Command   python train.py configs/quickstart_causal.py
Control   python train.py configs/quickstart_causal.py --name quickstart_sequential \\
              --train.plan sequential --train.chunk-counts
          as many steps on the same views with the published plan: what causality is worth
Time      20 minutes for 260 steps on 2 busy cores, data rendered first
Result    from the second run's weights, which the package held at commit 326657c: 18.1 dB after 8
          views on 32 held-out objects, where those weights used causally reach 15.8 dB; not
          repeated from today's; more in docs/experiments/causal_training.md and from
          python -m experiments.causal_quality --checkpoint runs/quickstart_causal \\
              --control runs/quickstart_sequential
"""

import dataclasses

from tttlrm_jax.checkpoints.directories import read_config
from tttlrm_jax.config import OptimizerConfig, TrainConfig
from tttlrm_jax.core.files.packaged_files import packaged

SHIPPED = packaged("quickstart")
BASE = read_config(SHIPPED)

CONFIG = dataclasses.replace(
    BASE,
    name="quickstart_causal",
    data=dataclasses.replace(BASE.data, num_input_views=8, num_target_views=2),
    optimizer=OptimizerConfig(
        peak_lr=3e-4, warmup_steps=40, clip_norm=4.0, skip_norm=20.0, guard_from_step=20
    ),
    train=TrainConfig(
        num_steps=260,
        batch_size=2,
        init_from=str(SHIPPED),
        plan="causal",
        chunk_views=2,  # in evaluation
        chunk_counts=(2, 4, 8),
        log_every=20,
        eval_every=200,
        eval_scenes=16,
        checkpoint_every=100,
    ),
)
