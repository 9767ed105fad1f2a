"""`python -m tttlrm_jax.parity DIR`: every recording in DIR against this implementation.

Prints one line per quantity: file, quantity, error, tolerance, measure, verdict. Exits 1 if a
quantity fails or a known kind of recording is not implemented, 2 if there is nothing to check
or a recording cannot be read.
"""

import argparse
import dataclasses
import json
import math
import sys
import time
from pathlib import Path

import jax

from tttlrm_jax.core.errors import InputError
from tttlrm_jax.parity.report import Row, row
from tttlrm_jax.parity.suites import Found, collect


def main(arguments: list[str] | None = None) -> int:
    """Runs the command and returns its exit code."""
    parser = argparse.ArgumentParser(prog="python -m tttlrm_jax.parity", description=__doc__)
    parser.add_argument("folder", type=Path, help="a folder of recordings, or one above several")
    parser.add_argument("--only", default="*", metavar="GLOB", help="file names to run")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of lines")
    options = parser.parse_args(arguments)
    try:
        with jax.enable_x64(True):  # recordings come in both precisions
            return _run(options)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _run(options) -> int:
    start = time.monotonic()
    found, unknown = collect(options.folder, options.only)
    rows, missing = [], []
    for recording in found:
        if recording.check is None:
            missing.append(recording)
            if not options.json:
                name = f"{recording.suite}/{recording.path.name}"
                print(f"{name:<36} not implemented yet", flush=True)
            continue
        for each in _rows(recording, alone=len(found) == 1):
            rows.append(each)
            if not options.json:
                print(each.line(), flush=True)
    failed = [each for each in rows if not each.ok]
    summary = {
        "files": len(found),
        "quantities": len(rows),
        "failed": len(failed),
        "not_implemented": [f"{each.suite}/{each.path.name}" for each in missing],
        "unknown": [str(path) for path in unknown],
        "seconds": round(time.monotonic() - start, 1),
    }
    if options.json:
        print(json.dumps({**summary, "rows": [_plain(each) for each in rows]}, indent=1))
    else:
        _print_summary(summary, failed)
    return 1 if failed or missing else 0


def _rows(recording: Found, alone: bool) -> list[Row]:
    """Rows of one recording; one that lacks a key, or whose arrays do not fit, fails as a whole.

    One that holds nothing to check fails as well, and raises InputError where it is all there is.
    """
    assert recording.check is not None
    name = f"{recording.suite}/{recording.path.name}"
    try:
        rows = list(recording.check(recording.path))
    except KeyError as error:
        return [_unusable(recording, f"no key {error} in its arrays or meta data")]
    except (TypeError, ValueError, IndexError, AttributeError) as error:
        return [_unusable(recording, str(error) or type(error).__name__)]
    if not rows and alone:
        raise InputError(f"recording {name} holds nothing to check; fetch it again")
    return rows or [_unusable(recording, "holds nothing to check")]


def _unusable(recording: Found, reason: str) -> Row:
    first_line = (reason.splitlines() or [""])[0][:100]
    return row(recording.path, f"cannot be run: {first_line}", math.inf, 0.0, "exact")


def _plain(judged: Row) -> dict:
    """JSON knows neither NaN nor infinity."""
    error = judged.error if math.isfinite(judged.error) else None
    return {**dataclasses.asdict(judged), "error": error}


def _print_summary(summary: dict, failed: list[Row]) -> None:
    for path in summary["unknown"]:
        print(f"{path}: of no known kind")
    if failed:
        print("failed:")
    for each in failed:
        print(each.line())
    print(
        f"{summary['quantities']} quantities of {summary['files']} files: "
        f"{summary['failed']} failed, {len(summary['not_implemented'])} files not implemented, "
        f"{len(summary['unknown'])} of no known kind, {summary['seconds']} s"
    )


if __name__ == "__main__":
    sys.exit(main())
