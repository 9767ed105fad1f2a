"""The quality of a model beside all it is to be measured against: `python -m experiments.quality`.

One command, one run, one table: PSNR, SSIM, LPIPS and seconds of

- the model: all views in one update; streamed (`--causal RUN` for weights trained so), also with
  the elastic rule; with half as many virtual views as inputs; refined on the inputs for
  `--post-optimize` steps;
- 3D Gaussian Splatting from nothing on the inputs, for `--fit` steps, with density control;
- `--attention RUN --control RUN`: the same network with softmax attention in place of TTT, and with
  TTT and the attention run's training (`configs/quickstart_attention.py`);
- the untrained model, the nearest input view, the mean colour,

at every number of `--views`, on held-out procedural objects and on `--captures`.

Protocol: objects of `--generator` from the `eval` split (their seeds never occur in training) at
the model's own resolution; targets are drawn once per object, inputs chosen by k-means among the
other views, and targets are the same for every number of inputs. Captures: every 8th frame is a
target, inputs by k-means among the rest, about as many pixels as in training in the capture's own
shape. Scores are per image, clipped to [0, 1], averaged over views and scenes; `+-` is the standard
error over scenes. Seconds are wall clock per scene, without compiling and rendering; those of a fit
hold the compiling of its start and of its density control, a second or two. Fits from nothing cover
the first `--fit-scenes` scenes of a group; their rows say how many. LPIPS shows as absent where its
weights are. With `--output` a call goes on with the rows that an interrupted one has left there, or
one that was asked for less. What the table says of the paper's claims follows it; claims that
compare with fits pair the scenes that these cover.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

from benchmarks.arguments import positive
from experiments.quality.methods import Method, digest_of, fit_name, methods_of, optimisers
from experiments.quality.report import claims, table
from experiments.quality.rows import GrowingTable, rows_of
from experiments.quality.scenes import Subject, captures, objects, on_procedural_objects
from experiments.statistics import standard_error
from tttlrm_jax.api.scenes import score
from tttlrm_jax.checkpoints.directories import newest_step, read_config
from tttlrm_jax.config import RunConfig, config_to_dict
from tttlrm_jax.config.command_line import EXIT_BAD_INPUT
from tttlrm_jax.core.errors import InputError
from tttlrm_jax.core.files.packaged_files import packaged
from tttlrm_jax.metrics.lpips import LPIPS, MIN_SIDE, load_lpips
from tttlrm_jax.procedural.generators import GENERATORS


def measure_rows(
    subjects: list[Subject],
    count: int,
    methods: dict[str, Method],
    run: RunConfig,
    lpips: LPIPS | None,
    covered: dict[str, int],
) -> list[dict]:
    """Rows of one group of scenes at one number of views, one for each method. Those in `covered`
    are measured on so many of the scenes, the first ones."""
    scores: dict[str, list] = {name: [] for name in methods}
    for place, subject in enumerate(subjects):
        scene = subject.posed(count, run.data)
        for name, method in methods.items():
            if place >= covered.get(name, len(subjects)):
                continue
            answer = method(scene)
            large = min(answer.pictures.shape[1:3]) >= MIN_SIDE["alex"]
            found = score(answer.pictures, scene, lpips if large else None)
            means = [found.psnr.mean(), found.ssim.mean()]
            means.append(np.nan if found.lpips is None else found.lpips.mean())
            scores[name].append((*means, answer.seconds))
        print(f"{subject.group}: {scene.name}, {count} views", file=sys.stderr)
    return [row(subjects[0].group, count, name, parts) for name, parts in scores.items()]


def row(group: str, views: int, method: str, scores: list[tuple]) -> dict:
    """Means of `(psnr, ssim, lpips, seconds)` by scene; None where there are none."""

    def mean(column: int) -> float | None:
        values = [s[column] for s in scores if s[column] is not None and np.isfinite(s[column])]
        return float(np.mean(values)) if values else None

    psnr = np.array([s[0] for s in scores])
    return {
        "group": group,
        "views": views,
        "method": method,
        "scenes": len(scores),
        "psnr": mean(0),
        "psnr_standard_error": standard_error(psnr),
        "ssim": mean(1),
        "lpips": mean(2),
        "seconds": mean(3),
        "psnr_by_scene": psnr.tolist(),
    }


def measure(options: argparse.Namespace) -> Iterator[dict]:
    """What the options ask for, again after every group and number of views, with more rows each
    time. Raises InputError for options that cannot be met."""
    checkpoint = options.checkpoint or str(packaged("quickstart"))
    run = read_config(Path(checkpoint))
    smallest = min(options.views)
    if not 1 <= options.chunk_views <= smallest:
        raise InputError.of(
            "--chunk-views", options.chunk_views, f"is not in 1..{smallest}, the fewest views",
            "change one of them",
        )  # fmt: skip
    if options.attention is not None and Path(options.attention).exists():
        check_trained_alike(Path(options.attention), Path(options.control))
    lpips, note = load_lpips()
    if lpips is not None:
        note += f"; absent where a side has fewer than {MIN_SIDE['alex']} pixels"
    covered = scenes_of_fits(options.fit, options.fit_scenes)
    settings = {
        "checkpoint": options.checkpoint or "the weights in the package",
        "causal": options.causal,
        "attention": options.attention,
        "control": options.control,
        "chunk_views": options.chunk_views,
        "scenes": options.scenes,
        "targets": options.targets,
        "capture_targets": options.capture_targets,
        "most_views": max(options.views),
        "generator": options.generator or run.data.synthetic.generator,
        "resolution": list(run.data.image_size),
        "device": jax.devices()[0].device_kind,
        "lpips": note,
        **optimisers(),
        "weights": weights_of(checkpoint, options),
    }
    earlier, settings = rows_of(options.output, settings)
    table_so_far = GrowingTable(earlier)
    for subjects in groups(options, run):
        for count in options.views:
            makers = methods_of(
                checkpoint, causal=options.causal, attention=options.attention,
                control=options.control, chunk_views=options.chunk_views,
                post_optimize=tuple(options.post_optimize), fit=tuple(options.fit),
            )  # fmt: skip
            most = len(subjects)
            wanted = {name: min(covered.get(name, most), most) for name in makers}
            done = table_so_far.measured(subjects[0].group, count, wanted)
            methods = {name: make() for name, make in makers.items() if name not in done}
            if methods:
                table_so_far.add(measure_rows(subjects, count, methods, run, lpips, covered))
                del makers, methods
                jax.clear_caches()  # of hundreds: Linux ends a process of 65,530 memory maps
            rows = table_so_far.rows(list(wanted))
            yield {**settings, "rows": rows, "claims": claims(rows)}


def weights_of(checkpoint: str, options: argparse.Namespace) -> dict[str, str | None]:
    """Digests of all weights by the option that names them; None of a directory that is not there,
    whose rows an earlier call may have measured."""
    named = {
        "checkpoint": checkpoint,
        "causal": options.causal,
        "attention": options.attention,
        "control": options.control,
    }
    return {
        option: digest_of(directory) if Path(directory).exists() else None
        for option, directory in named.items()
        if directory is not None
    }


def groups(options: argparse.Namespace, run: RunConfig) -> Iterator[list[Subject]]:
    """Procedural objects, then every capture by itself."""
    chosen = captures(options.captures, run, options.capture_targets, max(options.views))
    if options.scenes:
        with tempfile.TemporaryDirectory() as cache:
            data = on_procedural_objects(run, cache, options.generator).data
            yield objects(data, options.scenes, max(options.views), options.targets)
    for subject in chosen:
        yield [subject]


def check_trained_alike(attention: Path, control: Path) -> None:
    """Raises InputError unless two runs differ in nothing but their names and what works across
    views, and have come to their end."""
    ours, theirs = (dict(_leaves(config_to_dict(read_config(run)))) for run in (control, attention))
    free = {"name", "provenance", "model.across_views"}  # the provenance names the run
    for field in sorted((ours.keys() | theirs.keys()) - free):
        if ours.get(field) != theirs.get(field):
            raise InputError.of(
                "--control", control,
                f"has {field}={ours.get(field)!r}, which is {theirs.get(field)!r} in {attention}",
                "train both alike, see configs/quickstart_attention.py",
            )  # fmt: skip
    if ours["model.across_views"] == theirs["model.across_views"]:
        raise InputError.of(
            "--control", control, f"has model.across_views={ours['model.across_views']} as well",
            "give the run with ttt here and the one with attention to --attention",
        )  # fmt: skip
    for option, run in (("--control", control), ("--attention", attention)):
        step, end = newest_step(run), ours["train.num_steps"]
        if step not in (None, end):  # None: a model directory
            raise InputError.of(option, run, f"is at step {step} of {end}", "train it to the end")


def _leaves(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Names and values of a nested dictionary's leaves."""
    if not isinstance(value, dict):
        yield name, value
        return
    for key, inner in value.items():
        yield from _leaves(inner, f"{name}.{key}" if name else key)


def scenes_of_fits(fits: list[int], scenes: list[int]) -> dict[str, int]:
    """On how many scenes each fit is measured. Raises InputError unless there is one number for all
    fits or one for each."""
    if len(scenes) not in (1, len(fits)):
        raise InputError.of(
            "--fit-scenes", " ".join(map(str, scenes)), f"is neither one number nor {len(fits)}",
            "give one for all of --fit or one for each",
        )  # fmt: skip
    each = scenes * len(fits) if len(scenes) == 1 else scenes
    return {fit_name(steps): count for steps, count in zip(fits, each, strict=True)}


def parsed(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m experiments.quality", description="Quality, method by method."
    )
    add = parser.add_argument
    add("--checkpoint", default=None, help="run or model; default: the weights in the package")
    add("--causal", metavar="RUN", help="run whose weights are streamed; default: the checkpoint")
    add("--attention", metavar="RUN", help="run with softmax attention in place of TTT")
    add("--control", metavar="RUN", help="run with TTT that was trained as --attention was")
    add("--scenes", type=int, default=8, help="procedural objects; 0: none")
    add("--generator", choices=GENERATORS, help="of the objects; default: that of the checkpoint")
    add("--targets", type=positive, default=2, help="target views of an object")
    add("--captures", nargs="*", default=[], metavar="DIRECTORY")
    add("--capture-targets", type=positive, default=8, help="targets of a capture at most")
    add("--views", type=positive, nargs="+", default=[2, 4, 8, 16], help="numbers of input views")
    add("--chunk-views", type=positive, default=2, help="views per update of a stream")
    add("--post-optimize", type=int, nargs="*", default=[3, 10], metavar="STEPS")
    add("--fit", type=int, nargs="*", default=[50, 500, 2000, 7000], metavar="STEPS")
    add(
        "--fit-scenes", type=positive, nargs="+", default=[2], metavar="SCENES",
        help="scenes of a group that fits cover: one number, or one for each of --fit",
    )  # fmt: skip
    add("--json", action="store_true", help="print one JSON object instead of a table")
    add(
        "--output",
        help="file for the JSON object, written as rows are measured; one there is gone on with",
    )
    options = parser.parse_args(arguments)
    if options.scenes < 0 or not (options.scenes or options.captures):
        parser.error(f"--scenes {options.scenes} leaves nothing to measure; use 1 or more")
    if (options.attention is None) != (options.control is None):
        parser.error("--attention and --control are compared with each other; give both or none")
    if options.output and not Path(options.output).parent.is_dir():
        parser.error(f"--output {options.output} lies in no directory; make it first")
    return options


def _replace(path: Path, text: str) -> None:
    """Writes a file so that a kill leaves the old one or the new one."""
    draft = path.with_name(path.name + ".tmp")
    draft.write_text(text)
    draft.replace(path)


def main(arguments: list[str] | None = None) -> int:
    options = parsed(arguments)
    result, text = {}, ""
    try:
        for result in measure(options):
            text = json.dumps(result, indent=2, allow_nan=False)
            if options.output:
                _replace(Path(options.output), text + "\n")
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT
    finally:
        if result:  # what was measured, also before an error or Ctrl-C
            print(text if options.json else table(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
