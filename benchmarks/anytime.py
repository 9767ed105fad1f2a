"""Quality against time: improving from the fast weights beside fitting from nothing.

For every scene a model's Gaussians are improved on the input views for `--seconds`, and the same
settings start from nothing. At every mark the best Gaussians so far (by input views held back) are
drawn from the targets, which nothing else has seen: PSNR, mean over targets; the time of the model
counts, compiling does not. Objects are those of `experiments.quality`: held-out primitives and
sculptures, and captures. Rows are kept in `--output` as they come, and a second call goes on. The
plot shows medians over the objects of a group.

    python -m benchmarks.anytime --objects 8 --captures DIR --sides 64 256 --output anytime.json
"""

import argparse
import dataclasses
import json
import statistics
from pathlib import Path
from typing import Any

import jax
import numpy as np

from benchmarks.arguments import positive
from experiments.quality.scenes import objects, on_procedural_objects
from tttlrm_jax.api.models import SceneModel, as_scene_model, load
from tttlrm_jax.api.reconstruction import Reconstruction
from tttlrm_jax.api.request import Request, fitted_resolution, resolve
from tttlrm_jax.api.scenes import PosedScene, pose_scene
from tttlrm_jax.captures.capture import read_capture
from tttlrm_jax.config import EvalConfig, RunConfig
from tttlrm_jax.core.files.packaged_files import capture_path
from tttlrm_jax.core.types import Gaussians, Views
from tttlrm_jax.metrics.images import psnr
from tttlrm_jax.per_scene.anytime import Improved, Moment, improve
from tttlrm_jax.per_scene.settings import AnytimeConfig
from tttlrm_jax.per_scene.starts import rising
from tttlrm_jax.rasterize import Renderer
from tttlrm_jax.reports.plots import Panel, Series, line_charts

MARKS = (1, 2, 5, 10, 20, 30, 60, 120)  # seconds
OURS, NOTHING = "from the fast weights", "from nothing"
NUM_TARGETS = 8
GENERATORS = ("primitives", "sculptures")


@dataclasses.dataclass(frozen=True)
class Case:
    """A scene: what the model sees, and what is fitted and scored."""

    group: str
    side: int  # pixels of a square with as many pixels as the pictures
    seen: PosedScene
    shown: PosedScene

    @property
    def num_views(self) -> int:
        return len(self.shown.input_names)


def main(arguments: list[str] | None = None) -> None:
    """Measures every case that `--output` lacks; writes it, a plot beside it, and the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.anytime", description=__doc__)
    parser.add_argument("--objects", type=int, default=8, help="of each generator")
    parser.add_argument("--captures", nargs="*", default=["toy"])
    parser.add_argument("--views", type=positive, default=16, help="inputs")
    parser.add_argument("--sides", nargs="+", type=positive, default=(64, 256))
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--checkpoint")
    parser.add_argument("--cache", default="outputs/anytime-objects", help="rendered objects")
    parser.add_argument("--output", type=Path, default=Path("anytime.json"))
    parser.add_argument("--also", nargs="*", type=Path, default=(), help="outputs to take in")
    options = parser.parse_args(arguments)
    model = as_scene_model(load(options.checkpoint))
    rows = json.loads(options.output.read_text())["rows"] if options.output.is_file() else []
    for earlier in options.also:
        rows += json.loads(earlier.read_text())["rows"]
    known = {(row["group"], row["name"], row["side"], row["views"]) for row in rows}
    for case in cases(model.run, options):
        key = (case.group, case.shown.name, case.side, case.num_views)
        if key not in known:
            rows += measure(case, model, options.seconds)
            write(options.output, rows, options.seconds)
    if options.also:
        write(options.output, rows, options.seconds)
    print(table(rows))


def cases(run: RunConfig, options):
    """All cases, one by one: objects of every size, then captures."""
    for side in options.sides:
        for generator in GENERATORS if options.objects else ():
            yield from object_cases(run, generator, side, options)
        for path in options.captures:
            yield capture_case(path, run, side, options.views)


def object_cases(run: RunConfig, generator: str, side: int, options):
    """Held-out procedural objects, rendered at this size."""
    data = on_procedural_objects(run, options.cache, generator).data
    data = dataclasses.replace(
        data, synthetic=dataclasses.replace(data.synthetic, height=side, width=side)
    )
    for subject in objects(data, options.objects, 2 * options.views, NUM_TARGETS):
        shown = subject.posed(options.views, data)
        inputs = rising(shown.inputs[0], run.data.image_size)[0]
        seen = dataclasses.replace(shown, inputs=jax.tree.map(lambda x: x[None], inputs))
        yield Case(subject.group, side, seen, shown)


def capture_case(
    path: str,
    run: RunConfig,
    side: int,
    views: int,
    background: tuple[float, float, float] | None = None,
) -> Case:
    """A capture with as many pixels as a square of `side`, in its own aspect.

    `background` is seen through transparent pixels, None: the model's.
    """
    capture = read_capture(capture_path(path))
    size = fitted_resolution(capture.image_size(), (side, side), run.model.patch_size)
    config = EvalConfig(views=views, resolution=size, seconds=1.0, background=background)
    request = resolve(config, run, capture)
    last, count = len(request.targets) - 1, min(NUM_TARGETS, len(request.targets))
    kept = np.linspace(0, last, count).round().astype(int)
    request = dataclasses.replace(request, targets=request.targets[kept])
    seen = pose_scene(capture, request, run.data)
    return Case(capture.name, side, seen, seen.at(request.shown))


def measure(case: Case, model: SceneModel, seconds: float) -> list[dict[str, Any]]:
    """A row for each start."""
    raster, inputs = model.run.raster, case.shown.photographs
    background = case.shown.fitted_on(model.run.data.background)
    reconstructed = feed_forward(case, model)
    levels = rising(inputs, case.seen.resolution)
    renderer = Renderer(background=background, config=raster)
    rows = []
    for name, start, spent in (
        (OURS, reconstructed.predicted, reconstructed.seconds), (NOTHING, None, 0.0),
    ):  # fmt: skip
        reached: list[tuple[float, Gaussians]] = []

        def keep(moment: Moment, best: Gaussians, reached=reached, spent=spent) -> None:
            reached.append((moment.seconds + spent, best))

        record = improve(
            levels, AnytimeConfig(seconds=seconds - spent), raster=raster, background=background,
            start=start, on_moment=keep,
        )  # fmt: skip
        scores = [score(at_mark(reached, mark), case.shown.targets[0], renderer)
                  for mark in MARKS if mark <= seconds]  # fmt: skip
        rows.append(row(case, name, record, spent, scores))
        print(rows[-1]["group"], rows[-1]["name"], case.side, name, rows[-1]["psnr"], flush=True)
    return rows


def feed_forward(case: Case, model: SceneModel) -> Reconstruction:
    """What the model makes of the views, timed warm."""
    keep, random = model.run.pruning_ratios(case.num_views)
    size = case.seen.resolution
    request = Request(
        inputs=np.arange(case.num_views), targets=np.zeros(0, int), resolution=size, shown=size,
        similarity=None, has_scale=True, background=model.run.data.background, plan="full",
        chunk_views=case.num_views, keep_ratio=keep, random_ratio=random, accumulate="append",
        seed=0,
    )  # fmt: skip
    model.reconstruct_scene(case.seen, request)
    return model.reconstruct_scene(case.seen, request)


def at_mark(reached: list[tuple[float, Gaussians]], mark: float) -> Gaussians | None:
    """The best Gaussians that were there at this time; None before the first."""
    return next((best for seconds, best in reversed(reached) if seconds <= mark), None)


def score(gaussians: Gaussians | None, targets: Views, renderer: Renderer) -> float | None:
    """Mean PSNR over the targets."""
    if gaussians is None:
        return None
    pictures = renderer(gaussians, targets.cameras).rgb
    return float(psnr(pictures, targets.image).mean())


def row(case: Case, method: str, record: Improved, spent: float, scores) -> dict[str, Any]:
    return {
        "group": case.group, "name": case.shown.name, "side": case.side, "method": method,
        "views": case.num_views, "marks": list(MARKS[: len(scores)]), "psnr": scores,
        "steps": len(record.losses), "model_seconds": spent, "ended": record.ended,
        "compile_seconds": record.compile_seconds, "num_gaussians": record.best.num_gaussians,
        "held_back": [moment.psnr for moment in record.moments],
        "held_back_seconds": [moment.seconds + spent for moment in record.moments],
    }  # fmt: skip


def medians(rows: list[dict[str, Any]]) -> dict[tuple[str, str], list[float]]:
    """Median over scenes by group and method; NaN before the first answer and beyond the time."""
    marks = marks_of(rows)
    groups: dict[tuple[str, str], list[list[float]]] = {}
    for each in rows:
        values = [float("nan") if value is None else value for value in each["psnr"]]
        values += [float("nan")] * (len(marks) - len(values))
        name = f"{each['group']}, {each['views']} views, {each['side']} px"
        groups.setdefault((name, each["method"]), []).append(values)
    return {
        key: [statistics.median(column) for column in zip(*values, strict=True)]
        for key, values in groups.items()
    }


def marks_of(rows: list[dict[str, Any]]) -> list[float]:
    """Those of the longest."""
    return max((row["marks"] for row in rows), key=len)


def table(rows: list[dict[str, Any]]) -> str:
    """Medians by mark, and ours minus nothing."""
    found, marks = medians(rows), marks_of(rows)
    lines = ["| scenes | method | " + " | ".join(f"{mark} s" for mark in marks) + " |"]
    lines.append("|---" * (2 + len(marks)) + "|")
    for group in dict.fromkeys(name for name, _ in found):
        ours, nothing = (found[group, method] for method in (OURS, NOTHING))
        ahead = [f"{a - b:+.2f}" for a, b in zip(ours, nothing, strict=True)]
        named = {
            OURS: [f"{x:.2f}" for x in ours], NOTHING: [f"{x:.2f}" for x in nothing],
            "ahead": ahead,
        }  # fmt: skip
        for method, cells in named.items():
            shown = ("–" if "nan" in cell else cell for cell in cells)
            lines.append(f"| {group} | {method} | " + " | ".join(shown) + " |")
    return "\n".join(lines)


def write(path: Path, rows: list[dict[str, Any]], seconds: float) -> None:
    """The rows, and the plot of medians beside them."""
    machine = {"device": jax.devices()[0].device_kind, "jax": jax.__version__, "seconds": seconds}
    path.write_text(json.dumps({**machine, "rows": rows}, indent=1) + "\n")
    found, marks = medians(rows), marks_of(rows)
    panels = [
        Panel(
            title=group, unit="dB", from_zero=False,
            series=[
                Series(name=method, values=found[group, method]) for method in (OURS, NOTHING)
            ],
        )
        for group in dict.fromkeys(name for name, _ in found)
    ]  # fmt: skip
    about = "PSNR on held-out views, median over scenes, against seconds without compiling"
    plot = line_charts("Improving and fitting", about, marks, "seconds", panels, log_x=True)
    path.with_suffix(".png").write_bytes(plot.png())


if __name__ == "__main__":
    main()
