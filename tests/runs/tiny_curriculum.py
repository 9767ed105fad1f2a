"""Two stages of few steps that differ in all a stage may: size, views, batch, losses, rate."""

import dataclasses
import importlib.util
from pathlib import Path

from tttlrm_jax.config.run import CurriculumConfig

_path = Path(__file__).with_name("tiny_run.py")
_spec = importlib.util.spec_from_file_location("tiny_run", _path)
assert _spec is not None
assert _spec.loader is not None
_module = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_module)
TINY = _module.CONFIG

SEED = 1  # draws both numbers of views in six steps

FIRST = dataclasses.replace(
    TINY,
    name="low",
    train=dataclasses.replace(TINY.train, num_steps=3, eval_every=3, checkpoint_every=2),
)
SECOND = dataclasses.replace(
    FIRST,
    name="high",
    data=dataclasses.replace(
        TINY.data, synthetic=dataclasses.replace(TINY.data.synthetic, height=8, width=12)
    ),
    loss=dataclasses.replace(TINY.loss, depth=0.01),
    optimizer=dataclasses.replace(TINY.optimizer, peak_lr=5e-4),
    train=dataclasses.replace(
        FIRST.train, num_steps=6, eval_every=6, batch_size=4, micro_batches=2, ema_decay=0.9,
        view_counts=(2, 4), seed=SEED,
    ),
)  # fmt: skip
CONFIG = CurriculumConfig(name="tiny_curriculum", stages=(FIRST, SECOND))
