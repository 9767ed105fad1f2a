"""Does a pose graph take drift away? `python -m experiments.ttt3r_drift`.

Protocol: `--walks` held-out procedural rooms of the kind the packaged network knows (64x48). A walk
goes `--frames` / 2 frames out and comes back on the same path, so it ends where it began. The same
stream of frames is scored twice, before and after `LoopCloser`, for every one of `--reset-every`.
Prints a markdown table: ATE after Sim(3) alignment in metres, its paired difference, loops tried
and believed, and seconds of the graph with its pairs; `+-` is the standard error over walks.
"""

import argparse
import time

import numpy as np

from experiments.statistics import mean_and_error, with_error
from tttlrm_jax.api.models import load_sequence_model
from tttlrm_jax.api.poses.drift import LoopCloser
from tttlrm_jax.api.sequences import SequenceModel
from tttlrm_jax.config.data import WalkConfig
from tttlrm_jax.core.files.packaged_files import TTT3R_SMALL, packaged
from tttlrm_jax.metrics.trajectory import trajectory_errors
from tttlrm_jax.procedural.walks import render_walk, strided

ROOM = WalkConfig(
    height=48, width=64, min_fov=56.0, max_fov=62.0, min_side=4.5, max_side=6.5, walk_speed=0.04,
    turn_speed=0.6, start_range=40.0, compass=True,
)  # fmt: skip
FIRST_SEED = 2**31 + 100  # rooms that training never draws
HEADS = ("reset every", "ATE before", "ATE after", "after minus before", "loops held", "tried")


def measured(model: SequenceModel, seed: int, frames: int, pace: float, reset_every: int):
    """ATE before and after, loops believed and tried, seconds of closing."""
    walk = render_walk(seed, frames // 2, strided(ROOM, pace))
    order = [*range(frames // 2), *range(frames // 2)[::-1]]
    stream, closer = model.stream(reset_every=reset_every), LoopCloser()
    before = []
    for number in order:
        result = stream.step(walk.images[number])
        before.append(result.world_from_camera)
        closer.add(result)
    started = time.process_time()
    closed = closer.close(stream.model)
    seconds = time.process_time() - started
    closer.discard()
    true = walk.world_from_camera[order]
    ates = [trajectory_errors(x, true).ate for x in (np.stack(before), closed.world_from_camera)]
    return [*ates, ates[1] - ates[0], len(closed.loops), closed.tried, seconds]


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m experiments.ttt3r_drift", description=__doc__)
    parser.add_argument("--walks", type=int, default=8)
    parser.add_argument("--frames", type=int, default=64)
    parser.add_argument("--pace", type=float, default=2.0, help="of the walk")
    parser.add_argument("--reset-every", type=int, nargs="+", default=[0, 16])
    options = parser.parse_args(arguments)
    if options.walks < 1 or options.frames < 6:
        parser.error("--walks has to be 1 or more and --frames 6 or more")
    model = load_sequence_model(packaged(TTT3R_SMALL))
    print("| " + " | ".join((*HEADS, "CPU s")) + " |\n" + "|---" * (len(HEADS) + 1) + "|")
    for every in options.reset_every:
        rows = [
            measured(model, FIRST_SEED + walk, options.frames, options.pace, every)
            for walk in range(options.walks)
        ]
        found = mean_and_error(np.array(rows))
        cells = [
            with_error(mean, error, 3)
            for mean, error in zip(found["mean"], found["standard_error"], strict=True)
        ]
        print(f"| {every or 'never'} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
