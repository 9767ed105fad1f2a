"""Quality after every chunk of a stream: `python -m experiments.causal_quality --checkpoint RUN`.

Protocol: objects of the `eval` split, as in `experiments.quality`, with the input views of the
checkpoint arriving in chunks of `--chunk-views`. After every chunk the targets (the same ones
throughout) are rendered from the Gaussians of all views that have arrived:

- *causal*: written by the stream, all views read again with the weights of that moment;
- *sequential*: the published autoregressive plan over the views so far, computed anew: chunks
  update one after another, every token reads the final weights;
- *full*: one update with all views so far, computed anew.

Sets of weights: those of `--checkpoint`, trained causally; those of `--control`, trained just as
long on the same views with the sequential plan, which tells causality from more training; and
those of `--baseline`, the shipped ones by default. PSNR per image, clipped to [0, 1], averaged over
targets and objects; `+-` is the standard error over objects, for differences that of the paired
difference. All rows come from one run on the same images.
"""

import argparse
import functools
import json
import sys
import tempfile

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.arguments import positive
from experiments.quality.scenes import on_procedural_objects
from experiments.statistics import mean_and_error, with_error
from tttlrm_jax.checkpoints.models import load_model, load_parameters
from tttlrm_jax.config import Plan
from tttlrm_jax.config.command_line import EXIT_BAD_INPUT
from tttlrm_jax.core.errors import InputError
from tttlrm_jax.core.files.packaged_files import packaged
from tttlrm_jax.datasets.pipeline import evaluation_loader
from tttlrm_jax.metrics.images import psnr
from tttlrm_jax.models import merge_model, split_model
from tttlrm_jax.models.nn.block import run_blocks
from tttlrm_jax.models.streaming import hide_masked
from tttlrm_jax.models.trunk import plan_operations
from tttlrm_jax.training.objectives.batches import Batch, StaticParts, batch_from_arrays
from tttlrm_jax.training.objectives.causal import causal_renderings
from tttlrm_jax.training.objectives.gaussians import render_scenes

BATCH_SIZE = 4
OTHER_PLANS: tuple[Plan, ...] = ("sequential", "full")
CAUSAL = "causally trained, causal"
CONTROL_ROWS = {
    "sequentially trained, causal": ("control", "causal"),
    "sequentially trained, sequential": ("control", "sequential"),
}
ROWS = {
    CAUSAL: ("trained", "causal"),
    "shipped, causal": ("shipped", "causal"),
    "shipped, sequential": ("shipped", "sequential"),
    "shipped, full": ("shipped", "full"),
}


def scores(renderings: jax.Array, batch: Batch) -> jax.Array:
    """PSNR [chunk, scene] of `[chunk, scene, target, height, width, 3]`."""
    return jnp.stack([jnp.mean(psnr(rgb, batch.targets.image), axis=1) for rgb in renderings])


def by_stream(params, batch: Batch, *, static: StaticParts, chunk_views: int) -> jax.Array:
    rendering = causal_renderings(params, static, batch, jax.random.key(0), chunk_views)
    return scores(rendering.rgb, batch)


def by_prefix(
    params, batch: Batch, *, static: StaticParts, chunk_views: int, plan: Plan
) -> jax.Array:
    """Another plan over the views of chunks 0..t, for every t; views to come are masked."""
    model = merge_model(static.graph, params)
    tokens = model.tokenize(batch.inputs)
    scenes, num_views = tokens.shape[:2]
    operations = plan_operations(plan, num_views, tokens.shape, chunk_views)

    def after(chunk):
        arrived = jnp.arange(num_views) < (chunk + 1) * chunk_views
        mask = jnp.broadcast_to(arrived[None], (scenes, num_views))
        read, _ = run_blocks(model.blocks, tokens, operations, view_mask=mask)
        gaussians = hide_masked(model.decoder(read, batch.inputs), mask)
        return render_scenes(gaussians, batch.targets.cameras, static.config).rgb

    return scores(jax.lax.map(after, jnp.arange(num_views // chunk_views)), batch)


def row(values: np.ndarray) -> dict:
    """Mean and standard error over scenes of [chunk, scene]."""
    found = mean_and_error(values.T)
    return {"psnr": found["mean"], "standard_error": found["standard_error"]}


def measure(
    checkpoint: str, baseline: str, chunk_views: int, num_scenes: int, control: str | None = None
) -> dict:
    """PSNR after every chunk by row, and what the causally trained weights gain."""
    config, model = load_model(checkpoint)
    num_views = config.data.num_input_views
    if num_views % chunk_views:
        raise InputError.of(
            "chunk_views", chunk_views, f"does not divide the {num_views} input views",
            "use a divisor",
        )  # fmt: skip
    graph, trained = split_model(model)
    weights = {"trained": trained, "shipped": load_parameters(baseline, trained)}
    chosen = ROWS
    if control is not None:
        weights["control"] = load_parameters(control, trained)
        chosen = ROWS | CONTROL_ROWS
    values: dict[str, list[np.ndarray]] = {name: [] for name in chosen}
    with tempfile.TemporaryDirectory() as cache:
        config = on_procedural_objects(config, cache)
        options = {"static": StaticParts(graph, config), "chunk_views": chunk_views}
        plans = {"causal": jax.jit(functools.partial(by_stream, **options))}
        for plan in OTHER_PLANS:
            plans[plan] = jax.jit(functools.partial(by_prefix, plan=plan, **options))
        for arrays in evaluation_loader(config.data, num_scenes, BATCH_SIZE):
            batch = batch_from_arrays(arrays)
            for name, (which, plan) in chosen.items():
                values[name].append(np.asarray(plans[plan](weights[which], batch)))
    rows = {name: np.concatenate(parts, axis=1) for name, parts in values.items()}
    ours = rows[CAUSAL]
    return {
        "checkpoint": str(checkpoint),
        "baseline": str(baseline),
        "control": control,
        "scenes": ours.shape[1],
        "chunk_views": chunk_views,
        "views": [chunk_views * (t + 1) for t in range(len(ours))],
        "resolution": list(config.data.image_size),
        "device": jax.devices()[0].device_kind,
        "rows": {name: row(each) for name, each in rows.items()},
        "gain": {
            f"over {name}": row(ours - each) for name, each in rows.items() if each is not ours
        },
    }


def table(result: dict) -> str:
    """The rows as a markdown table."""

    def cells(entry: dict) -> str:
        pairs = zip(entry["psnr"], entry["standard_error"], strict=True)
        return " | ".join(with_error(mean, error) for mean, error in pairs)

    heads = " | ".join(f"{views} views" for views in result["views"])
    lines = [f"| weights, plan | {heads} |", "|---" * (len(result["views"]) + 1) + "|"]
    lines += [f"| {name} | {cells(entry)} |" for name, entry in result["rows"].items()]
    lines += [f"| gain {name} | {cells(entry)} |" for name, entry in result["gain"].items()]
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """Prints the table, or one JSON object; returns the exit code (2 for bad input)."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments.causal_quality", description="Quality after every chunk."
    )
    parser.add_argument("--checkpoint", required=True, help="run or model, causally trained")
    parser.add_argument("--baseline", default=None, help="default: the weights in the package")
    parser.add_argument("--control", help="run or model, trained as long with the sequential plan")
    parser.add_argument("--chunk-views", type=positive, default=2)
    parser.add_argument("--scenes", type=positive, default=32)
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    options = parser.parse_args(arguments)
    baseline = options.baseline or str(packaged("quickstart"))
    try:
        result = measure(
            options.checkpoint, baseline, options.chunk_views, options.scenes, options.control
        )
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT
    print(json.dumps(result, indent=2) if options.json else _text(result))
    return 0


def _text(result: dict) -> str:
    height, width = result["resolution"]
    return (
        f"PSNR in dB of {result['scenes']} held-out objects after every chunk of "
        f"{result['chunk_views']} views, {width}x{height} pixels, {result['device']}\n\n"
        f"{table(result)}"
    )


if __name__ == "__main__":
    sys.exit(main())
