"""What refinement on the input views adds to the files of an evaluation."""

import dataclasses
from typing import Any

from tttlrm_jax.apps.reconstruct.job import Evaluated
from tttlrm_jax.per_scene import Improved

MEANS = ("psnr", "ssim", "lpips")


def refined_part(evaluated: Evaluated) -> dict[str, Any]:
    """What refinement on the inputs adds to metrics.json, whose scores are those after it."""
    record = evaluated.refinement
    if evaluated.unrefined is None or record is None:
        return {}
    before = {f"{name}_before": evaluated.unrefined.scores.mean(name) for name in MEANS}
    part = {"steps": len(record.losses), **before, "loss": record.losses.tolist()}
    if isinstance(record, Improved):
        names = evaluated.reconstruction.posed.input_names
        part |= {
            "ended": record.ended,
            "held_back": [names[number] for number in record.held_back],
            "best": dataclasses.asdict(record.best),
            "moments": [dataclasses.asdict(moment) for moment in record.moments],
        }
    return {"post_optimize": part}


def refined_settings(metrics: dict[str, Any]) -> dict[str, str]:
    if "post_optimize" not in metrics:
        return {}
    refined, seconds = metrics["post_optimize"], metrics["seconds"]
    return {
        "refined on the inputs": f"{refined['steps']} steps{_kept(refined)} in "
        f"{seconds['post_optimize']:.2f} s (compiling {seconds['post_optimize_compile']:.1f} s); "
        f"before, PSNR was {refined['psnr_before']:.2f} dB and SSIM {refined['ssim_before']:.3f}"
    }


def _kept(refined: dict[str, Any]) -> str:
    """How the steps were taken, and which Gaussians were kept."""
    if "held_back" not in refined:
        return " on all input views"
    text = ", one input view each"
    if refined["held_back"]:
        best, judges = refined["best"], ", ".join(refined["held_back"])
        text += (
            f" but {judges}, which judge: step {best['step']} is kept, with {best['psnr']:.2f} dB "
            "on them"
        )
    return text + {"interrupted": "; interrupted", "steps": "; all steps taken"}.get(
        refined["ended"], ""
    )
