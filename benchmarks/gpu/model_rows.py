"""The networks on a GPU: forward pass and its parts, a training step, streams."""

import dataclasses
import functools
import platform
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import streaming
from benchmarks.cost.measure import measure
from benchmarks.cost.utilisation import utilisation_rows
from benchmarks.gpu.figures import GIB, MIB_PER_GIB, Figure, Sizes, chip, costs, memory, size_text
from benchmarks.raster_floors import measure_rates
from benchmarks.ttt_layer import draw_views
from tttlrm_jax.api.sequences import LiveModel
from tttlrm_jax.apps.train import load_config_file
from tttlrm_jax.checkpoints.directories import read_config
from tttlrm_jax.config import RunConfig, published_ratios
from tttlrm_jax.config.ttt3r import TTT3RConfig
from tttlrm_jax.core.files.packaged_files import packaged
from tttlrm_jax.models import abstract_model, build_model, merge_model, prune, split_model
from tttlrm_jax.models.nn.attention import attend_in_blocks
from tttlrm_jax.training.objectives.batches import Batch, StaticParts
from tttlrm_jax.training.update import init_train_state, train_step
from tttlrm_jax.training.watching.flops import unrolled_flops
from tttlrm_jax.ttt.state_rules import build_state_rule

PRESET = Path(__file__).parents[2] / "configs" / "presets" / "scene_960x536.py"
PAPER_SECONDS = {16: 3.6, 32: 7.2, 64: 14.8}  # tttLRM (arXiv 2602.20160), table 2, on an A100
PAPER_STREAM = "paper: 15.2 s for 64 views on an A100"  # the same table, AR
PAPER_TTT3R = "paper: 20 frames per second, 6 GB"  # TTT3R (arXiv 2509.26645), abstract
GOAL_SECONDS = {64: 3.8}


def device(sizes: Sizes) -> Iterator[Figure]:
    """What ran, and how near to its published peaks it comes."""
    found, known = jax.devices()[0], chip()
    stated = "no published peak is known here: utilisation is left out"
    if known is not None:
        stated = f"published: {known.tflops:g} TFLOP/s, {known.terabytes:g} TB/s"
    runtime = " ".join(found.client.platform_version.split())
    versions = f"JAX {jax.__version__}, Python {platform.python_version()}"
    what = f"{len(jax.devices())} x {found.device_kind}, {runtime}, {versions}"
    yield {"what": what, "figures": {"usable, GiB": memory("bytes_limit")}, "beside": stated}
    square = jnp.ones((sizes.product, sizes.product), jnp.bfloat16)
    cost = measure(jnp.matmul, (square, square), sizes.repeats)
    yield costs(f"product of two bfloat16 matrices of {sizes.product} rows", cost)
    rates = measure_rates(sizes.fraction)
    share = None if known is None else rates.bytes_moved / 1e12 / known.terabytes
    figures = {"TB/s": rates.bytes_moved / 1e12, "of peak": share}
    yield {"what": "copy", "figures": figures}
    yield {"what": "exponentials", "figures": {"10^12 per s": rates.exponentials / 1e12}}


def forward(views: int, sizes: Sizes) -> Iterator[Figure]:
    """Posed views to the Gaussians that pruning keeps: what `eval.py` times."""
    graph, params = split_model(build_model(sizes.model))

    def reconstruct(params, views):
        gaussians = merge_model(graph, params)(views, plan="full")
        return prune(gaussians, *published_ratios(views.image.shape[1]), jax.random.key(0))

    cost = measure(reconstruct, (params, draw_views(views, sizes.pixels)), sizes.repeats)
    beside = f"paper: {PAPER_SECONDS[views]:g} s on an A100"
    what = f"{views} views of {size_text(sizes.pixels)}, forward and pruning"
    yield costs(what, cost, goal_seconds=GOAL_SECONDS.get(views), beside=beside)


def parts(sizes: Sizes) -> Iterator[Figure]:
    """The forward pass by part; every part for all layers."""
    known, inputs = chip(), draw_views(sizes.part_views, sizes.pixels)
    peak = None if known is None else known.tflops
    for row in utilisation_rows(sizes.model, inputs, sizes.repeats, peak):
        figures = {"TFLOP": row["tflop"], "of peak": row["utilisation"], "of whole": row["share"]}
        what = f"{sizes.part_views} views, {row['part']}"
        yield {"what": what, "seconds": row["seconds"], "figures": figures}


def attention(sizes: Sizes) -> Iterator[Figure]:
    """Window attention of one layer, as the model has it and by JAX's fused kernel."""
    head = sizes.model.attention_head_dim
    tokens = sizes.pixels[0] * sizes.pixels[1] // sizes.model.patch_size**2
    shape = (sizes.part_views, tokens, sizes.model.d_model // head, head)
    query = jax.random.normal(jax.random.key(0), shape, jnp.bfloat16)
    fused = "xla" if jax.default_backend() == "cpu" else "cudnn"
    ways: dict[str, Callable] = {
        "model's": functools.partial(attend_in_blocks, dtype=sizes.model.compute_dtype),
        fused: functools.partial(jax.nn.dot_product_attention, implementation=fused),
    }
    flops = unrolled_flops(ways["model's"], (query,) * 3)  # a kernel's cannot be counted
    for name, function in ways.items():
        cost = measure(function, (query,) * 3, sizes.repeats) | {"gflop": flops / 1e9}
        yield costs(f"window attention of one layer, {sizes.part_views} views, {name}", cost)


def training(sizes: Sizes) -> Iterator[Figure]:
    """Loss, gradient and AdamW of one scene on this device; FLOPs as run, recomputing included.

    Without the perceptual term, whose weights are not shipped.
    """
    (height, width), views = sizes.pixels, sizes.training_views
    preset = f"{PRESET}:views={views},devices=1,height={height},width={width}"
    config = load_config_file(preset)
    assert isinstance(config, RunConfig)
    model = dataclasses.replace(sizes.model, remat=config.model.remat)
    loss = dataclasses.replace(config.loss, perceptual=0.0)
    config = dataclasses.replace(config, model=model, loss=loss)
    graph, params = split_model(build_model(model))
    batch = Batch(
        inputs=draw_views(views, sizes.pixels),
        targets=draw_views(config.data.num_target_views, sizes.pixels),
    )
    step = functools.partial(train_step, static=StaticParts(graph, config))
    cost = measure(step, (init_train_state(params, config), batch), sizes.repeats)
    targets = config.data.num_target_views
    what = f"training step, {views} views, {targets} targets, remat {model.remat}"
    yield costs(what, cost, beside="without the perceptual term")


def stream(sizes: Sizes) -> Iterator[Figure]:
    """Seconds per chunk, of the published model and of the shipped one."""
    shipped = read_config(packaged("quickstart"))
    runs = (
        ("published", sizes.model, sizes.pixels, sizes.chunk_views, sizes.chunks),
        ("shipped", shipped.model, shipped.data.image_size, 1, sizes.shipped_chunks),
    )
    for name, model, pixels, chunk_views, chunks in runs:
        result = streaming.measure(model, pixels, chunk_views, [chunks], min(sizes.repeats, 2))
        for row in result["rows"]:
            figures = {
                "views per s": chunk_views / row["seconds_per_chunk"],
                "temporary, GiB": row["mib_temporary"] / MIB_PER_GIB,
                "state, MiB": row["mib_state"], "compile, s": row["seconds_compile"],
            }  # fmt: skip
            what = f"{name} model, {row['how']}, {row['chunks']} chunks of {chunk_views} views"
            beside = PAPER_STREAM if name == "published" else None
            yield {
                "what": f"{what} of {size_text(pixels)}, per chunk", "figures": figures,
                "seconds": row["seconds_per_chunk"], "beside": beside,
            }  # fmt: skip


def sequence(sizes: Sizes) -> Iterator[Figure]:
    """TTT3R frame by frame, results copied to the host as in `eval.py`."""
    height, width = sizes.frame_pixels
    images = np.random.default_rng(0).integers(0, 256, (8, height, width, 3), np.uint8)
    for dtype in ("float32", "bfloat16"):
        config = dataclasses.replace(sizes.ttt3r, compute_dtype=dtype)
        graph, params = random_weights(config)
        live = LiveModel(graph, params, build_state_rule("ttt3r"))
        times, held = [time.perf_counter()], []
        for number in range(sizes.frames + 1):  # the first one compiles
            live(images[number % len(images)], reset=False, update=True)
            times.append(time.perf_counter())
            held.append(memory("bytes_in_use"))
        seconds = statistics.median(np.diff(times[1:]))
        figures = {
            "frames per s": 1 / seconds, "compile, s": times[1] - times[0],
            "held after the first frame, GiB": held[0],
            "after the last, GiB": held[-1],
            "weights, GiB": streaming.num_bytes(params) / GIB,
        }  # fmt: skip
        pictures = f"{sizes.frames} frames of {size_text(sizes.frame_pixels)}"
        what = f"TTT3R, {pictures}, {dtype}, per frame"
        yield {"what": what, "seconds": float(seconds), "figures": figures, "beside": PAPER_TTT3R}
        del live, params  # the weights, before the next are made


def random_weights(config: TTT3RConfig) -> tuple[Any, Any]:
    """Graph and parameters, all cut from one array: to initialise them compiles for long."""
    graph, shapes = split_model(abstract_model(config))
    most = max(leaf.size for leaf in jax.tree.leaves(shapes))
    drawn = 0.02 * jax.random.normal(jax.random.key(0), (most,))
    return graph, jax.tree.map(lambda x: drawn[: x.size].reshape(x.shape).astype(x.dtype), shapes)
