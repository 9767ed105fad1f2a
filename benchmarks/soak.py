"""Kills a training run over and over, and compares it with one left alone.

    python -m benchmarks.soak --kills 20 [--steps 60] [--seed 0]

Each start resumes by itself from the newest complete checkpoint. Kills (SIGKILL) are aimed in
turn:

- `saving`: an asynchronous save is under way; a checkpoint's directory has not its final name
- `drawing`: items of a batch are being drawn
- `rendering`: scenes are being rendered into the cache, which is removed before such a start
- `stepping`: a step has been started and its metrics have not been read
- `any`: a random moment, also while the process starts and compiles

An aimed kill waits for a random number of steps (`rendering`: for none), then for its activity,
then for a random part of the time that the activity took when it was last seen. What a kill hit is
told by what is left once the process is gone: an uncommitted checkpoint that was not there before,
an unfinished cache, and the counts of `benchmarks.soak_process`. A kill may hit several activities,
or none.

In the end the parameters have to be those of the undisturbed run bit for bit, and every process
that came so far has to have resumed from the newest complete checkpoint. Exits with 1 if that does
not hold, if none resumed, if a checkpoint was damaged, if fewer kills fit in, or if an activity was
aimed at and never hit.
"""

import collections
import dataclasses
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import tyro

from benchmarks.soak_process import DRAWS, STEPS, open_board

ROOT = Path(__file__).resolve().parents[1]
SETTINGS = {
    "model.d-model": 8, "model.num-layers": 1, "model.attention-head-dim": 4,
    "model.num-ttt-heads": 1, "model.muon-steps": 1, "model.sh-degree": 0,
    "data.synthetic.num-scenes": 8, "data.synthetic.height": 8, "data.synthetic.width": 16,
    "raster.backend": "reference", "train.log-every": 1, "train.checkpoint-every": 2,
    "train.eval-every": 1000, "train.eval-scenes": 1,
}  # fmt: skip
ACTIVITIES = ("saving", "drawing", "rendering", "stepping")
AIMS = (*ACTIVITIES, "any")
FIRST_GUESS = 0.02  # seconds that an activity takes, before one has been seen
POLL_SECONDS = 0.0005


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    kills: int = 20
    steps: int = 0  # of the run; 0: sixty for each kill, as an idle machine takes many in between
    seed: int = 0  # of the moments
    directory: str | None = None  # None: a temporary one


@dataclasses.dataclass
class Run:
    """One run of several processes in turn, and what can be seen of it from outside."""

    directory: Path
    name: str
    num_steps: int
    process: subprocess.Popen = dataclasses.field(init=False)
    board: np.ndarray = dataclasses.field(init=False)
    left_over: frozenset = frozenset()  # uncommitted checkpoints of earlier processes
    newest: int = 0  # complete checkpoint when the process started
    seconds: dict[str, float] = dataclasses.field(
        default_factory=lambda: dict.fromkeys(ACTIVITIES, FIRST_GUESS)
    )

    @property
    def path(self) -> Path:
        return self.directory / "runs" / self.name

    @property
    def errors(self) -> Path:
        return self.directory / f"{self.name}.errors"

    def start(self) -> None:
        """A process that goes on with the run."""
        settings = SETTINGS | {
            "name": self.name, "train.num-steps": self.num_steps,
            "train.directory": self.directory / "runs",
            "data.cache-directory": self.directory / "cache",
        }  # fmt: skip
        self.left_over, self.newest = self.uncommitted(), self.newest_checkpoint()
        board = self.directory / f"{self.name}.board"
        self.board = open_board(board, new=True)
        arguments = [text for key, value in settings.items() for text in (f"--{key}", str(value))]
        command = [
            sys.executable, "-m", "benchmarks.soak_process", str(board),
            str(ROOT / "configs/smoke.py"), *arguments,
        ]  # fmt: skip
        environment = {
            "JAX_COMPILATION_CACHE_DIR": str(self.directory / "compiled"),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            **os.environ,
        }
        with self.errors.open("w") as errors:
            self.process = subprocess.Popen(
                command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=errors
            )

    def check_resumed(self) -> bool:
        """Whether the process came so far as to say where it resumed; it must be the newest."""
        said = re.search(r"resumed \S+ at step (\d+)", self.errors.read_text())
        if said and int(said[1]) != self.newest:
            raise SystemExit(f"resumed at step {said[1]}, the newest checkpoint was {self.newest}")
        return said is not None

    def finished(self) -> bool:
        """Whether the process has ended; SystemExit if that was in an error."""
        code = self.process.poll()
        if code:
            text = self.errors.read_text()
            raise SystemExit(f"{self.name} ended with {code}:\n{text[-3000:]}")
        return code == 0

    def run_to_end(self) -> None:
        self.start()
        self.process.wait()
        self.finished()
        self.check_resumed()

    def entries(self) -> list[Path]:
        folder = self.path / "checkpoints"
        return list(folder.iterdir()) if folder.is_dir() else []

    def newest_checkpoint(self) -> int:
        return max((int(e.name) for e in self.entries() if e.name.isdigit()), default=0)

    def uncommitted(self) -> frozenset:
        """Checkpoints without their final name, each told from an earlier one of its name."""
        found = set()
        for entry in self.entries():
            if not entry.name.isdigit():
                try:
                    found.add((entry.name, entry.stat().st_ctime_ns))
                except FileNotFoundError:  # it has just been committed
                    continue
        return frozenset(found)

    def caches(self) -> list[Path]:
        return list((self.directory / "cache").glob("train-*"))

    def under_way(self, activity: str) -> bool:
        if activity == "saving":
            return bool(self.uncommitted() - self.left_over)
        if activity == "drawing":
            return self.board[DRAWS] > 0
        if activity == "stepping":
            return self.board[STEPS] > 0
        return any(not list(cache.glob("scenes-*")) for cache in self.caches())

    def steps_taken(self) -> int:
        """The last step on record; a line being written does not count."""
        path = self.path / "metrics.jsonl"
        steps = [0]
        for line in path.read_text().splitlines() if path.exists() else ():
            try:
                steps.append(json.loads(line)["step"])
            except json.JSONDecodeError:
                continue
        return max(steps)

    def wait_inside(self, activity: str, rng: np.random.Generator) -> bool:
        """Waits for a moment inside the activity; False if the process ends before."""
        while not self.finished():
            if not self.under_way(activity):
                time.sleep(POLL_SECONDS)
                continue
            begun = time.monotonic()
            until = begun + rng.uniform(0, self.seconds[activity])
            while (inside := self.under_way(activity)) and time.monotonic() < until:
                time.sleep(POLL_SECONDS)
            if inside:
                return True
            self.seconds[activity] = time.monotonic() - begun
        return False

    def wait_for_steps(self, count: int) -> bool:
        """Waits until so many more have been taken; False if the process ends before."""
        wanted = self.newest + count
        while count and self.steps_taken() < wanted:
            if self.finished():
                return False
            time.sleep(0.02)
        return True

    def kill(self) -> set[str]:
        """Kills the process; says what it was doing."""
        self.process.kill()
        self.process.wait()
        return {activity for activity in ACTIVITIES if self.under_way(activity)}


def kill_once(run: Run, aim: str, rng: np.random.Generator, startup: float) -> set[str] | None:
    """Starts the run and kills it; says what it was doing, or None if it finished first."""
    if aim == "rendering":
        for cache in run.caches():
            shutil.rmtree(cache)
    run.start()
    if aim == "any":
        until = time.monotonic() + rng.uniform(0, startup)
        while time.monotonic() < until:
            if run.finished():
                return None
            time.sleep(POLL_SECONDS)
        return run.kill()
    steps = 0 if aim == "rendering" else int(rng.integers(0, 6))
    if run.wait_for_steps(steps) and run.wait_inside(aim, rng):
        return run.kill()
    return None


def parameters(run: Run) -> list[np.ndarray]:
    import jax

    from tttlrm_jax.checkpoints.models import load_model
    from tttlrm_jax.models import split_model

    _, model = load_model(run.path)
    return [np.asarray(leaf) for leaf in jax.tree.leaves(split_model(model)[1])]


def soak(options: Options, directory: Path) -> dict:
    """Runs both and returns what happened."""
    steps = options.steps or 60 * options.kills
    straight, killed = Run(directory, "straight", steps), Run(directory, "killed", steps)
    begun = time.monotonic()
    straight.run_to_end()
    startup = min(time.monotonic() - begun, 30.0)
    rng = np.random.default_rng(options.seed)
    hits: collections.Counter[str] = collections.Counter()
    resumed = 0
    for number, aim in zip(range(1, options.kills + 1), itertools.cycle(AIMS), strict=False):
        doing = kill_once(killed, aim, rng, startup)
        if doing is None:
            break
        resumed += killed.check_resumed()
        hits.update(doing or {"none of these"})
        hits["kills"] += 1
        print(
            f"kill {number}, aimed at {aim}: hit {', '.join(sorted(doing)) or 'none of these'}; "
            f"step {killed.steps_taken()}, newest checkpoint {killed.newest_checkpoint()}",
            flush=True,
        )
    killed.run_to_end()
    ours, theirs = parameters(killed), parameters(straight)
    same = len(ours) == len(theirs) and all(
        np.array_equal(a, b) for a, b in zip(ours, theirs, strict=True)
    )
    return {
        "kills": hits.pop("kills", 0), "wanted": options.kills, "steps": steps,
        "hit": {name: hits[name] for name in (*ACTIVITIES, "none of these")},
        "resumed_from_newest": resumed + killed.check_resumed(),
        "bit_identical": same, "damaged_checkpoints": len(list(killed.path.glob("damaged/*"))),
    }  # fmt: skip


def holds(result: dict) -> bool:
    """Whether the run survived as many kills as wanted, every activity among them, resumed and left
    no damaged checkpoint."""
    missed = [aim for aim in AIMS[: result["wanted"]] if result["hit"].get(aim, 1) == 0]
    return (
        result["bit_identical"]
        and result["kills"] == result["wanted"]
        and result["resumed_from_newest"] > 0
        and result["damaged_checkpoints"] == 0
        and not missed
    )


def main() -> int:
    options = tyro.cli(Options)
    if options.directory is not None:
        chosen = Path(options.directory).absolute()
        chosen.mkdir(parents=True, exist_ok=True)
        result = soak(options, chosen)
    else:
        with tempfile.TemporaryDirectory() as directory:
            result = soak(options, Path(directory))
    print(json.dumps(result))
    return 0 if holds(result) else 1


if __name__ == "__main__":
    sys.exit(main())
