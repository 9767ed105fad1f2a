"""Cameras of photographs that lie elsewhere, as nerfstudio's `transforms.json`."""

import dataclasses
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tttlrm_jax.captures.camera_files import OPENCV_FROM_OPENGL, Frame
from tttlrm_jax.captures.lenses.distortion import Distortion
from tttlrm_jax.captures.lenses.models import LENS_MODELS
from tttlrm_jax.captures.pictures.images import image_size


def write_transforms(
    path: Path,
    frames: Sequence[Frame],
    inputs: Sequence[int] = (),
    *,
    names: Sequence[str] | None = None,
    more: Mapping[str, Any] | None = None,
) -> None:
    """Writes the frames with absolute paths of their pictures, or `names`, and of stated masks.

    `inputs` are positions of frames that the file lists as the inputs of their number. Readers keep
    the order of frames in a file with such a list, and hence which of them are targets. `more` are
    other keys of the file.
    """
    listed = {f"fold_8_kmeans_{len(inputs)}_input": [int(n) for n in inputs]} if inputs else {}
    if names is None:
        names = [os.path.abspath(frame.image_path) for frame in frames]
    entries = [_entry(frame, name) for frame, name in zip(frames, names, strict=True)]
    document = {**listed, **(more or {}), "frames": entries}
    path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def _entry(frame: Frame, name: str) -> dict[str, Any]:
    height, width = frame.size or image_size(frame.image_path)
    entry = {
        "file_path": name,
        "w": width,
        "h": height,
        **dict(zip(("fl_x", "fl_y", "cx", "cy"), map(float, frame.intrinsics), strict=True)),
        **_lens(frame),
        # its inverse is itself
        "transform_matrix": (frame.world_from_camera @ OPENCV_FROM_OPENGL).tolist(),
    }
    if frame.mask is not None and frame.mask.path is not None and frame.mask.origin == "mask_path":
        entry["mask_path"] = os.path.abspath(frame.mask.path)
    return entry


def _lens(frame: Frame) -> dict[str, Any]:
    lens = frame.distortion
    if not lens:
        return {}
    if isinstance(lens, Distortion):
        return {"camera_model": "OPENCV", **dataclasses.asdict(lens)}
    names = LENS_MODELS[lens.model].coefficients
    return {"camera_model": lens.model, **dict(zip(names, lens.coefficients, strict=True))}
