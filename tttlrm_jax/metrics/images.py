"""Image metrics: PSNR and SSIM, per image, optionally inside a foreground mask.

Images are channels last, any leading axes, nominally in [0, 1]; both are clipped to [0, 1] before
they are compared (this is the published `psnr_real`; averaging over views is the caller's). The
data range is 1. Values keep the dtype of the images. All functions can be jitted.
"""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Shaped

from tttlrm_jax.core.errors import InputError
from tttlrm_jax.core.types import typechecked
from tttlrm_jax.rasterize.transforms.forward_mode import linear_with_transpose

SSIM_WINDOW = 7  # pixels, uniform weights
SSIM_C1 = 0.01**2  # stabilises the luminance term; (0.01 * data range)^2
SSIM_C2 = 0.03**2  # stabilises the contrast term; (0.03 * data range)^2


@typechecked
def psnr(
    image: Float[Array, "*leading height width channel"],
    target: Float[Array, "*leading height width channel"],
    mask: Shaped[Array, "*leading height width"] | None = None,
) -> Float[Array, "*leading"]:
    """Peak signal-to-noise ratio in dB per image: -10 log10 of the mean squared error.

    With `mask` (weights per pixel, 0 outside the foreground) the mean runs over the mask only; an
    empty mask gives NaN. Identical images give +inf.
    """
    squared_error = jnp.square(_clip(image) - _clip(target))
    if mask is None:
        mse = squared_error.mean(axis=(-3, -2, -1))
    else:
        mse = _masked_mean(squared_error.mean(axis=-1), mask)
    return -10.0 * jnp.log10(mse)


@typechecked
def ssim(
    image: Float[Array, "*leading height width channel"],
    target: Float[Array, "*leading height width channel"],
    mask: Shaped[Array, "*leading height width"] | None = None,
) -> Float[Array, "*leading"]:
    """Structural similarity per image: 7x7 uniform window, sample covariance (factor 49/48).

    The map is averaged over window centres at least 3 pixels from the border, then over
    channels; with `mask` over those centres that lie in the mask. Equals scikit-image's
    `structural_similarity(win_size=7, data_range=1, channel_axis=-1)` of the clipped images.

    Raises InputError if an image is smaller than the window.
    """
    similarity = ssim_map(image, target)
    if mask is None:
        return similarity.mean(axis=(-3, -2, -1))
    margin = SSIM_WINDOW // 2
    return _masked_mean(similarity.mean(axis=-1), mask[..., margin:-margin, margin:-margin])


@typechecked
def ssim_map(
    image: Float[Array, "*leading height width channel"],
    target: Float[Array, "*leading height width channel"],
) -> Float[Array, "*leading inner_height inner_width channel"]:
    """SSIM of every full window: `inner = size - 6` each way (Wang et al. 2004, eq. 13)."""
    height, width = image.shape[-3:-1]
    if min(height, width) < SSIM_WINDOW:
        raise InputError.of(
            "image size", f"{height}x{width}", f"is below the {SSIM_WINDOW}x{SSIM_WINDOW} window "
            "of SSIM", f"use images of at least {SSIM_WINDOW} pixels on each side",
        )  # fmt: skip
    # Channels in front: XLA vectorises along the last axis.
    x, y = (jnp.moveaxis(_clip(value), -1, -3) for value in (image, target))
    middle_x, middle_y = (value.mean(axis=(-2, -1), keepdims=True) for value in (x, y))
    # Covariances do not change under a shift; centring keeps float32 from cancelling.
    x, y = x - middle_x, y - middle_y
    # Apart from the second image alone, whose derivative is seldom asked for.
    mean_x, square_x, product = _window_means(x, x * x, x * y)
    mean_y, square_y = _window_means(y, y * y)
    sample = SSIM_WINDOW**2 / (SSIM_WINDOW**2 - 1)
    var_x = sample * (square_x - mean_x * mean_x)
    var_y = sample * (square_y - mean_y * mean_y)
    cov_xy = sample * (product - mean_x * mean_y)
    mean_x, mean_y = mean_x + middle_x, mean_y + middle_y
    luminance = (2 * mean_x * mean_y + SSIM_C1) / (mean_x**2 + mean_y**2 + SSIM_C1)
    similarity = luminance * (2 * cov_xy + SSIM_C2) / (var_x + var_y + SSIM_C2)
    return jnp.moveaxis(similarity, -3, -1)


def _clip(image):
    return jnp.clip(image, 0.0, 1.0)


def _masked_mean(per_pixel, mask):
    weight = mask.astype(per_pixel.dtype)
    return (per_pixel * weight).sum(axis=(-2, -1)) / weight.sum(axis=(-2, -1))


def _window_means(*images):
    sums = linear_with_transpose(_window_sums, _spread, None, jnp.stack(images))
    return sums / SSIM_WINDOW**2


def _window_sums(_, image):
    """Sums over all full 7x7 windows [..., height, width], along columns, then rows."""
    return _along(_along(_alone(image), -2), -1)


def _spread(_, sums):
    """The transpose: every pixel gets the sums of the windows that hold it."""
    room = (SSIM_WINDOW - 1, SSIM_WINDOW - 1)
    along_rows = [(0, 0)] * (sums.ndim - 1) + [room]
    along_columns = [(0, 0)] * (sums.ndim - 2) + [room, (0, 0)]
    within = _along(_alone(jnp.pad(sums, along_rows)), -1)
    return _along(_alone(jnp.pad(within, along_columns)), -2)


def _along(image, axis: int):
    """Sums of so many neighbours along one axis, by shifting: windows that fit."""
    size = image.shape[axis] - SSIM_WINDOW + 1

    def shifted(array, shift: int, size: int):
        return jax.lax.slice_in_dim(array, shift, shift + size, axis=image.ndim + axis)

    pairs = _alone(shifted(image, 0, size + 5) + shifted(image, 1, size + 5))
    parts = [*(shifted(pairs, shift, size) for shift in (0, 2, 4)), shifted(image, 6, size)]
    return _alone(functools.reduce(jnp.add, parts))


def _alone(array):
    """Computed once: XLA would repeat it for each of the shifted parts that it is fused into."""
    return jax.lax.optimization_barrier(array)
