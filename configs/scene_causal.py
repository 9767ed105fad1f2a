"""The scene curriculum's last stage as a true stream: causal, in place of the published sequential.

Command   python train.py configs/scene_causal.py
          after the stage that it starts from: python train.py configs/scene_curriculum.py
Paper     ours; configs/paper.py, and --help, say what differs from the published last stage. The
          published plan updates the fast weights chunk by chunk, but every view is read with all
          of them written; here the loss after a chunk depends on the views that have arrived
Data      as in configs/scene_curriculum.py
Devices   64 of 80 GB, as for the stage in whose place it is
Time      not run: it takes a cluster
Result    runs/scene_causal
"""

import dataclasses
from pathlib import Path

from tttlrm_jax.apps.train import load_config_file
from tttlrm_jax.config import RunConfig
from tttlrm_jax.config.run import CurriculumConfig
from tttlrm_jax.config.user_file import run_user_file

PAPER = run_user_file(
    Path(__file__).with_name("paper.py"), "file", "stating the paper", "it belongs beside this one"
)
DIFFERENCES = PAPER.DIFFERENCES["scene_causal"]
CURRICULUM = load_config_file(Path(__file__).with_name("scene_curriculum.py"))
assert isinstance(CURRICULUM, CurriculumConfig)
LAST = CURRICULUM.stages[-1]
assert isinstance(LAST, RunConfig)

CONFIG = dataclasses.replace(
    LAST,
    name="scene_causal",
    train=dataclasses.replace(
        LAST.train, plan="causal", init_from="runs/scene_curriculum/5_mixed_views"
    ),
)
