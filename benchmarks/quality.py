"""Quality on held-out procedural objects: `python -m benchmarks.quality [--json]`.

Protocol: scenes of the `eval` split (their seeds never occur in training), rendered at the
model's own resolution; per scene the input and target views are drawn once with a fixed seed, as
in training. PSNR and SSIM are per image, clipped to [0, 1], averaged over views and scenes; `+-`
is the standard error over scenes, of gains that of the difference scene by scene. All rows come
from one run on the same images. `--post-optimize 3 10` adds rows of the model's Gaussians refined
on the inputs for so many steps, `--fit 500 2000` rows of 3D Gaussian Splatting from nothing; their
seconds are means per scene, wall clock, without compiling and without the model's own.
"""

import argparse
import dataclasses
import functools
import json
import math
import tempfile

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.per_scene import Seconds, fitted, refined
from tttlrm_jax.commands.packaged_files import packaged
from tttlrm_jax.config import RunConfig
from tttlrm_jax.data import evaluation_loader
from tttlrm_jax.evaluation.baselines import mean_colour, nearest_input
from tttlrm_jax.evaluation.metrics import psnr, ssim
from tttlrm_jax.models import build_model, split_model
from tttlrm_jax.training.checkpoint import load_model
from tttlrm_jax.training.objective import StaticParts, batch_from_arrays
from tttlrm_jax.training.step import predict

BATCH_SIZE = 4


def on_procedural_objects(config: RunConfig, cache_directory: str) -> RunConfig:
    """The run's configuration with procedural objects in place of its own source."""
    data = dataclasses.replace(
        config.data, source="synthetic", cache_directory=cache_directory, render_workers=1
    )
    return dataclasses.replace(config, data=data)


def pictures(batch: dict, predictors: dict) -> dict[str, np.ndarray]:
    """Every method's answer, `[scene, target, height, width, 3]`."""
    record = batch_from_arrays(batch)
    answers = {name: np.asarray(run(batch=record)[0].rgb) for name, run in predictors.items()}
    num_targets = batch["target_image"].shape[1]
    answers["nearest input view"] = np.stack(
        [
            nearest_input(images, poses, targets)[0]
            for images, poses, targets in zip(
                batch["input_image"],
                batch["input_world_from_camera"],
                batch["target_world_from_camera"],
                strict=True,
            )
        ]
    )
    answers["mean colour"] = np.stack(
        [mean_colour(images, num_targets) for images in batch["input_image"]]
    )
    return answers


def standard_error(scores: np.ndarray) -> float | None:
    """Of the mean of scores [scene]; None for one scene."""
    if len(scores) < 2:
        return None
    return float(scores.std(ddof=1) / math.sqrt(len(scores)))


def measure(
    checkpoint: str,
    num_scenes: int,
    post_optimize: tuple[int, ...] = (),
    fit: tuple[int, ...] = (),
) -> dict:
    """Mean scores of the checkpoint, the baselines and per-scene optimisation by its steps."""
    config, model = load_model(checkpoint)
    graph, params = split_model(model)
    _, untrained = split_model(build_model(config.model, seed=0))
    with tempfile.TemporaryDirectory() as cache:
        config = on_procedural_objects(config, cache)
        run = jax.jit(functools.partial(predict, static=StaticParts(graph, config)))
        predictors = {
            "this model": functools.partial(run, params),
            "untrained model": functools.partial(run, untrained),
        }
        seconds = Seconds()
        static = StaticParts(graph, config)
        per_scene = [refined(params, static, steps, seconds) for steps in post_optimize]
        per_scene += [fitted(static, steps, seconds) for steps in fit]
        scores: dict[str, list] = {}
        for batch in evaluation_loader(config.data, num_scenes, BATCH_SIZE):
            answers = pictures(batch, predictors)
            answers |= {name: answer(batch_from_arrays(batch)) for name, answer in per_scene}
            for name, answer in answers.items():
                images = jnp.asarray(answer), jnp.asarray(batch["target_image"])
                pair = np.stack([psnr(*images), ssim(*images)], axis=-1)
                scores.setdefault(name, []).append(pair.mean(axis=1))
    rows = {name: np.concatenate(parts) for name, parts in scores.items()}
    height, width = config.data.image_size
    return {
        "checkpoint": str(checkpoint),
        "scenes": len(next(iter(rows.values()))),
        "input_views": config.data.num_input_views,
        "target_views": config.data.num_target_views,
        "resolution": [height, width],
        "device": jax.devices()[0].device_kind,
        "methods": {
            name: {
                "psnr": float(values[:, 0].mean()),
                "psnr_standard_error": standard_error(values[:, 0]),
                "ssim": float(values[:, 1].mean()),
                "gain": float((rows["this model"] - values)[:, 0].mean()),
                "gain_standard_error": standard_error((rows["this model"] - values)[:, 0]),
                "seconds": seconds.mean(name),
            }
            for name, values in rows.items()
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Quality on held-out procedural objects.")
    parser.add_argument("--checkpoint", default=None, help="default: the weights in the package")
    parser.add_argument("--scenes", type=int, default=64)
    parser.add_argument("--post-optimize", type=int, nargs="*", default=[], metavar="STEPS")
    parser.add_argument("--fit", type=int, nargs="*", default=[], metavar="STEPS")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    result = measure(
        arguments.checkpoint or str(packaged("quickstart")), arguments.scenes,
        tuple(arguments.post_optimize), tuple(arguments.fit),
    )  # fmt: skip
    if arguments.json:
        print(json.dumps(result, indent=2))
        return
    height, width = result["resolution"]
    print(
        f"{result['scenes']} held-out objects, {result['input_views']} input and "
        f"{result['target_views']} target views, {width}x{height} pixels, {result['device']}\n"
    )
    for name, row in result["methods"].items():
        error = row["psnr_standard_error"]
        spread = "" if error is None else f" +- {error:.2f}"
        gain = f"   we gain {row['gain']:.2f}" if name != "this model" else ""
        if gain and row["gain_standard_error"] is not None:
            gain += f" +- {row['gain_standard_error']:.2f} dB"
        time = "" if row["seconds"] is None else f"   {row['seconds']:.2f} s a scene"
        print(f"{name:<30}{row['psnr']:7.2f}{spread} dB   SSIM {row['ssim']:.3f}{gain}{time}")


if __name__ == "__main__":
    main()
