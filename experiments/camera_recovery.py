"""Cameras by structure from motion against those that were withheld.

`python -m experiments.camera_recovery --captures ../shared/data/mydesk --every 8 --film` copies the
pictures of captures without their cameras, finds these again, and compares after the Sim(3) that
best maps the centres. `--film` makes a film of all pictures (10 a second) and starts from that.
"""

import dataclasses
import json
import resource
import shutil
import tempfile
import time
from pathlib import Path

import imageio.v2 as imageio
import numpy as np
import tyro

from tttlrm_jax.api.poses.cameras_found import capture_by_ttt3r
from tttlrm_jax.captures.capture import Capture, read_capture
from tttlrm_jax.captures.pictures.images import flatten, read_image
from tttlrm_jax.core.errors import InputError
from tttlrm_jax.core.geometry.poses import rigid_inverse
from tttlrm_jax.metrics.trajectory import rotation_angle, trajectory_errors
from tttlrm_jax.structure_from_motion.captures import capture_by_sfm

FILM_RATE = 10


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """What is tried."""

    captures: tuple[Path, ...]  # with cameras, which are withheld
    every: int = 1  # of their pictures every so many-th is used
    film: bool = False  # make a film of the pictures and start from that
    film_frames: int = 100  # most that are taken of it
    poses: str = "sfm"  # or ttt3r
    keep_in: Path | None = None  # where models are kept; None: nowhere


def main(options: Options) -> None:
    """Prints a line of JSON for each capture."""
    for path in options.captures:
        with tempfile.TemporaryDirectory() as folder:
            try:
                row = recover(read_capture(path), options, Path(folder))
            except InputError as refusal:
                row = {"capture": path.name, "refused": str(refusal)}
            print(json.dumps(row), flush=True)


def recover(truth: Capture, options: Options, folder: Path) -> dict:
    """Errors, counts and seconds of one capture."""
    frames = truth.frames[:: options.every]
    places, numbers = without_cameras(truth, options, folder / truth.name)
    find = capture_by_sfm if options.poses == "sfm" else capture_by_ttt3r
    start, before = time.perf_counter(), cpu_seconds()
    found = find(places, options.keep_in or folder / "kept", options.film_frames)
    seconds, cpu = time.perf_counter() - start, cpu_seconds() - before
    true = [frames[numbers[Path(each.name).stem]] for each in found.frames]
    return {
        "capture": truth.name, "source": "film" if options.film else "photographs",
        "poses": options.poses, "pictures": len(frames), "registered": len(found),
        "seconds": round(seconds, 1), "cpu_seconds": round(cpu, 1),
        **errors(found, np.stack([each.world_from_camera for each in true])),
        "focal_error_percent": round(100 * float(np.median([
            each.intrinsics[0] / other.intrinsics[0] - 1
            for each, other in zip(found.frames, true, strict=True)
        ])), 3),
        "notes": found.notes,
    }  # fmt: skip


def without_cameras(truth: Capture, options: Options, place: Path) -> tuple[Path, dict[str, int]]:
    """The pictures alone, or a film of them, and the number of each by the name it will have."""
    frames = truth.frames[:: options.every]
    if not options.film:
        place.mkdir()
        names = [f"{number:04d}{each.image_path.suffix}" for number, each in enumerate(frames)]
        for name, each in zip(names, frames, strict=True):
            shutil.copyfile(each.image_path, place / name)
        return place, {Path(name).stem: number for number, name in enumerate(names)}
    film = place.with_suffix(".mp4")
    with imageio.get_writer(film, fps=FILM_RATE, quality=9, macro_block_size=2) as writer:
        for each in frames:
            writer.append_data(flatten(read_image(each.image_path)))
    return film, {f"{number:06d}": number for number in range(len(frames))}


def errors(found: Capture, true: np.ndarray) -> dict[str, float]:
    """Of centres in percent of the spread of the true ones, of rotations in degrees."""
    compared = trajectory_errors(found.world_from_camera, true)
    centres = np.linalg.norm(compared.aligned[:, :3, 3] - true[:, :3, 3], axis=1)
    turned = (rigid_inverse(true) @ compared.aligned)[:, :3, :3]
    angles = np.degrees(rotation_angle(turned))
    share = 100 / compared.ate_at_rest
    return {
        "centre_rms_percent": round(share * compared.ate, 3),
        "centre_median_percent": round(share * float(np.median(centres)), 3),
        "centre_worst_percent": round(share * float(centres.max()), 3),
        "rotation_median_degrees": round(float(np.median(angles)), 3),
        "rotation_worst_degrees": round(float(angles.max()), 3),
    }


def cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main(tyro.cli(Options))
