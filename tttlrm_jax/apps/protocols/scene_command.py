"""`eval.py --protocol FILE --root DIR`: all scenes of a paper's data set, and its table."""

import dataclasses
import sys
from pathlib import Path
from typing import Any

import jax

from tttlrm_jax.api.models import load_run, with_rule
from tttlrm_jax.api.request import as_wished, check_has_gaussians
from tttlrm_jax.apps.progress import announced
from tttlrm_jax.apps.protocols.scene_measure import Measurement, measure_scene, scene_wishes
from tttlrm_jax.apps.protocols.scene_models import shower_of
from tttlrm_jax.apps.protocols.scene_results import TEXT_FILE, Results, open_results
from tttlrm_jax.apps.protocols.scene_table import differences, make_table, table_text
from tttlrm_jax.apps.protocols.scenes import SceneProtocol, read_scene_protocol
from tttlrm_jax.apps.rule_arguments import parse_with_rule
from tttlrm_jax.checkpoints.directories import read_config
from tttlrm_jax.config.evaluation import ProtocolEvalConfig
from tttlrm_jax.core.errors import ConfigError, InputError
from tttlrm_jax.core.program_cache import keep_programs
from tttlrm_jax.metrics.lpips import MIN_SIDE, load_lpips

PROG = "eval.py --protocol FILE"


def run(arguments: list[str]) -> str:
    """Measures what is not measured yet; returns what to tell the user."""
    config = parse_with_rule(ProtocolEvalConfig, arguments, PROG)
    if config.compile_cache:
        keep_programs()
    directory, table = evaluate_protocol(config)
    return f"{table_text(table)}\n\n{directory / TEXT_FILE}"


def evaluate_protocol(config: ProtocolEvalConfig) -> tuple[Path, dict[str, Any]]:
    """Measures every scene with every number of views; returns the directory and the table.

    What was measured before is not measured again. A scene that cannot be read is left out and
    named, unless there is no result at all. KeyboardInterrupt says what is there.
    """
    protocol = read_scene_protocol(config.protocol)
    if config.root is None:
        raise InputError("root=none: there is no data set; give --root DIR")
    scenes = protocol.find(Path(config.root), config.scenes)
    common = _prepared(config, protocol)
    output = Path(config.output or _default_output(config))
    wanted = [(views, name) for views in config.views or protocol.views for name in scenes]
    with open_results(output, common.settings(), config.resume) as results:
        try:
            failed = _measure_all(common, scenes, wanted, results)
        except KeyboardInterrupt:
            done = sum(results.has(name, views, common.rows) for views, name in wanted)
            there = f"{done} of {len(wanted)} results are in {output}; go on with --resume"
            raise KeyboardInterrupt(there if done else "") from None
        return output, _written(results, common, failed)


def _measure_all(
    common: Measurement, scenes: dict[str, Path], wanted: list[tuple[int, str]], results: Results
) -> dict[str, str]:
    """Measures what is still missing of `wanted` (number of views and scene).

    Returns what had to be left out, and why.
    """
    failed: dict[str, str] = {}
    for done, (views, name) in enumerate(wanted):
        if results.has(name, views, common.rows):
            continue
        print(f"{name}, {views} views ({done + 1} of {len(wanted)})", file=sys.stderr)
        try:
            results.add(measure_scene(common, name, scenes[name], views))
        except ConfigError:
            raise
        except InputError as error:
            if not results.records:
                raise
            failed[f"{name}, {views} views"] = str(error)
            print(f"  left out: {error}", file=sys.stderr)
        _written(results, common, failed)
    return failed


def _prepared(config: ProtocolEvalConfig, protocol: SceneProtocol) -> Measurement:
    """The model and the metric, checked against the protocol."""
    if config.checkpoint is None:
        raise InputError(
            "checkpoint=none: a protocol is run with published weights, which the package does not "
            "ship; convert them (python -m tttlrm_jax.convert SRC DEST) and give --checkpoint DEST"
        )
    checkpoint = Path(config.checkpoint)
    run = as_wished(with_rule(read_config(checkpoint), config.rule), scene_wishes(config))
    protocol.check_model(run, checkpoint)
    refined = max(config.post_optimize)  # the options of one scene have a single number
    check_has_gaussians(dataclasses.replace(scene_wishes(config), post_optimize=refined), run)
    with announced(f"loading {checkpoint}"):
        model = load_run(checkpoint, run)
    lpips, note = None, f"LPIPS needs pictures of at least {MIN_SIDE['alex']} pixels on each side"
    if min(config.resolution or protocol.resolution) >= MIN_SIDE["alex"]:
        lpips, note = load_lpips("alex")
    return Measurement(
        config=config, protocol=protocol, run=run, model=model, shower=shower_of(model),
        lpips=lpips, lpips_note=note,
    )  # fmt: skip


def _default_output(config: ProtocolEvalConfig) -> Path:
    """The same for the same protocol and checkpoint, so that a run can be gone on with."""
    name = Path(config.checkpoint or "").resolve().name
    return Path("outputs") / f"{Path(config.protocol).stem}-{name}"


def _written(results: Results, common: Measurement, failed: dict[str, str]) -> dict[str, Any]:
    """The table of what is there so far, as it is written."""
    protocol, root = common.protocol, Path(common.config.root or "")
    labels = protocol.read_labels(root)
    table = make_table(protocol, results.ordered(), labels, common.resolution)
    differing = differences(protocol, table, common.given())
    differing += [
        f"seconds are on {jax.devices()[0].device_kind}, without compiling, after one pass that "
        "does not count", common.lpips_note,
    ]  # fmt: skip
    if protocol.strata:
        there = f"none, as {protocol.labels} is not in {root}"
        differing.append(f"strata: {protocol.strata_source if labels else there}")
    table |= {"differs": differing, "failed": failed, "notes": _notes(results)}
    table["model"] = common.described()
    results.write_table(table, table_text(table))
    return table


def _notes(results: Results) -> list[tuple[str, str]]:
    """What was guessed of scenes, each sentence once: with the first scene and how many more."""
    found: dict[str, dict[str, None]] = {}
    for record in results.ordered():
        for note in record["notes"]:
            found.setdefault(note.replace(record["path"], "."), {})[record["scene"]] = None
    return [
        (next(iter(names)) + (f" and {len(names) - 1} more" if len(names) > 1 else ""), note)
        for note, names in found.items()
    ]
