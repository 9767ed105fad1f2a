"""Recordings of whole tttLRM models: tokens by block, Gaussians, pruning, rays, gradients."""

import functools
import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from tttlrm_jax.config import ModelConfig, Plan
from tttlrm_jax.convert import config_from_shapes, published_from_params
from tttlrm_jax.core.errors import InputError
from tttlrm_jax.core.geometry.rays import camera_rays
from tttlrm_jax.core.types import Cameras, Gaussians, Views
from tttlrm_jax.models import LVSM, TTTLRM, gaussian_usage
from tttlrm_jax.models.nn.block import run_blocks
from tttlrm_jax.models.trunk import plan_operations
from tttlrm_jax.models.tttlrm import kept_indices
from tttlrm_jax.parity.modules import published_module
from tttlrm_jax.parity.recording import VARIANTS, Recording, Variant, quick_jit
from tttlrm_jax.parity.report import Row
from tttlrm_jax.parity.tttlrm.common import judge_gradients, rule_config, ttt_params

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
    default = ModelConfig()
    base = ModelConfig(
        max_distance=reference.get("max_dist", default.max_distance),
        log_scale_max=reference.get("gaussians", {}).get("max_scaling", default.log_scale_max),
        **rule_config(ttt_params(reference["block_config"]), variant),
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


_camera_rays = quick_jit(camera_rays)


def check_model_inputs(recording: Recording) -> Iterator[Row]:
    """Rays of `model_{name}.npz`; its inputs and parameters are used by the outputs' files."""
    inputs, virtual, _ = _input_views(recording, "float32")
    for kind, views in {"input": inputs, "virtual": virtual}.items():
        for key, rays in zip(("ray_o", "ray_d"), _camera_rays(views.cameras), strict=True):
            rays = np.moveaxis(np.asarray(rays), -1, -3)
            yield recording.compare(f"out/{key}_{kind}", rays, RAYS)
    model = _model(recording, VARIANTS["fp32"])
    back = published_from_params(nnx.state(model, nnx.Param), model)
    for name, tensor in recording.under("param/").items():
        quantity = f"param/{name} converted and back"
        yield recording.compare(quantity, back[name], measure="exact", expected=tensor)


def check_cotangents(recording: Recording) -> Iterator[Row]:
    """`model_{name}_cotangents.npz` holds inputs only: their shapes must fit the model's."""
    source = recording.beside(recording.path.name.replace("_cotangents", ""))
    batch, view, _, height, width = source["out/ray_o_virtual"].shape
    for key, array in recording.under("cotangent/").items():
        fits = array.shape[:2] == (batch, view * height * width)
        yield recording.row(f"cotangent/{key} fits the model", not fits)


# ---- one model and its inputs -----------------------------------------------------------------


class _Case(NamedTuple):
    """A recorded model with its views, in a precision and a plan."""

    source: Recording
    variant: Variant
    model: TTTLRM
    inputs: Views
    virtual: Views
    indices: np.ndarray  # of the inputs that the virtual views' images are
    plan: Plan
    chunk_views: int

    @property
    def ways(self) -> list[str]:
        """All ways where equality shows sharply, else the shortest: compiling takes the time."""
        ways = _ways(self.inputs, self.virtual, self.indices)
        return ways if self.variant.name == "fp64" else ways[-1:]

    def decoding(self, way: str) -> tuple[Callable[..., Gaussians], tuple]:
        """The model as a function, and its arguments with the virtual views given in a way."""
        graph, params = nnx.split(self.model)
        given = {
            "explicit": {"virtual": self.virtual},
            "indices": {"virtual_indices": jnp.asarray(self.indices)},
        }

        def decode(params, inputs, given):
            model = nnx.merge(graph, params)
            return model(inputs, **given, plan=self.plan, chunk_views=self.chunk_views)

        return decode, (params, self.inputs, given.get(way, {}))


def _case(recording: Recording) -> _Case:
    """What the name of a file says."""
    match = FILE_NAME.fullmatch(recording.path.name)
    if match is None or match["v"] not in VARIANTS:
        raise InputError(
            f"{recording.path.name} is not named model_NAME_(full|ar)[_grads]_VARIANT.npz"
        )
    variant, source = VARIANTS[match["v"]], recording.beside(f"model_{match['model']}.npz")
    views = _input_views(source, variant.dtype)
    plan, chunk_views = PLANS[match["scan"]], source.meta["config"]["mini"]
    return _Case(source, variant, _model(source, variant), *views, plan, chunk_views)


def _model(source: Recording, variant: Variant) -> TTTLRM:
    tensors = source.under("param/")
    return published_module(tensors, TTTLRM, model_config(tensors, source.meta, variant))


def _input_views(recording: Recording, dtype) -> tuple[Views, Views, np.ndarray]:
    """Input views, virtual views and the indices that choose the latter's images."""
    num_input = recording.meta["config"]["V"]
    image, poses, intrinsics = (
        recording[f"in/{key}"][:, :num_input] for key in ("image", "c2w", "fxfycxcy")
    )
    indices = recording["in/virtual_input_indices"]
    virtual = (recording[f"in/virtual_{key}"] for key in ("c2w", "fxfycxcy"))
    virtual_views = views_from(_taken(image, indices), *virtual, dtype=dtype)
    return views_from(image, poses, intrinsics, dtype), virtual_views, indices


def _ways(inputs: Views, virtual: Views, indices: np.ndarray) -> list[str]:
    """How the virtual views can be given: `explicit` always, others where they say the same."""
    gathered = jax.tree.map(lambda x: _taken(x, indices), inputs)
    same = jax.tree.map(lambda a, b: bool(np.array_equal(a, b)), gathered, virtual)
    if not all(jax.tree.leaves(same)):
        return ["explicit"]
    every_input = np.arange(inputs.image.shape[1])
    identity = all(np.array_equal(chosen, every_input) for chosen in indices)
    return ["explicit", "indices", *(["default"] if identity else [])]


# ---- outputs ----------------------------------------------------------------------------------


@functools.partial(quick_jit, static_argnames=("graph",))
def _tokens(graph, params, views: Views):
    return nnx.merge(graph, params).tokenize(views)


@functools.partial(quick_jit, static_argnames=("graph", "operations"))
def _one_block(graph, params, tokens, operations):
    return run_blocks(nnx.merge(graph, params), tokens, operations)


def _tokens_by_block(blocks, tokens, operations) -> Iterator[jax.Array]:
    """Tokens after each block, one scan of a single layer at a time, with one compilation."""
    graph, params = nnx.split(blocks)
    params = jax.tree.map(np.asarray, params)  # whose slices need no compiling
    for layer in range(jax.tree.leaves(params)[0].shape[0]):
        one = jax.tree.map(lambda x, i=layer: x[i : i + 1], params)
        tokens, _ = _one_block(graph, one, tokens, operations)
        yield tokens


def check_model_outputs(recording: Recording) -> Iterator[Row]:
    """`model_{name}_{full,ar}_{variant}.npz`."""
    case = _case(recording)
    variant, (graph, params) = case.variant, nnx.split(case.model)
    pair = [_tokens(graph, params, views) for views in (case.inputs, case.virtual)]
    tokens = np.concatenate(pair, axis=1)
    plan = (case.plan, case.inputs.image.shape[1], tokens.shape, case.chunk_views)
    yield from check_tokens(recording, case.model, tokens, plan, variant)
    for way in case.ways:
        decode, arguments = case.decoding(way)
        gaussians = quick_jit(decode)(*arguments)
        arrays = published_arrays(gaussians)
        for verdict in _judge_arrays(recording, "gaussians/", arrays, variant):
            yield verdict.named(f"{{}} virtual={way}")
    yield from _check_pruning(recording, gaussians, case.source.meta["config"]["prune"], variant)


def check_tokens(
    recording: Recording,
    model: TTTLRM | LVSM,
    tokens: jax.Array | np.ndarray,
    plan: tuple,
    variant: Variant,
    prefix: str = "",
) -> Iterator[Row]:
    """Tokens [batch, view, token, d_model] before the blocks and after each; recorded ones have
    views and tokens on one axis. `plan`: arguments of `plan_operations`."""

    def flat(tokens):
        return tokens.reshape(tokens.shape[0], -1, tokens.shape[-1])

    first = {f"{prefix}tokens_input_layernorm": flat(tokens)}
    if variant.name == "bf16":  # no Newton-Schulz yet
        yield from recording.compare_all(first, INPUT_TOKENS)
    else:
        yield from recording.judge(first, variant, INPUT_TOKENS)
    later = _tokens_by_block(model.blocks, tokens, plan_operations(*plan))
    named = {f"{prefix}tokens_block{layer}": flat(out) for layer, out in enumerate(later)}
    yield from recording.judge(named, variant, BLOCK_TOKENS)


def _judge_arrays(recording: Recording, prefix: str, arrays, variant: Variant) -> Iterator[Row]:
    for key, array in arrays.items():
        tolerance = XYZ if key == "xyz" else GAUSSIAN_ARRAY
        yield from recording.judge({key: array}, variant, tolerance, prefix)


def _check_pruning(recording, gaussians: Gaussians, keep_ratio, variant: Variant) -> Iterator[Row]:
    count = gaussians.opacity_logit.shape[1]
    usage = {"fp64": 1e-6, "fp32": 2 / count, "bf16": KEPT_SHARE_BF16}[variant.name]
    yield recording.compare("gaussian_usage", quick_jit(gaussian_usage)(gaussians), usage, "abs")
    keep = functools.partial(kept_indices, keep_ratio=keep_ratio, random_ratio=0.0)
    kept = np.asarray(quick_jit(keep)(gaussians.opacity_logit))
    stored = recording["keep_idx"]
    if kept.shape != stored.shape:
        yield recording.compare("keep_idx", kept, measure="exact")
        return
    if variant.name == "bf16":
        foreign = [np.setdiff1d(a, b).size for a, b in zip(kept, stored, strict=True)]
        yield recording.row(
            "keep_idx exchanged", sum(foreign) / kept.size, KEPT_SHARE_BF16, "share"
        )
        return
    tolerance = GAUSSIAN_ARRAY if variant.name == "fp32" else 1e-7
    distance = _distance_from_cut(recording["gaussians/opacity"][..., 0], kept, stored)
    yield recording.row("keep_idx as sets, opacity from the cut", distance, tolerance, "rel")
    arrays = {key: np.asarray(value) for key, value in published_arrays(gaussians).items()}
    pruned = {key: _taken(arrays[key], stored) for key in recording.under("pruned/")}
    yield from _judge_arrays(recording, "pruned/", pruned, variant)
    if "opacity" in pruned:
        ours, theirs = _taken(arrays["opacity"], kept), recording["pruned/opacity"]
        name = "pruned/opacity in our order"
        yield recording.compare(name, ours, GAUSSIAN_ARRAY, expected=theirs)


def _taken(array, indices: np.ndarray) -> np.ndarray:
    """Entries [batch, index, ...] of an array [batch, entry, ...]."""
    shape = (*indices.shape, *(1,) * (array.ndim - 2))
    return np.take_along_axis(np.asarray(array), indices.reshape(shape), axis=1)


def _distance_from_cut(opacity, kept, stored) -> float:
    """How far, relatively, opacities kept by one side only lie from the smallest kept one."""
    worst = 0.0
    for values, ours, theirs in zip(opacity, kept, stored, strict=True):
        odd = np.setxor1d(ours, theirs)
        if odd.size:
            cut = values[theirs].min()
            worst = max(worst, float(np.abs(values[odd] - cut).max() / np.abs(values).max()))
    return worst


def check_model_gradients(recording: Recording) -> Iterator[Row]:
    """`model_{name}_{full,ar}_grads_{variant}.npz`: explicit virtual views and the shortcut."""
    case = _case(recording)
    stem = case.source.path.stem
    cotangents = recording.beside(f"{stem}_cotangents.npz").under("cotangent/")
    cotangents = {key: jnp.asarray(x, case.variant.dtype) for key, x in cotangents.items()}
    for way in case.ways:
        decode, arguments = case.decoding(way)

        def scalar(params, cotangents, *views, decode=decode):
            arrays = published_arrays(decode(params, *views))
            return sum(jnp.sum(arrays[key] * cotangent) for key, cotangent in cotangents.items())

        params, *views = arguments
        grads = quick_jit(jax.grad(scalar))(params, cotangents, *views)
        named = published_from_params(grads, case.model)
        for verdict in judge_gradients(recording, "grad/", named, case.variant, GRADIENT):
            yield verdict.named(f"{{}} virtual={way}")
