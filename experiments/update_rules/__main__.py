"""The laboratory for update rules: `python -m experiments.update_rules [--output DIR] [--quick]`.

Compares every registered rule, and some compositions, by associative recall, drift over long
streams, cost, and reconstruction with a model that was trained with another rule. Writes
`update_rules.html` (one file, no network) and `update_rules.json`. A rule of one's own takes part
with `--rule-file FILE.py`. On two CPU cores it takes minutes; `--quick` is a smoke test.
"""

import argparse
import dataclasses
import sys
import time
from pathlib import Path
from typing import Any

import jax

from experiments.update_rules.cost import Layer, measure_cost
from experiments.update_rules.files import check_directory, make_directory, write_results
from experiments.update_rules.recall import Memory, measure_drift, measure_recall, tuned_rate
from experiments.update_rules.reconstruction import Reconstructions, Streams
from experiments.update_rules.rules import compared_rules
from tttlrm_jax.apps.rule_arguments import register_from_file
from tttlrm_jax.config import RuleConfig
from tttlrm_jax.config.command_line import EXIT_BAD_INPUT, EXIT_INTERRUPTED
from tttlrm_jax.core.errors import InputError
from tttlrm_jax.core.files.packaged_files import packaged
from tttlrm_jax.ttt.rules import RULES

QUICK_MEMORY = Memory(
    d_head=8, d_hid=16, chunk=4, num_chunks=4, seeds=3, tuning_seeds=2, rates=(0.3, 3.0),
    long_stream=8,
)  # fmt: skip
QUICK_LAYER = Layer(d_head=16, d_hid=32, tokens_per_view=64, views=(1, 4))


QUICK_STREAMS = Streams(scenes=2, input_views=4, target_views=1, chunk_views=2)


def main(arguments: list[str] | None = None) -> int:
    """Runs the experiments; returns the exit code (2 for bad input, 130 when interrupted)."""
    parser = argparse.ArgumentParser(prog="python -m experiments.update_rules", description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("outputs/update_rules"))
    parser.add_argument("--rules", nargs="+", metavar="NAME", help="only these")
    parser.add_argument("--rule-file", action="append", default=[], help="registers one more rule")
    parser.add_argument("--checkpoint", help="for reconstruction; default: the shipped weights")
    parser.add_argument("--no-reconstruction", action="store_true")
    parser.add_argument(
        "--quick", action="store_true", help="tiny sizes; reconstruction only with --checkpoint"
    )
    options = parser.parse_args(arguments)
    try:
        run(options)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT
    except KeyboardInterrupt:
        print(f"interrupted; what was measured is in {options.output}", file=sys.stderr)
        return EXIT_INTERRUPTED
    print(options.output / "update_rules.html")
    return 0


def run(options: argparse.Namespace) -> None:
    """Checks all options, then measures rule by rule; both files are written after each.

    Raises InputError for bad options, before anything is measured.
    """
    start = time.perf_counter()
    rules = chosen_rules(options)
    check_directory(options.output)
    memory, layer = (QUICK_MEMORY, QUICK_LAYER) if options.quick else (Memory(), Layer())
    scenes = None
    if not options.no_reconstruction and (options.checkpoint or not options.quick):
        path = options.checkpoint or str(packaged("quickstart"))
        scenes = Reconstructions(path, QUICK_STREAMS if options.quick else Streams())
    device = jax.devices()[0]
    results = {
        "machine": f"{device.platform} {device.device_kind}, JAX {jax.__version__}",
        "seconds": 0.0,
        "finished": False,
        "memory": dataclasses.asdict(memory),
        "layer": dataclasses.asdict(layer),
        "streams": None if scenes is None else dataclasses.asdict(scenes.streams),
        "checkpoint": options.checkpoint or "quickstart",
        "rules": {},
    }
    make_directory(options.output)
    for number, (name, rule) in enumerate(rules.items(), start=1):
        begun = time.perf_counter()
        results["rules"][name] = measure(rule, memory, layer, scenes)
        results |= {"seconds": time.perf_counter() - start, "finished": number == len(rules)}
        write_results(options.output, results)
        print(f"  {name}: {time.perf_counter() - begun:.1f} s", file=sys.stderr, flush=True)


def chosen_rules(options: argparse.Namespace) -> dict[str, RuleConfig]:
    """The rules to compare, those of `--rule-file` among them. Raises InputError."""
    for file in options.rule_file:
        register_from_file(file, RULES)
    rules = compared_rules()
    unknown = sorted(set(options.rules or ()) - set(rules))
    if unknown:
        raise InputError.of("rules", ", ".join(unknown), "are unknown", f"use {', '.join(rules)}")
    return {name: rule for name, rule in rules.items() if name in (options.rules or rules)}


def measure(
    rule: RuleConfig, memory: Memory, layer: Layer, scenes: Reconstructions | None
) -> dict[str, Any]:
    """All that is measured of one rule."""
    rate = tuned_rate(rule, memory)
    return {
        "config": rule.to_dict(),
        "rate": rate,
        "recall": measure_recall(rule, rate, memory),
        "drift": measure_drift(rule, rate, memory),
        "cost": measure_cost(rule, layer),
        "reconstruction": None if scenes is None else scenes.measure(rule),
    }


if __name__ == "__main__":
    sys.exit(main())
