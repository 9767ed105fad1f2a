"""Recordings of whole tttLRM models: tokens by block, Gaussians, pruning, rays, gradients."""

import functools
import re
from collections.abc import Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from tttlrm_jax.config import ModelConfig, Plan
from tttlrm_jax.convert import config_from_shapes, published_from_params
from tttlrm_jax.core.errors import InputError
from tttlrm_jax.core.geometry.rays import camera_rays
from tttlrm_jax.core.types import Cameras, Gaussians, Views
from tttlrm_jax.models import TTTLRM, gaussian_usage
from tttlrm_jax.models.nn.block import run_blocks
from tttlrm_jax.models.trunk import plan_operations
from tttlrm_jax.models.tttlrm import kept_indices
from tttlrm_jax.parity.recording import (
    VARIANTS,
    Recording,
    Variant,
    judge,
    load,
    quick_jit,
)
from tttlrm_jax.parity.report import Row, compare, row
from tttlrm_jax.parity.tttlrm.common import (
    judge_gradients,
    published_module,
    rule_config,
    ttt_params,
)

# Five times the float32 rounding errors that the recordings' README measured.
INPUT_TOKENS = 3e-6
XYZ = 4e-5
GAUSSIAN_ARRAY = 1.2e-4
BLOCK_TOKENS = 1.2e-4
GRADIENT = 4e-4
RAYS = 1e-6
KEPT_SHARE_BF16 = 0.25  # of the kept Gaussians, which chaotic rounding may exchange

PLANS: dict[str, Plan] = {"full": "full", "ar": "sequential"}
FILE_NAME = re.compile(r"model_(?P<model>.+)_(?P<scan>full|ar)(?P<grads>_grads)?_(?P<v>\w+)\.npz")


def model_config(parameters: dict[str, np.ndarray], meta: dict, variant: Variant) -> ModelConfig:
    """Sizes from the parameters' shapes, the rest from the recorded reference configuration."""
    reference = meta.get("ref_config", {}).get("model", meta)
    layer = ttt_params(reference["block_config"])
    default = ModelConfig()
    base = ModelConfig(
        base_lr=layer.get("base_lr", default.base_lr),
        max_distance=reference.get("max_dist", default.max_distance),
        log_scale_max=reference.get("gaussians", {}).get("max_scaling", default.log_scale_max),
        **rule_config(layer, variant),
    )
    shapes = {name: array.shape for name, array in parameters.items()}
    return config_from_shapes(shapes, base)


def views_from(images: np.ndarray, poses, intrinsics, dtype) -> Views:
    """Recorded channel-first images and cameras as `Views`."""
    height, width = images.shape[-2:]
    image = jnp.asarray(np.moveaxis(images, -3, -1), dtype)
    cameras = Cameras(jnp.asarray(poses, dtype), jnp.asarray(intrinsics, dtype), height, width)
    return Views(image, cameras)


def published_arrays(gaussians: Gaussians) -> dict[str, jax.Array]:
    """Arrays by their recorded names."""
    return {
        "xyz": gaussians.mean,
        "feature": gaussians.sh,
        "scale": gaussians.log_scale,
        "rotation": gaussians.quaternion,
        "opacity": gaussians.opacity_logit[..., None],
    }


# ---- one model's inputs -----------------------------------------------------------------------


def _model_recording(path: Path, name: str) -> Recording:
    return load(path.with_name(f"model_{name}.npz"))


def _input_views(recording: Recording, dtype) -> tuple[Views, Views, np.ndarray]:
    """Input views, virtual views and the indices that choose the latter's images."""
    num_input = recording.meta["config"]["V"]
    image, poses, intrinsics = (
        recording[f"in/{key}"][:, :num_input] for key in ("image", "c2w", "fxfycxcy")
    )
    indices = recording["in/virtual_input_indices"]
    virtual_image = np.take_along_axis(image, indices[:, :, None, None, None], axis=1)
    virtual = views_from(
        virtual_image, recording["in/virtual_c2w"], recording["in/virtual_fxfycxcy"], dtype
    )
    return views_from(image, poses, intrinsics, dtype), virtual, indices


def _ways(inputs: Views, virtual: Views, indices: np.ndarray) -> list[str]:
    """How the virtual views can be given: `explicit` always, others where they say the same."""
    gathered = jax.tree.map(
        lambda x: np.take_along_axis(
            np.asarray(x), indices.reshape(*indices.shape, *(1,) * (x.ndim - 2)), axis=1
        ),
        inputs,
    )
    same = jax.tree.map(lambda a, b: bool(np.array_equal(a, b)), gathered, virtual)
    if not all(jax.tree.leaves(same)):
        return ["explicit"]
    every_input = np.arange(inputs.image.shape[1])
    identity = all(np.array_equal(chosen, every_input) for chosen in indices)
    return ["explicit", "indices", *(["default"] if identity else [])]


def _ways_in(variant: Variant, inputs: Views, virtual: Views, indices: np.ndarray) -> list[str]:
    """All ways where equality shows sharply, else the shortest: compiling takes the time."""
    ways = _ways(inputs, virtual, indices)
    return ways if variant.name == "fp64" else ways[-1:]


def check_model_inputs(path: Path) -> Iterator[Row]:
    """Rays of `model_{name}.npz`; its inputs and parameters are used by the outputs' files."""
    recording = load(path)
    inputs, virtual, _ = _input_views(recording, "float32")
    for kind, views in {"input": inputs, "virtual": virtual}.items():
        for key, rays in zip(("ray_o", "ray_d"), camera_rays(views.cameras), strict=True):
            quantity = f"out/{key}_{kind}"
            rays = np.moveaxis(np.asarray(rays), -1, -3)
            yield compare(path, quantity, rays, recording[quantity], RAYS)
    config = model_config(recording.under("param/"), recording.meta, VARIANTS["fp32"])
    model = published_module(recording.under("param/"), TTTLRM, config)
    back = published_from_params(nnx.state(model, nnx.Param), model)
    for name, tensor in recording.under("param/").items():
        yield compare(path, f"param/{name} converted and back", back[name], tensor, 0.0, "exact")


# ---- outputs ----------------------------------------------------------------------------------


def _decode(graph, params, inputs, virtual, indices, plan, chunk_views, way) -> Gaussians:
    given = {"explicit": {"virtual": virtual}, "indices": {"virtual_indices": indices}}
    model = nnx.merge(graph, params)
    return model(inputs, **given.get(way, {}), plan=plan, chunk_views=chunk_views)


_gaussians = quick_jit(_decode, static_argnames=("graph", "plan", "chunk_views", "way"))


@functools.partial(quick_jit, static_argnames=("graph", "plan", "chunk_views", "way"))
def _gradient(graph, params, inputs, virtual, indices, cotangents, plan, chunk_views, way):
    def scalar(params):
        arrays = published_arrays(
            _decode(graph, params, inputs, virtual, indices, plan, chunk_views, way)
        )
        return sum(jnp.sum(arrays[key] * cotangent) for key, cotangent in cotangents.items())

    return jax.value_and_grad(scalar)(params)


@functools.partial(quick_jit, static_argnames=("graph",))
def _tokens(graph, params, views: Views):
    return nnx.merge(graph, params).tokenize(views)


@functools.partial(quick_jit, static_argnames=("graph", "operations"))
def _one_block(graph, params, tokens, operations):
    return run_blocks(nnx.merge(graph, params), tokens, operations)


def tokens_by_block(blocks, tokens, operations) -> Iterator[jax.Array]:
    """Tokens after each block, one scan of a single layer at a time, with one compilation."""
    graph, params = nnx.split(blocks)
    for layer in range(jax.tree.leaves(params)[0].shape[0]):
        one = jax.tree.map(lambda x, i=layer: x[i : i + 1], params)
        tokens, _ = _one_block(graph, one, tokens, operations)
        yield tokens


def flat_tokens(tokens: jax.Array) -> jax.Array:
    """`[batch, view, token, d_model]` as recorded: views and tokens on one axis."""
    return tokens.reshape(tokens.shape[0], -1, tokens.shape[-1])


def check_model_outputs(path: Path) -> Iterator[Row]:
    """`model_{name}_{full,ar}_{variant}.npz`."""
    name, scan, variant = _parts(path)
    source, recording = _model_recording(path, name), load(path)
    config = model_config(source.under("param/"), source.meta, variant)
    model = published_module(source.under("param/"), TTTLRM, config)
    inputs, virtual, indices = _input_views(source, variant.dtype)
    plan, chunk_views = PLANS[scan], source.meta["config"]["mini"]
    yield from _check_tokens(recording, model, inputs, virtual, plan, chunk_views, variant)
    graph, params = nnx.split(model)
    for way in _ways_in(variant, inputs, virtual, indices):
        gaussians = _gaussians(
            graph, params, inputs, virtual, jnp.asarray(indices), plan, chunk_views, way
        )
        yield from _check_gaussians(recording, gaussians, variant, way)
    keep_ratio = source.meta["config"]["prune"]
    yield from _check_pruning(recording, gaussians, keep_ratio, variant)


def _parts(path: Path) -> tuple[str, str, Variant]:
    match = FILE_NAME.fullmatch(path.name)
    if match is None or match["v"] not in VARIANTS:
        raise InputError(f"{path.name} is not named model_NAME_(full|ar)[_grads]_VARIANT.npz")
    return match["model"], match["scan"], VARIANTS[match["v"]]


def _check_tokens(
    recording, model, inputs, virtual, plan, chunk_views, variant: Variant
) -> Iterator[Row]:
    graph, params = nnx.split(model)
    tokens = jnp.concatenate([_tokens(graph, params, views) for views in (inputs, virtual)], axis=1)
    quantity = "tokens_input_layernorm"
    flat = flat_tokens(tokens)
    if variant.name == "bf16":  # no Newton-Schulz yet
        yield compare(recording.path, quantity, flat, recording[quantity], INPUT_TOKENS)
    else:
        yield from judge(recording, quantity, flat, variant, INPUT_TOKENS)
    operations = plan_operations(plan, inputs.image.shape[1], tokens.shape, chunk_views)
    for layer, out in enumerate(tokens_by_block(model.blocks, tokens, operations)):
        quantity = f"tokens_block{layer}"
        yield from judge(recording, quantity, flat_tokens(out), variant, BLOCK_TOKENS)


def _check_gaussians(recording, gaussians: Gaussians, variant: Variant, way: str) -> Iterator[Row]:
    for key, array in published_arrays(gaussians).items():
        tolerance = XYZ if key == "xyz" else GAUSSIAN_ARRAY
        for verdict in judge(recording, f"gaussians/{key}", array, variant, tolerance):
            yield verdict.about(f"virtual={way}")


def _check_pruning(recording, gaussians: Gaussians, keep_ratio, variant: Variant) -> Iterator[Row]:
    path, count = recording.path, gaussians.opacity_logit.shape[1]
    usage = {"fp64": 1e-6, "fp32": 2 / count, "bf16": KEPT_SHARE_BF16}[variant.name]
    expected = recording["gaussian_usage"]
    yield compare(path, "gaussian_usage", gaussian_usage(gaussians), expected, usage, "abs")
    kept = np.asarray(kept_indices(gaussians.opacity_logit, keep_ratio, random_ratio=0.0))
    stored = recording["keep_idx"]
    if kept.shape != stored.shape:
        yield compare(path, "keep_idx", kept, stored, 0.0, "exact")
        return
    arrays = {key: np.asarray(value) for key, value in published_arrays(gaussians).items()}
    if variant.name == "bf16":
        foreign = [np.setdiff1d(a, b).size for a, b in zip(kept, stored, strict=True)]
        share = sum(foreign) / kept.size
        yield row(path, "keep_idx exchanged", share, KEPT_SHARE_BF16, "share")
        return
    tolerance = GAUSSIAN_ARRAY if variant.name == "fp32" else 1e-7
    distance = _distance_from_cut(recording["gaussians/opacity"][..., 0], kept, stored)
    yield row(path, "keep_idx as sets, opacity from the cut", distance, tolerance, "rel")
    for key in recording.under("pruned/"):
        index = stored.reshape(*stored.shape, *(1,) * (arrays[key].ndim - 2))
        pruned = np.take_along_axis(arrays[key], index, axis=1)
        tolerance = XYZ if key == "xyz" else GAUSSIAN_ARRAY
        yield from judge(recording, f"pruned/{key}", pruned, variant, tolerance)
    if "pruned/opacity" in recording:
        ours = np.take_along_axis(arrays["opacity"][..., 0], kept, axis=1)
        theirs = recording["pruned/opacity"][..., 0]
        yield compare(path, "pruned/opacity in our order", ours, theirs, GAUSSIAN_ARRAY)


def _distance_from_cut(opacity, kept, stored) -> float:
    """How far, relatively, opacities kept by one side only lie from the smallest kept one."""
    worst = 0.0
    for values, ours, theirs in zip(opacity, kept, stored, strict=True):
        odd = np.setxor1d(ours, theirs)
        if odd.size:
            cut = values[theirs].min()
            worst = max(worst, float(np.abs(values[odd] - cut).max() / np.abs(values).max()))
    return worst


# ---- gradients --------------------------------------------------------------------------------


def check_model_gradients(path: Path) -> Iterator[Row]:
    """`model_{name}_{full,ar}_grads_{variant}.npz`: explicit virtual views and the shortcut."""
    name, scan, variant = _parts(path)
    source, recording = _model_recording(path, name), load(path)
    cotangents = load(path.with_name(f"model_{name}_cotangents.npz")).under("cotangent/")
    cotangents = {key: jnp.asarray(value, variant.dtype) for key, value in cotangents.items()}
    config = model_config(source.under("param/"), source.meta, variant)
    model = published_module(source.under("param/"), TTTLRM, config)
    graph, params = nnx.split(model)
    inputs, virtual, indices = _input_views(source, variant.dtype)
    for way in _ways_in(variant, inputs, virtual, indices):
        _, grads = _gradient(
            graph, params, inputs, virtual, jnp.asarray(indices), cotangents,
            PLANS[scan], source.meta["config"]["mini"], way,
        )  # fmt: skip
        named = published_from_params(grads, model)
        for verdict in judge_gradients(recording, "grad/", named, variant, GRADIENT):
            yield verdict.about(f"virtual={way}")


def check_cotangents(path: Path) -> Iterator[Row]:
    """`model_{name}_cotangents.npz` holds inputs only: their shapes must fit the model's."""
    source = _model_recording(path, path.stem.removeprefix("model_").removesuffix("_cotangents"))
    batch, view, _, height, width = source["out/ray_o_virtual"].shape
    for key, array in load(path).under("cotangent/").items():
        fits = array.shape[:2] == (batch, view * height * width)
        yield row(path, f"cotangent/{key} fits the model", 0.0 if fits else 1.0, 0.0, "exact")
