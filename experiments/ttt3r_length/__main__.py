"""Do TTT3R's errors grow with length, and less with its gate? `python -m experiments.ttt3r_length`.

Protocol: `--scenes` held-out walks (procedural rooms, as `--rooms` configures them, or windows
of `--capture`) of the longest of `--lengths` go through one set of weights under every one of
`--variants`: a state rule, `RULE@N` with the state started over every N frames. A frame's outputs
do not depend on later frames, so a shorter length is a prefix. `scores.py` says what is measured;
*still* is a camera that never moves before a wall 1 m away. `+-` is the standard
error over scenes; differences are paired by scene. Windows of a capture overlap, so there it only
tells how much the start matters.

Writes to `--output`: `results.json` (all values by scene), `length.png` (errors against length and
their paired differences to the first variant) and `frames.png` (errors and the state against the
number of the frame). `--draw FILE` makes tables and pictures of an earlier run's `results.json`.
"""

import argparse
import json
import math
import sys
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np

from experiments.statistics import mean_and_error, with_error
from experiments.ttt3r_length.charts import TITLES, draw_frames, draw_lengths
from experiments.ttt3r_length.recurrence import STILL, Traces, Variant, run_walks, still_traces
from experiments.ttt3r_length.scores import METRICS, frame_scores, prefix_scores
from experiments.ttt3r_length.walks import Walks, capture_walks, room_walks
from tttlrm_jax.apps.train import load_config_file
from tttlrm_jax.checkpoints.models import load_ttt3r
from tttlrm_jax.config.command_line import EXIT_BAD_INPUT
from tttlrm_jax.config.run import SequenceRunConfig
from tttlrm_jax.core.errors import InputError
from tttlrm_jax.core.files.packaged_files import TTT3R_SMALL, packaged
from tttlrm_jax.models import split_model

LENGTHS = [8, 16, 32, 64, 128, 256]
VARIANTS = ["cut3r", "ttt3r", "ema", "cut3r@8", "cut3r@32"]
ROOMS = "configs/ttt3r_small.py"
FRAMES_LISTED = [2, 4, 8, 16, 32, 64, 128, 192, 256]
DRAWN = (
    "checkpoint",
    "resolution",
    "walks",
    "lengths",
    "rows",
    "baseline",
    "differences",
    "frames",
)
FRAME_COLUMNS = ("rotation", "position", "abs_rel", "change", "memory")


def measure(
    checkpoint: str, walks: Walks, variants: list[Variant], lengths: list[int]
) -> dict[str, Any]:
    """Errors by variant, metric and length; differences to the first variant; curves by frame."""
    graph, params = split_model(load_ttt3r(checkpoint)[1])
    values: dict[str, dict[str, np.ndarray]] = {}
    frames: dict[str, dict[str, list[float]]] = {}
    seconds: dict[str, float] = {}

    def add(name: str, traces: Traces) -> None:
        values[name] = prefix_scores(walks, traces, lengths)
        frames[name] = {k: v.tolist() for k, v in frame_scores(walks, traces).items()}

    add(STILL, still_traces(walks))
    for variant in variants:
        started = time.perf_counter()
        traces = run_walks(params, graph, walks, variant)
        seconds[str(variant)] = time.perf_counter() - started
        add(str(variant), traces)
        print(f"  {variant}: {seconds[str(variant)]:.0f} s", file=sys.stderr)
    first = str(variants[0])
    differences = {
        str(variant): {k: row(values[str(variant)][k] - values[first][k]) for k in METRICS}
        for variant in variants[1:]
    }
    return {
        "checkpoint": Path(checkpoint).name, "lengths": lengths, "scenes": walks.images.shape[1],
        "resolution": list(walks.images.shape[2:4]), "device": jax.devices()[0].device_kind,
        "rows": {name: {k: row(v) for k, v in each.items()} for name, each in values.items()},
        "baseline": first, "differences": differences, "frames": frames, "seconds": seconds,
    }  # fmt: skip


def row(values: np.ndarray) -> dict[str, Any]:
    """Mean and standard error over scenes of [length, scene], and the values."""
    return {**mean_and_error(values.T), "values": values.tolist()}


def tables(result: dict[str, Any]) -> str:
    """One markdown table per metric, with the paired differences below."""
    heads = " | ".join(f"{length} frames" for length in result["lengths"])
    parts = []
    for metric, unit in METRICS.items():
        lines = [f"| {TITLES[metric]}, {unit} | {heads} |"]
        lines.append("|---" * (len(result["lengths"]) + 1) + "|")
        lines += [f"| {name} | {_cells(each[metric])} |" for name, each in result["rows"].items()]
        lines += [
            f"| {name} minus {result['baseline']} | {_cells(each[metric], '+')} |"
            for name, each in result["differences"].items()
        ]
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def _cells(entry: dict[str, Any], sign: str = "") -> str:
    pairs = zip(entry["mean"], entry["standard_error"], strict=True)
    return " | ".join(with_error(mean, error, 3, sign) for mean, error in pairs)


def frame_table(result: dict[str, Any]) -> str:
    """Errors and the state at single frames (from 1), means over scenes: one markdown table."""
    last = len(result["frames"][result["baseline"]]["change"])
    numbers = [number for number in FRAMES_LISTED if number <= last]
    lines = [f"| at frame | {' | '.join(map(str, numbers))} |", "|---" * (len(numbers) + 1) + "|"]
    for metric in FRAME_COLUMNS:
        digits = 1 if metric in ("rotation", "memory") else 3
        for name, each in result["frames"].items():
            if name == STILL and metric in ("change", "memory"):
                continue
            cells = [f"{each[metric][number - 1]:.{digits}f}" for number in numbers]
            lines.append(f"| {TITLES[metric]}: {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _walks(options: argparse.Namespace) -> tuple[Walks, str]:
    longest = max(options.lengths)
    if options.capture is not None:
        walks = capture_walks(options.capture, options.scenes, longest, options.size)
        return walks, f"{options.scenes} windows of {Path(options.capture).name}"
    config = load_config_file(Path(options.rooms))
    if not isinstance(config, SequenceRunConfig):
        raise InputError.of(
            "rooms", options.rooms, "configures no training on rooms", f"use e.g. {ROOMS}"
        )
    walks = room_walks(options.scenes, longest, config.room, options.stride)
    return walks, f"{options.scenes} held-out rooms, pace {options.stride:g}"


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m experiments.ttt3r_length", description=__doc__)
    parser.add_argument("--checkpoint", help="run or model; default: the weights in the package")
    parser.add_argument("--lengths", type=int, nargs="+", default=LENGTHS)
    parser.add_argument("--variants", nargs="+", default=VARIANTS, help="RULE or RULE@N")
    parser.add_argument("--scenes", type=int, default=16)
    parser.add_argument(
        "--stride", type=float, default=1, help="rooms: pace of the walk, 0.25 or 4"
    )
    parser.add_argument("--rooms", default=ROOMS, help="configuration file whose rooms are walked")
    parser.add_argument("--capture", help="RGB-D sequence instead of rooms")
    parser.add_argument("--size", type=int, default=64, help="of its pictures, longer side")
    parser.add_argument("--draw", help="results.json of an earlier run: measure nothing")
    parser.add_argument("--output", default="outputs/ttt3r_length")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of tables")
    options = parser.parse_args(arguments)
    options.checkpoint = options.checkpoint or str(packaged(TTT3R_SMALL))
    options.lengths = sorted(set(options.lengths))
    if options.lengths[0] < 3:
        parser.error(f"--lengths {options.lengths[0]} is below 3; ATE needs three frames")
    if options.scenes < 1:
        parser.error(f"--scenes {options.scenes} is below 1; use 1 or more")
    if not (math.isfinite(options.stride) and options.stride > 0):
        parser.error(f"--stride {options.stride} is not a positive number; use e.g. 0.25, 1 or 4")
    return options


def _measured(options: argparse.Namespace) -> dict[str, Any]:
    variants = [Variant.parse(text) for text in options.variants]
    walks, what = _walks(options)
    result = measure(options.checkpoint, walks, variants, options.lengths)
    return {**result, "walks": what}


def _earlier(path: str) -> dict[str, Any]:
    """The results of an earlier run. Raises InputError for a file that holds none."""
    try:
        result = json.loads(Path(path).read_text())
    except (OSError, ValueError) as error:
        raise InputError.of(
            "draw", path, f"cannot be read ({error})", "give the results.json of a run"
        ) from error
    missing = [key for key in DRAWN if not isinstance(result, dict) or key not in result]
    if missing:
        raise InputError.of(
            "draw", path, f"has no {', '.join(missing)}", "give the results.json of a run"
        )
    return result


def main(arguments: list[str] | None = None) -> int:
    """Runs the command; returns its exit code (0 done, 2 bad input)."""
    options = _parse(arguments)
    try:
        result = _earlier(options.draw) if options.draw else _measured(options)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT
    height, width = result["resolution"]
    subtitle = f"{result['walks']}, {width}x{height} pixels, {result['checkpoint']}"
    directory = Path(options.output)
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "results.json").write_text(json.dumps(result, indent=2))
    for name, draw in (("length.png", draw_lengths), ("frames.png", draw_frames)):
        (directory / name).write_bytes(draw(result, subtitle).png())
    text = f"{subtitle}\n\n{tables(result)}\n\n{frame_table(result)}"
    print(json.dumps(result, indent=2) if options.json else text)
    print(f"\n{directory / 'length.png'}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
