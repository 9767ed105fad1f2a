"""`python -m tttlrm_jax.parity DIR`: every recording in DIR against this implementation.

Prints one line per quantity: file, quantity, error, tolerance, measure, verdict. Exits 1 if a
quantity fails or a known kind of recording is not implemented, 2 if there is nothing to check
or a recording cannot be read.
"""

import argparse
import gc
import json
import math
import sys
import time
from pathlib import Path

import jax

from tttlrm_jax.core.errors import InputError, first_line
from tttlrm_jax.parity.report import Row
from tttlrm_jax.parity.suites import Found, collect


def main(arguments: list[str] | None = None) -> int:
    """Runs the command and returns its exit code."""
    parser = argparse.ArgumentParser(prog="python -m tttlrm_jax.parity", description=__doc__)
    parser.add_argument("folder", type=Path, help="a folder of recordings, or one above several")
    parser.add_argument("--only", default="*", metavar="GLOB", help="file names to run")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of lines")
    options = parser.parse_args(arguments)
    gc.set_threshold(200_000, 50, 1000)  # a tenth of the time of tracing is collecting
    jax.config.update("jax_traceback_in_locations_limit", 0)  # programs need not say whose they are
    try:
        with jax.enable_x64(True):  # recordings come in both precisions
            return _run(options)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _run(options) -> int:
    start = time.monotonic()
    say = (lambda line: None) if options.json else (lambda line: print(line, flush=True))
    found, unknown = collect(options.folder, options.only)
    rows, missing = [], []
    for recording in found:
        if recording.check is None:
            missing.append(recording.name)
            say(f"{recording.name:<36} not implemented yet")
            continue
        for each in _rows(recording, alone=len(found) == 1):
            rows.append(each)
            say(each.line())
    failed = [each for each in rows if not each.ok]
    summary = {
        "files": len(found),
        "quantities": len(rows),
        "failed": len(failed),
        "not_implemented": missing,
        "unknown": [str(path) for path in unknown],
        "seconds": round(time.monotonic() - start, 1),
    }
    if options.json:
        print(json.dumps({**summary, "rows": [each.plain() for each in rows]}, indent=1))
    else:
        _print_summary(summary, failed)
    return 1 if failed or missing else 0


def _rows(found: Found, alone: bool) -> list[Row]:
    """Rows of one recording; one that lacks a key, or whose arrays do not fit, fails as a whole.

    One that holds nothing to check fails as well, and raises InputError where it is all there is.
    """
    try:
        if rows := found.rows():
            return rows
        reason = "holds nothing to check"
    except KeyError as error:
        reason = f"no key {error} in its arrays or meta data"
    except (TypeError, ValueError, IndexError, AttributeError) as error:
        reason = first_line(error, 100)
    else:
        if alone:
            raise InputError(f"recording {found.name} holds nothing to check; fetch it again")
    return [Row(found.path.name, f"cannot be run: {reason}", math.inf)]


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
