"""What refinement on the input views adds to the files of an evaluation."""

import dataclasses
import statistics
from pathlib import Path
from typing import Any

from tttlrm_jax.api.scenes import colour_aligned_psnr
from tttlrm_jax.apps.progress import announced
from tttlrm_jax.apps.reconstruct.camera_files import numbered_anew, refined_frames
from tttlrm_jax.apps.reconstruct.job import Evaluated, Job
from tttlrm_jax.captures.transforms_writer import write_transforms
from tttlrm_jax.core.pictures import at_most, to_uint8
from tttlrm_jax.export.video import write_video
from tttlrm_jax.per_scene import Improved, Moment
from tttlrm_jax.per_scene.corrections import Photographs
from tttlrm_jax.per_scene.judging import PREVIEW_SIDE
from tttlrm_jax.reports.improvement import improvement_frames, improvement_plot
from tttlrm_jax.reports.reconstruction import Exhibit

MEANS = ("psnr", "ssim", "lpips")
IMPROVEMENT_FILM = "improving.mp4"
CAMERAS_FILE = "transforms.json"  # of all frames, with the cameras that were refined
FPS = 8  # moments a second
USELESS = "since one colour was nearer than the prediction"
STARTS = {
    "mixed": "new points and part of the prediction, which shows little more than one colour",
    "points": f"triangulated points {USELESS}",
    "random": f"random points {USELESS}",
}


def write_improvement(directory: Path, job: Job, evaluated: Evaluated) -> Exhibit | None:
    """The film of an improvement, and its curve; None where no view judged it, or none had yet."""
    record = evaluated.refinement
    if not isinstance(record, Improved) or record.best.psnr is None:
        return None
    held = record.held_back[0]
    name = job.scene.input_names[held]
    photograph = at_most(to_uint8(job.scene.inputs.image[0, held]), PREVIEW_SIDE)
    with announced(f"drawing {IMPROVEMENT_FILM}"):
        film = directory / IMPROVEMENT_FILM
        frames = improvement_frames(record.moments, name, photograph)
        write_video(film, frames, frames_per_second=FPS)
    text = f"{len(record.held_back)} of {len(job.scene.input_names)} input views judge"
    plot = improvement_plot(record.moments, f"{job.scene.name}, improved on its input views", text)
    return Exhibit(plot=plot, film=film.read_bytes())


def write_cameras(directory: Path, job: Job, evaluated: Evaluated) -> None:
    """A capture of the same photographs with refined cameras, where these were refined.

    It has the inputs and targets of this one, unless this one lacks frames of its camera file.
    """
    frames, inputs, refined = refined_frames(job, evaluated)
    if refined:
        write_transforms(directory / CAMERAS_FILE, frames, inputs)


def photographs_part(job: Job, evaluated: Evaluated, own: Photographs) -> dict[str, Any]:
    """What refined cameras and exposures add to metrics.json, lengths in the capture's unit."""
    part: dict[str, Any] = {}
    if own.turned is not None and own.moved is not None:
        moved = own.moved / job.scene.similarity.scale
        part["cameras"] = [
            {"name": name, "turned_degrees": float(turn), "moved": float(move)}
            for name, turn, move in zip(job.scene.input_names, own.turned, moved, strict=True)
        ]
    if own.gain is not None and own.offset is not None:
        part["exposure"] = [
            {"name": name, "gain": gain.tolist(), "offset": offset.tolist()}
            for name, gain, offset in zip(job.scene.input_names, own.gain, own.offset, strict=True)
        ]
        part["psnr_colour_aligned"] = float(
            colour_aligned_psnr(evaluated.ours.pictures, job.scene).mean()
        )
    return part


def refined_part(job: Job, evaluated: Evaluated) -> dict[str, Any]:
    """What refinement on the inputs adds to metrics.json, whose scores are those after it."""
    record = evaluated.refinement
    if evaluated.unrefined is None or record is None:
        return {}
    before = {f"{name}_before": evaluated.unrefined.scores.mean(name) for name in MEANS}
    part = {"steps": len(record.losses), **before, "loss": record.losses.tolist()}
    if isinstance(record, Improved):
        names = evaluated.reconstruction.posed.input_names
        part |= {
            "start": record.start,
            "ended": record.ended,
            "held_back": [names[number] for number in record.held_back],
            "best": _numbers(record.best),
            "sh_degree": record.sh_degree,
            "max_gaussians": record.room.num_gaussians,
            "num_refused": record.num_refused,
            "bytes_estimated": record.room.num_bytes,
            "moments": [_numbers(moment) for moment in record.moments],
        }
        if record.photographs is not None:
            part |= photographs_part(job, evaluated, record.photographs)
    return {"post_optimize": part}


def refined_notes(job: Job, evaluated: Evaluated) -> list[str]:
    """What to say of an improvement, a sentence each; for metrics.json, console and page."""
    record = evaluated.refinement
    if not isinstance(record, Improved):
        return []
    notes = _points_notes(job, record)
    if not record.held_back:
        notes.append(
            f"improving: {len(job.scene.input_names)} input views are too few to hold one back, so "
            "nothing says when to stop: all the time is used, and the last Gaussians are kept"
        )
    if record.room.num_gaussians < record.room.wanted:
        notes.append(
            f"improving: memory_limit={job.config.memory_limit:g} GiB leaves room for "
            f"{record.room.num_gaussians} Gaussians in place of {record.room.wanted}"
        )
    if job.config.refine_cameras:
        notes.append(
            "improving: cameras of the inputs are refined, also those held back; targets are drawn "
            "and scored at the cameras that were given"
        )
        if numbered_anew(job):
            notes.append(
                f"improving: {CAMERAS_FILE} numbers its frames anew, as some of the capture's are "
                "left out: every 8th of them is another target, and it lists no inputs"
            )
    if job.config.exposure:
        notes.append(
            "improving: exposures of the inputs are fitted, and of those held back by least "
            "squares before they judge; targets are scored as drawn, and psnr_colour_aligned is "
            "with a gain and an offset for each target and channel"
        )
    if record.num_dropped:
        notes.append(
            f"improving: there was no room (--memory-limit) for {record.num_dropped} intersections "
            "of Gaussians and tiles in a view, which were not drawn while fitting"
        )
    return notes


def _points_notes(job: Job, record: Improved) -> list[str]:
    """What became of the capture's points, where there are any."""
    points, path = job.scene.read_points(), job.capture.points_file
    if points is None or path is None:
        return []
    count = len(points[0])
    begun = record.moments[0].num_gaussians if record.moments else count
    some = f"{begun:,} of the {count:,}" if begun < count else f"{count:,}"
    said = {
        "points": f"starts from {some} points of {path.name}",
        "mixed": f"starts from part of the prediction and points of {path.name} ({count:,} in all)",
        "prediction": f"starts from the prediction, not from the {count:,} points of {path.name}",
    }
    return [f"improving: {said[record.start]}"]


def _numbers(moment: Moment) -> dict[str, Any]:
    names = (field.name for field in dataclasses.fields(moment) if field.name != "picture")
    return {name: getattr(moment, name) for name in names}


def refined_settings(metrics: dict[str, Any]) -> dict[str, str]:
    if "post_optimize" not in metrics:
        return {}
    refined, seconds = metrics["post_optimize"], metrics["seconds"]
    room = {"room for Gaussians": _room(refined)} if "max_gaussians" in refined else {}
    room |= _photographs(refined)
    return {
        "refined on the inputs": f"{refined['steps']} steps{_kept(refined)} in "
        f"{seconds['post_optimize']:.2f} s (compiling {seconds['post_optimize_compile']:.1f} s); "
        f"before, PSNR was {refined['psnr_before']:.2f} dB and SSIM {refined['ssim_before']:.3f}",
        **room,
    }


def _photographs(refined: dict[str, Any]) -> dict[str, str]:
    """How refined cameras and exposures differ from those that were given."""
    rows = {}
    if "cameras" in refined:
        turned, moved = (
            statistics.median(each[name] for each in refined["cameras"])
            for name in ("turned_degrees", "moved")
        )
        rows["cameras of the inputs"] = (
            f"turned by {turned:.2g} degrees and moved by {moved:.2g} units of the capture "
            f"(medians), in {CAMERAS_FILE}"
        )
    if "exposure" in refined:
        gains = [gain for each in refined["exposure"] for gain in each["gain"]]
        rows["exposure of the inputs"] = (
            f"gains of {min(gains):.2f} to {max(gains):.2f}; with the colours of each picture "
            f"aligned to its target PSNR is {refined['psnr_colour_aligned']:.2f} dB"
        )
    return rows


def _room(refined: dict[str, Any]) -> str:
    """How many Gaussians an improvement had room for, what that takes, and what it refused."""
    text = (
        f"{refined['max_gaussians']} with spherical harmonics of degree {refined['sh_degree']}, "
        f"about {refined['bytes_estimated'] / 2**20:.0f} MiB"
    )
    if not refined["num_refused"]:
        return text + ": enough"
    return f"{text}; {refined['num_refused']} times there was none for a new one (--max-gaussians)"


def _kept(refined: dict[str, Any]) -> str:
    """How the steps were taken, and which Gaussians were kept."""
    if "held_back" not in refined:
        return " on all input views"
    text = ", one input view each"
    if refined["start"] != "prediction":
        text += f", from {STARTS[refined['start']]}"
    if refined["held_back"]:
        best, text = refined["best"], text + f" but {', '.join(refined['held_back'])}, which judge"
        if best["psnr"] is not None:  # None: interrupted before the first look
            text += f": step {best['step']} is kept, with {best['psnr']:.2f} dB on them"
    return text + {"interrupted": "; interrupted", "steps": "; all steps taken"}.get(
        refined["ended"], ""
    )
