"""Every figure that the documents leave open for a GPU, within ten minutes.

    python -m benchmarks.gpu_report [--output gpu_report.json] [--budget 600] [--rows NAME ...]
    python -m benchmarks.gpu_report --tiny                     the same rows in small, on any CPU

Each row runs in a process of its own, so that one that fails, hangs or runs out of memory costs its
own figure alone. Rows come in the order of what is most wanted; those that no time is left for say
so. JSON is written after every row, a table at the end. Goals are in the table.

Protocol: compiled apart, one warm-up, median of `--repeats`, each blocked on. Utilisation is the
FLOPs of the matrix products over seconds and the chip's peak for dense bfloat16. Peak memory is
what the device's allocator says of the row's process, with weights and inputs.
"""

import argparse
import dataclasses
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.arguments import positive

BUDGET = 600  # seconds
LONGEST = 150  # of one row
ROOT = Path(__file__).parents[1]
PRESET = ROOT / "configs" / "presets" / "scene_960x536.py"
LARGE, SMALL = (536, 960), (16, 24)  # height, width
GOAL = {"forward, 64 views": "3.8 s or less (paper: 14.8 s on an A100)"}

Result = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Sizes:
    """What a row is measured at."""

    tiny: bool
    repeats: int

    @property
    def picture(self) -> tuple[int, int]:
        return SMALL if self.tiny else LARGE

    def model(self) -> Any:
        """The published model with bfloat16 products, or a small one."""
        from tttlrm_jax.config import ModelConfig

        published = ModelConfig(compute_dtype="bfloat16")
        if not self.tiny:
            return published
        return dataclasses.replace(published, d_model=32, num_layers=1, attention_head_dim=16)


def device(sizes: Sizes) -> Result:
    import jax

    limit = (jax.devices()[0].memory_stats() or {}).get("bytes_limit")
    return {
        "platform": jax.devices()[0].platform, "kind": jax.devices()[0].device_kind,
        "devices": len(jax.devices()), "jax": jax.__version__,
        "gib_of_allocator": None if limit is None else limit / 2**30,
    }  # fmt: skip


def forward(views: int) -> Callable[[Sizes], Result]:
    """Views to Gaussians, all at once."""

    def row(sizes: Sizes) -> Result:
        import jax

        from benchmarks.cost.measure import measure
        from benchmarks.cost.utilisation import PEAK_TFLOPS
        from benchmarks.ttt_layer import draw_views, model_function

        count = 2 if sizes.tiny else views
        params, function = model_function(sizes.model(), "full", 1)
        cost = measure(function, (params, draw_views(count, sizes.picture)), sizes.repeats)
        kind = jax.devices()[0].device_kind
        peak = next((rate for name, rate in PEAK_TFLOPS.items() if name in kind), None)
        tflop = cost["gflop"] / 1e3
        return {
            "seconds": cost["seconds"], "tflop": tflop,
            "utilisation": None if peak is None else tflop / cost["seconds"] / peak,
            "compile_seconds": cost["compile_seconds"],
        }  # fmt: skip

    return row


def rasterizer(backend: str, count: int) -> Callable[[Sizes], Result]:
    """Forward and backward of 960x536, against the chip's floors, and the stages."""

    def row(sizes: Sizes) -> Result:
        from benchmarks import rasterize
        from benchmarks.raster_floors import measure_rates

        options = argparse.Namespace(
            opacity=0.1, focal=rasterize.FOCAL, views_at_once=1, repeats=sizes.repeats
        )
        height, width = sizes.picture
        number, views = (100, 1) if sizes.tiny else (count, 8)
        rates = None if sizes.tiny else measure_rates()
        found = rasterize.measure((width, height), number, views, backend, options, rates)
        result = {}
        for name in ("forward", "forward_backward"):
            result[f"{name}_ms_per_view"] = 1e3 * found[name]["seconds_per_view"]
            if rates is not None:
                result[f"{name}_share_of_floor"] = found[name]["fraction_of_floor"]
        stages = found.get("seconds_stage", {})
        return result | {f"{name}_ms": 1e3 * seconds for name, seconds in stages.items()}

    return row


def training(sizes: Sizes) -> Result:
    """A step of the preset of whole scenes on one device: 8 views, 8 targets."""
    import jax
    import numpy as np

    from benchmarks.ttt_layer import draw_views
    from tttlrm_jax.apps.train import load_config_file
    from tttlrm_jax.config import RunConfig
    from tttlrm_jax.models import build_model, split_model
    from tttlrm_jax.parallel.mesh import make_mesh
    from tttlrm_jax.training.objectives.batches import StaticParts
    from tttlrm_jax.training.tasks.mesh_program import MeshProgram
    from tttlrm_jax.training.update import init_train_state

    height, width = sizes.picture
    views = 2 if sizes.tiny else 8
    name = f"{PRESET}:views={views},devices=1,height={height},width={width}"
    config = load_config_file(name)
    assert isinstance(config, RunConfig)
    model = dataclasses.replace(sizes.model(), remat="block")
    config = dataclasses.replace(config, model=model)
    graph, params = split_model(build_model(config.model))
    program = MeshProgram(StaticParts(graph, config), make_mesh(config.mesh, jax.devices()[:1]))
    targets = config.data.num_target_views
    drawn = jax.tree.map(np.asarray, draw_views(views + targets, (height, width)))
    arrays = {}
    for half, where in (("input", slice(0, views)), ("target", slice(views, None))):
        arrays[f"{half}_image"] = drawn.image[:, where]
        arrays[f"{half}_world_from_camera"] = drawn.cameras.world_from_camera[:, where]
        arrays[f"{half}_intrinsics"] = drawn.cameras.intrinsics[:, where]
    batch = program.batch(arrays, 1, 1)
    state, seconds = program.place(init_train_state(params, config)), []
    for _ in range(sizes.repeats + 2):
        start = time.perf_counter()
        state, metrics = program.step(state, batch)
        jax.block_until_ready((state, metrics))
        seconds.append(time.perf_counter() - start)
    middle = float(np.median(seconds[2:]))
    return {"views": views, "seconds": middle, "first_step_seconds": seconds[0]}


def streaming(sizes: Sizes) -> Result:
    """A chunk of 4 views written and read."""
    from benchmarks.streaming import measure_live
    from tttlrm_jax.models import build_model, split_model

    graph, params = split_model(build_model(sizes.model()))
    chunk, lengths = (1, [2, 3]) if sizes.tiny else (4, [4, 8])
    rows = measure_live(graph, params, sizes.picture, chunk, lengths)
    first, last = rows[0], rows[-1]
    return {
        "seconds_per_chunk": last["seconds_per_chunk"],
        "growth": last["seconds_per_chunk"] / first["seconds_per_chunk"],
        "mib_state": last["mib_state"], "mib_temporary": last["mib_temporary"],
    }  # fmt: skip


def ttt3r(sizes: Sizes) -> Result:
    """Frames of the published network, 512 pixels wide, one after another."""
    import jax
    import numpy as np

    from benchmarks.ttt3r_stream import SMALL as SMALL_NETWORK
    from tttlrm_jax.api.sequences import SequenceModel
    from tttlrm_jax.config.ttt3r import TTT3RConfig
    from tttlrm_jax.models import build_model, split_model

    config = SMALL_NETWORK if sizes.tiny else TTT3RConfig()
    graph, params = split_model(build_model(config))
    model = SequenceModel(config=config, graph=graph, params=params, path=Path())
    height, width = (48, 64) if sizes.tiny else (384, 512)
    stream, rng, seconds = model.stream(size=width), np.random.default_rng(0), []
    for _ in range(4 if sizes.tiny else 32):
        image = rng.integers(0, 256, (height, width, 3), np.uint8)
        start = time.perf_counter()
        stream.step(image)
        seconds.append(time.perf_counter() - start)
    middle = float(np.median(seconds[2:]))
    weights = sum(leaf.nbytes for leaf in jax.tree.leaves(params))
    return {
        "frames_per_second": 1 / middle, "seconds_per_frame": middle,
        "first_frame_seconds": seconds[0], "gib_weights": weights / 2**30,
    }  # fmt: skip


ROWS: dict[str, Callable[[Sizes], Result]] = {
    "device": device,
    "forward, 64 views": forward(64),
    "forward, 16 views": forward(16),
    "rasterizer, balanced, 1M": rasterizer("balanced", 1_000_000),
    "training step": training,
    "ttt3r": ttt3r,
    "streaming": streaming,
    "forward, 32 views": forward(32),
    "rasterizer, pallas, 1M": rasterizer("pallas", 1_000_000),
    "rasterizer, tiled, 1M": rasterizer("tiled", 1_000_000),
    "rasterizer, balanced, 100k": rasterizer("balanced", 100_000),
    "rasterizer, balanced, 5M": rasterizer("balanced", 5_000_000),
}


def measured(name: str, sizes: Sizes) -> Result:
    """One row, in this process."""
    import jax

    result = ROWS[name](sizes)
    peak = (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use")
    return result if peak is None else result | {"peak_gib": peak / 2**30}


def run_row(name: str, options: argparse.Namespace, seconds: float) -> dict[str, Any]:
    """One row in a process of its own, which has so many seconds."""
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        into = Path(folder) / "row.json"
        command = [
            sys.executable,
            "-m",
            "benchmarks.gpu_report",
            "--row",
            name,
            "--into",
            str(into),
        ]
        command += ["--repeats", str(options.repeats), *(["--tiny"] if options.tiny else [])]
        try:
            done = subprocess.run(
                command, cwd=ROOT, capture_output=True, text=True, timeout=seconds, check=False
            )
            said = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
            record = (
                {"state": "measured", "result": json.loads(into.read_text())}
                if done.returncode == 0 and into.exists()
                else {"state": "failed", "error": said[-1][:300], "stderr": said[-20:]}
            )
        except subprocess.TimeoutExpired:
            record = {"state": "failed", "error": f"took more than {seconds:.1f} s"}
    return {"row": name, **record, "wall_seconds": round(time.perf_counter() - start, 1)}


def table(records: list[dict[str, Any]]) -> str:
    """Markdown: row, figures, goal."""
    lines = ["| row | figures | goal |", "|---|---|---|"]
    for record in records:
        figures = record.get("error", record["state"])
        if record["state"] == "measured":
            shown = ((name, value) for name, value in record["result"].items() if value is not None)
            figures = ", ".join(
                f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}"
                for name, value in shown
            )
        elif record["state"] == "failed":
            figures = f"failed: {figures}"
        lines.append(f"| {record['row']} | {figures} | {GOAL.get(record['row'], '')} |")
    return "\n".join(lines)


def report(options: argparse.Namespace) -> list[dict[str, Any]]:
    """All rows, written to the file after each."""
    start, records = time.monotonic(), []
    for name in options.rows or ROWS:
        left = options.budget - (time.monotonic() - start)
        if left <= 0:
            records.append({"row": name, "state": "no time left"})
        else:
            records.append(run_row(name, options, min(left, LONGEST)))
        about = {"tiny": options.tiny, "repeats": options.repeats, "budget": options.budget}
        text = json.dumps(about | {"records": records}, indent=2)
        options.output.write_text(text + "\n", encoding="utf-8")
        print(f"{name}: {records[-1]['state']}", file=sys.stderr, flush=True)
    return records


def main(arguments: list[str] | None = None) -> int:
    """The report, or with `--row` one row of it; 0 if every row was measured."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu_report", description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("gpu_report.json"))
    parser.add_argument("--budget", type=positive, default=BUDGET, help="seconds")
    parser.add_argument("--rows", nargs="+", choices=list(ROWS), metavar="NAME")
    parser.add_argument("--repeats", type=positive, default=5)
    parser.add_argument("--tiny", action="store_true", help="small sizes, for a rehearsal")
    parser.add_argument("--row", choices=list(ROWS), help=argparse.SUPPRESS)
    parser.add_argument("--into", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.row is not None:
        result = measured(options.row, Sizes(options.tiny, options.repeats))
        options.into.write_text(json.dumps(result))
        return 0
    records = report(options)
    print(table(records))
    return int(any(record["state"] != "measured" for record in records))


if __name__ == "__main__":
    sys.exit(main())
