"""The numbers of an evaluation: ours and the baselines' on the held-out views."""

import dataclasses

from tttlrm_jax.api.scenes import baseline_pictures
from tttlrm_jax.apps.progress import announced
from tttlrm_jax.apps.reconstruct.job import Answer, Evaluated, Job
from tttlrm_jax.apps.reconstruct.stream import measure_stream


def measure(job: Job) -> Evaluated:
    """Reconstructs, renders, scores, and refines where that is asked for."""
    if job.request.plan == "causal":
        return post_optimize(measure_stream(job, plain_baselines(job)), job)
    return post_optimize(measure_at_once(job), job)


def measure_at_once(job: Job) -> Evaluated:
    """All inputs in one call; the untrained model goes through the same program."""
    with announced("compiling the model"):
        job.model.program(job.scene.inputs, job.request)
    with announced("reconstructing and rendering the targets"):
        made = job.model.reconstruct_scene(job.scene, job.request)
        ours = job.answer(made.target_pictures())
    seconds = {"reconstruct": made.seconds, "reconstruct_compile": made.compile_seconds}
    seconds |= job.render_seconds()
    with announced("baselines"):
        untrained = job.model.untrained(job.request.seed)
        other = untrained.reconstruct_scene(job.scene, job.request).target_pictures()
        baselines = plain_baselines(job) | {"untrained": job.answer(other)}
    return Evaluated(reconstruction=made, ours=ours, baselines=baselines, seconds=seconds)


def plain_baselines(job: Job) -> dict[str, Answer]:
    """Those that need no model."""
    return {name: job.answer(made) for name, made in baseline_pictures(job.scene).items()}


def post_optimize(evaluated: Evaluated, job: Job) -> Evaluated:
    """The evaluation with refined Gaussians and their scores; as it is where no steps are asked.

    Targets are not looked at: what the refined Gaussians gain on them is theirs.
    """
    steps = job.config.post_optimize
    if steps == 0:
        return evaluated
    with announced(f"refining on {job.scene.inputs.image.shape[1]} input views, {steps} steps"):
        refined, losses = evaluated.reconstruction.refine(steps)
        ours = job.answer(refined.target_pictures())
    more = {"post_optimize": refined.seconds, "post_optimize_compile": refined.compile_seconds}
    return dataclasses.replace(
        evaluated, reconstruction=refined, ours=ours, seconds=evaluated.seconds | more,
        unrefined=evaluated.ours, losses=losses,
    )  # fmt: skip
