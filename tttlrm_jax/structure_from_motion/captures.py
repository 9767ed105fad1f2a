"""Photographs and films become captures: cameras are looked for once, kept, and read again."""

import contextlib
import dataclasses
import os
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tttlrm_jax.captures.capture import Capture, read_capture
from tttlrm_jax.core.errors import InputError, listed
from tttlrm_jax.structure_from_motion.colmap_steps import Colmap, load_pycolmap
from tttlrm_jax.structure_from_motion.diagnosis import is_false, reason
from tttlrm_jax.structure_from_motion.pairs import (
    ALL_PAIRS,
    all_pairs,
    neighbours,
    similar_pairs,
)
from tttlrm_jax.structure_from_motion.placing import place_pictures, write_feature_masks
from tttlrm_jax.structure_from_motion.shots import cut_note, names_in
from tttlrm_jax.structure_from_motion.sources import MIN_PICTURES, Source, find_source
from tttlrm_jax.structure_from_motion.workplace import Workplace, workplace

FILM_FRAMES = 100  # most pictures that are taken of a film
MODEL = "sparse/0"
WAY = 2  # of looking for cameras: counted up where it changes, so that all are looked for again


def capture_by_sfm(path: str | Path, keep_in: Path, film_frames: int = FILM_FRAMES) -> Capture:
    """The capture of photographs or a film, with cameras and points by structure from motion.

    Kept in `keep_in/NAME-sfm`, and read from there where the pictures are the same. Raises
    InputError where pycolmap is missing or too few pictures get a camera.
    """
    load_pycolmap()
    source = find_source(path)
    digest = source.digest(f"sfm {WAY} {film_frames if source.film else ''}")
    with workplace(keep_in, f"{source.name}-sfm", source.path) as place:
        place.begin(digest)
        if place.record.get("complete") and (place.directory / MODEL).is_dir():
            print(f"  cameras are those found before, in {place.directory}", file=sys.stderr)
        else:
            with _kept_by_interrupts(place):
                _look_for_cameras(source, place, film_frames)
        return opened(source, place)


def opened(source: Source, place: Workplace) -> Capture:
    """The capture in a workplace, by the source's name, with notes on how its cameras came."""
    capture = read_capture(place.directory)
    notes = (*place.record["found"], *place.record["notes"], *capture.notes)
    return dataclasses.replace(capture, name=source.name, notes=notes)


@contextlib.contextmanager
def _kept_by_interrupts(place: Workplace) -> Iterator[None]:
    """Says what an interrupt leaves behind."""
    try:
        yield
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            f"{place.directory} holds what was done, and the next run goes on with it"
        ) from None


def _look_for_cameras(source: Source, place: Workplace, film_frames: int) -> None:
    start = time.perf_counter()
    names = place_pictures(source, place, film_frames)
    colmap = Colmap.open(place.work, place.images, names)
    colmap.extract(write_feature_masks(place, names))
    colmap.match(_pairs(colmap, in_order=source.film is not None))
    draft = place.work / "largest"
    shutil.rmtree(draft, ignore_errors=True)
    models = colmap.map(draft)
    count, evidence = models[0].num_reg_images() if models else 0, colmap.evidence()
    if count >= MIN_PICTURES and is_false(evidence, colmap.parallax(models[0])):
        count = 0
    if count < MIN_PICTURES:
        problem, remedy = reason(evidence)
        raise InputError.of(
            "capture", source.path, f"has {count} of {len(names)} pictures whose camera could be "
            f"found: {problem}", remedy,
        )  # fmt: skip
    _publish(draft, place.directory / MODEL)
    place.complete(**_findings(colmap, models, place, time.perf_counter() - start))


def _pairs(colmap: Colmap, in_order: bool) -> list[tuple[int, int]]:
    count = len(colmap.names)
    if count <= ALL_PAIRS and not in_order:
        return all_pairs(count)
    return [*neighbours(count), *similar_pairs(colmap.descriptors())]


def _publish(draft: Path, target: Path) -> None:
    shutil.rmtree(target, ignore_errors=True)
    target.parent.mkdir(exist_ok=True)
    os.replace(draft, target)


def _findings(
    colmap: Colmap, models: list[Any], place: Workplace, seconds: float
) -> dict[str, Any]:
    """What the record says; the sentences are printed, too."""
    model, others = models[0], [names_in(each) for each in models[1:]]
    registered, elsewhere = set(names_in(model)), {name for each in others for name in each}
    missing = [name for name in colmap.names if name not in registered]
    nowhere = [name for name in missing if name not in elsewhere]
    error = model.compute_mean_reprojection_error()
    found = [
        f"cameras by structure from motion (pycolmap {colmap.colmap.__version__}): "
        f"{len(registered)} of {len(colmap.names)} pictures, {model.num_points3D()} points, "
        f"reprojection error {error:.2f} pixels; kept in {place.directory}"
    ]
    if others:
        found.append(cut_note(models, colmap.names))
    if len(nowhere) * 2 > len(colmap.names):
        problem, remedy = reason(colmap.evidence())
        found.append(f"most pictures have no camera: {problem}; {remedy}")
    print(f"  {found[0]}", file=sys.stderr)
    for names in others:
        print(f"  in a smaller model of {len(names)}: {listed(names, 20)}", file=sys.stderr)
    if nowhere:
        print(f"  without a camera: {listed(nowhere, 20)}", file=sys.stderr)
    return {
        "found": found, "registered": sorted(registered), "not_registered": missing,
        "smaller_models": others, "points": model.num_points3D(), "reprojection_error": error,
        "seconds": seconds,
    }  # fmt: skip
