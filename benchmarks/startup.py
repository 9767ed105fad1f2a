"""How soon `eval.py` has a picture: with no compiled program kept, and with those of that run.

Every run is a process of its own with a cache directory that is thrown away afterwards. Seconds
are those since it was started: until the files of the first pass are there (comparison.png,
scene.ply, metrics.json), and until it has ended. Other options go to `eval.py`.

    python -m benchmarks.startup
    python -m benchmarks.startup --runs 3 --json startup.json --capture DIR --views 16
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.arguments import positive

EVAL = Path(__file__).resolve().parents[1] / "eval.py"
PAUSE = 0.02  # seconds between looks


def main(arguments: list[str] | None = None) -> None:
    """Prints a row for every run, and writes them where that is asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.startup", description=__doc__)
    parser.add_argument("--runs", type=positive, default=2, help="one after another, one cache")
    parser.add_argument("--json", type=Path, help="file for the rows")
    known, options = parser.parse_known_args(arguments)
    rows = []
    print(f"{'run':<6}{'first picture, s':>18}{'all files, s':>14}{'CPU, s':>9}")
    with tempfile.TemporaryDirectory() as folder:
        for number in range(1, known.runs + 1):
            row = measure(options, Path(folder), f"run{number}")
            rows.append(row)
            print(
                f"{number:<6}{row['first_picture']:>18.1f}{row['all_files']:>14.1f}"
                f"{row['cpu']:>9.1f}"
            )
    if known.json:
        known.json.write_text(json.dumps({"options": options, "runs": rows}, indent=2) + "\n")


def measure(options: list[str], folder: Path, name: str) -> dict[str, float]:
    """Seconds of one run, whose cache is in `folder`. Raises SystemExit where it fails."""
    output, said = folder / name, folder / f"{name}.txt"
    environment = {**os.environ, "XDG_CACHE_HOME": str(folder / "cache")}
    environment.pop("JAX_COMPILATION_CACHE_DIR", None)
    command = [sys.executable, str(EVAL), *options, "--output", str(output)]
    first, before, start = None, _cpu_seconds(), time.perf_counter()
    with said.open("w") as file:
        process = subprocess.Popen(command, env=environment, stdout=file, stderr=file)
        while process.poll() is None:
            if first is None and (output / "metrics.json").exists():
                first = time.perf_counter() - start
            time.sleep(PAUSE)
    ended = time.perf_counter() - start
    if process.returncode or first is None:
        raise SystemExit(f"{' '.join(command)} failed:\n{said.read_text()}")
    return {"first_picture": first, "all_files": ended, "cpu": _cpu_seconds() - before}


def _cpu_seconds() -> float:
    """Of all processes that were started here and have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()
