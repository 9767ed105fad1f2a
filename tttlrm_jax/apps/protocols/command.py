"""`eval.py --model ttt3r --protocol FILE --root ROOT`: all sequences of a table's data set."""

import contextlib
import dataclasses
import functools
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tttlrm_jax.api.sequences import FrameModel
from tttlrm_jax.apps.protocols.tables import (
    SequenceProtocol,
    protocol_overrides,
    read_protocol,
    scene_names,
    table_row,
)
from tttlrm_jax.config import RuleConfig
from tttlrm_jax.config.evaluation import SequenceEvalConfig
from tttlrm_jax.core.errors import ConfigError, InputError
from tttlrm_jax.core.files.output_directory import creation_errors, default_output
from tttlrm_jax.core.files.whole_files import write_whole

TABLE_FILE = "table.json"


def evaluate_protocol(
    config: SequenceEvalConfig, rule: RuleConfig, evaluate, open_model
) -> tuple[Path, dict[str, Any]]:
    """Runs `evaluate` on every sequence with one model; writes and returns the table's row.

    `config` has the protocol applied. Raises InputError where no sequence is found or the first
    cannot be used; later ones that fail are named in `failed`. KeyboardInterrupt says what is
    written; the same output can be given again.
    """
    assert config.protocol is not None
    if config.capture is None:
        raise InputError("capture=none: there is no data set; give --root ROOT")
    protocol = read_protocol(config.protocol)
    root = Path(config.capture)
    paths = protocol.find(root)
    output = Path(config.output or default_output(Path(config.protocol).stem))
    _check_new(output)
    opened = functools.cache(lambda: open_model(config, rule))

    def shared(*_) -> FrameModel:
        opened().restart()
        return opened()

    made, failed = [], {}
    row: dict[str, Any] = {"dataset": protocol.dataset, "task": protocol.task, "sequences": 0}
    with _claimed(output, row):
        try:
            for scene, path in scene_names(paths, root).items():
                done = len(made) + len(failed)
                print(f"{scene} ({done + 1} of {len(paths)})", file=sys.stderr)
                part = dataclasses.replace(config, capture=str(path), output=str(output / scene))
                try:
                    made.append(evaluate(part, rule, shared)[1] | {"scene": scene})
                except ConfigError:
                    raise
                except InputError as error:
                    if not made:
                        raise
                    failed[scene] = str(error)
                    print(f"  left out: {error}", file=sys.stderr)
                row = _row(protocol, config, made, failed)
                _write_table(output, row)
        except KeyboardInterrupt as stop:
            done = f"{len(made)} of {len(paths)} sequences are whole in {output}" if made else ""
            raise KeyboardInterrupt("; ".join(filter(None, [done, *stop.args]))) from None
    return output, row


def table_summary(row: dict[str, Any]) -> str:
    """The row beside what is listed of it elsewhere, and what was not done as the protocol says."""
    lines = [f"{row['dataset']}, {row['task']}: {row['sequences']} sequences, rule {row['rule']}"]
    for part in ("pose", "reconstruction"):
        lines += [f"  {name:<20}{value:.4f}" for name, value in row.get(part, {}).items()]
    for name, errors in row.get("depth", {}).items():
        lines.append(
            f"  depth, {name:<13}Abs Rel {errors['abs_rel']:.4f}, "
            f"delta < 1.25 {100 * errors['delta_125']:.2f} %"
        )
    lines.append(f"  to reproduce: {row['table']}; {_listed(row)}")
    changed = ", ".join(f"{name} {value}" for name, value in row["overrides"].items())
    lines += [f"  not as the protocol says: {changed}"] if changed else []
    lines += [f"  left out: {scene}: {reason}" for scene, reason in row["failed"].items()]
    for scene, notes in row.get("notes", {}).items():
        lines += [f"  note: {scene}: {note}" for note in notes]
    return "\n".join(lines)


def _listed(row: dict[str, Any]) -> str:
    if not row["listed"]:
        return "see the paper for the numbers"
    numbers = ", ".join(f"{name} {value:g}" for name, value in row["listed"].items())
    aligned = ""
    if row["task"] == "depth":
        aligned = f", alignment {row['listed_alignment'] or 'not stated'}"
    return f"{numbers}{aligned} (secondary listing, unchecked)"


def _row(protocol: SequenceProtocol, config, made: list[dict], failed: dict) -> dict[str, Any]:
    return {
        "dataset": protocol.dataset, "task": protocol.task, "table": protocol.table,
        "listed": protocol.listed, "listed_alignment": protocol.listed_alignment,
        "overrides": protocol_overrides(config), "rule": made[0]["rule"],
        "frames": config.max_frames, "stride": config.stride, "checkpoint": config.checkpoint,
        **table_row(made),
        "failed": failed, "scenes": {each["scene"]: each["trajectory"] for each in made},
        "notes": {each["scene"]: each["notes"] for each in made if each["notes"]},
    }  # fmt: skip


@contextlib.contextmanager
def _claimed(output: Path, row: dict[str, Any]) -> Iterator[None]:
    """Begins the table before there is any sequence, so that the folder can be told as its own.

    Takes it back where nothing came of it. Raises InputError where it cannot be written.
    """
    table, existed = output / TABLE_FILE, output.exists()
    begun = not table.exists()
    if begun:
        with creation_errors(output):
            output.mkdir(parents=True, exist_ok=True)
            _write_table(output, row)
    try:
        yield
    finally:
        if begun and [*output.iterdir()] == [table]:
            table.unlink()
            if not existed:
                output.rmdir()


def _write_table(output: Path, row: dict[str, Any]) -> None:
    write_whole(output / TABLE_FILE, json.dumps(row, indent=1) + "\n")


def _check_new(output: Path) -> None:
    """The folder holds a folder per sequence: only one that this command made is written again."""
    if not output.exists():
        return
    if not output.is_dir() or (any(output.iterdir()) and not (output / TABLE_FILE).is_file()):
        raise InputError.of(
            "output", output, "holds files of another program", "choose a new directory"
        )
