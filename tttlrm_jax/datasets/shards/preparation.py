"""A folder of captures to shards: poses checked, disparity added, each scene finished by itself."""

import dataclasses
import hashlib
import json
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from tqdm import tqdm

from tttlrm_jax.captures.capture import Capture
from tttlrm_jax.captures.collections import DL3DV_FOLDERS, CollectionConfig, read_each
from tttlrm_jax.captures.colmap.reprojection import PoseCheck, Reading, check_poses, verdict
from tttlrm_jax.captures.pictures.depth_files import disparity_path
from tttlrm_jax.captures.pictures.images import ResizeMode
from tttlrm_jax.core.errors import InputError
from tttlrm_jax.core.files.json_values import finite
from tttlrm_jax.core.files.whole_files import write_whole
from tttlrm_jax.datasets.depth_models import Prediction, Predictor, load_predictor
from tttlrm_jax.datasets.prepare_depth import store_disparity
from tttlrm_jax.datasets.shards.builder import INCOMPLETE, dataset_path, write_shards
from tttlrm_jax.datasets.shards.records import SceneRecord, capture_record, stored_cameras
from tttlrm_jax.datasets.shards.staging import Stage

REPORT, TABLE = "preparation.json", "preparation.txt"


@dataclasses.dataclass(frozen=True, kw_only=True)
class PoseLimits:
    """How far cameras may be off their COLMAP points, in pictures as training reads them."""

    bad: Literal["refuse", "leave_out", "keep"] = "refuse"  # what becomes of scenes beyond them
    max_error: float = 2.0  # pixels of reprojection, the median of a scene
    max_scale_error: float = 0.02  # of translations over points, from 1
    height: int | None = None  # pixels that training resizes to; None: as stored
    width: int | None = None
    resize: ResizeMode = "lact"  # as data.capture_resize
    points_directory: str = ""  # another folder with the scenes' COLMAP files, in the same order

    def size(self) -> tuple[int, int] | None:
        """Height and width that pictures are resized to; raises InputError for one of them."""
        if (self.height is None) != (self.width is None) or min(
            self.height or 1, self.width or 1
        ) < 1:
            raise InputError.of(
                "--poses.height, --poses.width", f"{self.height}, {self.width}",
                "is no size in pixels", "give both, 1 or more, or none",
            )  # fmt: skip
        return None if self.height is None or self.width is None else (self.height, self.width)


@dataclasses.dataclass(frozen=True, kw_only=True)
class CaptureShards(CollectionConfig):
    """A folder of captures; training holds every n-th frame of each out."""

    max_side: int | None = None  # pixels; larger pictures are reduced
    credit: str = ""  # who made them, under which licence
    poses: PoseLimits = PoseLimits()
    disparity_model: str = ""  # a directory or a name of the hub; its disparity is put beside them
    prediction: Prediction = "auto"  # what that model gives
    device: str = "cpu"  # it runs on
    download: bool = False  # ask the hub for it where the local cache lacks it


def prepare_captures(
    output: str | Path, config: CaptureShards, predict: Predictor | None = None
) -> Path:
    """Writes the captures of a folder as shards, a report beside them, and returns their place.

    A command that was stopped goes on with the scenes that are not finished. `predict` stands for
    the model that `config.disparity_model` names. Raises InputError where there is a dataset that
    this command did not write, or a scene is refused.
    """
    config.poses.size()
    stage, path = Stage(output), dataset_path(output)
    unfinished = stage.folder.is_dir()
    if path.exists() and not unfinished:
        raise InputError(f"directory={path} holds a dataset already; delete it or choose another")
    with stage.locked():
        if not path.exists():
            if predict is None and config.disparity_model:
                predict = load_predictor(
                    config.disparity_model, config.prediction, config.device, config.download
                )
            _write(output, config, stage, predict)
        stage.remove()
    return path


def _write(
    output: str | Path, config: CaptureShards, stage: Stage, predict: Predictor | None
) -> None:
    rows = []
    for capture in read_each(config):
        rows.append(_broken(capture) if isinstance(capture, InputError) else _finish(
            capture, config, stage, predict, {row["scene"] for row in rows}
        ))  # fmt: skip
    names = [row["scene"] for row in rows if row["state"] == "written"]
    report = {"settings": dataclasses.asdict(config), "scenes": rows}
    write_whole(Path(output) / REPORT, json.dumps(finite(report), indent=1) + "\n")
    write_whole(Path(output) / TABLE, table_of(rows))
    if not names:
        raise InputError.of(
            "directory", config.directory,
            f"gives no scene of layout {config.layout} ({len(rows)} are left out)",
            "name its folder, another layout or other limits",
        )  # fmt: skip
    for abandoned in Path(output).glob(INCOMPLETE):
        shutil.rmtree(abandoned)
    write_shards(output, {"train": _scenes(stage, names)})


def _scenes(stage: Stage, names: Sequence[str]) -> Iterator[SceneRecord]:
    return (stage.scene(name) for name in tqdm(names, desc="shards", unit="scene"))


def _broken(error: InputError) -> dict[str, Any]:
    return {"scene": "", "state": "left out", "why": str(error), "views": 0, "poses": None}


def _finish(
    capture: Capture, config: CaptureShards, stage: Stage, predict: Predictor | None,
    earlier: set[str],
) -> dict[str, Any]:  # fmt: skip
    """The row of a scene in the report; it is made unless it is finished already."""
    if capture.name in earlier:
        raise InputError.of(
            "scene", capture.name, "is the name of two captures", "rename a folder of them"
        )
    if predict is not None:
        store_disparity(capture, predict, progress=True)
    made_from = _made_from(capture, config)
    said = stage.about(capture.name, made_from)
    if said is not None:
        print(f"{capture.name}: {said['state']} before", file=sys.stderr)
        return said
    sizes, intrinsics = stored_cameras(capture, config.max_side)
    reading = Reading(sizes, intrinsics, config.poses.size(), config.poses.resize)
    found = check_poses(capture, reading, _elsewhere(capture, config))
    problem = verdict(found, config.poses.max_error, config.poses.max_scale_error)
    if problem is not None and config.poses.bad == "refuse":
        raise InputError(
            f"scene={capture.name}: {problem}; correct cameras or points, or give --poses.bad "
            f"leave_out or keep (points: {found.model})"
        )
    left_out = problem is not None and config.poses.bad == "leave_out"
    row = _row(capture, found, problem, left_out)
    print(f"{capture.name}: {row['state']}, {said_of(found, problem)}", file=sys.stderr)
    record = None if left_out else capture_record(capture, config.max_side, config.credit)
    stage.put(capture.name, made_from, row, record)
    return row


def _row(capture: Capture, found: PoseCheck, problem: str | None, left_out: bool) -> dict[str, Any]:
    return {
        "scene": capture.name, "state": "left out" if left_out else "written",
        "why": problem or "", "views": len(capture), "poses": finite(dataclasses.asdict(found)),
    }  # fmt: skip


def _elsewhere(capture: Capture, config: CaptureShards) -> list[Path]:
    """Where else a scene's COLMAP files may lie: at its place in `poses.points_directory`."""
    if not config.poses.points_directory:
        return []
    root, directory = Path(config.directory).absolute(), capture.directory.absolute()
    relative = (
        directory.relative_to(root) if directory.is_relative_to(root) else Path(directory.name)
    )
    place = Path(config.poses.points_directory) / relative
    return [place, place / "colmap", *([place.parent] if place.name in DL3DV_FOLDERS else [])]


def _made_from(capture: Capture, config: CaptureShards) -> str:
    """A digest of what decides a scene: settings, cameras, sizes and times of its files."""
    digest = hashlib.sha256()
    settings = {
        k: v for k, v in dataclasses.asdict(config).items() if k not in ("download", "device")
    }
    digest.update(json.dumps(settings, sort_keys=True, default=str).encode())
    for frame in capture.frames:
        digest.update(repr((frame.number, frame.name, frame.size, frame.distortion)).encode())
        digest.update(np.ascontiguousarray(frame.intrinsics, np.float64).tobytes())
        digest.update(np.ascontiguousarray(frame.world_from_camera, np.float64).tobytes())
        mask = None if frame.mask is None else frame.mask.path
        for path in (frame.image_path, mask, disparity_path(capture.directory, frame.name)):
            digest.update(_stamp(path))
    digest.update(_stamp(capture.points_file))
    return digest.hexdigest()


def _stamp(path: str | Path | None) -> bytes:
    try:
        status = None if path is None else os.stat(path)
    except OSError:
        status = None
    return b"-" if status is None else f"{status.st_size} {status.st_mtime_ns}".encode()


def said_of(found: PoseCheck, problem: str | None = None) -> str:
    """A check in a few words."""
    if problem is not None:
        return problem
    if found.unchecked or found.error is None:
        return f"poses not checked: {found.unchecked}"
    scale = "no scale" if found.scale is None else f"scale {found.scale:.4f}"
    return f"{found.error:.3f} pixels off {found.points} points, {scale}"


def table_of(rows: Sequence[dict[str, Any]]) -> str:
    """The report as text: a line a scene, totals at the end."""
    head = ("scene", "state", "views", "points", "px", "95%px", "scale", "px_scaled")
    lines: list[tuple[str, ...]] = [head]
    for row in rows:
        found = row["poses"] or dataclasses.asdict(PoseCheck())
        numbers = [found[name] for name in ("error", "error_95", "scale", "error_scaled")]
        shown = ["-" if number is None else f"{number:.4f}" for number in numbers]
        lines.append((
            row["scene"] or "?", row["state"], str(row["views"]), str(found["points"]), *shown
        ))  # fmt: skip
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    text = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
            for line in lines]  # fmt: skip
    written = [row for row in rows if row["state"] == "written"]
    unchecked = [row for row in written if row["poses"]["unchecked"]]
    views = sum(row["views"] for row in written)
    text += [
        "", f"{len(written)} of {len(rows)} scenes written, {views} views; "
        f"poses of {len(unchecked)} not checked",
    ]  # fmt: skip
    text += [f"{row['scene'] or 'left out'}: {row['why']}" for row in rows if row["why"]]
    text += [f"{row['scene']}: not checked: {row['poses']['unchecked']}" for row in unchecked]
    return "\n".join(text) + "\n"
