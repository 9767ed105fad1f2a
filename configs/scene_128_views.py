"""The scene curriculum's mixed stage with 128 input views, as in the paper's supplement.

Command   python train.py configs/scene_128_views.py
          after the stage that it starts from: python train.py configs/scene_curriculum.py
Paper     26.80 dB on DL3DV-140 with 128 views (supplement A); configs/paper.py, and --help, say
          what differs on purpose. Of its training we know no numbers: steps and rate are those of
          the mixed stage
Data      as in configs/scene_curriculum.py, from windows of 256 to 512 frames
Devices   64 of 80 GB: one scene at a time on each sixteen devices (mesh.seq=16,
          train.micro_batches=16); on N devices multiply train.micro_batches by 64 / N
Time      not run: it takes a cluster
Result    runs/scene_128_views
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
DIFFERENCES = PAPER.DIFFERENCES["scene_128_views"]
CURRICULUM = load_config_file(Path(__file__).with_name("scene_curriculum.py"))
assert isinstance(CURRICULUM, CurriculumConfig)
MIXED = CURRICULUM.stages[-2]
assert isinstance(MIXED, RunConfig)

CONFIG = dataclasses.replace(
    MIXED,
    name="scene_128_views",
    data=dataclasses.replace(
        MIXED.data, num_input_views=128, num_pool_views=None, min_frame_range=256
    ),
    train=dataclasses.replace(
        MIXED.train, view_counts=(), micro_batches=16,
        init_from="runs/scene_curriculum/5_mixed_views",
    ),
    mesh=dataclasses.replace(MIXED.mesh, seq=16),
)  # fmt: skip
