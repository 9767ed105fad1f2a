"""Every state rule on the same walks, and the rates it writes with: `python -m
experiments.state_rules`.

Protocol and metrics are those of `experiments.ttt3r_length`: held-out procedural rooms, or windows
of `--capture`, one set of weights, prefixes of the longest of `--lengths`. Of the rates of all
tokens from the second frame on it keeps the median, the largest, and the horizon: the mean number
of frames a written token lasts, 1 / median. `+-` is the standard error over walks; differences are
paired with the first rule. Rules run with their default options.

Writes `--output`/results.json after each rule; a command that is repeated with the same settings
goes on with the rules that are missing.
"""

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from experiments.statistics import mean_and_error, with_error
from experiments.ttt3r_length.recurrence import STILL, Traces, Variant, run_walks, still_traces
from experiments.ttt3r_length.scores import METRICS, prefix_scores
from experiments.ttt3r_length.walks import Walks, capture_walks, room_walks
from tttlrm_jax.apps.train import load_config_file
from tttlrm_jax.checkpoints.models import load_ttt3r
from tttlrm_jax.config.command_line import EXIT_BAD_INPUT
from tttlrm_jax.core.errors import InputError
from tttlrm_jax.core.files.packaged_files import TTT3R_SMALL, packaged
from tttlrm_jax.models import split_model

ROOMS = "configs/ttt3r_small.py"
RULES = ["cut3r", "ttt3r", "ema", "delta", "frame_gate", "memix", "ttsa3r", "ssr"]


def rates_of(traces: Traces) -> dict[str, float]:
    """What a rule writes with after first frames."""
    rates = traces.rates[1:]
    median = float(np.median(rates))
    tenth, largest = (float(np.quantile(rates, share)) for share in (0.1, 1.0))
    return {
        "median": median, "tenth": tenth, "largest": largest,
        "above_0.6": float(np.mean(rates > 0.6)), "horizon": 1 / max(median, 1e-9),
        "spread_over_frames": float(np.median(rates.std(axis=0))),
    }  # fmt: skip


def measure(walks: Walks, settings: dict[str, Any], file: Path) -> dict[str, Any]:
    """Results of all rules; the file holds those that are done."""
    result = _earlier(file, settings)
    graph, params = split_model(load_ttt3r(settings["checkpoint"])[1])
    lengths = settings["lengths"]
    for name in [STILL, *settings["rules"]]:
        if name in result["rows"]:
            continue
        started = time.perf_counter()
        traces = (
            still_traces(walks)
            if name == STILL
            else run_walks(params, graph, walks, Variant.parse(name))
        )
        seconds = time.perf_counter() - started
        scores = prefix_scores(walks, traces, lengths)
        result["rows"][name] = {key: value.tolist() for key, value in scores.items()}
        result["rates"][name] = {} if name == STILL else rates_of(traces)
        result["seconds"][name] = seconds
        file.write_text(json.dumps(result))
        print(f"  {name}: {seconds:.0f} s", file=sys.stderr, flush=True)
    return result


def _earlier(file: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """What an interrupted command of the same settings has left, else nothing."""
    fresh = {"settings": settings, "rows": {}, "rates": {}, "seconds": {}}
    if not file.exists():
        return fresh
    earlier = json.loads(file.read_text())
    same = {k: v for k, v in earlier["settings"].items() if k != "rules"}
    if same != {k: v for k, v in settings.items() if k != "rules"}:
        raise InputError.of(
            "output", file, "holds results of other settings", "give another --output"
        )
    return {**earlier, "settings": settings}


def tables(result: dict[str, Any]) -> str:
    """Markdown: errors by length, differences to the first rule, rates."""
    lengths, rules = result["settings"]["lengths"], result["settings"]["rules"]
    parts = []
    for metric, unit in METRICS.items():
        values = {name: np.asarray(result["rows"][name][metric]) for name in [STILL, *rules]}
        first = values[rules[0]]
        lines = [f"| {metric}, {unit} | {' | '.join(f'{n} frames' for n in lengths)} |"]
        lines.append("|---" * (len(lengths) + 1) + "|")
        lines += [f"| {name} | {_cells(each)} |" for name, each in values.items()]
        lines += [
            f"| {name} minus {rules[0]} | {_cells(values[name] - first, '+')} |"
            for name in rules[1:]
        ]
        parts.append("\n".join(lines))
    columns = list(result["rates"][rules[0]])
    lines = [f"| rates | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    for name in rules:
        cells = [f"{result['rates'][name][key]:.3f}" for key in columns]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n\n".join([*parts, "\n".join(lines)])


def _cells(values: np.ndarray, sign: str = "") -> str:
    """Means with standard errors of [length, walk]."""
    entry = mean_and_error(values.T)
    pairs = zip(entry["mean"], entry["standard_error"], strict=True)
    return " | ".join(with_error(mean, error, 3, sign) for mean, error in pairs)


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m experiments.state_rules", description=__doc__)
    parser.add_argument("--checkpoint", default=str(packaged(TTT3R_SMALL)))
    parser.add_argument("--lengths", type=int, nargs="+", default=[8, 16, 32, 64, 128])
    parser.add_argument("--rules", nargs="+", default=RULES, help="RULE or RULE@N (resets)")
    parser.add_argument("--walks", type=int, default=16)
    parser.add_argument("--capture", help="RGB-D sequence instead of rooms")
    parser.add_argument("--size", type=int, default=64, help="of its pictures, longer side")
    parser.add_argument("--output", default="outputs/state_rules")
    options = parser.parse_args(arguments)
    options.lengths = sorted(set(options.lengths))
    if options.lengths[0] < 3:
        parser.error(f"--lengths {options.lengths[0]} is below 3; ATE needs three frames")
    if options.walks < 1:
        parser.error(f"--walks {options.walks} is below 1; use 1 or more")
    return options


def main(arguments: list[str] | None = None) -> int:
    """Runs the command; returns its exit code (0 done, 2 bad input)."""
    options = _parse(arguments)
    settings = {
        name: getattr(options, name)
        for name in ("checkpoint", "lengths", "rules", "walks", "capture", "size")
    }
    directory = Path(options.output)
    directory.mkdir(parents=True, exist_ok=True)
    try:
        for name in options.rules:
            Variant.parse(name)
        longest = options.lengths[-1]
        if options.capture:
            walks = capture_walks(options.capture, options.walks, longest, options.size)
        else:
            config: Any = load_config_file(Path(ROOMS))
            walks = room_walks(options.walks, longest, config.room, 1)
        result = measure(walks, settings, directory / "results.json")
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT
    print(tables(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
