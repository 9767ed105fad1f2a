"""Recordings of the training losses, the image metrics and the perceptual loss."""

import functools
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np

from tttlrm_jax.metrics.images import psnr, ssim
from tttlrm_jax.parity.recording import VARIANTS, Recording, Variant, quick_jit
from tttlrm_jax.parity.report import Row
from tttlrm_jax.training.losses.perceptual import (
    centred,
    perceptual_distances,
    perceptual_loss,
    vgg_taps,
)
from tttlrm_jax.training.losses.terms import (
    depth_loss,
    mean_squared_error,
    opacity_loss,
    psnr_of_mse,
)
from tttlrm_jax.training.losses.vgg_weights import CHANNELS, published_vgg19

# Five times the float32 rounding errors that the recordings' README measured.
LOSS = 1.5e-6
LOSS_GRADIENT = 5e-6
PERCEPTUAL = 5e-6
METRIC = {"fp32": 1e-5, "fp64": 1e-9}

DIFFERENTIATED = ("rendering", "xyz", "opacity")


def _channels_last(x):
    return jnp.moveaxis(x, -3, -1)


def _terms(case: dict, camera_from_world) -> dict:
    """Every recorded loss of one case, unweighted."""
    images = [_channels_last(case[key]) for key in ("rendering", "target")]
    mse = mean_squared_error(*images)
    points, disparity = _channels_last(case["xyz"]), case["disp_rel"][..., 0, :, :]
    return {
        "l2_loss": mse,
        "psnr": psnr_of_mse(mse),
        "psnr_real": jnp.mean(psnr(*images)),
        "opacity_loss": opacity_loss(case["opacity"]),
        "depth_loss": depth_loss(points, camera_from_world, disparity),
    }


@functools.partial(quick_jit, static_argnames=("weights",))
def _losses(case: dict, weights: tuple[tuple[str, float], ...]):
    camera_from_world = jnp.linalg.inv(case["c2w"])

    def weighted(inputs):
        terms = _terms({**case, **inputs}, camera_from_world)
        total = sum(weight * terms[name] for name, weight in weights if weight)
        return total, terms

    def depth(xyz):
        return _terms({**case, "xyz": xyz}, camera_from_world)["depth_loss"]

    inputs = {key: case[key] for key in DIFFERENTIATED}
    (total, terms), grads = jax.value_and_grad(weighted, has_aux=True)(inputs)
    return {"loss": total, **terms}, grads, jax.grad(depth)(case["xyz"])


def check_losses(recording: Recording) -> Iterator[Row]:
    """`losses.npz`. Its perceptual loss is 0 throughout: `perceptual_loss.npz` has that."""
    weights = tuple(
        (key.removesuffix("_weight"), weight) for key, weight in recording.meta["weights"].items()
    )
    for case in recording.cases("/in/rendering"):
        for variant in recording.variants(f"{case}/"):
            inputs = recording.under(f"{case}/in/")
            inputs = {key: jnp.asarray(value, variant.dtype) for key, value in inputs.items()}
            terms, grads, depth_grad = _losses(inputs, weights)
            prefix = f"{case}/{variant.name}/"
            yield from recording.judge(terms, variant, LOSS, prefix)
            yield from recording.judge(grads, variant, LOSS_GRADIENT, f"{prefix}grad_loss/")
            depth = {f"{prefix}grad_depth_loss/xyz": depth_grad}
            yield from recording.judge(depth, variant, LOSS_GRADIENT)
    for variant, suffix in ((VARIANTS["fp32"], ""), (VARIANTS["fp64"], "_fp64")):
        images = [
            _channels_last(jnp.asarray(recording[f"metrics/{key}"], variant.dtype))
            for key in ("predict", "target")
        ]
        made = {f"metrics/{f.__name__}{suffix}": quick_jit(f)(*images) for f in (psnr, ssim)}
        yield from recording.compare_all(made, METRIC[variant.name])


# ---- perceptual_loss.npz ----------------------------------------------------------------------


def recorded_vgg19(seed_base: int) -> dict[str, np.ndarray]:
    """The generated weights of the recording: convolution i from `RandomState(base + i)`."""
    tensors = {}
    for number in range(1, len(CHANNELS)):
        inputs, outputs = CHANNELS[number - 1 : number + 1]
        random = np.random.RandomState(seed_base + number)
        weight = random.standard_normal((outputs, inputs, 3, 3)) * np.sqrt(2 / (9 * inputs))
        bias = 0.1 * random.standard_normal(outputs)
        tensors[f"conv{number}.weight"] = weight.astype(np.float32)
        tensors[f"conv{number}.bias"] = bias.astype(np.float32)
    return tensors


@jax.jit
def _perceptual(convolutions, pred, real):
    total, grad = jax.value_and_grad(perceptual_loss, argnums=1)(convolutions, pred, real)
    taps = vgg_taps(convolutions, centred(pred))
    return total, grad, perceptual_distances(convolutions, pred, real), taps


def check_perceptual_loss(recording: Recording) -> Iterator[Row]:
    """`perceptual_loss.npz`: generated weights, the loss, its taps and gradient."""
    tensors = recorded_vgg19(recording.meta["weight_seed_base"])
    spots = {
        "conv1_weight_first8": tensors["conv1.weight"].ravel()[:8],
        "conv16_bias_first8": tensors["conv16.bias"][:8],
    }
    yield from recording.compare_all(spots, measure="exact", prefix="weight_check/")
    for variant in recording.variants():
        yield from _check_perceptual_case(recording, tensors, variant)


def _check_perceptual_case(recording, tensors, variant: Variant) -> Iterator[Row]:
    dtype, prefix = variant.dtype, f"{variant.name}/"
    tensors = {name: value.astype(dtype) for name, value in tensors.items()}
    convolutions = published_vgg19(tensors, recording.path)
    pred, real = (_channels_last(jnp.asarray(recording[k], dtype)) for k in ("pred", "real"))
    total, grad, distances, taps = _perceptual(convolutions, pred, real)
    made = {
        "total": total,
        "mean_abs_diff": distances,
        "tap_mean": np.array([np.mean(tap) for tap in taps]),
        "grad/pred": np.moveaxis(np.asarray(grad), -1, -3),
    }
    yield from recording.judge(made, variant, PERCEPTUAL, prefix)
    shapes = [(*tap.shape[:-3], tap.shape[-1], *tap.shape[-3:-1]) for tap in taps]
    yield recording.compare(f"{prefix}tap_shape", shapes, measure="exact")
