"""Cost of a TTT3R stream against its length: `python -m benchmarks.ttt3r_stream [--json]`.

Protocol: a small network with random weights (cost does not depend on them) goes through
`--frames` frames of a procedural room with true depth and poses, 64x48, read from disk, and writes
all that `eval.py --model ttt3r` writes. Time per frame is measured between calls of the model, so
decoding, the step, scores and files are in it; the figure of a tenth of the sequence is the median
of its frames. CPU seconds stand beside wall time. Resident memory is read after every frame; the
first frame compiles and is left out. The last lines give the last tenth over the second.
"""

import argparse
import json
import os
import shutil
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import jax

from tttlrm_jax.api.sequences import LiveModel, Prediction
from tttlrm_jax.apps.sequences.command import evaluate_sequence
from tttlrm_jax.apps.sequences.files import peak_memory_mib
from tttlrm_jax.config import RuleConfig
from tttlrm_jax.config.evaluation import SequenceEvalConfig
from tttlrm_jax.config.ttt3r import TTT3RConfig
from tttlrm_jax.models import build_model, split_model
from tttlrm_jax.procedural.walks import render_walk, write_seven_scenes
from tttlrm_jax.ttt.state_rules import build_state_rule

SMALL = TTT3RConfig(
    encoder_width=64, encoder_depth=2, encoder_heads=4, ray_encoder_depth=1, ray_encoder_heads=4,
    decoder_width=48, decoder_depth=4, decoder_heads=3, state_heads=3, num_state_tokens=48,
    memory_slots=16, memory_heads=3, head="linear",
)  # fmt: skip


def resident_mib() -> float:
    """Memory of this process that is in RAM now (Linux); NaN elsewhere."""
    status = Path("/proc/self/statm")
    if not status.exists():
        return float("nan")
    return int(status.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


class Measured:
    """Passes frames on and notes when and with how much memory each came back."""

    def __init__(self, model: LiveModel):
        self._model = model
        self.wall: list[float] = []
        self.cpu: list[float] = []
        self.memory: list[float] = []

    def restart(self) -> None:
        self._model.restart()

    def __call__(self, image: Any, *, reset: bool, update: bool) -> Prediction:
        made = self._model(image, reset=reset, update=update)
        self.wall.append(time.perf_counter())
        self.cpu.append(time.process_time())
        self.memory.append(resident_mib())
        return made


def measure(frames: int, rule: str, directory: Path) -> dict[str, Any]:
    """One row per tenth of the sequence."""
    write_seven_scenes(directory / "room", render_walk(0, frames))
    config = SequenceEvalConfig(
        capture=str(directory / "room"), size=64, output=str(directory / "out"), min_confidence=1.0
    )
    made: list[Measured] = []

    def open_model(config: SequenceEvalConfig, rule: RuleConfig) -> Measured:
        graph, params = split_model(build_model(SMALL, seed=0))
        made.append(Measured(LiveModel(graph, params, build_state_rule(rule), config.behaviour)))
        return made[0]

    evaluate_sequence(config, RuleConfig(rule), open_model)
    notes, tenth, rows = made[0], (frames - 1) // 10, []
    for start in range(1, 10 * tenth, tenth):
        part = range(start, start + tenth)
        rows.append({
            "frames": start + tenth,
            "seconds_per_frame": statistics.median(
                notes.wall[i] - notes.wall[i - 1] for i in part
            ),
            "cpu_seconds_per_frame": statistics.median(
                notes.cpu[i] - notes.cpu[i - 1] for i in part
            ),
            "mib_resident": notes.memory[start + tenth - 1],
        })  # fmt: skip
    names = ("seconds_per_frame", "cpu_seconds_per_frame", "mib_resident")
    return {
        "protocol": {"frames": frames, "rule": rule, "statistic": "median over a tenth"},
        "device": jax.devices()[0].device_kind, "jax": jax.__version__, "rows": rows,
        "growth": {name: rows[-1][name] / rows[1][name] for name in names},
        "peak_mib_with_scores": peak_memory_mib(),
        "mib_written": sum(p.stat().st_size for p in (directory / "out").rglob("*")) / 2**20,
    }  # fmt: skip


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ttt3r_stream", description=__doc__)
    parser.add_argument("--frames", type=int, default=1000)
    parser.add_argument("--rule", default="ttt3r")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of lines")
    options = parser.parse_args(arguments)
    if options.frames < 30:
        parser.error(f"--frames {options.frames} is below 30; there is no growth to see")
    directory = Path(tempfile.mkdtemp(prefix="ttt3r-stream-"))
    try:
        result = measure(options.frames, options.rule, directory)
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    if options.json:
        print(json.dumps(result, indent=2))
        return
    for row in result["rows"]:
        print(
            f"to frame {row['frames']:>5}: {row['seconds_per_frame'] * 1e3:7.1f} ms "
            f"({row['cpu_seconds_per_frame'] * 1e3:.1f} ms CPU) per frame, "
            f"{row['mib_resident']:7.1f} MiB resident"
        )
    for name, ratio in result["growth"].items():
        print(f"{name}: x{ratio:.3f} from the second tenth to the last")
    print(
        f"peak with scores and report {result['peak_mib_with_scores']:.1f} MiB, "
        f"written {result['mib_written']:.1f} MiB"
    )


if __name__ == "__main__":
    main()
