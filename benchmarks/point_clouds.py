"""Reconstruction metrics of many points: `python -m benchmarks.point_clouds [--json]`.

Protocol: `--frames` frames of 224x224 procedural depth-like points (a furnished box of 4x3x2.5 m,
seen with 5 mm of noise, 3 cm off and 1 degree turned) against as many clean points. The chain of
`reconstruction_errors` runs once, part by part. `--other DIR` runs the same in the checkout DIR as
a process of its own before and after, so both builds are measured in one run, and prints the
ratio of CPU seconds and the largest difference of the eight errors.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from tttlrm_jax.core.geometry.alignment import transform_points
from tttlrm_jax.metrics.point_clouds import reconstruction_errors

PIXELS = 224 * 224
ROOM = np.array([4.0, 3.0, 2.5])
NOISE = 0.005  # metres
TURN, SHIFT = np.radians(1.0), 0.03


def clouds(frames: int) -> tuple[np.ndarray, np.ndarray]:
    """Predicted and true points [frames * 224 * 224, 3], in metres, in no order of space."""
    rng = np.random.default_rng(0)
    true = _walls(rng, frames * PIXELS)
    noisy = _walls(rng, frames * PIXELS) + NOISE * rng.normal(size=(frames * PIXELS, 3))
    off = np.eye(4)
    off[:2, :2] = [[np.cos(TURN), -np.sin(TURN)], [np.sin(TURN), np.cos(TURN)]]
    off[:3, 3] = SHIFT / np.sqrt(3)
    return transform_points(off, noisy), true


def _walls(rng: np.random.Generator, count: int) -> np.ndarray:
    """Points on the six sides of the room."""
    points = rng.uniform(0, 1, (count, 3))
    points[np.arange(count), rng.integers(0, 3, count)] = rng.integers(0, 2, count)
    return points * ROOM


def measure(frames: int) -> dict[str, Any]:
    """Seconds of the chain, and its eight errors."""
    predicted, true = clouds(frames)
    wall, cpu = time.perf_counter(), time.process_time()
    errors = reconstruction_errors(predicted, true)
    return {
        "frames": frames, "points": len(predicted), "wall_seconds": time.perf_counter() - wall,
        "cpu_seconds": time.process_time() - cpu, "cpus": os.cpu_count(),
        "errors": [*errors.accuracy.row().tolist(), *errors.completion.row().tolist()],
    }  # fmt: skip


def measured_in(checkout: Path, frames: int) -> dict[str, Any]:
    """`measure` with the package of another checkout."""
    command = [sys.executable, str(Path(__file__).absolute()), "--frames", str(frames), "--json"]
    environment = {**os.environ, "PYTHONPATH": str(checkout)}
    made = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True, text=True)
    return json.loads(made.stdout)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.point_clouds", description=__doc__)
    parser.add_argument("--frames", type=int, default=10)
    parser.add_argument("--other", type=Path, help="checkout of the build to compare with")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of lines")
    options = parser.parse_args(arguments)
    if options.frames < 1:
        parser.error(f"--frames {options.frames} is below 1; use 1 or more")
    if options.other is None:
        result = measure(options.frames)
    else:
        before = measured_in(options.other, options.frames)
        here = measure(options.frames)
        again = measured_in(options.other, options.frames)
        mean = 0.5 * (before["cpu_seconds"] + again["cpu_seconds"])
        difference = np.abs(np.subtract(here["errors"], before["errors"])).max()
        result = {
            "other": [before, again], "here": here, "cpu_ratio": mean / here["cpu_seconds"],
            "largest_difference": float(difference),
        }  # fmt: skip
    print(json.dumps(result, indent=None if options.json else 1))


if __name__ == "__main__":
    main()
