"""OpenSplat on the CPU beside `benchmarks.anytime`: the same input views, pixels and seconds.

OpenSplat (AGPL) is not part of this package: build it apart, without a GPU, and name the program.
It gets the input views of one case of `benchmarks.anytime` as a nerfstudio project, starts from
the same random points as our fits from nothing, and saves Gaussians as it goes. What it had saved
at every mark is drawn from the same held-out targets. It fits against one colour, which so lies
under transparent pixels of inputs and targets, too. Its seconds count from the start of the
process. What stands after `--` goes to the program.

    python -m benchmarks.opensplat PROGRAM --capture DIR --views 16 --side 256 --seconds 120 \
        -- --num-downscales 2 --resolution-schedule 100
"""

import argparse
import contextlib
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.anytime import MARKS, Case, at_mark, capture_case, score
from benchmarks.arguments import positive
from tttlrm_jax.api.models import as_scene_model, load
from tttlrm_jax.core.pictures import to_uint8
from tttlrm_jax.core.types import Gaussians, Views
from tttlrm_jax.export.splats.ply import read_ply
from tttlrm_jax.per_scene.scratch import random_points
from tttlrm_jax.per_scene.settings import AnytimeConfig
from tttlrm_jax.rasterize import Renderer

BACKGROUND = (0.6130, 0.0101, 0.3984)  # that version 1.1.5 draws on
OPENGL = np.diag([1.0, -1.0, -1.0, 1.0])  # its cameras look along -z


def main(arguments: list[str] | None = None) -> None:
    """Prepares, runs and scores one case; prints a row of decibels by mark."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.opensplat", description=__doc__)
    parser.add_argument("program", type=Path)
    parser.add_argument("--capture", required=True)
    parser.add_argument("--views", type=positive, default=16)
    parser.add_argument("--side", type=positive, default=256)
    parser.add_argument("--seconds", type=positive, default=120)
    parser.add_argument("--save-every", type=positive, default=20, help="steps")
    parser.add_argument("--output", type=Path, default=Path("opensplat.json"))
    ours, given = split(sys.argv[1:] if arguments is None else arguments)
    options = parser.parse_args(ours, argparse.Namespace(options=given))
    run = as_scene_model(load(None)).run
    case = capture_case(options.capture, run, options.side, options.views, BACKGROUND)
    with tempfile.TemporaryDirectory() as folder:
        project = Path(folder)
        prepare(case, project)
        reached, steps = fit(options, project)
    renderer = Renderer(background=BACKGROUND, config=run.raster)
    marks = [mark for mark in MARKS if mark <= options.seconds]
    scores = [score(at_mark(reached, mark), case.shown.targets[0], renderer) for mark in marks]
    row = {
        "group": case.group, "side": case.side, "views": case.num_views, "options": options.options,
        "marks": marks, "psnr": scores, "steps": steps,
        "num_gaussians": len(reached[-1][1].mean) if reached else 0,
    }  # fmt: skip
    rows = json.loads(options.output.read_text()) if options.output.is_file() else []
    options.output.write_text(json.dumps([*rows, row], indent=1) + "\n")
    print(json.dumps(row))


def split(arguments: list[str]) -> tuple[list[str], list[str]]:
    """What stands in front of `--` and what behind, which is the program's."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    return arguments[:end], arguments[end + 1 :]


def prepare(case: Case, project: Path) -> None:
    """Writes the input views and random points as a nerfstudio project."""
    views: Views = case.shown.inputs[0]
    frames = []
    for number, picture in enumerate(to_uint8(np.asarray(views.image))):
        name = f"view{number:03d}.png"
        Image.fromarray(picture).save(project / name)
        pose = np.asarray(views.cameras.world_from_camera[number], np.float64) @ OPENGL
        numbers = np.asarray(views.cameras.intrinsics[number], float).tolist()
        lens = dict(zip(("fl_x", "fl_y", "cx", "cy"), numbers, strict=True))
        size = {"w": views.cameras.width, "h": views.cameras.height}
        frames.append({"file_path": name, "transform_matrix": pose.tolist(), **lens, **size})
    document = {"camera_model": "OPENCV", "ply_file_path": "points.ply", "frames": frames}
    (project / "transforms.json").write_text(json.dumps(document))
    _write_points(project / "points.ply", *random_points(views, AnytimeConfig().fit))


def _write_points(path: Path, positions: np.ndarray, colours: np.ndarray) -> None:
    fields = [("x", "<f4"), ("y", "<f4"), ("z", "<f4"),
              ("red", "u1"), ("green", "u1"), ("blue", "u1")]  # fmt: skip
    table = np.zeros(len(positions), fields)
    for column, name in enumerate("xyz"):
        table[name] = positions[:, column]
    for column, name in enumerate(("red", "green", "blue")):
        table[name] = to_uint8(colours)[:, column]
    kinds = {"<f4": "float", "u1": "uchar"}
    header = ["ply", "format binary_little_endian 1.0", f"element vertex {len(table)}"]
    header += [f"property {kinds[kind]} {name}" for name, kind in fields]
    path.write_bytes("\n".join([*header, "end_header", ""]).encode() + table.tobytes())


def fit(options, project: Path) -> tuple[list[tuple[float, Gaussians]], int]:
    """(seconds and Gaussians of every save, the last step that was saved)."""
    command = [
        options.program.resolve(), project, "--cpu", "--keep-crs", "-n", 100_000,
        "--save-every", options.save_every, "-o", project / "out.ply", *options.options,
    ]  # fmt: skip
    begun = time.time()
    with contextlib.suppress(subprocess.TimeoutExpired):
        subprocess.run(
            list(map(str, command)), timeout=options.seconds, check=True, stdout=subprocess.DEVNULL
        )
    steps = sorted(int(path.stem.split("_")[1]) for path in project.glob("out_*.ply"))
    saves = [(step, project / f"out_{step}.ply") for step in steps]
    done = saves[:-1]  # the last may have been cut
    reached = [(path.stat().st_mtime - begun, read_ply(path)) for _, path in done]
    return reached, done[-1][0] if done else 0


if __name__ == "__main__":
    main()
