"""`eval.py --load-state DIR --query CAMERAS`: views of a saved scene, from cameras without images.

The cameras are those of a capture's camera file, in the frame of the captures that were streamed;
each frame must state its size. What is rendered are the Gaussians that the stream last showed:
a query of tttLRM's fast weights needs an image, and is there in Python (`SceneStream.query`).
"""

import itertools
import json
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
from PIL import Image

from tttlrm_jax.api.models import load_run, load_state, with_rule
from tttlrm_jax.api.request import as_wished
from tttlrm_jax.api.streams import SceneStream
from tttlrm_jax.apps.progress import announced
from tttlrm_jax.apps.reconstruct.gaussian_files import SCENE_FILES
from tttlrm_jax.apps.reconstruct.job import offset_notes
from tttlrm_jax.apps.render.cameras import file_names
from tttlrm_jax.captures.capture import read_cameras
from tttlrm_jax.captures.other_views import stated_size
from tttlrm_jax.checkpoints.directories import read_config
from tttlrm_jax.checkpoints.streams import read_record
from tttlrm_jax.config import EvalConfig
from tttlrm_jax.core.files.output_directory import atomic_directory, default_output
from tttlrm_jax.core.pictures import to_uint8
from tttlrm_jax.core.types import Cameras

QUERY_FILES = ("views", "query.json", *SCENE_FILES)
AT_A_TIME = 8  # views rendered by one call


def query_state(config: EvalConfig, checkpoint: Path) -> str:
    """Writes a picture per camera, the scene and query.json; returns what to tell the user.

    Raises InputError for a state or camera file that cannot be used; then nothing is written.
    """
    assert config.load_state is not None
    assert config.query is not None
    directory = Path(config.load_state)
    run = with_rule(read_config(checkpoint), config.rule, read_record(directory))
    run = as_wished(run, config)
    frames = read_cameras(config.query)
    names = [f"{name}.png" for name in file_names(frames)]
    sizes = [stated_size(frame, "query") for frame in frames]
    output = Path(config.output or default_output("query"))
    with atomic_directory(output, QUERY_FILES) as draft:
        with announced(f"loading {directory}"):
            stream = load_state(directory, load_run(checkpoint, run))
        with announced(f"rendering {len(frames)} views"):
            seconds = _write_views(draft / "views", stream, frames, names, sizes)
        counts = [
            stream.save_scene(draft / f"scene.{each}", min_opacity=config.min_opacity)
            for each in config.save
        ]
        document = {
            "state": str(directory),
            "views_seen": stream.views_seen,
            "num_gaussians": counts[0].num_written,
            "offset": stream.offset.tolist(),
            "seconds": seconds,
            "device": jax.devices()[0].device_kind,
            "views": [
                {
                    "name": frame.name, "file": f"views/{name}", "resolution": list(size),
                    "world_from_camera": frame.world_from_camera.tolist(),
                    "intrinsics": frame.intrinsics.tolist(),
                }
                for frame, name, size in zip(frames, names, sizes, strict=True)
            ],
        }  # fmt: skip
        text = json.dumps(document, indent=2, allow_nan=False)
        (draft / "query.json").write_text(text + "\n", encoding="utf-8")
    said = "".join(f"note: {note}\n" for note in offset_notes(stream.offset))
    return (
        f"{len(frames)} views of the scene after {stream.views_seen} input views\n{said}\n"
        f"{output / 'views'}"
    )


def _write_views(folder: Path, stream: SceneStream, frames, names, sizes) -> float:
    """Renders cameras of one size together; returns the seconds, compiling included."""
    folder.mkdir()
    start = time.perf_counter()
    order = sorted(range(len(frames)), key=lambda index: sizes[index])
    for size, group in itertools.groupby(order, key=lambda index: sizes[index]):
        members = list(group)
        poses: Any = np.stack([frames[index].world_from_camera for index in members])
        lenses: Any = np.stack([frames[index].intrinsics for index in members])
        cameras = Cameras(poses, lenses, *size)
        pictures = stream.frames(cameras, min(AT_A_TIME, len(members)))
        for index, picture in zip(members, pictures, strict=True):
            Image.fromarray(to_uint8(picture)).save(folder / names[index], "PNG")
    return time.perf_counter() - start
