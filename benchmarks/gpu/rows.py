"""One row of `benchmarks.gpu_report`: `python -m benchmarks.gpu.rows NAME FILE [--tiny]`.

Appends a line of JSON to FILE for each figure of the row as soon as it is known, with the peak of
the device's memory so far, so that a row that ends early leaves what it has.
"""

import argparse
import dataclasses
import functools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import jax

from benchmarks.arguments import positive
from benchmarks.gpu.figures import FULL, TINY, Figure, Sizes, memory
from benchmarks.gpu.model_rows import attention, device, forward, parts, sequence, stream, training
from benchmarks.gpu.raster_rows import agreement, gsplat, raster


class Row(NamedTuple):
    """A row, and its part of the time."""

    share: float  # about the seconds that it takes on an H200
    figures: Callable[[Sizes], Iterator[Figure]]


ROWS = {  # in order of importance
    "device": Row(25, device),
    "forward_64": Row(100, functools.partial(forward, 64)),
    "raster_balanced": Row(90, functools.partial(raster, "balanced")),
    "training": Row(80, training),
    "ttt3r": Row(50, sequence),
    "streaming": Row(80, stream),
    "agreement": Row(25, agreement),
    "raster_pallas": Row(50, functools.partial(raster, "pallas")),
    "gsplat": Row(25, gsplat),
    "raster_tiled": Row(40, functools.partial(raster, "tiled")),
    "forward_32": Row(50, functools.partial(forward, 32)),
    "forward_16": Row(40, functools.partial(forward, 16)),
    "attention": Row(25, attention),
    "parts": Row(60, parts),
}


def main(arguments: list[str] | None = None) -> None:
    """Measures one row. Exits with a message on a CPU, unless at tiny sizes."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu.rows", description=__doc__)
    parser.add_argument("name", choices=ROWS)
    parser.add_argument("file", type=Path)
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--repeats", type=positive)
    options = parser.parse_args(arguments)
    measures_jax = options.name != "gsplat"
    if measures_jax and not options.tiny and jax.default_backend() == "cpu":
        raise SystemExit("InputError: device=cpu is no accelerator; use --tiny for a rehearsal")
    with options.file.open("a", encoding="utf-8") as file:
        sizes = TINY if options.tiny else FULL
        sizes = dataclasses.replace(sizes, repeats=options.repeats or sizes.repeats)
        for figure in ROWS[options.name].figures(sizes):
            peak = memory("peak_bytes_in_use")
            print(json.dumps(figure | {"gib_peak": peak}), file=file, flush=True)


if __name__ == "__main__":
    main()
