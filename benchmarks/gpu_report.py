"""Every figure that needs a GPU, in ten minutes: `python -m benchmarks.gpu_report`.

Rows run one after another, each in a process of its own and for no longer than its share of the
time that is left, so that a crash, a hang or too little memory costs that row alone. After each
row `gpu_report.json` and `gpu_report.md` in `--output` are written anew; logs/ has what the rows
printed. Programs are compiled once: rows share JAX's cache. `--tiny` is a rehearsal on any device.
"""

import argparse
import datetime
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.arguments import positive
from benchmarks.gpu.rows import ROWS
from tttlrm_jax.core.errors import InputError, one_line
from tttlrm_jax.core.files.json_values import finite
from tttlrm_jax.core.files.output_directory import creation_errors
from tttlrm_jax.core.files.whole_files import write_whole

ROOT = Path(__file__).parents[1]
LEAST_SECONDS = 10.0  # less is not enough to start a row
LONGEST_ERROR = 300  # characters
RAISED = re.compile(r"^(?:\w+\.)*(\w*(?:Error|Exception|Interrupt)\b.*)$", re.MULTILINE)
SETTINGS = {"XLA_PYTHON_CLIENT_MEM_FRACTION": "0.92", "JAX_TRACEBACK_FILTERING": "off"}
OF_REHEARSALS = {"XLA_FLAGS": "--xla_backend_optimization_level=0"}  # compiles sooner


def main(arguments: list[str] | None = None) -> int:
    """Returns 0 if every row that ran was measured, 1 if one failed, 2 for wrong options, 130
    where it was interrupted."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu_report", description=__doc__)
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS), metavar="ROW",
                        help=f"of {', '.join(ROWS)}")  # fmt: skip
    parser.add_argument("--minutes", type=positive, default=10, help="for all rows together")
    parser.add_argument("--repeats", type=positive, help="of each figure; otherwise 5, tiny 1")
    parser.add_argument("--tiny", action="store_true", help="a rehearsal, on a CPU too")
    parser.add_argument("--output", type=Path, default=Path("outputs/gpu_report"))
    options = parser.parse_args(arguments)
    try:
        with creation_errors(options.output):
            (options.output / "logs").mkdir(parents=True, exist_ok=True)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    of_rows = ["--tiny"] * options.tiny
    of_rows += ["--repeats", str(options.repeats)] if options.repeats else []
    try:
        rows = measure_all(options.rows, 60 * options.minutes, of_rows, options.output)
    except KeyboardInterrupt:
        print(f"interrupted; the rows before are in {options.output}", file=sys.stderr)
        return 130
    print(f"\n{options.output / 'gpu_report.md'}")
    return int(any(row["state"] == "failed" for row in rows.values()))


def measure_all(
    names: list[str], seconds: float, of_rows: list[str], output: Path
) -> dict[str, Any]:
    """Rows by name, within so many seconds; writes the report after each.

    `of_rows` are options of `benchmarks.gpu.rows`.
    """
    tiny = "--tiny" in of_rows
    end, rows = time.monotonic() + seconds, {}
    programs = {"JAX_COMPILATION_CACHE_DIR": str((output / "programs").resolve())}
    settings = SETTINGS | programs | (OF_REHEARSALS if tiny else {})
    environment = settings | os.environ  # the user's own come first
    for number, name in enumerate(names):
        left = sum(ROWS[each].share for each in names[number:])
        share = (end - time.monotonic()) * ROWS[name].share / left
        lines, log = output / "logs" / f"{name}.jsonl", output / "logs" / f"{name}.txt"
        command = [sys.executable, "-m", "benchmarks.gpu.rows", name, str(lines.resolve())]
        if share < LEAST_SECONDS:
            error = f"time is over: {max(share, 0):.0f} s are left for it"
            rows[name] = {"state": "skipped", "error": error, "figures": [], "seconds": 0.0}
        else:
            lines.unlink(missing_ok=True)
            rows[name] = run_row(command + of_rows, share, lines, log, environment)
        row = rows[name]
        print(f"{name}: {row['state']}, {row['seconds']:.0f} s {row['error'] or ''}", flush=True)
        write_report(output, rows, {"minutes": seconds / 60, "tiny": tiny})
    return rows


def run_row(
    command: list[str], seconds: float, lines: Path, log: Path, environment: dict[str, str]
) -> dict[str, Any]:
    """Runs a command for at most so long; its figures are the lines that it leaves in a file."""
    start = time.monotonic()
    with log.open("w") as printed:
        process = subprocess.Popen(
            command, stdout=printed, stderr=subprocess.STDOUT, cwd=ROOT, env=environment,
            start_new_session=True,
        )  # fmt: skip
        error = None
        try:
            code = process.wait(seconds)
        except subprocess.TimeoutExpired:
            code, error = 0, f"took longer than its {seconds:.0f} s"
        finally:  # on Ctrl-C as well
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
    if code:
        error = error_of(log.read_text(errors="replace"), code)
    text = lines.read_text(encoding="utf-8") if lines.exists() else ""
    figures = [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]
    return {
        "state": "failed" if error else "measured", "error": error, "figures": figures,
        "seconds": time.monotonic() - start,
    }  # fmt: skip


def error_of(printed: str, code: int) -> str:
    """Why a process ended, in one line: the last error it printed, else its last line."""
    ended = f"ended by {signal.Signals(-code).name}" if code < 0 else ""
    raised = RAISED.findall(printed)
    said = raised[-1:] if raised else printed.strip().splitlines()[-1:]
    return one_line(": ".join([ended] * bool(ended) + said) or f"exit code {code}", LONGEST_ERROR)


# ---- the report ---------------------------------------------------------------------------------


def write_report(output: Path, rows: dict[str, Any], settings: dict[str, Any]) -> None:
    """Both files, each the old or the new one at every moment."""
    date = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    whole = {"date": date, **settings, "rows": rows}
    write_whole(output / "gpu_report.json", json.dumps(finite(whole), indent=2) + "\n")
    write_whole(output / "gpu_report.md", markdown(whole))


def markdown(report: dict[str, Any]) -> str:
    """A table with a line for each figure, and one for each row that has an error."""
    sizes = (
        "tiny sizes (a rehearsal: these are no measurements)" if report["tiny"] else "full sizes"
    )
    lines = [
        f"`python -m benchmarks.gpu_report`, {report['date']}, {sizes}", "",
        "| row | what | time | more | goal, others |", "|---|---|---|---|---|",
    ]  # fmt: skip
    for name, row in report["rows"].items():
        for figure in row["figures"]:
            beside = beside_text(name, figure, report["rows"])
            cells = (
                name,
                figure["what"],
                time_text(figure.get("seconds")),
                more_text(figure),
                beside,
            )
            lines.append("| " + " | ".join(cell.replace("|", "/") for cell in cells) + " |")
        if row["error"]:
            error = row["error"].replace("|", "/")
            lines.append(f"| {name} | **{row['state']}**: {error} | | | |")
    return "\n".join(lines) + "\n"


def time_text(seconds: float | None) -> str:
    if seconds is None:
        return ""
    return f"{seconds:.3g} s" if seconds >= 0.1 else f"{1e3 * seconds:.3g} ms"


def more_text(figure: dict[str, Any]) -> str:
    """Further figures; shares as percentages."""
    values = figure.get("figures", {}) | {"device peak, GiB": figure.get("gib_peak")}
    known = {name: value for name, value in values.items() if value is not None}
    return "; ".join(
        f"{100 * value:.3g} % {name}" if name.startswith("of ") else f"{name} {value:.4g}"
        for name, value in known.items()
    )


def beside_text(name: str, figure: dict[str, Any], rows: dict[str, Any]) -> str:
    """The goal and whether it is reached, and what others take."""
    parts, goal = [], figure.get("goal_seconds")
    if goal is not None:
        reached = "reached" if figure["seconds"] <= goal else "missed"
        parts.append(f"goal {goal:g} s or less: {reached}")
    if name == "gsplat":
        ours = [
            other["seconds"] for row, found in rows.items() if row.startswith("raster_")
            for other in found["figures"] if other["what"] == figure["what"]
        ]  # fmt: skip
        if ours:
            reached = "reached" if min(ours) <= figure["seconds"] else "missed"
            parts.append(f"goal, ours as fast: {time_text(min(ours))}, {reached}")
    return "; ".join([*parts, figure.get("beside") or ""]).removesuffix("; ")


if __name__ == "__main__":
    sys.exit(main())
