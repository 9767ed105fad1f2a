"""Kills a training run at random moments, over and over, and compares it with one left alone.

    python -m benchmarks.soak --kills 20 [--steps 60] [--seed 0]

Each start resumes by itself from the newest complete checkpoint. A quarter of the kills (SIGKILL)
come while a process starts, reads data or compiles; the others a random number of steps later, with
checkpoints every second step so that many hit an asynchronous save. In the end the parameters have
to be those of the undisturbed run bit for bit; exits with 1 if they are not, or if fewer kills fit
in.
"""

import dataclasses
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import tyro

ROOT = Path(__file__).resolve().parents[1]
SETTINGS = {
    "model.d-model": 8, "model.num-layers": 1, "model.attention-head-dim": 4,
    "model.num-ttt-heads": 1, "model.muon-steps": 1, "model.sh-degree": 0,
    "data.synthetic.num-scenes": 8, "data.synthetic.height": 8, "data.synthetic.width": 16,
    "raster.backend": "reference", "train.log-every": 1, "train.checkpoint-every": 2,
    "train.eval-every": 1000, "train.eval-scenes": 1,
}  # fmt: skip
POLL_SECONDS = 0.02


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    kills: int = 20
    steps: int = 0  # of the run; 0: three for each kill
    seed: int = 0  # of the moments
    directory: str | None = None  # None: a temporary one


def start(directory: Path, name: str, steps: int) -> subprocess.Popen:
    settings = SETTINGS | {
        "name": name, "train.num-steps": steps, "train.directory": directory / "runs",
        "data.cache-directory": directory / "cache",
    }  # fmt: skip
    arguments = [text for key, value in settings.items() for text in (f"--{key}", str(value))]
    command = [sys.executable, str(ROOT / "train.py"), str(ROOT / "configs/smoke.py"), *arguments]
    environment = {
        "JAX_COMPILATION_CACHE_DIR": str(directory / "compiled"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        **os.environ,
    }
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )


def steps_taken(directory: Path, name: str) -> int:
    """The last step on record; a line being written does not count."""
    path = directory / "runs" / name / "metrics.jsonl"
    steps = [0]
    for line in path.read_text().splitlines() if path.exists() else ():
        try:
            steps.append(json.loads(line)["step"])
        except json.JSONDecodeError:
            continue
    return max(steps)


def run_to_end(directory: Path, name: str, steps: int) -> None:
    process = start(directory, name, steps)
    _, errors = process.communicate()
    if process.returncode:
        raise SystemExit(f"{name} ended with {process.returncode}:\n{errors[-3000:]}")


def kill_once(directory: Path, steps: int, rng: np.random.Generator, startup: float) -> str | None:
    """Starts the run and kills it at a random moment; says when, or None if it finished first."""
    before = steps_taken(directory, "killed")
    process = start(directory, "killed", steps)
    begun = time.monotonic()
    early = rng.random() < 0.25
    wait = rng.uniform(0, startup) if early else float("inf")
    target = before + int(rng.integers(1, 6))
    while time.monotonic() - begun < wait and steps_taken(directory, "killed") < target:
        if process.poll() is not None:
            _, errors = process.communicate()
            if process.returncode:
                raise SystemExit(f"a resumed run ended in an error:\n{errors[-3000:]}")
            return None
        time.sleep(POLL_SECONDS)
    time.sleep(0 if early else rng.uniform(0, 0.2))
    process.kill()
    process.communicate()
    return f"{'starting' if early else 'training'} at step {steps_taken(directory, 'killed')}"


def parameters(directory: Path, name: str) -> list[np.ndarray]:
    import jax

    from tttlrm_jax.models import split_model
    from tttlrm_jax.training.checkpoint import load_model

    _, model = load_model(directory / "runs" / name)
    return [np.asarray(leaf) for leaf in jax.tree.leaves(split_model(model)[1])]


def soak(options: Options, directory: Path) -> dict:
    """Runs both and returns what happened."""
    steps = options.steps or 3 * options.kills + 4
    begun = time.monotonic()
    run_to_end(directory, "straight", steps)
    startup = min(time.monotonic() - begun, 30.0)
    rng = np.random.default_rng(options.seed)
    moments: list[str] = []
    while len(moments) < options.kills:
        moment = kill_once(directory, steps, rng, startup)
        if moment is None:
            break
        moments.append(moment)
        print(f"kill {len(moments)}: {moment}", flush=True)
    run_to_end(directory, "killed", steps)
    ours, theirs = parameters(directory, "killed"), parameters(directory, "straight")
    same = len(ours) == len(theirs) and all(
        np.array_equal(a, b) for a, b in zip(ours, theirs, strict=True)
    )
    damaged = list((directory / "runs/killed").glob("damaged/*"))
    return {
        "kills": len(moments), "wanted": options.kills, "steps": steps,
        "bit_identical": same, "damaged_checkpoints": len(damaged),
    }  # fmt: skip


def main() -> int:
    options = tyro.cli(Options)
    if options.directory is not None:
        result = soak(options, Path(options.directory).absolute())
    else:
        with tempfile.TemporaryDirectory() as directory:
            result = soak(options, Path(directory))
    print(json.dumps(result))
    return 0 if result["bit_identical"] and result["kills"] == result["wanted"] else 1


if __name__ == "__main__":
    sys.exit(main())
