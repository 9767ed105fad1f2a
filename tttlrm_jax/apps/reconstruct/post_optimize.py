"""`eval.py --post-optimize N`: the predicted Gaussians refined on the input views."""

import dataclasses

import jax

from tttlrm_jax.api.scenes import Answer, Evaluated, Refinement, Renderer, score
from tttlrm_jax.apps.progress import step
from tttlrm_jax.apps.reconstruct.files import Job
from tttlrm_jax.metrics.lpips import LPIPS
from tttlrm_jax.per_scene import refine
from tttlrm_jax.per_scene.refine import photographs
from tttlrm_jax.per_scene.settings import RefineConfig


def post_optimize(evaluated: Evaluated, job: Job, lpips: LPIPS | None) -> Evaluated:
    """The evaluation with refined Gaussians and their scores; as it is where no steps are asked.

    Targets are not looked at: what the refined Gaussians gain on them is theirs.
    """
    steps, scene = job.config.post_optimize, job.scene
    if steps == 0:
        return evaluated
    background, raster = job.settings.background, job.run.raster
    with step(f"refining on {scene.inputs.image.shape[1]} input views, {steps} steps"):
        refined = refine(
            evaluated.gaussians, photographs(scene.inputs), RefineConfig(steps=steps),
            raster=raster, background=background,
        )  # fmt: skip
        cameras = jax.tree.map(lambda x: x[0], scene.targets.cameras)
        pictures = Renderer(cameras, background, raster)(refined.gaussians).value
    return dataclasses.replace(
        evaluated,
        gaussians=refined.gaussians,
        ours=Answer(pictures=pictures, scores=score(pictures, scene, lpips)),
        seconds=evaluated.seconds
        | {
            "post_optimize": refined.seconds,
            "post_optimize_compile": refined.compile_seconds,
        },
        refinement=Refinement(before=evaluated.ours, losses=refined.losses),
    )
